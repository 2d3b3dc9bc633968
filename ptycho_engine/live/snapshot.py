"""The image of a live session at one moment (LIVE-*)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from ..physics.geometry import ObjectGrid
from ..scoring.scores import scan_box
from ..whole_scan.subsets import overlap_of
from ..whole_scan.uncertainty import (
    PHYSICS_ALONE,
    REACH_PX,
    averaged_light,
    squared_parts,
    stated_uncertainty,
    with_more_light,
)
from .experiment import Experiment
from .intake import Counts
from .quality import LiveQuality

__all__ = ['Snapshot']


@dataclass(frozen=True)
class Snapshot:
    """The image as it is."""

    object_array: npt.NDArray[np.complex64]
    """(H, W) on :attr:`grid`, in the scale of the session's probe."""
    weight: npt.NDArray[np.float32]
    """(H, W) illumination in counts; 0 where nothing was measured."""
    grid: ObjectGrid
    """That of the session, else the smallest that holds all patches, as for a whole scan."""
    position: npt.NDArray[np.float64]
    """(n, 2) [y, x] of the frames in the image, in object pixels, by :attr:`experiment`."""
    quality: LiveQuality
    counts: Counts
    probe_scale: float
    """Of :attr:`object_array`: its amplitude is about so much."""
    size: int
    """Side N of a frame in pixels."""
    peak_illumination: float
    """Largest illumination of one frame, in counts."""
    experiment: Experiment
    """By which it was made: as the session was told, or as calibration found it."""

    @property
    def box(self) -> tuple[slice, slice]:
        """(rows, columns) where the scan positions are."""
        y, x = self.position.T
        return scan_box(x - self.grid.origin_x, y - self.grid.origin_y, self.grid.shape)

    def uncertainty(self) -> npt.NDArray[np.float32]:
        """Return how far the object (H, W) may be off, in its own units (SOLVE-07); NaN in the dark."""
        whole = slice(None), slice(None)
        parts = self._squared_parts(whole, self.box, overlap_of(self.weight, self.peak_illumination))
        return stated_uncertainty(parts, PHYSICS_ALONE) * np.float32(self.probe_scale)

    def stated_errors(self, more: float) -> tuple[float, float]:
        """Return the root mean square of the uncertainty in the scanned region, now and with more frames.

        Parameters
        ----------
        more : float
            Times as many frames that come to these, spread over the region as these are.
        """
        # What is farther from the region has no part in it, and for long most of a grid is dark.
        near = _grown(self.box)
        inside = _within(self.box, near)
        later = self.weight.copy()
        later[self.box] += np.float32(more) * self._spread_light()
        overlaps = [overlap_of(weight, self.peak_illumination) for weight in (self.weight, later)]
        parts = self._squared_parts(near, inside, overlaps[0])
        light, more_light = averaged_light(self.weight[near]), averaged_light(later[near])
        factor = np.divide(more_light, light, out=np.ones_like(light), where=light > 0)
        grown = with_more_light(parts, np.maximum(factor, 1), (overlaps[0], overlaps[1]))
        now, then = (
            _root_mean_square(stated_uncertainty(each, PHYSICS_ALONE)[inside]) for each in (parts, grown)
        )
        return self.probe_scale * now, self.probe_scale * then

    def _squared_parts(
        self, part: tuple[slice, slice], box: tuple[slice, slice], overlap: float
    ) -> npt.NDArray[np.float64]:
        """Return the squares of the parts of the uncertainty in a part of the grid, `box` being in it."""
        obj = (self.object_array[part] / np.float32(self.probe_scale)).astype(np.complex64)
        return squared_parts(obj, None, self.weight[part], overlap, box)

    def _spread_light(self) -> npt.NDArray[np.float32]:
        """Return the illumination of the scanned region, spread as frames that lie between these would."""
        inside, spread = self.weight[self.box], self.size / 2
        # Near the edge too it is the mean of what lies inside.
        light, area = (
            gaussian_filter(values, spread, mode='constant') for values in (inside, np.ones_like(inside))
        )
        return np.asarray(light / area, np.float32)


def _grown(box: tuple[slice, slice]) -> tuple[slice, slice]:
    """Return a box with all that has a part in its uncertainty."""
    rows, columns = (slice(max(side.start - REACH_PX, 0), side.stop + REACH_PX) for side in box)
    return rows, columns


def _within(box: tuple[slice, slice], part: tuple[slice, slice]) -> tuple[slice, slice]:
    """Return where a box lies in a part of the grid."""
    rows, columns = (
        slice(side.start - whole.start, side.stop - whole.start)
        for side, whole in zip(box, part, strict=True)
    )
    return rows, columns


def _root_mean_square(values: npt.NDArray[np.float32]) -> float:
    """Return that of what is known; 0 where nothing is."""
    known = values[np.isfinite(values)].astype(np.float64)
    return float(np.sqrt(np.square(known).mean())) if known.size else 0.0
