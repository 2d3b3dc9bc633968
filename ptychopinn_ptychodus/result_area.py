"""The upper right of the Processing page: losses, image, uncertainty and quality of the chosen product.

Another algorithm's page shows Ptychodus' loss plot alone, as ever.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from ptychodus.api.product import LossValue
from PyQt5.QtCore import QRect, Qt
from PyQt5.QtGui import QImage, QPainter, QPaintEvent, qRgb
from PyQt5.QtWidgets import QLabel, QTabWidget, QVBoxLayout, QWidget

from .live import LiveImage, thinned
from .loss_plot import draw_losses, fit_margins
from .object_page import ObjectPage, find_object_page
from .pictures import Picture, object_pictures
from .qt_behaviour import SteadyLabel
from .quality import figures_of, simulated_epochs

__all__ = ['PreparedImage', 'ResultArea']

LOSSES, IMAGE, UNCERTAINTY = range(3)
TITLE_PX = 20
REST_SIDE_PX = 384
"""Longest side of an image that is made in the window's own thread."""
QUALITY_LINES = 4
NO_FIGURES = 'How good the image is will stand here when a result of PtychoPINN is chosen.'
NO_FIGURES_YET = 'How good the image is will stand here when the run is over.'
NO_MAP = (
    'No map of the uncertainty: there is one for results of this session only, because product files of '
    'Ptychodus have no room for it.'
)


@dataclass(frozen=True)
class PreparedImage:
    """What is drawn of an image of a running reconstruction."""

    image: LiveImage
    rendered: Any
    """For the Object page; None where it is out of sight."""


@functools.cache
def _colors(name: str) -> list[int]:
    """Return the 256 colours of one of Matplotlib's maps."""
    table = (matplotlib.colormaps[name](np.arange(256))[:, :3] * 255).astype(int)
    return [qRgb(*color) for color in table.tolist()]


class PictureView(QWidget):
    """Pictures side by side, as large as they fit, each under its title."""

    def __init__(self) -> None:
        super().__init__()
        self._pictures: list[tuple[QImage, str]] = []
        self._remark = ''

    def show_pictures(self, pictures: Sequence[Picture], remark: str = '') -> None:
        """Show pictures, or a remark where there is none."""
        self._remark = remark
        self._pictures = []
        for picture in pictures:
            height, width = picture.levels.shape
            data = picture.levels.tobytes()
            # Copied, because Qt would go on reading the memory of `data`.
            image = QImage(data, width, height, width, QImage.Format.Format_Indexed8).copy()
            image.setColorTable(_colors(picture.colormap))
            self._pictures.append((image, picture.title))
        self.update()

    def titles(self) -> list[str]:
        """Return what is written above the pictures, or the remark."""
        return [title for _, title in self._pictures] or [self._remark]

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw."""
        painter, center = QPainter(self), Qt.AlignmentFlag.AlignCenter
        if not self._pictures:
            painter.drawText(self.rect(), int(center | Qt.TextFlag.TextWordWrap), self._remark)
        width = self.width() // max(len(self._pictures), 1)
        for place, (image, title) in enumerate(self._pictures):
            room = QRect(place * width, TITLE_PX, width - 4, self.height() - TITLE_PX)
            painter.drawText(QRect(room.x(), 0, room.width(), TITLE_PX), int(center), title)
            size = image.size().scaled(room.size(), Qt.AspectRatioMode.KeepAspectRatio)
            target = QRect(room.topLeft(), size)
            target.moveCenter(room.center())
            painter.drawImage(target, image)
        painter.end()


class ResultArea:
    """Tabs in the place of Ptychodus' loss plot, and the quality of the chosen product under them.

    Parameters
    ----------
    status_view : ProcessingStatusView
    product_repository : ProductRepository
    chosen : callable
        Returns the index of the product that is chosen on the page, -1 for none.
    is_ours : callable
        Returns whether one of our algorithms is chosen.
    later : callable
        Has a task done soon, once for any number of calls.
    """

    def __init__(
        self,
        status_view: Any,
        product_repository: Any,
        chosen: Callable[[], int],
        is_ours: Callable[[], bool],
        later: Callable[[Callable[[], None]], None],
    ) -> None:
        self._later = later
        self._status_view = status_view
        self._repository = product_repository
        self._chosen = chosen
        self._is_ours = is_ours
        self._plot_as_ever: Callable[[int], None] | None = None
        self._curves: tuple[str, dict[str, Sequence[LossValue]], int] | None = None
        """Title, curves and simulated epochs of a training; None where the product's losses are shown."""
        self._maps: weakref.WeakKeyDictionary[Any, Picture] = weakref.WeakKeyDictionary()
        self._live: weakref.ref[Any] | None = None
        self._object_page: ObjectPage | None = None
        self._object_page_in_sight = False
        self._image, self._map = PictureView(), PictureView()
        self._tabs, self._quality = QTabWidget(), SteadyLabel(QUALITY_LINES)
        self._no_losses = QLabel()
        self._build()

    def _build(self) -> None:
        splitter = self._status_view
        losses, column = QWidget(), QVBoxLayout()
        self._plot_widget = splitter.widget(0)
        column.setContentsMargins(0, 0, 0, 0)
        for widget in (self._plot_widget, self._no_losses):
            column.addWidget(widget)
        losses.setLayout(column)
        self._no_losses.setTextFormat(Qt.TextFormat.PlainText)
        self._no_losses.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._no_losses.hide()
        self._quality.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._quality.hide()
        for widget, name in ((losses, 'Losses'), (self._image, 'Image'), (self._map, 'Uncertainty')):
            self._tabs.addTab(widget, name)
        self._tabs.setTabToolTip(
            IMAGE, 'The object of the chosen product; while it is reconstructed, as far as it is made.'
        )
        self._tabs.setTabToolTip(UNCERTAINTY, 'How far the object may be off, pixel by pixel.')
        self._tabs.currentChanged.connect(self.refresh)
        area = QWidget()
        layout = QVBoxLayout(area)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._tabs)
        layout.addWidget(self._quality)
        splitter.insertWidget(0, area)
        splitter.setStretchFactor(0, 2)
        splitter.setStretchFactor(1, 0)
        self._status_view.figure_canvas.mpl_connect('resize_event', lambda _: self._fit())

    def take_over(self, status_controller: Any, product_combo: Any) -> None:
        """Plot in place of Ptychodus, once for any number of changes at a time and only what is in sight."""
        self._plot_as_ever = status_controller.plot_losses
        product_combo.currentIndexChanged.disconnect(status_controller.plot_losses)
        product_combo.currentIndexChanged.connect(self._product_has_changed)
        status_controller.plot_losses = self._product_has_changed

    def _product_has_changed(self, index: int = -1) -> None:
        self._curves = None
        if self._is_ours() or self._plot_as_ever is None:
            self.refresh()
        else:
            self._plot_as_ever(index)

    def refresh(self, *_: object) -> None:
        """Show the chosen product as it is, when the window comes to it."""
        self._later(self._show)

    def _fit(self) -> None:
        if self._is_ours():
            fit_margins(self._status_view.figure)

    def _show(self) -> None:
        ours = self._is_ours()
        bar = self._tabs.tabBar()
        if bar is not None:
            bar.setVisible(ours)
        if not ours:
            self._tabs.setCurrentIndex(LOSSES)
            self._quality.hide()
            self._show_plot(True)
            return
        item = self._item()
        self._show_quality(item)
        match self._tabs.currentIndex():
            case 0:
                self._plot(item)
            case 1:
                self._show_image(item)
            case _:
                picture = None if item is None else self._maps.get(item)
                self._map.show_pictures([] if picture is None else [picture], NO_MAP)

    def _item(self) -> Any:
        index = self._chosen()
        return self._repository[index] if 0 <= index < len(self._repository) else None

    def _show_quality(self, item: Any) -> None:
        self._quality.setText(self._words_on_quality(item))
        self._quality.show()

    def _words_on_quality(self, item: Any) -> str:
        if item is None:
            return NO_FIGURES
        if self._is_live(item):
            # Its comments are still those of the product that the run began with.
            return NO_FIGURES_YET
        figures = figures_of(item.get_metadata_item().comments.get_value())
        lines = [] if figures is None else figures.lines(_pixel_m(item))
        return '\n'.join(lines) or NO_FIGURES

    def quality(self) -> str:
        """Return what is said of the chosen product's quality; empty where nothing is known of it."""
        text = str(self._quality.text())
        return '' if text in (NO_FIGURES, NO_FIGURES_YET) else text

    # Losses

    def show_training(
        self, training: Sequence[LossValue], validation: Sequence[LossValue], simulated: int
    ) -> None:
        """Plot the deviances of a running training until another product is chosen."""
        if self._curves is None:
            self._tabs.setCurrentIndex(LOSSES)
        self._curves = 'Training', {'training': training, 'validation': validation}, simulated
        self.refresh()

    def _plot(self, item: Any) -> None:
        if self._curves is not None:
            title, curves, simulated = self._curves
        elif item is not None:
            title, curves = item.get_name(), {'training': item.get_losses()}
            simulated = simulated_epochs(item.get_metadata_item().comments.get_value())
        else:
            title, curves, simulated = '', {}, 0
        has_losses = any(curves.values())
        self._no_losses.setText(f'{title}: no losses' if title else 'No losses')
        if has_losses:
            draw_losses(self._status_view.axes, title, curves, simulated)
            fit_margins(self._status_view.figure)
            self._status_view.figure_canvas.draw_idle()
        self._show_plot(has_losses)

    def _show_plot(self, shown: bool) -> None:
        """Show the plot, or in its place that there is none, which costs far less than empty axes."""
        self._plot_widget.setVisible(shown)
        self._no_losses.setVisible(not shown)

    def no_losses(self) -> str:
        """Return what is said in place of the plot; empty where that is shown."""
        return str(self._no_losses.text()) if self._plot_widget.isHidden() else ''

    # Images

    def _show_image(self, item: Any) -> None:
        if self._is_live(item):
            return  # the next comes from the run
        try:
            layers = item.get_object_item().get_object().get_array()
        except (AttributeError, ValueError):
            layers = np.empty(0)
        if layers.size == 0:
            # Ptychodus has none for a product without a dataset, or whose pixels have no known size.
            self._image.show_pictures([], 'No object')
            return
        self._image.show_pictures(object_pictures(thinned(layers[0], REST_SIDE_PX)))

    def _is_live(self, item: Any) -> bool:
        return self._live is not None and self._live() is item

    def begin(self, item: Any) -> None:
        """Expect images of a run whose result goes into this product."""
        self._live = weakref.ref(item)
        self.refresh()
        if self._object_page is None:
            self._object_page = find_object_page(self._repository)
        if self._item() is item:
            self._image.show_pictures([], 'The first image comes when some patterns have been used.')
            self._tabs.setCurrentIndex(IMAGE)

    def end(self) -> None:
        """Expect no more."""
        self._live = None
        self.refresh()

    def prepare(self, image: LiveImage, pixel: Any) -> PreparedImage:
        """Return what is to be drawn of an image; called in the run's thread."""
        page = self._object_page
        rendered = page.render(image, pixel) if page is not None and self._object_page_in_sight else None
        return PreparedImage(image, rendered)

    def draw(self, item: Any, prepared: PreparedImage) -> None:
        """Draw an image of a run if its product is still there and in sight."""
        page = self._object_page
        self._object_page_in_sight = page is not None and page.shows(item)
        if self._object_page_in_sight and page is not None and prepared.rendered is not None:
            page.draw(prepared.rendered, prepared.image)
        if self._item() is item:
            self._image.show_pictures(prepared.image.pictures)
            if self._image.isVisible():
                # Now, so that it counts as part of what drawing costs.
                self._image.repaint()

    def keep_map(self, item: Any, picture: Picture | None) -> None:
        """Keep the map of the uncertainty of a result."""
        if picture is not None:
            self._maps[item] = picture
        self.refresh()


def _pixel_m(item: Any) -> float | None:
    try:
        return float(item.get_object_item().get_object().get_pixel_geometry().width_m)
    except ValueError:
        return None
