"""A scan made ready for a backend: gauge, placement, illumination and batches of groups."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ..backends.base import Batch, Illumination
from ..data.scan import Scan
from ..physics.forward import cut_patches
from ..physics.geometry import PatchPlacement, place_patches
from ..physics.scaling import ScaleRecord, measure_scale

__all__ = ['PreparedScan']


@dataclass(frozen=True)
class PreparedScan:
    """One scan in the engine's gauge; arrays are made when first used."""

    scan: Scan
    has_truth: bool = False
    """Whether the scan's object is the truth and may serve as labels."""

    @cached_property
    def scale(self) -> ScaleRecord:
        """Scales measured on this scan."""
        raw = self.scan.raw
        return measure_scale(raw.diffraction, raw.probeGuess, raw.bad_pixels)

    @cached_property
    def placement(self) -> PatchPlacement:
        """Where the patches lie on the scan's grid."""
        raw, grid = self.scan.raw, self.scan.grid
        return place_patches(raw.xcoords - grid.origin_x, raw.ycoords - grid.origin_y, raw.N)

    @cached_property
    def good(self) -> npt.NDArray[np.bool_]:
        """(N, N) True where the detector is to be trusted."""
        raw = self.scan.raw
        return np.ones((raw.N, raw.N), bool) if raw.bad_pixels is None else ~raw.bad_pixels

    @cached_property
    def illumination(self) -> Illumination:
        """The probe in the engine's gauge and the mask."""
        probe = self.scan.raw.probeGuess * np.complex64(self.scale.probe_scale)
        return Illumination(probe, self.good)

    @property
    def xy(self) -> npt.NDArray[np.float64]:
        """(n, 2) positions in pixels."""
        return np.stack([self.scan.raw.xcoords, self.scan.raw.ycoords], axis=1)

    def __len__(self) -> int:
        return len(self.scan.raw)

    def batch(self, groups: npt.NDArray[np.int32]) -> Batch:
        """Gather groups (B, C) of pattern indices into arrays."""
        raw = self.scan.raw
        return Batch(
            amplitude=np.where(self.good, raw.diffraction[groups], np.float32(0)),
            corner=self.placement.corner[groups],
            remainder=self.placement.remainder[groups].astype(np.float32),
            labels=self._labels(groups) if self.has_truth else None,
        )

    def batches(self, groups: npt.NDArray[np.int32], batch_size: int) -> Iterator[Batch]:
        """Yield consecutive batches of groups."""
        for start in range(0, len(groups), batch_size):
            yield self.batch(groups[start : start + batch_size])

    def _labels(self, groups: npt.NDArray[np.int32]) -> npt.NDArray[np.complex64]:
        raw = self.scan.raw
        if raw.Y is not None:
            patches = raw.Y[groups]
        else:
            flat = groups.ravel()
            chosen = PatchPlacement(self.placement.corner[flat], self.placement.remainder[flat])
            patches = cut_patches(self._padded_truth, self._shift_into_padding(chosen), raw.N)
            patches = patches.reshape(*groups.shape, raw.N, raw.N)
        return np.asarray(patches / self.scale.probe_scale, dtype=np.complex64)

    @cached_property
    def _margin(self) -> int:
        """Pixels by which the outermost patch reaches over the grid."""
        corner = self.placement.corner
        over = np.asarray(self.scan.grid.shape)
        return int(max(0, -corner.min(), (corner + self.scan.raw.N - over).max()))

    @cached_property
    def _padded_truth(self) -> npt.NDArray[np.complex64]:
        truth = self.scan.raw.objectGuess
        assert truth is not None
        return np.pad(truth, self._margin, mode='edge')

    def _shift_into_padding(self, placement: PatchPlacement) -> PatchPlacement:
        return PatchPlacement(placement.corner + self._margin, placement.remainder)
