"""Groups of overlapping patterns: pure, deterministic and vectorised."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DataValueError
from .neighbours import NOBODY, Neighbourhood, find_neighbours

__all__ = [
    'Coverage',
    'build_groups',
    'covering_groups',
    'draw_groups',
    'group_coverage',
    'neighbours_needed',
]

IntArray = npt.NDArray[np.int32]

LARGEST_TABLE = 5000
"""Choices of members that are listed; beyond, they are drawn without a list."""

MANY_ROUNDS = 64
"""Rounds of covering after which each pattern that is left gets a group of its own; a dozen is usual."""


@dataclass(frozen=True)
class Coverage:
    """How many of the patterns are in at least one group."""

    covered: int
    total: int

    @property
    def fraction(self) -> float:
        """Covered part, from 0 to 1."""
        return self.covered / max(self.total, 1)

    def __str__(self) -> str:
        return f'{self.covered} of {self.total} patterns ({100 * self.fraction:.4g} %)'


def group_coverage(groups: IntArray, total: int) -> Coverage:
    """Return how many of `total` patterns groups (B, C) hold."""
    return Coverage(len(np.unique(groups)), total)


def neighbours_needed(gridsize: int, K: int, pool: int | None = None) -> int:
    """Return the neighbours to look up for groups of gridsize²: K or the larger pool, at least C - 1."""
    return max(K, gridsize**2 - 1, pool or 0)


def build_groups(
    xy: npt.ArrayLike,
    gridsize: int,
    K: int = 7,
    n_groups: int | None = None,
    seed: int = 0,
    sequential: bool = False,
    oversample: bool = False,
    *,
    pool: int | None = None,
    scan_index: npt.NDArray[np.integer[Any]] | None = None,
) -> IntArray:
    """Draw groups of C = gridsize² neighbouring patterns.

    Every pattern seeds one group and stands first in it, so that every pattern is covered unless fewer
    groups than patterns are asked for. The other C - 1 members are drawn without replacement from the K
    nearest neighbours of the seed.

    Parameters
    ----------
    xy : (n, 2) float
        Positions in pixels.
    gridsize : int
        1 to 5.
    K : int
        Neighbours to draw from; raised to C - 1 where it is smaller.
    n_groups : int, optional
        Groups wanted; None for one for each pattern. More than n needs `oversample`.
    seed : int
        Seed of the draw; no global generator is touched.
    sequential : bool
        Take the first `n_groups` patterns as seeds instead of a random subset.
    oversample : bool
        Allow several groups with the same seed pattern.
    pool : int, optional
        Neighbours to draw from where patterns seed several groups; None for K.
    scan_index : (n,) int, optional
        Dataset of each pattern; no group mixes datasets.

    Returns
    -------
    (B, C) int32
        Indices into `xy`.

    Raises
    ------
    DataValueError
        If a dataset has fewer patterns than a group, or more groups than patterns are wanted without
        `oversample`.
    """
    points = np.asarray(xy, dtype=np.float64)
    width = 0 if gridsize == 1 else neighbours_needed(gridsize, K, pool)
    near = find_neighbours(points, width, scan_index)
    whole = Neighbourhood.whole(near)
    return draw_groups(whole, gridsize, K, n_groups, seed, sequential, oversample, pool=pool)


def draw_groups(
    neighbourhood: Neighbourhood,
    gridsize: int,
    K: int = 7,
    n_groups: int | None = None,
    seed: int = 0,
    sequential: bool = False,
    oversample: bool = False,
    *,
    pool: int | None = None,
) -> IntArray:
    """Draw groups as :func:`build_groups` does, from neighbours that are known already."""
    n, size = len(neighbourhood), gridsize**2
    wanted = n if n_groups is None else n_groups
    if wanted > n and not oversample:
        raise DataValueError(
            f'{wanted} groups were asked for but the scan has {n} patterns; ask for fewer, or allow '
            'oversampling.'
        )
    _require_full_groups(neighbourhood, gridsize)
    rng = np.random.default_rng(seed)
    rounds, rest = divmod(wanted, max(n, 1))
    last = np.arange(rest) if sequential else np.sort(rng.choice(n, rest, replace=False))
    rows = np.concatenate([np.tile(np.arange(n), rounds), last])
    groups = np.empty((wanted, size), np.int32)
    groups[:, 0] = neighbourhood.members[rows]
    if size > 1:
        width = neighbours_needed(gridsize, K, pool if wanted > n else None)
        turn = np.arange(wanted) // max(n, 1)
        groups[:, 1:] = _draw_members(neighbourhood.near[:, :width], rows, turn, size - 1, rng)
    return groups


def _require_full_groups(neighbourhood: Neighbourhood, gridsize: int) -> None:
    size = gridsize**2
    known = (neighbourhood.near[:, : size - 1] != NOBODY).sum(axis=1)
    if len(known) == 0 or known.min() < size - 1:
        found = 0 if len(known) == 0 else int(known.min()) + 1
        raise DataValueError(
            f'gridsize {gridsize} needs at least {size} patterns in each dataset, found {found}; use a '
            'smaller gridsize.'
        )


def _draw_members(
    near: IntArray,
    rows: npt.NDArray[np.int64],
    turn: npt.NDArray[np.int64],
    count: int,
    rng: np.random.Generator,
) -> IntArray:
    """Draw `count` of the neighbours of each row, others each `turn` that a pattern seeds a group."""
    members = np.empty((len(rows), count), np.int32)
    known = (near != NOBODY).sum(axis=1)
    # For each pattern a random start and stride through the list of choices, so that turns differ.
    start, stride = rng.random((2, len(near)))
    for k in np.unique(known):
        at = np.flatnonzero(known[rows] == k)
        choices = math.comb(int(k), count)
        if choices <= LARGEST_TABLE:
            listed = np.array(list(combinations(range(k), count)))
            strides = np.array([s for s in range(1, choices + 1) if math.gcd(s, choices) == 1])
            first = (start[rows[at]] * choices).astype(np.int64)
            step = strides[(stride[rows[at]] * len(strides)).astype(np.int64)]
            picked = listed[(first + turn[at] * step) % choices]
        else:
            keys = rng.random((len(at), k), dtype=np.float32)
            picked = np.argpartition(keys, count - 1, axis=1)[:, :count]
        members[at] = near[rows[at, np.newaxis], picked]
    return members


def covering_groups(neighbourhood: Neighbourhood, gridsize: int, K: int = 7, seed: int = 0) -> IntArray:
    """Return few groups (B, C) that together hold every pattern; the order is that of their seeds.

    In each round every pattern that is not yet covered proposes a group of itself and neighbours of its K
    nearest, uncovered ones first, and bids a random number. A proposal that is the highest for all the
    uncovered patterns in it is taken, so that groups of one round share none of those.

    Raises
    ------
    DataValueError
        If a dataset has fewer patterns than a group.
    """
    _require_full_groups(neighbourhood, gridsize)
    members, size = neighbourhood.members, gridsize**2
    if size == 1:
        return members.astype(np.int32)[:, np.newaxis]
    rng = np.random.default_rng(seed)
    near = neighbourhood.near[:, : neighbours_needed(gridsize, K)]
    total = int(members.max()) + 1
    open_ = np.zeros(total + 1, bool)  # the last is for NOBODY
    open_[members] = True
    taken = []
    rows = np.arange(len(members))
    for turn in range(MANY_ROUNDS):
        keys = rng.random(near[rows].shape, dtype=np.float32)
        keys += np.where(near[rows] == NOBODY, np.float32(2), np.where(open_[near[rows]], np.float32(0), 1))
        drawn = np.argpartition(keys, size - 2, axis=1)[:, : size - 1]
        groups = np.column_stack([members[rows], np.take_along_axis(near[rows], drawn, axis=1)])
        bids = rng.permutation(len(rows)).astype(np.int64)[:, np.newaxis] + 1
        highest = np.zeros(total, np.int64)
        contested = open_[groups]
        np.maximum.at(highest, groups[contested], np.broadcast_to(bids, groups.shape)[contested])
        wins = ((highest[groups] == bids) | ~contested).all(axis=1)
        if turn == MANY_ROUNDS - 1:
            wins[:] = True
        taken.append(groups[wins])
        open_[groups[wins]] = False
        rows = rows[open_[members[rows]]]
        if len(rows) == 0:
            break
    chosen = np.concatenate(taken).astype(np.int32)
    return chosen[np.argsort(chosen[:, 0], kind='stable')]
