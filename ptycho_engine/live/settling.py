"""Whether an image still gets better as frames come in (LIVE-06, LIVE-17).

Its stated uncertainty follows the true error while a scan closes its gaps, and then falls about as the
photon noise of ever more frames, without an end. What tells the one from the other is by how much it would
fall with more frames like those so far, which its map of illumination says without waiting for them. An image
that is not yet what its uncertainty says still changes by more than that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..whole_scan.ramp import with_ramp_of
from .quality import LiveQuality, UnseenCurve
from .snapshot import Snapshot

__all__ = ['Look', 'Settling']

FIRST, STEP = 16, 1.05
"""Frames at the first look, and how many times more there are at each next one."""

MORE = 0.5
"""Times as many frames whose gain is foretold."""

COMPARED = 1.3
"""Factor in frames over which the image is compared with itself."""

GROWING, GREW_OVER = 0.2, 2.0
"""Growth of the scanned region, over a factor in frames, above which a scan goes on to new area. That of a
raster is at least 0.5, also within one of its first rows."""

MOST_GAIN = 0.23
"""By which the uncertainty of an image that hardly gets better may be expected to fall. With photon noise
alone it falls by 0.18; where it is expected to fall by so much, the true error falls by about a quarter."""

STILL = 1.6
"""Times its uncertainty by which such an image may have changed."""


@dataclass(frozen=True)
class Look:
    """An image at one moment, within the scanned region and relative to its root mean square."""

    frames: int
    error: float
    """Root mean square of the stated uncertainty."""
    gain: float
    """By which part this is expected to fall with ``MORE`` times as many frames over the same area."""
    change: float
    """Root mean square of the difference to the image of ``COMPARED`` times fewer frames, but for a phase
    ramp and a factor; NaN where there is none."""
    area: int
    """Pixels of the scanned region."""


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
        error, later = shot.stated_errors(MORE)
        if not error > 0 or not size > 0:
            return
        old = [image for image in self._images if len(image.position) * COMPARED <= frames]
        change = _change(old[-1], shot) / size if old else math.nan
        self.looks.append(Look(frames, error / size, 1 - later / error, change, _area(shot)))
        # None that is older will be compared again.
        self._images = [*old[-1:], *self._images[len(old) :], shot]

    @property
    def error(self) -> float:
        """The stated uncertainty at the last look; NaN before the first."""
        return self.looks[-1].error if self.looks else math.nan

    @property
    def settled(self) -> bool:
        """Whether the image hardly gets better with more frames, and the scan stays where it was."""
        if not self.looks:
            return False
        last = self.looks[-1]
        before = [look.area for look in self.looks if look.frames * GREW_OVER <= last.frames]
        stays = bool(before) and before[-1] > (1 - GROWING) * last.area
        return stays and last.gain < MOST_GAIN and last.change < STILL * last.error

    def quality(self, curve: UnseenCurve) -> LiveQuality:
        """Return what unseen frames and the looks at the image say."""
        return LiveQuality(
            unseen=curve.unseen,
            growth=curve.growth,
            error=self.error,
            gain=self.looks[-1].gain if self.looks else math.nan,
            enough=self.settled,
        )


def _area(shot: Snapshot) -> int:
    """Return the number of pixels of the scanned region."""
    rows, columns = shot.box
    return int((rows.stop - rows.start) * (columns.stop - columns.start))


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
