"""Arrays in the ``.npy`` format, whose headers say no more than is there; nothing is unpickled."""

from __future__ import annotations

import math
import warnings
import zipfile
import zlib
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from .damage import DAMAGE

__all__ = ['ArrayHeader', 'read_body', 'read_header']

MOST_AXES = 32


class ArrayHeader(NamedTuple):
    """What an array in a file is, without its data."""

    shape: tuple[int, ...]
    order: Literal['C', 'F']
    dtype: np.dtype[Any]

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the data."""
        return self.size * self.dtype.itemsize


def read_header(stream: BinaryIO) -> ArrayHeader:
    """Read the header of an ``.npy`` stream; the data follow.

    Raises
    ------
    ValueError
        If it is damaged.
    """
    try:
        version = np.lib.format.read_magic(stream)
        first = version == (1, 0)
        read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
        with warnings.catch_warnings():
            # Headers that Python 2 wrote are read all the same.
            warnings.simplefilter('ignore')
            shape, fortran, dtype = read(stream)
    except (OSError, zipfile.BadZipFile, zlib.error):
        raise
    except DAMAGE:
        # NumPy explains how to trust such a file, and what of it could not be parsed.
        raise ValueError('the header of its array is damaged') from None
    header = ArrayHeader(tuple(shape), 'F' if fortran else 'C', np.dtype(dtype))
    if len(shape) > MOST_AXES or any(isinstance(side, bool) or side < 0 for side in shape):
        raise ValueError('the header of its array is damaged: no array has such a shape')
    if header.dtype.itemsize == 0 and not header.dtype.hasobject and header.dtype.kind not in 'SU':
        raise ValueError('the header of its array is damaged: its elements have no size')
    return header


def read_body(stream: BinaryIO, header: ArrayHeader) -> npt.NDArray[Any]:
    """Read the data that follow a header, which was found to be no larger than they can be.

    Raises
    ------
    ValueError
        If the stream ends before the array does, or the array is of Python objects.
    """
    if header.dtype.hasobject:
        raise ValueError('the array is pickled, which is never loaded')
    data = np.empty(header.nbytes, np.uint8)
    target, done = data.data, 0
    while done < len(target):
        count = stream.readinto(target[done:])  # type: ignore[attr-defined]
        if not count:
            raise ValueError(f'it ends after {done} of the {header.nbytes} bytes of its array')
        done += count
    array: npt.NDArray[Any] = np.ndarray(header.shape, header.dtype, data, order=header.order)
    return array
