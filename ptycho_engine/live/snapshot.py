"""The image of a live session at one moment (LIVE-*)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from ..physics.geometry import ObjectGrid
from ..scoring.scores import scan_box
from ..whole_scan.subsets import overlap_of
from ..whole_scan.uncertainty import PHYSICS_ALONE, squared_parts, stated_uncertainty
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

    def uncertainty(self, more: float = 0.0) -> npt.NDArray[np.float32]:
        """Return how far the object (H, W) may be off, in its own units (SOLVE-07); NaN in the dark.

        Parameters
        ----------
        more : float
            Times as many frames that come to these, spread over the scanned region as these are: what they
            leave of it.
        """
        obj = (self.object_array / np.float32(self.probe_scale)).astype(np.complex64)
        weight = self.weight
        if more:
            inside, spread = weight[self.box], self.size / 2
            # Near the edge too it is the mean of what lies inside.
            light, area = (
                gaussian_filter(values, spread, mode='constant') for values in (inside, np.ones_like(inside))
            )
            weight = weight.copy()
            weight[self.box] += np.float32(more) * light / area
        overlap = overlap_of(weight, self.peak_illumination)
        parts = squared_parts(obj, None, weight, overlap, self.box)
        return stated_uncertainty(parts, PHYSICS_ALONE) * np.float32(self.probe_scale)
