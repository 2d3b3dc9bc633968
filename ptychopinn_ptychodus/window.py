"""What the parts of PtychoPINN ask of the window, without knowing Qt; batch mode has no window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from ptychodus.api.product import LossValue

if TYPE_CHECKING:
    from .loaded_model import ScanFacts

__all__ = ['Page', 'WindowLink']


class Page(Protocol):
    """The Processing page; its methods are called in the window's thread."""

    def current_scan(self) -> ScanFacts | None:
        """Return what is known of the product that is chosen, or None where it has no patterns."""

    def show_failure(self, run: str, sentence: str) -> None:
        """Show why a background run has failed."""

    def show_losses(self, training: Sequence[LossValue], validation: Sequence[LossValue]) -> None:
        """Plot the deviances of a running training."""

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
        self._listeners: list[Callable[[], None]] = []

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever the chosen product, the loaded model or a measured speed has changed."""
        self._listeners.append(listener)

    def changed(self) -> None:
        """Tell the listeners; to be called in the window's thread."""
        for listener in self._listeners:
            listener()

    def current_scan(self) -> ScanFacts | None:
        """Return what is known of the product that is chosen; None without a window."""
        return None if self.page is None else self.page.current_scan()
