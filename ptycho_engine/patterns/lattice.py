"""Whether numbers are counts times a factor, and which: counts are whole, so they lie on a lattice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ['Lattice', 'find_lattice', 'find_pixel_lattice']

LOWEST = 60
"""Different values looked at, from the smallest up: there the steps are large beside rounding errors."""

OFTEN = 3
"""Times that a value must occur; what comes from filled pixels or single outliers does not repeat."""

FEWEST = 3
"""Different values from which on a lattice is one; with fewer, any two numbers have a common measure."""

NEAR, ASTRAY = 0.15, 0.05
"""Distance from a point of the lattice, in steps, within which all but the second number's part must lie."""

MANY, NEARER = 12, 0.05
"""Different values, and the distance where there are fewer."""

HIGHEST_START = 400
"""Steps below the smallest value. Numbers of half precision are on a lattice of their own from 1024 up."""

PIXELS = 20
"""Pixels of which each shows its own lattice that are asked for, where one for all there is not."""

VALUES_OF_PIXEL = 8
"""Positive values of such a pixel."""


@dataclass(frozen=True)
class Lattice:
    """Numbers ``offset + step * k`` for whole k."""

    step: float
    offset: float = 0.0
    """Between -step/2 and step/2; 0 where it cannot be told from 0."""
    shared: bool = True
    """Whether all pixels share it; else each has an offset and nearly that step, as after a correction."""


def find_lattice(values: npt.NDArray[np.floating[Any]]) -> Lattice | None:
    """Return the lattice on which positive numbers (k,) lie, or None.

    The largest step is taken that fits the smallest values which occur often.
    """
    distinct, number = np.unique(np.asarray(values, np.float64), return_counts=True)
    often = np.flatnonzero(number >= OFTEN)[:LOWEST]
    if len(often) < FEWEST or number[often].sum() < number[: often[-1] + 1].sum() / 2:
        return None
    lowest = distinct[often]
    for step in sorted({lowest[0], *np.diff(lowest)}, reverse=True):
        if lowest[0] > HIGHEST_START * step:
            break
        found = _fit(lowest, float(step))
        if found is not None:
            return found
    return None


def _fit(lowest: npt.NDArray[np.float64], step: float) -> Lattice | None:
    """Return the lattice of about that step on which sorted values (k,) lie side by side, or None."""
    above = lowest - lowest[0]
    for top in (3, 8, 20, LOWEST):
        # A step from few values is good enough to number some more.
        steps = np.rint(above[:top] / step)
        if steps.any():
            step = float((above[:top] * steps).sum() / np.square(steps).sum())
    steps = np.rint(above / step)
    astray = np.abs(above / step - steps) > (NEAR if len(lowest) >= MANY else NEARER)
    if astray.mean() > ASTRAY or len(np.unique(steps)) < 0.9 * len(steps) or steps[-1] > 4 * len(steps):
        return None
    start = lowest[0] / step
    beside = start - np.rint(start)
    if abs(beside) < NEAR:
        numbers = np.rint(lowest / step)
        return Lattice(float((lowest * numbers).sum() / np.square(numbers).sum()))
    return Lattice(step, float(beside * step)) if len(lowest) >= 2 * FEWEST else None


def find_pixel_lattice(frames: npt.NDArray[np.floating[Any]]) -> Lattice | None:
    """Return the lattice on which the values of each dim pixel of frames (n, k) lie, or None.

    A dark or flat field that was taken off gives each pixel an offset and a step of its own.
    """
    gaps = []
    for values in frames.T:
        values = np.sort(values[values > 0])
        if len(values) < VALUES_OF_PIXEL:
            continue
        between = np.diff(values)
        gap = between[between > 1e-5 * values[1:]]
        if len(gap) and len(gap) + 1 <= len(values) / 2:
            gaps.append(gap)
    if len(gaps) < PIXELS:
        return None
    together = np.concatenate(gaps)
    step = float(np.median(np.concatenate([gap[gap < 1.5 * gap.min()] for gap in gaps])))
    steps = together / step
    if (np.abs(steps - np.rint(steps)) > NEAR).mean() > 2 * ASTRAY:
        return None
    return Lattice(step, shared=False)
