"""Work in blocks, so that temporary arrays stay small whatever the size of a scan."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ['BLOCK_PIXELS', 'block_length', 'blocks']

BLOCK_PIXELS = 2**20
"""Pixels worked on at once: 256 patterns of 64×64, or 4 of 512×512."""


def block_length(size: int, planes: int = 1) -> int:
    """Return how many patterns of `size`×`size` pixels and `planes` modes to work on at once."""
    return max(BLOCK_PIXELS // (size * size * planes), 1)


def blocks(count: int, length: int) -> Iterator[slice]:
    """Yield consecutive slices that cover ``range(count)``, none longer than `length`."""
    for start in range(0, count, length):
        yield slice(start, min(start + length, count))
