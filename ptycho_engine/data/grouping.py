"""Groups of overlapping patterns: pure, deterministic and vectorised."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from ..errors import DataValueError

__all__ = ['build_groups', 'covering_groups', 'split_validation']


def build_groups(
    xy: npt.ArrayLike,
    gridsize: int,
    K: int = 7,
    n_groups: int | None = None,
    seed: int = 0,
    sequential: bool = False,
    oversample: bool = False,
) -> npt.NDArray[np.int32]:
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

    Returns
    -------
    (B, C) int32
        Indices into `xy`.

    Raises
    ------
    DataValueError
        If there are fewer patterns than a group holds, or more groups than patterns without `oversample`.
    """
    points = np.asarray(xy, dtype=np.float64)
    n = len(points)
    size = gridsize**2
    if n < size:
        raise DataValueError(
            f'gridsize {gridsize} needs at least {size} patterns, found {n}; use a smaller gridsize.'
        )
    wanted = n if n_groups is None else n_groups
    if wanted > n and not oversample:
        raise DataValueError(
            f'{wanted} groups were asked for but the scan has {n} patterns; ask for fewer, or allow '
            'oversampling.'
        )
    rng = np.random.default_rng(seed)
    rounds, rest = divmod(wanted, n)
    last = np.arange(rest) if sequential else np.sort(rng.choice(n, rest, replace=False))
    seeds = np.concatenate([np.tile(np.arange(n), rounds), last]).astype(np.int32)
    if size == 1:
        return seeds[:, np.newaxis]

    count = min(max(K, size - 1), n - 1)
    _, near = cKDTree(points).query(points, k=count + 1)
    # Among coincident positions the seed need not come first; move it out of its own neighbours.
    own = near == np.arange(n)[:, np.newaxis]
    own[~own.any(axis=1), -1] = True
    neighbours = near[~own].reshape(n, count)
    keys = rng.random((len(seeds), count), dtype=np.float32)
    drawn = np.argpartition(keys, size - 2, axis=1)[:, : size - 1]
    others = np.take_along_axis(neighbours[seeds], drawn, axis=1)
    return np.concatenate([seeds[:, np.newaxis], others], axis=1).astype(np.int32)


def covering_groups(
    xy: npt.ArrayLike,
    gridsize: int,
    K: int = 7,
    seed: int = 0,
    scan_index: npt.NDArray[np.int64] | None = None,
) -> npt.NDArray[np.int32]:
    """Return few groups (B, C) that together hold every pattern at least once; none mixes datasets."""
    points = np.asarray(xy, dtype=np.float64)
    labels = np.zeros(len(points), np.int64) if scan_index is None else scan_index
    parts = []
    for label in np.unique(labels):
        chosen = np.flatnonzero(labels == label)
        groups = build_groups(points[chosen], gridsize, K, None, seed)
        if gridsize > 1:
            covered = np.zeros(len(chosen), bool)
            kept = []
            for row in np.random.default_rng(seed).permutation(len(groups)):
                if not covered[groups[row, 0]]:
                    covered[groups[row]] = True
                    kept.append(row)
            groups = groups[np.sort(kept)]
        parts.append(chosen[groups])
    return np.concatenate(parts).astype(np.int32)


def split_validation(
    xy: npt.ArrayLike, fraction: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Split patterns into training and validation indices, both sorted.

    Validation patterns are spread evenly over the scan along a serpentine through it, so that every part of
    the sample is judged and none is left out of training.
    """
    points = np.asarray(xy, dtype=np.float64)
    n = len(points)
    n_validation = round(n * fraction)
    if n_validation == 0 or n - n_validation < 1:
        return np.arange(n), np.empty(0, np.int64)
    height = max(float(np.ptp(points[:, 1])), 1e-9)
    n_bands = max(round(np.sqrt(n)), 1)
    band = np.minimum((points[:, 1] - points[:, 1].min()) / height * n_bands, n_bands - 1)
    band = band.astype(np.int64)
    along = np.where(band % 2 == 0, points[:, 0], -points[:, 0])
    order = np.lexsort((along, band))
    picks = np.floor((np.arange(n_validation) + 0.5) * n / n_validation).astype(np.int64)
    validation = np.sort(order[picks])
    training = np.setdiff1d(np.arange(n), validation)
    return training, validation
