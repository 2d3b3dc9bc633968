"""How densely the patterns of a scan overlap, and descent in subsets of them where they do (REF-12)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ..physics.descent import Descent

__all__ = [
    'SPARSE_OVERLAP',
    'DescentRun',
    'fewer_subsets',
    'most_subsets',
    'overlap_of',
    'subsets_in_iteration',
]

SPARSE_OVERLAP = 1.2
"""Patterns that fall on a pixel below which each has a patch for itself: noise explains it as well as the
object does, and no neighbour holds its phase."""

DENSEST = 0.25
"""Part of the light that falls where a scan counts as densest."""

OVERLAP_BINS = 1024
"""Numbers of patterns on a pixel that are told apart."""

DENSE_OVERLAP = 8.0
"""Patterns that fall on a pixel from which on subsets bring more speed than noise."""

MOST_SUBSETS = 32

NEAR_DIVISOR = 4
"""A start that is near the object already takes so many times fewer subsets: their noise would undo its
low-frequency phase before the whole scan corrects it again."""

RUNAWAY = 2.0
"""A run whose held-out deviance grows by this factor starts again without subsets."""


def overlap_of(weight: npt.NDArray[Any], peak_illumination: float) -> float:
    """Return how many patterns fall on a pixel where the scan is densest.

    A quarter of the light falls where more do. A part of a scan, of which more is edge, has about the overlap
    of the whole.

    Parameters
    ----------
    weight : (H, W) float
        Illumination of the whole scan, in counts.
    peak_illumination : float
        Largest illumination of one pattern.
    """
    relative = np.ravel(weight) / peak_illumination
    light, edges = np.histogram(
        relative, bins=OVERLAP_BINS, range=(0, float(relative.max())), weights=relative
    )
    beyond = np.cumsum(light[::-1])[::-1]
    return float(edges[np.flatnonzero(beyond >= DENSEST * beyond[0])[-1]])


def most_subsets(overlap: float, n: int) -> int:
    """Return a power of two, so that on a dense scan half a pattern of a subset falls on each pixel.

    Parameters
    ----------
    overlap : float
        Patterns that fall on a pixel where the scan is densest (:func:`overlap_of`).
    n : int
        Patterns in the scan.
    """
    wanted = min(2 * overlap, MOST_SUBSETS, n) if overlap >= DENSE_OVERLAP else 1
    return int(2 ** math.floor(math.log2(wanted)))


def fewer_subsets(most: int) -> int:
    """Return the number of subsets for a start that is near the object, where `most` is for a flat one."""
    return max(most // NEAR_DIVISOR, 1)


def subsets_in_iteration(iteration: int, iterations: int, most: int) -> int:
    """Return how many subsets an iteration (from 1) is cut into: `most` for a third of them, then half as
    many in each, down to one, so that the end is without the noise of subsets (REF-12)."""
    beyond = iteration - math.ceil(iterations / 3)
    return max(most >> max(beyond, 0), 1)


class DescentRun:
    """One start and how far it has come."""

    def __init__(self, make: Callable[[Any], Descent], start: Any, iterations: int, most: int) -> None:
        self._make = make
        self._start = start
        self._descent = make(start)
        self._iterations = iterations
        self._most = most
        self._first = math.inf

    @property
    def current(self) -> Any:
        """The object (H, W) after the last step, on the device."""
        return self._descent.current

    def iterate(self, number: int, n: int, seed: int) -> tuple[float, Any]:
        """Do one iteration; return the sum of the held-out deviance, and the object it belongs to or None."""
        count = subsets_in_iteration(number, self._iterations, self._most)
        order = np.random.default_rng([seed, number]).permutation(n)
        total = self._descent.iterate(np.array_split(order, min(count, n)))
        if math.isinf(self._first):
            self._first = total
        if not total <= RUNAWAY * self._first and self._most > 1:
            self._most = 1
            self._descent = self._make(self._start)
            return math.nan, None
        return total, self._descent.judged if count == 1 else None
