"""Work in blocks, so that temporary arrays stay small whatever the size of a scan."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

__all__ = [
    'BLOCK_PIXELS',
    'Frames',
    'block_length',
    'blocks',
    'evenly_spread',
    'first_to_last',
    'most_patterns',
]

BLOCK_PIXELS = 2**20
"""Pixels worked on at once: 256 patterns of 64×64, or 4 of 512×512."""


class Frames(Protocol):
    """A stack of frames (n, h, w) that is read by slices: an array, or one that stays in its file."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, h, w)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> npt.NDArray[Any]: ...


def block_length(size: int, planes: int = 1) -> int:
    """Return how many patterns of `size`×`size` pixels and `planes` modes to work on at once."""
    return max(BLOCK_PIXELS // (size * size * planes), 1)


def most_patterns(patterns: int, pixels: int, size: int, fewest: int = 1) -> int:
    """Return how many patterns of `size`×`size` pixels to look at: so many, and so many pixels, at most."""
    return max(min(patterns, pixels // size**2), fewest)


def evenly_spread(count: int, most: int) -> npt.NDArray[np.int64]:
    """Return at most so many of ``range(count)``, equally far apart."""
    return np.arange(0, count, -(-count // most))


def first_to_last(count: int, most: int) -> npt.NDArray[np.int64]:
    """Return at most `most` numbers of ``range(count)``, evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))


def blocks(count: int, length: int) -> Iterator[slice]:
    """Yield consecutive slices that cover ``range(count)``, none longer than `length`."""
    for start in range(0, count, length):
        yield slice(start, min(start + length, count))
