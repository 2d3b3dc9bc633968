"""Frames and positions that belong together, in whatever order they come, late, twice or never."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..arrays import as_numbers
from ..errors import DataValueError

__all__ = ['Counts', 'Intake', 'as_positions']


@dataclass
class Counts:
    """What has become of all that was pushed."""

    frames: int = 0
    """Frames that were kept."""
    used: int = 0
    """Of these, the frames that are in the image."""
    repeated: int = 0
    """Frames, and positions of frames, that had come before and were left out."""
    astray: int = 0
    """Frames whose position is no number, or far from all others."""
    dark: int = 0
    """Frames without a count in their valid pixels."""
    lost: int = 0
    """Frames that the source had to drop, as far as it says so."""

    @property
    def left_out(self) -> int:
        """Frames and positions that came and are of no use."""
        return self.repeated + self.astray + self.dark


class Intake:
    """Pairs kept frames with positions by their numbers.

    A position that has not come is NaN. Where a number comes twice, the first frame and the first position
    count: the image may already be made with them. `source` is for messages.
    """

    def __init__(self, counts: Counts, source: str) -> None:
        self._counts, self._source = counts, source
        self._slot: dict[int, int] = {}
        self._early: dict[int, tuple[float, float]] = {}
        self._position = np.full((64, 2), np.nan)
        self._index = np.zeros(64, np.int64)

    def __len__(self) -> int:
        return len(self._slot)

    @property
    def position(self) -> npt.NDArray[np.float64]:
        """(n, 2) [y, x] of the kept frames in the order in which they came; NaN where it has not come."""
        return self._position[: len(self)]

    @property
    def index(self) -> npt.NDArray[np.int64]:
        """(n,) numbers of the kept frames."""
        return self._index[: len(self)]

    @property
    def unplaced(self) -> int:
        """Kept frames whose position has not come."""
        return int(np.isnan(self.position[:, 0]).sum())

    def numbers(self, indices: Sequence[int] | npt.NDArray[np.integer[Any]] | None, count: int) -> list[int]:
        """Return the numbers of so many frames that come: those given, or the next ones.

        Raises
        ------
        DataValueError
            If there are more or fewer.
        """
        if indices is None:
            first = int(self.index.max(initial=-1)) + 1
            return list(range(first, first + count))
        numbers = [int(index) for index in indices]
        if len(numbers) != count:
            raise DataValueError(
                f'{self._source}: {count} frames have {len(numbers)} numbers; expected one each.'
            )
        return numbers

    def new(self, indices: Sequence[int]) -> list[int]:
        """Return which of some frames, by their place in `indices`, have not come before."""
        seen: set[int] = set()
        fresh = []
        for place, index in enumerate(indices):
            if index in self._slot or index in seen:
                self._counts.repeated += 1
                continue
            seen.add(index)
            fresh.append(place)
        return fresh

    def add(self, indices: Sequence[int]) -> list[int]:
        """Take frames that are new; return the numbers of those whose position came before them."""
        ready = []
        for index in indices:
            slot = len(self._slot)
            if slot == len(self._index):
                self._index = np.concatenate([self._index, np.zeros_like(self._index)])
                self._position = np.concatenate([self._position, np.full_like(self._position, np.nan)])
            self._slot[index], self._index[slot] = slot, index
            if index in self._early:
                self._position[slot] = self._early.pop(index)
                ready.append(slot)
            self._counts.frames += 1
        return ready

    def place(self, indices: Sequence[int], positions: npt.NDArray[np.float64]) -> list[int]:
        """Take positions (b, 2); return the slots of kept frames that have got one now.

        A position that is no number counts as astray, and its frame as one without.
        """
        ready = []
        for index, (y, x) in zip(indices, positions.tolist(), strict=True):
            if not (np.isfinite(y) and np.isfinite(x)):
                self._counts.astray += 1
                continue
            slot = self._slot.get(index)
            if slot is None:
                if index in self._early:
                    self._counts.repeated += 1
                else:
                    self._early[index] = (y, x)
            elif np.isnan(self._position[slot, 0]):
                self._position[slot] = y, x
                ready.append(slot)
            else:
                self._counts.repeated += 1
        return ready


def as_positions(positions: npt.ArrayLike, count: int, source: str) -> npt.NDArray[np.float64]:
    """Return positions (count, 2), [y, x] of each.

    Raises
    ------
    DataValueError
        If they are of another shape, or no numbers; the message begins with `source`.
    """
    place = as_numbers(np.asarray(positions), np.float64, f'{source}: positions')
    if place.shape != (count, 2):
        raise DataValueError(
            f'{source}: positions have shape {place.shape}; expected ({count}, 2), [y, x] of each.'
        )
    return place
