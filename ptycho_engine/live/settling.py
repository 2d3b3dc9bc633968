"""Whether an image still gets better as frames come in (LIVE-06).

Its stated uncertainty follows the true error while a scan closes its gaps, and then falls about as the
photon noise of ever more frames, without an end. What tells the one from the other is how fast it falls. An
image that is not yet what its uncertainty says still changes by more than that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..whole_scan.ramp import with_ramp_of
from .quality import LAST, LiveQuality, UnseenCurve
from .snapshot import Snapshot

__all__ = ['Look', 'Settling']

FIRST, STEP = 16, 1.1
"""Frames at the first look, and how many times more there are at each next one."""

FITTED, LEAST_FITTED = 1.6, 3
"""Factor in frames over which the fall of the uncertainty is fitted, and looks that it takes at least."""

COMPARED = 1.3
"""Factor in frames over which the image is compared with itself."""

LIT, GROWING = 0.1, 0.05
"""Of the largest illumination so far: what has more counts as area. Growth of that area, over the same
factor in frames, above which a scan still goes on to where little is known."""

HELD = 2
"""Looks in a row that must say the same."""

FASTEST = 0.9
"""Power of the number of frames with which the uncertainty of an image that gets no better may fall; that of
photon noise alone falls with 0.5."""

STILL = 1.2
"""Times its uncertainty by which such an image may have changed."""


@dataclass(frozen=True)
class Look:
    """An image at one moment, within the scanned region and relative to its root mean square."""

    frames: int
    error: float
    """Root mean square of the stated uncertainty."""
    change: float
    """Root mean square of the difference to the image of ``COMPARED`` times fewer frames, but for a phase
    ramp and a factor; NaN where there is none."""
    growth: float
    """Part of the illuminated area that was not yet illuminated then; 1 where there is no such image."""


class Settling:
    """Looks at an image now and then, ever less often."""

    def __init__(self) -> None:
        self.looks: list[Look] = []
        self._images: list[Snapshot] = []
        self._next = float(FIRST)

    def due(self, frames: int) -> bool:
        """Return whether it is time for the next look."""
        return frames >= self._next

    def look(self, shot: Snapshot) -> None:
        """Compare an image with what it was, and keep it for comparisons to come."""
        frames = len(shot.position)
        self._next = frames * STEP
        inside = shot.object_array[shot.box]
        size = float(np.sqrt(np.mean(np.abs(inside) ** 2)))
        squares = np.square(shot.uncertainty()[shot.box])
        squares = squares[np.isfinite(squares)]
        if not len(squares) or not size > 0:
            return
        old = [image for image in self._images if len(image.position) * COMPARED <= frames]
        change = _change(old[-1], shot) / size if old else math.nan
        growth = 1 - _area(old[-1]) / max(_area(shot), 1) if old else 1.0
        self.looks.append(Look(frames, float(np.sqrt(squares.mean())) / size, change, growth))
        # None that is older will be compared again.
        self._images = [*old[-1:], *self._images[len(old) :], shot]

    @property
    def error(self) -> float:
        """The stated uncertainty at the last look; NaN before the first."""
        return self.looks[-1].error if self.looks else math.nan

    @property
    def power(self) -> float:
        """Power of the number of frames with which it falls; NaN as long as it cannot be told."""
        return self._power(len(self.looks) - 1)

    @property
    def settled(self) -> bool:
        """Whether the image gets no better but by photon noise, and the scan stays where it was."""
        last = range(max(len(self.looks) - HELD, 0), len(self.looks))
        return len(last) == HELD and all(map(self._settled, last))

    def quality(self, curve: UnseenCurve) -> LiveQuality:
        """Return what unseen frames and the looks at the image say."""
        return LiveQuality(
            unseen=curve.unseen,
            growth=curve.growth,
            error=self.error,
            gain=1 - (1 + LAST) ** -self.power,
            enough=self.settled,
        )

    def _power(self, at: int) -> float:
        """Return the power as it was at a look."""
        fitted = [look for look in self.looks[: at + 1] if look.frames * FITTED >= self.looks[at].frames]
        if len(fitted) < LEAST_FITTED:
            return math.nan
        frames, error = (np.log([getattr(look, name) for look in fitted]) for name in ('frames', 'error'))
        return -float(np.polyfit(frames, error, 1)[0])

    def _settled(self, at: int) -> bool:
        look = self.looks[at]
        return self._power(at) < FASTEST and look.change < STILL * look.error and look.growth < GROWING


def _area(shot: Snapshot) -> int:
    """Return the number of illuminated pixels."""
    return int((shot.weight > LIT * shot.weight.max()).sum())


def _change(old: Snapshot, new: Snapshot) -> float:
    """Return the root mean square by which an image changed within the region scanned by now."""
    rows, columns = new.box
    before = _on_grid_of(new, old)[rows, columns]
    after, weight = new.object_array[rows, columns], new.weight[rows, columns]
    before = with_ramp_of(after, before, weight)
    factor = np.vdot(before, after) / max(np.vdot(before, before).real, np.finfo(np.float32).tiny)
    return float(np.sqrt(np.mean(np.abs(after - factor * before) ** 2)))


def _on_grid_of(new: Snapshot, old: Snapshot) -> npt.NDArray[np.complex64]:
    """Return an older image on the grid of a newer one, flat where there was none."""
    top = round(old.grid.origin_y - new.grid.origin_y)
    left = round(old.grid.origin_x - new.grid.origin_x)
    placed = np.full(new.object_array.shape, new.probe_scale, np.complex64)
    height, width = old.object_array.shape
    # The grid of a session is fixed, or grows with its frames: it holds what came before.
    placed[top : top + height, left : left + width] = old.object_array
    return placed
