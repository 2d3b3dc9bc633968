"""Ptychodus' Object page, where a running reconstruction draws its object without rebuilding the product."""

from __future__ import annotations

from typing import Any

from .live import LiveImage

__all__ = ['ObjectPage', 'find_object_page']


class ObjectPage:
    """The picture of the Object page.

    Parameters
    ----------
    controller : ObjectController
        Ptychodus' own.
    """

    def __init__(self, controller: Any) -> None:
        self._controller = controller
        picture = controller._image_controller._visualization_controller
        self._engine, self._item, self._view = picture._engine, picture._item, picture._view
        self._forget_size_afterwards()

    def _forget_size_afterwards(self) -> None:
        """Let all that is drawn by others have its own size again."""
        item = self._item
        for name in ('set_product', 'clear_product'):
            draw = getattr(item, name)

            def in_own_size(*arguments: Any, draw: Any = draw) -> None:
                item.setScale(1)
                draw(*arguments)

            setattr(item, name, in_own_size)

    def shows(self, item: Any) -> bool:
        """Return whether the page is in sight with this product of the list; asked in the window's thread."""
        index = self._controller._get_current_item_index() if self._has_rows() else -1
        repository = self._controller._repository
        return (
            0 <= index < len(repository)
            and repository[index] is item.get_object_item()
            and bool(self._view.isVisible())
        )

    def _has_rows(self) -> bool:
        # Ptychodus warns whoever asks for the current row of an empty table.
        return bool(self._controller._view.tree_view.currentIndex().isValid())

    def render(self, image: LiveImage, pixel: Any) -> Any:
        """Return the image in the colours that are chosen there; any thread may call it."""
        coarse = type(pixel)(pixel.width_m * image.every, pixel.height_m * image.every)
        return self._engine.render(image.array, coarse, autoscale_color_axis=False)

    def draw(self, rendered: Any, image: LiveImage) -> None:
        """Draw what was rendered, as large as the whole object; called in the window's thread."""
        self._item.set_product(rendered)
        self._item.setScale(image.every)


def find_object_page(product_repository: Any) -> ObjectPage | None:
    """Return the page that shows the objects of a list of products, or None where there is none."""
    from ptychodus.controller.object import ObjectController
    from ptychodus.model.product import ObjectRepository

    for objects in product_repository._observer_list:
        if isinstance(objects, ObjectRepository):
            for observer in objects._observer_list:
                if isinstance(observer, ObjectController):
                    return ObjectPage(observer)
    return None
