"""Which patterns lie next to which: the one place where a k-d tree of scan positions is built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from ..errors import DataValueError

__all__ = ['NOBODY', 'Neighbourhood', 'find_neighbours', 'nearest_distances', 'rounded_positions']

IntArray = npt.NDArray[np.int32]

NOBODY = -1
"""Fills a row of neighbours where a dataset has fewer patterns."""

RESOLUTION_PX = 1e-6
"""Positions are rounded to this before they are compared. A scan on a regular raster is full of equal
distances; rounding errors, as of a file that holds metres, must not decide which neighbour is the nearer."""

BLOCK = 65536
"""Positions looked up at once."""

BRUTE_FORCE = 5e7
"""Distances up to which comparing all with all is as quick as a tree."""


def rounded_positions(xy: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return positions (n, 2) as whole multiples of ``RESOLUTION_PX``."""
    return np.rint(np.asarray(xy, dtype=np.float64).reshape(-1, 2) / RESOLUTION_PX)


def nearest_distances(xy: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the distance from each position (n, 2) to the nearest other one; nothing for a single one."""
    points = np.asarray(xy, dtype=np.float64).reshape(-1, 2)
    if len(points) < 2:
        return np.empty(0)
    distances: npt.NDArray[np.float64] = cKDTree(points).query(points, k=2)[0][:, 1]
    return distances


def find_neighbours(
    xy: npt.ArrayLike, count: int, scan_index: npt.NDArray[np.integer[Any]] | None = None
) -> IntArray:
    """Return the `count` nearest other patterns of each pattern, nearest first.

    Parameters
    ----------
    xy : (n, 2) float
        Positions in pixels.
    count : int
        Neighbours wanted.
    scan_index : (n,) int, optional
        Dataset of each pattern; neighbours are of the same one.

    Returns
    -------
    (n, count) int32
        Indices into `xy`; -1 where a dataset has too few patterns.
    """
    points = rounded_positions(xy)
    table = np.full((len(points), count), NOBODY, np.int32)
    for chosen in datasets(scan_index, len(points)):
        width = min(count, len(chosen) - 1)
        if width > 0:
            table[chosen, :width] = chosen[_nearest(points[chosen], width)]
    return table


def datasets(scan_index: npt.NDArray[np.integer[Any]] | None, n: int) -> list[npt.NDArray[np.int64]]:
    """Return the sorted pattern indices of each dataset among `n` patterns."""
    if scan_index is None:
        return [np.arange(n)]
    return [np.flatnonzero(scan_index == label) for label in np.unique(scan_index)]


def _nearest(points: npt.NDArray[np.float64], count: int) -> IntArray:
    """Return the `count` nearest others of each point; the points are one dataset of more than `count`."""
    n = len(points)
    # Building an unbalanced tree takes half the time, and visiting points in its order half the look-ups'.
    tree = cKDTree(points, balanced_tree=False, compact_nodes=False)
    order = tree.indices
    nearest = np.empty((n, count), np.int32)
    for start in range(0, n, BLOCK):
        rows = order[start : start + BLOCK]
        _, near = tree.query(points[rows], k=count + 1)
        # Among coincident positions the point itself need not come first, or come at all.
        own = near == rows[:, np.newaxis]
        own[~own.any(axis=1), -1] = True
        nearest[rows] = near[~own].reshape(len(rows), count)
    return nearest


@dataclass(frozen=True)
class Neighbourhood:
    """Some patterns of a scan, and for each of them the nearest others among these."""

    members: npt.NDArray[np.int64]
    """(m,) indices into the scan, sorted."""
    near: IntArray
    """(m, K) indices into the scan, nearest first; -1, at the end of a row, for none."""

    def __len__(self) -> int:
        return len(self.members)

    @classmethod
    def whole(cls, near: IntArray) -> Neighbourhood:
        """Return the neighbourhood of all patterns, given what :func:`find_neighbours` found."""
        return cls(np.arange(len(near)), near)

    def part(
        self,
        members: npt.NDArray[np.integer[Any]],
        smallest: int,
        xy: npt.ArrayLike,
        scan_index: npt.NDArray[np.integer[Any]] | None = None,
    ) -> Neighbourhood:
        """Return the neighbourhood of some of the patterns, which see one another only.

        Neighbours outside the part are struck out; a pattern that keeps fewer than `smallest` gets the
        nearest of its dataset in the part instead.

        Parameters
        ----------
        members : (m,) int
            Indices into the scan; a subset of the present ones.
        smallest : int
            Neighbours that each pattern needs.
        xy : (n, 2) float
            Positions of the whole scan, in pixels.
        scan_index : (n,) int, optional
            Dataset of each pattern of the scan.

        Raises
        ------
        DataValueError
            If a dataset has fewer than `smallest` + 1 patterns in the part.
        """
        chosen = np.unique(members).astype(np.int64)
        inside = np.zeros(len(np.asarray(xy)) + 1, bool)  # the last is for NOBODY
        inside[chosen] = True
        near = self.near[np.searchsorted(self.members, chosen)]
        near = np.where(inside[near], near, np.int32(NOBODY))
        near = np.take_along_axis(near, np.argsort(near == NOBODY, axis=1, kind='stable'), axis=1)
        lacking = np.flatnonzero((near != NOBODY).sum(axis=1) < smallest)
        if len(lacking):
            points = rounded_positions(xy)
            labels = None if scan_index is None else scan_index[chosen]
            for group in datasets(labels, len(chosen)):
                wanted = np.intersect1d(lacking, group, assume_unique=True)
                if len(wanted):
                    found = _nearest_of_few(points[chosen[group]], np.searchsorted(group, wanted), smallest)
                    near[wanted] = NOBODY
                    near[wanted, :smallest] = chosen[group][found]
        return Neighbourhood(chosen, near)


def _nearest_of_few(
    points: npt.NDArray[np.float64], rows: npt.NDArray[np.int64], count: int
) -> npt.NDArray[np.integer[Any]]:
    """Return the `count` nearest other points of some points (r, count)."""
    if len(points) <= count:
        raise DataValueError(
            f'A dataset has {len(points)} patterns to draw from but a group needs {count + 1}; use a smaller '
            'gridsize or more patterns.'
        )
    if len(rows) * len(points) > BRUTE_FORCE:
        return _nearest(points, count)[rows]
    found = np.empty((len(rows), count), np.int64)
    step = max(int(4e6 / len(points)), 1)
    for start in range(0, len(rows), step):
        some = rows[start : start + step]
        apart = points[some, np.newaxis] - points
        square = np.einsum('rnk,rnk->rn', apart, apart)
        square[np.arange(len(some)), some] = np.inf
        found[start : start + step] = np.argsort(square, axis=1, kind='stable')[:, :count]
    return found
