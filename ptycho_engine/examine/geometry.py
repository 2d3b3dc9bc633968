"""Do patterns, probe and positions belong together? Each way to mix them up is tried on a part of the scan.

A few object updates of every hypothesis tell: only where the geometry is right do neighbouring patterns agree
on one object, and the residual falls. Swapping the axes of the patterns and of the positions differ by the
transposed probe, so the two are told apart only where the probe is not symmetric.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..data.raw_data import RawData
from ..physics.forward import cut_patches, epie_step, exit_waves, far_field
from ..physics.geometry import ObjectGrid, place_patches
from ..physics.probe import fourier_shift, mode_intensity
from ..physics.scaling import ScaleRecord
from ..pipeline.stitch import Stitcher

__all__ = ['HYPOTHESES', 'Verdict', 'judge_geometry']

PATTERNS = 36
"""Neighbouring patterns of the part that is tried, at 64×64 pixels; fewer of larger ones."""
ROUNDS = 8
CLEAR = 0.8
"""Another hypothesis must bring the residual below this part of that of the data as given."""

FloatArray = npt.NDArray[np.floating[Any]]
ComplexArray = npt.NDArray[np.complexfloating[Any, Any]]
Change = Callable[[FloatArray, FloatArray, FloatArray], tuple[FloatArray, FloatArray, FloatArray]]

HYPOTHESES: dict[str, Change] = {
    'as given': lambda a, x, y: (a, x, y),
    'transposed patterns': lambda a, x, y: (a.swapaxes(-2, -1), x, y),
    'swapped x and y': lambda a, x, y: (a, y, x),
    'x with the other sign': lambda a, x, y: (a, -x, y),
    'y with the other sign': lambda a, x, y: (a, x, -y),
    'both with the other sign': lambda a, x, y: (a, -x, -y),
}


@dataclass(frozen=True)
class Verdict:
    """Residuals of all hypotheses, and the one that is clearly better than the data as given."""

    residuals: dict[str, float]
    """Relative error of the predicted amplitudes, 0 for a perfect fit."""
    better: str | None
    """The name of that hypothesis; None where the data as given fit best or nothing is clear."""


def judge_geometry(raw: RawData, scale: ScaleRecord) -> Verdict | None:
    """Try every hypothesis on a compact part of the scan; None where that is dark.

    Parameters
    ----------
    raw : RawData
        A scan with patterns.
    scale : ScaleRecord
        Measured on it.
    """
    part = _compact_part(raw)
    measured = np.asarray(part.diffraction[:], dtype=np.float64) / scale.unit
    light = float((measured[:, part.good] ** 2).sum())
    if not light > 0:
        return None
    probe = part.probeGuess.astype(np.complex128) * scale.gauge
    residuals = {}
    for name, change in HYPOTHESES.items():
        amplitude, x, y = change(measured, part.xcoords, part.ycoords)
        residuals[name] = float(np.sqrt(_misfit(part, probe, amplitude, x, y) / light))
    best = min(residuals, key=lambda name: residuals[name])
    clear = residuals[best] < CLEAR * residuals['as given']
    return Verdict(residuals, best if clear else None)


def _compact_part(raw: RawData) -> RawData:
    """Return the patterns nearest to the middle of the scan."""
    count = max(min(PATTERNS * 64 * 64 // raw.N**2, PATTERNS), 16)
    middle = np.median(raw.xcoords), np.median(raw.ycoords)
    distance = np.maximum(np.abs(raw.xcoords - middle[0]), np.abs(raw.ycoords - middle[1]))
    return raw.select(np.sort(np.argsort(distance, kind='stable')[:count]))


def _misfit(part: RawData, probe: ComplexArray, amplitude: FloatArray, x: FloatArray, y: FloatArray) -> float:
    """Return the squared amplitude error after some object updates of all patterns together."""
    good = part.good
    grid = ObjectGrid.around_scan(x, y, part.N)
    placement = place_patches(x - grid.origin_x, y - grid.origin_y, part.N)
    weight = mode_intensity(fourier_shift(probe[None], placement.remainder[:, None]))
    obj: npt.NDArray[np.complexfloating[Any, Any]] = np.ones(grid.shape, np.complex128)
    for _ in range(ROUNDS):
        patches = cut_patches(obj, placement, part.N)
        revised = epie_step(patches, probe, placement.remainder, amplitude, good)
        stitcher = Stitcher(grid.shape)
        stitcher.add(revised * weight, weight, placement.corner)
        obj = stitcher.result()
    waves = exit_waves(cut_patches(obj, placement, part.N), probe, placement.remainder)
    predicted = np.sqrt(mode_intensity(far_field(waves)))
    return float(((predicted - amplitude) ** 2 * good).sum())
