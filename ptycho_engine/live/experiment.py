"""What a live session takes its experiment to be: as it was told, or as calibration found it (LIVE-30)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from ..whole_scan.corrections import corrections, linear_map
from ..whole_scan.scan_model import ScanModel

__all__ = ['Experiment']


@dataclass(frozen=True)
class Experiment:
    """Probe, detector and axes; what holds for frames that are yet to come."""

    probe: npt.NDArray[np.complex64]
    """(P, N, N) incoherent modes, in the scale of the probe that the session was given."""
    background: npt.NDArray[np.float64] | None = None
    """(N, N) counts per pixel beside the object's; None where there are none."""
    bad: npt.NDArray[np.bool_] | None = None
    """(N, N) True where pixels are left out beside those that the detector marks."""
    axes: npt.NDArray[np.float64] = field(default_factory=lambda: np.eye(2))
    """(2, 2) map of the positions [y, x] that were told."""
    origin: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))
    """(2,) where it puts their origin, in object pixels."""
    uneven: bool = False
    """Whether the intensity of the beam is another in each exposure."""
    found: tuple[str, ...] = ()
    """A phrase for each part that is not as the session was told."""

    def place(self, positions: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return where patches (n, 2) [y, x] are whose positions were told so, in object pixels."""
        return np.asarray(positions @ self.axes.T + self.origin)

    def corrected(self, told: ScanModel, before: ScanModel, after: ScanModel) -> Self:
        """Return it as a calibration of some frames found it.

        Single positions that move by themselves say nothing of other frames, and are left as they are.

        Parameters
        ----------
        told : ScanModel
            These frames as the session was told.
        before : ScanModel
            The same by this experiment.
        after : ScanModel
            The same as they were calibrated.
        """
        place, moved = _positions(before), _positions(after) - _positions(before)
        axes = linear_map(place, moved) if moved.any() else None
        axes = np.eye(2) if axes is None else axes
        middle = place.mean(axis=1)
        masked = before.valid & ~after.valid
        if self.bad is not None:
            masked |= self.bad
        new = replace(
            self,
            probe=after.scan.raw.probeGuess,
            background=after.background,
            bad=masked if masked.any() else None,
            axes=axes @ self.axes,
            origin=axes @ (self.origin - middle) + middle,
            uneven=after.intensity is not None,
        )
        y, x = new.place(_positions(told).T).T
        raw = replace(after.scan.raw, ycoords=y, xcoords=x)
        seen = replace(after, scan=replace(after.scan, raw=raw))
        return replace(new, found=tuple(correction.phrase for correction in corrections(told, seen)))


def _positions(model: ScanModel) -> npt.NDArray[np.float64]:
    """Return [y, x] (2, n)."""
    raw = model.scan.raw
    return np.stack([raw.ycoords, raw.xcoords])
