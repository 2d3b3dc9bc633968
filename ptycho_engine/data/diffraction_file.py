"""Ptychodus' assembled diffraction file (``diffraction.h5``): counts, indexes and bad pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  registers the compression filters of detector files
import numpy as np
import numpy.typing as npt

from ..errors import DataFileNotFoundError, DataKeyError, DataValueError
from ..files.atomic import atomic_path

__all__ = ['AssembledPatterns', 'read_diffraction_file', 'write_diffraction_file']


@dataclass(frozen=True)
class AssembledPatterns:
    """What ``diffraction.h5`` holds."""

    counts: npt.NDArray[Any]
    """(n, h, w) counts, zero frequency in the middle."""
    indexes: npt.NDArray[np.int64]
    """(n,) scan-point index of each pattern."""
    bad_pixels: npt.NDArray[np.bool_]
    """(h, w) bool, True = bad."""
    detector_pixel_width_m: float
    detector_pixel_height_m: float


def read_diffraction_file(path: Path) -> AssembledPatterns:
    """Read the patterns of a ``diffraction.h5``; unused slots (index -1) are left out.

    Raises
    ------
    DataFileNotFoundError, DataKeyError, DataValueError
        If the file is missing, lacks a dataset, or is not HDF5.
    """
    if not path.is_file():
        raise DataFileNotFoundError(
            f'{path}: there is no such file; a Ptychodus directory holds diffraction.h5 and product.h5.'
        )
    try:
        with h5py.File(path, 'r') as file:
            missing = [k for k in ('patterns', 'indexes', 'bad_pixels') if k not in file]
            if missing:
                raise DataKeyError(
                    f'{path} lacks {", ".join(missing)}; expected patterns, indexes and bad_pixels, found '
                    f'{", ".join(sorted(file)) or "nothing"}.'
                )
            patterns = file['patterns']
            indexes = np.asarray(file['indexes'][()], dtype=np.int64)
            counts = patterns[()]
            used = indexes >= 0
            if not used.all():
                counts, indexes = counts[used], indexes[used]
            return AssembledPatterns(
                counts=counts,
                indexes=indexes,
                bad_pixels=np.asarray(file['bad_pixels'][()], dtype=bool),
                detector_pixel_width_m=float(patterns.attrs.get('detector_pixel_width_m', 0.0)),
                detector_pixel_height_m=float(patterns.attrs.get('detector_pixel_height_m', 0.0)),
            )
    except OSError as error:
        raise DataValueError(f'{path} is not a readable HDF5 file ({error}).') from error


def write_diffraction_file(path: Path, patterns: AssembledPatterns) -> None:
    """Write a ``diffraction.h5`` that Ptychodus reads, atomically."""
    with atomic_path(path) as temporary, h5py.File(temporary, 'w') as file:
        file.create_dataset('indexes', data=patterns.indexes)
        dataset = file.create_dataset('patterns', data=patterns.counts, compression='lzf')
        dataset.attrs['detector_pixel_width_m'] = patterns.detector_pixel_width_m
        dataset.attrs['detector_pixel_height_m'] = patterns.detector_pixel_height_m
        file.create_dataset('bad_pixels', data=patterns.bad_pixels)
