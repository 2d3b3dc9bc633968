"""Which frames lie near others, in a time that does not grow with the scan."""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt

from ..blocks import first_to_last

__all__ = ['Neighbours', 'near_groups']

CELLS = 2
"""Cells to a patch, along each side."""

REACH = 3
"""Cells beyond which a frame is no neighbour."""

KEPT = 48
"""Frames of a cell that are remembered, the last ones: a scan that goes over the same place again and again
holds what came before by its illumination alone."""


class Neighbours:
    """Frames by the cell of the object in which their corner lies.

    Parameters
    ----------
    size : int
        Side of a patch in pixels.
    """

    def __init__(self, size: int) -> None:
        self._side = max(size // CELLS, 1)
        self._cells: dict[tuple[int, int], deque[tuple[int, int, int]]] = {}

    def add(self, slots: npt.NDArray[np.int64], corner: npt.NDArray[np.int64]) -> None:
        """Remember frames (b,) with corners (b, 2)."""
        for slot, (row, column) in zip(slots.tolist(), corner.tolist(), strict=True):
            cell = row // self._side, column // self._side
            self._cells.setdefault(cell, deque(maxlen=KEPT)).append((slot, row, column))

    def nearest(
        self, corner: npt.NDArray[np.int64], most: int, without: npt.NDArray[np.int64], near: float
    ) -> npt.NDArray[np.int64]:
        """Return at most so many frames by their distance from the nearest of some corners (b, 2).

        A part `near` of them are the nearest, the others are spread evenly over all within ``REACH``, for the
        low-frequency phase. Those in `without` are left out.
        """
        reach = range(-REACH, REACH + 1)
        cells = {
            (row + dy, column + dx)
            for row, column in (corner // self._side).tolist()
            for dy in reach
            for dx in reach
        }
        found = [entry for cell in sorted(cells) for entry in self._cells.get(cell, ())]
        if not found:
            return np.empty(0, np.int64)
        table = np.array(found, np.int64)
        table = table[~np.isin(table[:, 0], without)]
        apart = table[:, None, 1:] - corner[None]
        distance = np.square(apart).sum(axis=2).min(axis=1, initial=np.iinfo(np.int64).max)
        order = np.argsort(distance, kind='stable')
        order = order[distance[order] <= (REACH * self._side) ** 2]
        nearest = round(near * most)
        rest = order[nearest:]
        spread = rest[first_to_last(len(rest), most - nearest)] if most > nearest and len(rest) else rest[:0]
        return np.asarray(table[np.concatenate([order[:nearest], spread]), 0])


def near_groups(corner: npt.NDArray[np.int64], extent: int) -> list[npt.NDArray[np.int64]]:
    """Return places in `corner` (b, 2), in groups none of which extends over more than so many pixels."""
    groups: list[list[int]] = []
    for place, one in enumerate(corner):
        for group in groups:
            spread = np.vstack([corner[group], one])
            if np.ptp(spread, axis=0).max() <= extent:
                group.append(place)
                break
        else:
            groups.append([place])
    return [np.array(group) for group in groups]
