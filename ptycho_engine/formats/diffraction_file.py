"""Ptychodus' assembled diffraction file (``diffraction.h5``): counts, indexes and bad pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..arrays import as_index
from ..blocks import Frames, block_length, blocks
from ..errors import DataFileNotFoundError, DataValueError
from ..io.damage import reading
from ..io.hdf5 import open_hdf5
from ..io.hdf5_writing import new_hdf5_file
from .npz import require_keys
from .stack_files import hdf5_patterns

__all__ = ['DIFFRACTION_KEYS', 'AssembledPatterns', 'read_diffraction_file', 'write_diffraction_file']

DIFFRACTION_KEYS = ('patterns', 'indexes', 'bad_pixels')

UNUSED = -1
"""Index of a slot that no pattern was put into."""
LARGEST_INDEX = 2**31 - 1


@dataclass(frozen=True)
class AssembledPatterns:
    """What ``diffraction.h5`` holds."""

    counts: Frames
    """(n, h, w) counts, zero frequency in the middle; those of a file are read where they are used."""
    indexes: npt.NDArray[np.int64]
    """(n,) scan-point index of each pattern."""
    bad_pixels: npt.NDArray[np.bool_]
    """(h, w) bool, True = bad."""
    detector_pixel_width_m: float
    detector_pixel_height_m: float


def read_diffraction_file(path: Path) -> AssembledPatterns:
    """Open the patterns of a ``diffraction.h5``; unused slots (index -1) are left out.

    Raises
    ------
    DataFileNotFoundError, DataKeyError, DataValueError
        If the file is missing, lacks a dataset, is not HDF5, holds no pattern, or its indexes are not -1, 0,
        1, 2...
    """
    if not path.exists():
        raise DataFileNotFoundError(
            f'{path}: there is no such file; a Ptychodus directory holds diffraction.h5 and product.h5.'
        )
    with reading(f'{path} is not a readable HDF5 file'), open_hdf5(path) as file:
        require_keys(file, DIFFRACTION_KEYS, str(path))
        counts = hdf5_patterns(file, 'indexes')
        attributes = file.attributes_of('patterns')
        width_m = float(attributes.get('detector_pixel_width_m', 0.0))
        height_m = float(attributes.get('detector_pixel_height_m', 0.0))
        indexes = as_index(
            file.dataset('indexes')[()], f'{path}: indexes', lowest=UNUSED, highest=LARGEST_INDEX
        )
        bad_pixels = np.asarray(file.dataset('bad_pixels')[()], dtype=bool)
    used = indexes != UNUSED
    if not used.any():
        raise DataValueError(f'{path}: every index is {UNUSED}; no pattern was measured yet.')
    if not used.all():
        counts, indexes = counts.select(used), indexes[used]
    return AssembledPatterns(counts, indexes, bad_pixels, width_m, height_m)


def write_diffraction_file(path: Path, patterns: AssembledPatterns) -> None:
    """Write a ``diffraction.h5`` that Ptychodus reads, atomically."""
    with new_hdf5_file(path) as file:
        file.create_dataset('indexes', data=patterns.indexes)
        counts = patterns.counts
        # One chunk for each pattern, so that any of them can be read by itself, with its checksum.
        packed = {'chunks': (1, *counts.shape[1:]), 'compression': 'lzf', 'fletcher32': True}
        dataset = file.create_dataset(
            'patterns', counts.shape, counts.dtype, **(packed if len(counts) else {})
        )
        for part in blocks(len(counts), block_length(counts.shape[-1])):
            dataset[part] = counts[part]
        dataset.attrs['detector_pixel_width_m'] = patterns.detector_pixel_width_m
        dataset.attrs['detector_pixel_height_m'] = patterns.detector_pixel_height_m
        file.create_dataset('bad_pixels', data=patterns.bad_pixels)
