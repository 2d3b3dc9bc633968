"""Images of a running reconstruction on their way to the window: one at most waits.

The run's thread offers images as they come; the window's thread draws. An image that comes while another
waits takes its place, so that the last one shown is the newest whatever drawing costs, and drawing takes no
more than its share of the window's time.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from .pictures import Picture, object_pictures

__all__ = ['SHARE', 'SIDE_PX', 'LiveImage', 'LiveImages', 'live_image', 'step', 'thinned']

Prepared = TypeVar('Prepared')

SHARE = 0.1
"""Part of the window's time that drawing may take."""
SIDE_PX = 768
"""Longest side of an image that is shown while a run goes on; larger objects are thinned out."""
PICTURE_SIDE_PX = 512
"""The same for the small pictures of the Processing page."""


@dataclass(frozen=True)
class LiveImage:
    """An object as far as it is made."""

    array: npt.NDArray[np.complex64]
    """(h, w) complex64: every few pixels of the object in both directions."""
    every: int
    """How many pixels of the object lie from one to the next."""
    pictures: tuple[Picture, ...]
    """Amplitude and phase."""


def live_image(array: npt.NDArray[np.complex64]) -> LiveImage:
    """Return an object (H, W) as it is shown; called in the child, where it costs the window nothing."""
    pictures = object_pictures(thinned(array, PICTURE_SIDE_PX))
    return LiveImage(thinned(array).copy(), step(array.shape), pictures)


def thinned(array: npt.NDArray[Any], side_px: int = SIDE_PX) -> npt.NDArray[Any]:
    """Return every few pixels of an array (H, W), at most `side_px` on its longest side."""
    every = step(array.shape, side_px)
    return array[::every, ::every]


def step(shape: tuple[int, ...], side_px: int = SIDE_PX) -> int:
    """Return which pixels of an array (H, W) are kept: every so many."""
    return max(math.ceil(max(shape) / side_px), 1)


class LiveImages(Generic[Prepared]):
    """A place for one image between a run and the window.

    Parameters
    ----------
    prepare : callable
        Makes of an image what is drawn; called in the run's thread.
    draw : callable
        Draws it; called in the window's thread.
    in_window : callable
        Has a function called in the window's thread, later.
    clock : callable
        Seconds.
    """

    def __init__(
        self,
        prepare: Callable[[LiveImage], Prepared],
        draw: Callable[[Prepared], None],
        in_window: Callable[[Callable[[], None]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._prepare = prepare
        self._draw = draw
        self._in_window = in_window
        self._clock = clock
        self._lock = threading.Lock()
        self._newest: LiveImage | None = None
        self._waits = False
        self._closed = False
        self._not_before = -math.inf

    def offer(self, image: LiveImage) -> None:
        """Take an image in place of one that was not sent yet, and send it if it is time."""
        with self._lock:
            self._newest = image
        self.look()

    def look(self) -> None:
        """Send the newest image if none waits in the window and the last has been paid for."""
        with self._lock:
            image = self._newest
            if image is None or self._waits or self._closed or self._clock() < self._not_before:
                return
            self._newest, self._waits = None, True
        prepared = self._prepare(image)
        self._in_window(lambda: self._show(prepared))

    def close(self) -> None:
        """Draw no more, the one that waits included."""
        with self._lock:
            self._closed = True

    def _show(self, prepared: Prepared) -> None:
        started = self._clock()
        try:
            if not self._closed:
                self._draw(prepared)
        finally:
            now = self._clock()
            with self._lock:
                self._waits = False
                self._not_before = now + (now - started) * (1 / SHARE - 1)
