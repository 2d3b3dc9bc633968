"""Ordered subsets: on a dense scan a step needs a part of the patterns only (REF-12)."""

from __future__ import annotations

import math

__all__ = ['fewer_subsets', 'most_subsets', 'subsets_in_sweep']

DENSE_OVERLAP = 8.0
"""Patterns that fall on a pixel from which on subsets bring more speed than noise."""

MOST_SUBSETS = 32

NEAR_DIVISOR = 4
"""A start that is near the object already takes so many times fewer subsets: their noise would undo its slow
phase before the whole scan mends it again."""


def most_subsets(overlap: float, n: int) -> int:
    """Return a power of two, so that on a dense scan half a pattern of a subset falls on each pixel.

    Parameters
    ----------
    overlap : float
        Patterns that fall on a pixel where the scan is densest (:func:`~.overlap.overlap_of`).
    n : int
        Patterns in the scan.
    """
    wanted = min(2 * overlap, MOST_SUBSETS, n) if overlap >= DENSE_OVERLAP else 1
    return int(2 ** math.floor(math.log2(wanted)))


def fewer_subsets(most: int) -> int:
    """Return the number of subsets for a start that is near the object, where `most` is for a flat one."""
    return max(most // NEAR_DIVISOR, 1)


def subsets_in_sweep(sweep: int, sweeps: int, most: int) -> int:
    """Return how many subsets a sweep (from 1) is cut into: `most` for a third of them, then half as many
    in each, down to one, so that the end is without the noise of subsets (REF-12)."""
    beyond = sweep - math.ceil(sweeps / 3)
    return max(most >> max(beyond, 0), 1)
