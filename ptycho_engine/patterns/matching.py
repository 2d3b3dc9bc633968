"""Which pattern belongs to which position, where a scan has more of the one than of the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DataValueError

__all__ = ['Match', 'count_frames', 'match_frames', 'numbered_alike']

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Match:
    """The patterns and the positions that belong together, one by one."""

    frames: Indices
    """(m,) indices of patterns."""
    positions: Indices
    """(m,) indices of positions."""
    told: tuple[str, ...] = ()
    """What was taken for granted."""


def count_frames(shape: tuple[int, ...], n_positions: int) -> int:
    """Return how many patterns an array of that shape holds, in whatever order of its axes.

    That is the number of positions where it can be, or else the side beside two equal ones.
    """
    if len(shape) != 3 or n_positions in (shape[0], shape[2]):
        return n_positions
    if shape[1] == shape[2]:
        return shape[0]
    return shape[2] if shape[0] == shape[1] else n_positions


def match_frames(
    n_frames: int, n_positions: int, numbers: npt.NDArray[Any] | None, dark_end: int, source: str
) -> Match:
    """Match patterns to positions.

    Numbers from ``scan_index``, another one for each, say which they are, counted from 0 or 1. Else patterns
    without light at the end are those of positions that were not reached, or of none.

    Parameters
    ----------
    numbers : (k,) int, optional
        Frame of each position, or position of each frame.
    dark_end : int
        Patterns without light at the end.

    Raises
    ------
    DataValueError
        If it is not clear which belong together.
    """
    everything = np.arange(min(n_frames, n_positions))
    if n_frames == n_positions:
        lit = everything[: n_frames - dark_end]
        return Match(lit, lit, _dark(dark_end))
    most = max(n_frames, n_positions)
    if numbers is not None and len(numbers) == len(everything) == len(np.unique(numbers)):
        first = int(numbers.max()) == most and int(numbers.min()) >= 1
        chosen = numbers - 1 if first else numbers
        if chosen.min() >= 0 and chosen.max() < most:
            start = 'from 1' if first else 'from 0'
            line = (
                f'there are {n_frames} patterns and {n_positions} positions; scan_index says which belong '
                f'together, counted {start}.'
            )
            if n_frames == most:
                return Match(chosen, everything, (line,))
            return Match(everything, chosen, (line,))
    if 0 < n_frames - n_positions <= dark_end:
        lit = everything[: n_frames - dark_end]
        return Match(lit, lit, _dark(dark_end))
    raise DataValueError(
        f'{source}: there are {n_frames} patterns but {n_positions} positions, and nothing says which belong '
        'together; leave out those without the other, or give scan_index, the number of the frame of each.'
    )


def _dark(count: int) -> tuple[str, ...]:
    if not count:
        return ()
    what = 'the last pattern is' if count == 1 else f'the last {count} patterns are'
    return (f'{what} dark, as of a scan that ended early, and left out.',)


def numbered_alike(frames: Indices, positions: Indices) -> bool:
    """Return whether as many frames as positions have numbers without gaps, of which one set begins at 1."""
    n = len(frames)
    if n != len(positions) or n == 0:
        return False
    starts = {int(frames[0]), int(positions[0])}
    gapless = all(np.array_equal(found - found[0], np.arange(n)) for found in (frames, positions))
    return gapless and starts == {0, 1}
