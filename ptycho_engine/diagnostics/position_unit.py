"""In which unit the positions of a scan are (DOCTOR-09, DOCTOR-11)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .changes import multiplied_positions
from .trials import SCREENED_PATTERNS, Reading, Trials, median_step, probe_width

__all__ = ['find_unit']

STEP_RANGE, SCALES, EARLY = (0.03, 0.8), 64, 8
"""Steps relative to the probe's width among which the unit of positions is looked for, how many, and in how
many iterations each."""
MAP_PATTERNS, MAP_ITERATIONS = (SCREENED_PATTERNS, 49, 147), 60
"""Patterns by whose forces the unit is then refined, the more the closer, and iterations."""
VALLEY = 0.5
"""Part of the highest ratio below which a valley between is plain."""
ROUND, ROUND_SIZE = 0.03, 0.002
"""Relative distance from a power of ten, and from a pixel size of two digits, within which a unit is that."""


def find_unit(trials: Trials, reading: Reading) -> float | None:
    """Return the factor that makes object pixels of the positions; None where they are all in one place."""
    raw = trials.whole(reading)
    step = median_step(raw)
    if step == 0:
        return None
    size = trials.middle(reading)
    factors = probe_width(raw) / step * np.geomspace(*STEP_RANGE, SCALES)
    readings = (reading.then(multiplied_positions(float(factor))) for factor in factors)
    ratios = [trials.fit_middle(each, size, EARLY).judge().ratio for each in readings]
    factor = float(factors[_valley(np.asarray(ratios))])
    for count in MAP_PATTERNS:
        free = reading.then(multiplied_positions(factor)).freeing('affine')
        found = trials.fit_middle(free, size, MAP_ITERATIONS, count)
        factor *= float(np.sqrt(abs(np.linalg.det(found.matrix))))
    # The object follows positions that are all too far apart, so that forces on them hardly tell.
    change = trials.told_by_held_out(lambda part: reading.then(multiplied_positions(factor * (1 + part))))
    return _round_unit(factor * (1 + change))


def _valley(ratios: npt.NDArray[np.float64]) -> int:
    """Return the index of the least of ratios (n,), at an end only if there is no plain valley between.

    The farther apart positions are, the better each pattern explains itself.
    """
    inner = ratios[1:-1]
    valleys = (inner <= ratios[:-2]) & (inner <= ratios[2:]) & (inner < VALLEY * ratios.max())
    return 1 + int(np.argmin(np.where(valleys, inner, np.inf))) if valleys.any() else int(np.argmin(ratios))


def _round_unit(factor: float) -> float:
    """Return a factor, or the power of ten, or the inverse of a size of two digits, that it is hardly off."""
    power = float(10.0 ** round(np.log10(factor)))
    size = 1 / float(f'{1 / factor:.1e}')
    if abs(factor / power - 1) < ROUND:
        return power
    return size if abs(factor / size - 1) < ROUND_SIZE else factor
