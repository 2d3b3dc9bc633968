"""Which patterns train and which validate: whole regions of a scan are kept apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .neighbours import datasets, rounded_positions

__all__ = ['split_validation']

IntArray = npt.NDArray[np.int64]

BLOCK_PATTERNS = 16
"""Patterns that a block should hold at least, so that a good part of them lie inside it."""

LARGEST_NUMBER_OF_BLOCKS = 8


def split_validation(
    xy: npt.ArrayLike,
    fraction: float,
    *,
    smallest: int = 1,
    scan_index: npt.NDArray[np.integer[Any]] | None = None,
) -> tuple[IntArray, IntArray]:
    """Split patterns into training and validation indices, both sorted.

    Neighbouring patterns see the same part of the sample, so a pattern between training ones says little
    about what was learned. Validation patterns therefore form up to eight compact blocks, each in the
    middle of one of as many equal regions of the scan: few of them border on training patterns, and every
    region is judged.

    Parameters
    ----------
    xy : (n, 2) float
        Positions in pixels.
    fraction : float
        Part to validate on, in [0, 0.5].
    smallest : int
        Patterns of a group: a dataset gives at least as many, or, if it has fewer than four times as many,
        none.
    scan_index : (n,) int, optional
        Dataset of each pattern; each is split by itself.
    """
    points = rounded_positions(xy)
    kept = [
        chosen[_blocks(points[chosen], fraction, smallest)] for chosen in datasets(scan_index, len(points))
    ]
    validation = np.sort(np.concatenate([*kept, np.empty(0, np.int64)]))
    training = np.setdiff1d(np.arange(len(points)), validation, assume_unique=True)
    return training, validation


def _blocks(points: npt.NDArray[np.float64], fraction: float, smallest: int) -> IntArray:
    """Return the validation patterns of one dataset."""
    n = len(points)
    wanted = round(n * fraction)
    if fraction > 0 and wanted < smallest:
        wanted = smallest if n >= 4 * smallest else 0
    if wanted == 0:
        return np.empty(0, np.int64)
    halvings = int(np.log2(max(min(wanted / BLOCK_PATTERNS, LARGEST_NUMBER_OF_BLOCKS), 1)))
    regions = [np.arange(n)]
    for _ in range(halvings):
        regions = [half for region in regions for half in _halve(points, region)]
    shares = np.diff(np.linspace(0, wanted, len(regions) + 1).round().astype(np.int64))
    return np.concatenate([_middle(points, r, s) for r, s in zip(regions, shares, strict=True)])


def _halve(points: npt.NDArray[np.float64], region: IntArray) -> tuple[IntArray, IntArray]:
    """Cut a region across its longer side into two of equally many patterns."""
    axis = int(np.argmax(np.ptp(points[region], axis=0)))
    order = region[np.lexsort((region, points[region, axis]))]
    return order[: len(order) // 2], order[len(order) // 2 :]


def _middle(points: npt.NDArray[np.float64], region: IntArray, count: int) -> IntArray:
    """Return the `count` patterns nearest to the middle of a region."""
    middle = (points[region].min(axis=0) + points[region].max(axis=0)) / 2
    distance = ((points[region] - middle) ** 2).sum(axis=1)
    return region[np.lexsort((region, distance))[:count]]
