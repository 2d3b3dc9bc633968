"""Phase synchronisation: one unit factor per patch, so that overlapping patches agree.

A diffraction pattern does not fix the global phase of its patch; averaging patches of different phase
destroys low-frequency phase. The best factors are the leading eigenvector of the matrix of overlap products
(angular synchronisation; Singer, Appl. Comput. Harmon. Anal. 30, 20, 2011).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix, diags
from scipy.sparse.linalg import eigsh
from scipy.spatial import cKDTree

__all__ = ['Patches', 'overlap_products', 'synchronise']

DENSE_LIMIT = 64
"""Below so many patches the dense solver is used; the sparse one needs room to iterate."""

CELLS = 16
"""Cells to the width of a patch; patches in one cell count as lying at one place."""

BLOCK_BYTES = 64 * 2**20
"""Patches whose overlaps are computed at once."""


class Patches(Protocol):
    """Patches times their illumination, (n, N, N) complex; an array, or a store on disk."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, N, N)."""

    def __getitem__(self, index: npt.NDArray[np.intp], /) -> npt.NDArray[Any]:
        """Return some patches."""


def overlap_products(
    weighted: Patches,
    corner: npt.NDArray[np.int64],
    neighbours: int = 8,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.complex128]]:
    """Return pairs (m, 2) of overlapping patches and their products ``sum w_i w_j conj(O_i) O_j`` (m,).

    Parameters
    ----------
    weighted : (n, N, N) complex
        Patches times their illumination, ``w O``; read in blocks of neighbours.
    corner : (n, 2) int
        [row, column] of each patch.
    neighbours : int
        Nearest places whose patches each patch is compared with.
    """
    n, size, _ = weighted.shape
    if n < 2:
        return np.empty((0, 2), np.int64), np.empty(0, np.complex128)
    pairs = _near_pairs(corner, max(size // CELLS, 1), neighbours)
    delta = corner[pairs[:, 1]] - corner[pairs[:, 0]]
    keep = (np.abs(delta) < size).all(axis=1)
    pairs, delta = pairs[keep], delta[keep]
    products = np.empty(len(pairs), np.complex128)
    for chosen in _neighbouring(pairs, cKDTree(corner).indices, max(BLOCK_BYTES // (8 * size * size), 2)):
        used, local = np.unique(pairs[chosen], return_inverse=True)
        block = weighted[used]
        for k, (i, j) in zip(chosen.tolist(), local.reshape(-1, 2).tolist(), strict=True):
            dy, dx = delta[k]
            a = block[i, max(dy, 0) : size + min(dy, 0), max(dx, 0) : size + min(dx, 0)]
            b = block[j, max(-dy, 0) : size + min(-dy, 0), max(-dx, 0) : size + min(-dx, 0)]
            products[k] = np.vdot(a, b)
    return pairs, products


def _near_pairs(corner: npt.NDArray[np.int64], side: int, neighbours: int) -> npt.NDArray[np.int64]:
    """Return sorted pairs (m, 2) of patches that lie close to one another and join the whole scan.

    The nearest patches alone would not do: where a scan visits a place many times they are all at that place,
    and nothing ties it to the next. So patches are gathered in cells of `side` pixels. Each is compared with
    the next one of its cell, and with one patch of each of the nearest other cells.
    """
    n = len(corner)
    cells, cell = np.unique(corner // side, axis=0, return_inverse=True)
    cell = cell.ravel()
    count = np.bincount(cell)
    members = np.argsort(cell, kind='stable')
    start = np.cumsum(count) - count
    rank = np.empty(n, np.int64)
    rank[members] = np.arange(n) - start[cell[members]]

    following = members[start[cell] + (rank + 1) % count[cell]]
    first, second = [np.arange(n)], [following]
    width = min(neighbours, len(cells) - 1)
    if width > 0:
        centre = np.stack([np.bincount(cell, weights=axis) / count for axis in corner.T], axis=1)
        _, near = cKDTree(centre).query(centre, k=width + 1)
        others = near[cell, 1:]
        first.append(np.repeat(np.arange(n), width))
        second.append(members[start[others] + rank[:, np.newaxis] % count[others]].ravel())
    pairs = np.sort(np.stack([np.concatenate(first), np.concatenate(second)], axis=1), axis=1)
    return np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0)


def _neighbouring(
    pairs: npt.NDArray[np.int64], leaves: npt.NDArray[np.intp], length: int
) -> Iterator[npt.NDArray[np.intp]]:
    """Yield the rows of `pairs` in blocks of at most `length` first patches that lie close together.

    `leaves` are the patches in the order of the leaves of a k-d tree, which keeps neighbours together, so
    that the pairs of a block name few patches beyond its own.
    """
    rank = np.empty(len(leaves), np.int64)
    rank[leaves] = np.arange(len(leaves))
    block = rank[pairs[:, 0]] // length
    order = np.argsort(block, kind='stable')
    yield from np.split(order, np.flatnonzero(np.diff(block[order])) + 1)


def synchronise(
    weighted: Patches,
    corner: npt.NDArray[np.int64],
) -> npt.NDArray[np.complex64]:
    """Return the unit factor (n,) by which each patch is to be multiplied before stitching.

    The mean factor is 1, so that a set of patches that agree is left as it is.

    Parameters
    ----------
    weighted : (n, N, N) complex
        Patches times their illumination.
    corner : (n, 2) int
        [row, column] of each patch.
    """
    n = len(corner)
    pairs, products = overlap_products(weighted, corner)
    if len(pairs) == 0:
        return np.ones(n, np.complex64)
    i, j = pairs.T
    # M_ij = <O_j, O_i>: the factors c with c_i O_i = c_j O_j maximise c^H M c.
    matrix = coo_matrix(
        (
            np.concatenate([np.conj(products), products]),
            (np.concatenate([j, i]), np.concatenate([i, j])),
        ),
        shape=(n, n),
    ).tocsr()
    # Normalised by degree, well connected patches do not outvote the rim of the scan.
    degree = np.maximum(np.asarray(abs(matrix).sum(axis=1)).ravel(), 1e-30)
    balance = diags(1 / np.sqrt(degree))
    start = np.sqrt(degree).astype(np.complex128)
    if n <= DENSE_LIMIT:
        vector = np.linalg.eigh((balance @ matrix @ balance).toarray())[1][:, -1]
    else:
        _, vectors = eigsh(balance @ matrix @ balance, k=1, which='LA', v0=start, tol=1e-8)
        vector = vectors[:, 0]
    modulus = np.abs(vector)
    factors = np.where(modulus > 1e-12 * modulus.max(), vector / np.maximum(modulus, 1e-300), 1)
    mean = np.vdot(np.ones(n), factors)
    if abs(mean) > 1e-6 * n:
        factors *= np.conj(mean) / abs(mean)
    return factors.astype(np.complex64)
