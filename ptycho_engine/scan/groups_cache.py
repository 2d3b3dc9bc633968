"""The groups cache: which patterns neighbour which, kept beside the dataset for every run and backend.

``<stem>.g<gridsize>k<K>.groups_cache.npz`` holds

* ``all_groups`` (n, C) int32: each pattern with its C - 1 nearest neighbours, C = gridsize²;
* ``further_neighbors`` (n, K - C + 1) int32: the next ones, from which random groups are drawn too;
* ``dataset_checksum``: SHA-256 of the positions, datasets and parameters;
* ``gridsize`` and ``overlap_factor`` (K).

The checksum decides whether a cache is used, so that a cache of other positions does no harm. Where the
dataset's folder cannot be written the cache goes to the user's cache folder.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import DataFileNotFoundError, EngineError
from ..formats.npz import read_arrays
from ..io.atomic import atomic_path
from ..io.text import encode
from .neighbours import NOBODY, find_neighbours, rounded_positions

if TYPE_CHECKING:
    pass

__all__ = [
    'CACHE_SUFFIX',
    'cache_paths',
    'cached_neighbours',
    'dataset_checksum',
    'user_cache_folder',
]

logger = logging.getLogger('ptychopinn.data')

CACHE_SUFFIX = '.groups_cache.npz'
CHECKSUM_LENGTH = 64
"""Of a SHA-256 in hexadecimal; its characters count as values where the size of an array is bounded."""

VERSION = 1
"""Of the way neighbours are found; part of the checksum."""


def dataset_checksum(
    xy: npt.ArrayLike, gridsize: int, K: int, scan_index: npt.NDArray[np.integer[Any]] | None = None
) -> str:
    """Return the SHA-256 of everything that the neighbours depend on."""
    digest = hashlib.sha256(f'{VERSION} {gridsize} {K} '.encode())
    digest.update(rounded_positions(xy).astype('<i8').tobytes())
    if scan_index is not None:
        digest.update(np.asarray(scan_index).astype('<i8').tobytes())
    return digest.hexdigest()


def cache_paths(dataset: Path, gridsize: int, K: int) -> tuple[Path, Path]:
    """Return where the cache of a dataset (a file or a directory) lies: beside it, or in the user's."""
    dataset = dataset.absolute()
    ending = f'g{gridsize}k{K}{CACHE_SUFFIX}'
    if dataset.is_dir():
        beside = dataset / f'{dataset.name}.{ending}'
    else:
        beside = dataset.with_name(f'{dataset.stem}.{ending}')
    place = hashlib.sha256(encode(str(dataset))).hexdigest()[:12]
    return beside, user_cache_folder() / f'{dataset.stem}-{place}.{ending}'


def user_cache_folder() -> Path:
    """Return the folder in which this user's caches of PtychoPINN lie; it may not be there yet.

    Of a user without a home it is one that cannot be made.
    """
    try:
        home = Path.home()
    except RuntimeError:
        home = Path(os.devnull)
    if sys.platform == 'win32':
        base = os.environ.get('LOCALAPPDATA') or home / 'AppData' / 'Local'
    elif sys.platform == 'darwin':
        base = home / 'Library' / 'Caches'
    else:
        base = os.environ.get('XDG_CACHE_HOME') or home / '.cache'
    return Path(base) / 'ptychopinn'


def cached_neighbours(
    xy: npt.ArrayLike,
    gridsize: int,
    K: int,
    scan_index: npt.NDArray[np.integer[Any]] | None = None,
    dataset: Path | None = None,
) -> npt.NDArray[np.int32]:
    """Return what :func:`~.neighbours.find_neighbours` finds (n, K), from the dataset's cache where it can.

    Otherwise they are found, and the cache is written. A cache that is damaged or of other positions is
    replaced; one that cannot be written is done without. Each is told in one log line; none is an error.

    Parameters
    ----------
    xy : (n, 2) float
        Positions in pixels.
    gridsize : int
        2 to 5; a group holds gridsize² patterns.
    K : int
        Neighbours of each pattern, at least gridsize² - 1.
    scan_index : (n,) int, optional
        Dataset of each pattern.
    dataset : Path, optional
        File or directory that the positions came from; None for no cache.
    """
    if dataset is None:
        return find_neighbours(xy, K, scan_index)
    checksum = dataset_checksum(xy, gridsize, K, scan_index)
    paths = cache_paths(dataset, gridsize, K)
    for path in paths:
        found = _read(path, len(np.asarray(xy)), gridsize, K, checksum)
        if found is not None:
            logger.info('Reusing the groups in %s.', path)
            return found
    near = find_neighbours(xy, K, scan_index)
    members = np.concatenate([np.arange(len(near), dtype=np.int32)[:, np.newaxis], near], axis=1)
    arrays = {
        'all_groups': members[:, : gridsize**2],
        'further_neighbors': members[:, gridsize**2 :],
        'dataset_checksum': np.array(checksum),
        'gridsize': np.array(gridsize),
        'overlap_factor': np.array(K),
    }
    for path in paths:
        try:
            with atomic_path(path, durable=False) as temporary, temporary.open('wb') as stream:
                np.savez(stream, **arrays)  # type: ignore[arg-type]
        except OSError as error:
            reason = error
            continue
        logger.info('Wrote the groups to %s.', path)
        return near
    logger.warning('The groups of %s are not cached: %s.', dataset, reason)
    return near


def _read(path: Path, n: int, gridsize: int, K: int, checksum: str) -> npt.NDArray[np.int32] | None:
    """Return the neighbours in a cache file, or None where it is missing, damaged or of something else."""
    shapes = {'all_groups': (n, gridsize**2), 'further_neighbors': (n, K - gridsize**2 + 1)}
    most = {'dataset_checksum': CHECKSUM_LENGTH, **{name: math.prod(shape) for name, shape in shapes.items()}}
    try:
        stated = read_arrays(path, ('dataset_checksum',), most=most)['dataset_checksum']
        if str(stated) != checksum:
            logger.info('%s is of other positions or an older version and is made anew.', path)
            return None
        arrays = read_arrays(path, tuple(shapes), most=most)
    except DataFileNotFoundError:
        return None
    except EngineError:
        logger.warning('%s is damaged and is made anew.', path)
        return None
    groups, further = arrays['all_groups'], arrays['further_neighbors']
    integers = groups.dtype == further.dtype == np.int32
    if integers and (groups.shape, further.shape) == tuple(shapes.values()):
        near = np.concatenate([groups, further], axis=1)[:, 1:]
        first = np.array_equal(groups[:, 0], np.arange(n))
        if first and near.min(initial=NOBODY) >= NOBODY and near.max(initial=NOBODY) < n:
            return near
    logger.warning('%s is damaged: its arrays do not fit together. It is made anew.', path)
    return None
