"""What the parts of PtychoPINN ask of the window, without knowing Qt; batch mode has no window."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from ptychodus.api.product import LossValue

if TYPE_CHECKING:
    from .live import LiveImage
    from .loaded_model import ScanFacts
    from .pictures import Picture

__all__ = ['Page', 'WindowLink']


class Page(Protocol):
    """The Processing page; its methods are called in the window's thread."""

    def current_scan(self) -> ScanFacts | None:
        """Return what is known of the product that is chosen, or None where it has no patterns."""

    def why_no_scan(self) -> str:
        """Return what is missing where :meth:`current_scan` is None."""

    def why_not_train_and_infer(self) -> str | None:
        """Return why that cannot be done now, or None."""

    def model_serves(self) -> bool:
        """Return whether the loaded model is for the chosen product."""

    def train_and_infer(self) -> None:
        """Train on the chosen product, if no model for it is loaded, and reconstruct it."""

    def show_failure(self, run: str, sentence: str) -> None:
        """Show why a background run has failed."""

    def show_losses(
        self, training: Sequence[LossValue], validation: Sequence[LossValue], simulated: int
    ) -> None:
        """Plot the deviances of a running training.

        Its first `simulated` epochs are on simulated objects.
        """

    def begin_images(self, item: Any) -> None:
        """Expect images of a reconstruction whose result goes into `item` of the list of products."""

    def end_images(self) -> None:
        """Expect no more."""

    def prepare_image(self, image: LiveImage, pixel: Any) -> Any:
        """Return what is to be drawn of an image; called in the run's thread."""

    def draw_image(self, item: Any, prepared: Any) -> None:
        """Draw what was prepared."""

    def keep_map(self, item: Any, picture: Picture) -> None:
        """Keep the map of a result's uncertainty."""

    def soon(self, task: Callable[[], None]) -> None:
        """Call `task` when the window has done what waits already."""

    def show_time_left(self, text: str) -> None:
        """Show how long the run will take; the bar as usual for an empty text."""

    def load_model(self) -> None:
        """Let the user choose a model to load."""

    def save_model(self) -> None:
        """Let the user save the loaded model."""


class WindowLink:
    """The window as the other parts see it: perhaps a page, and listeners to its changes."""

    def __init__(self) -> None:
        self.page: Page | None = None
        self.waits = False
        """Whether a click is being worked on, in which the list of products must not change."""
        self._listeners: list[Callable[[], None]] = []
        self.later: Callable[[Callable[[], None]], None] = lambda task: task()
        """Brings something up to date: at once where there is no page yet, else in a turn of its own."""

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Within it, what runs have put on the window's queue waits."""
        self.waits = True
        try:
            yield
        finally:
            self.waits = False

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever the chosen product, the loaded model or a measured speed has changed."""
        self._listeners.append(listener)

    def changed(self) -> None:
        """Tell the listeners, one after another; to be called in the window's thread."""
        for listener in self._listeners:
            self.later(listener)

    def current_scan(self) -> ScanFacts | None:
        """Return what is known of the product that is chosen; None without a window."""
        return None if self.page is None else self.page.current_scan()

    def why_no_scan(self) -> str:
        """Return what the chosen product lacks to be worked on."""
        return 'Choose a product.' if self.page is None else self.page.why_no_scan()
