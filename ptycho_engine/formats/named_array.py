"""Arrays of any NPZ, NPY or HDF5 file, named as ``FILE::KEY``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from ..config.choices import PositionOrder
from ..errors import DataFileNotFoundError, DataValueError
from ..formats.npz import read_arrays, read_headers, require_keys
from ..formats.stack_files import hdf5_stack, open_npy_stack, open_npz_stack
from ..io.hdf5 import open_hdf5
from ..patterns.frame_stack import COMPLEX, Backing, StoredStack, slabs, staging

__all__ = ['NamedArray', 'as_frames', 'position_columns']

SEPARATOR = '::'
MOST_VALUES = 1 << 28
"""Of an array that is read whole."""


@dataclass(frozen=True)
class NamedArray:
    """One array in a file."""

    path: Path
    key: str
    """Name in an NPZ file, path in an HDF5 file; empty for an NPY file."""

    @classmethod
    def parse(cls, text: str | Path) -> NamedArray | None:
        """Return what ``FILE::KEY`` names, or an NPY file by itself; None for any other path."""
        path, separator, key = str(text).partition(SEPARATOR)
        if separator and key:
            return cls(Path(path), key)
        return cls(Path(path), '') if Path(path).suffix.casefold() == '.npy' else None

    def __str__(self) -> str:
        return f'{self.path}{SEPARATOR}{self.key}' if self.key else str(self.path)

    def stack(self, kinds: str = COMPLEX) -> StoredStack:
        """Return the array as it is stored; nothing is read.

        Raises
        ------
        DataFileNotFoundError, DataKeyError, DataValueError
            If there is no such file or array, or it holds no numbers.
        """
        if not self.path.is_file():
            raise DataFileNotFoundError(f'{self.path}: there is no such file.')
        if not self.key:
            return open_npy_stack(self.path, kinds)
        if self.path.suffix.casefold() == '.npz':
            require_keys(read_headers(self.path), [self.key], str(self.path))
            return open_npz_stack(self.path, self.key, kinds)
        with open_hdf5(self.path) as file:
            if self.key not in file:
                names = sorted(name for name, _ in file.walk())
                require_keys(names, [self.key.strip('/')], str(self.path))
            return hdf5_stack(file, self.key)

    def read(self) -> npt.NDArray[Any]:
        """Return the whole array.

        Raises
        ------
        DataFileNotFoundError, DataKeyError, DataValueError
            As :meth:`stack`; or if it is too large.
        """
        ending = self.path.suffix.casefold()
        if ending == '.npz' and self.path.is_file():
            return read_arrays(self.path, [self.key], (), {self.key: MOST_VALUES})[self.key]
        if ending != '.npy' and self.path.is_file():
            with open_hdf5(self.path) as file, _complex(file, self.key) as found:
                if found is not None:
                    return found
        stack = self.stack()
        if math.prod(stack.shape) > MOST_VALUES:
            raise DataValueError(f'{self} has shape {stack.shape}; expected at most {MOST_VALUES} values.')
        return np.asarray(stack[:])


@contextmanager
def _complex(file: Any, key: str) -> Iterator[npt.NDArray[Any] | None]:
    """Yield a complex dataset of an HDF5 file, which is no stack of real frames; None for any other."""
    item = file.get(key)
    is_complex = isinstance(item, h5py.Dataset) and item.dtype.kind == 'c' and item.size <= MOST_VALUES
    yield np.asarray(item[()]) if is_complex else None


def as_frames(stack: StoredStack, source: str) -> StoredStack:
    """Return frames (n, h, w) of an array whose leading axes, of a grid or of length 1, are counted through.

    Raises
    ------
    DataValueError
        If it has fewer than three axes.
    """
    shape = stack.shape
    if len(shape) == 3:
        return stack
    if len(shape) < 3:
        raise DataValueError(f'{source} has shape {shape}; expected frames (n, h, w).')
    frames = (math.prod(shape[:-2]), *shape[-2:])
    each = math.prod(shape[1:-2])

    def flatten() -> Backing:
        flat = staging(frames, stack.dtype, source, 'its frames are counted through')
        for part in slabs(shape, stack.dtype):
            block = stack[part]
            flat.array[part.start * each : part.start * each + len(block) * each] = block.reshape(
                -1, *shape[-2:]
            )
            flat.release()
        return flat

    return StoredStack(frames, stack.dtype, flatten, source)


def position_columns(
    values: npt.NDArray[Any], order: PositionOrder, source: str
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return x and y (n,) of an array of positions (n, 2), (n, 3) or transposed, in columns of this order.

    Raises
    ------
    DataValueError
        If it is of another shape, or does not hold real numbers.
    """
    found = np.squeeze(values)
    if found.ndim == 2 and found.shape[1] not in (2, 3) and found.shape[0] in (2, 3):
        found = found.T
    if found.ndim != 2 or found.shape[1] not in (2, 3) or found.dtype.kind not in 'iuf':
        raise DataValueError(
            f'{source} has shape {values.shape} and type {values.dtype}; expected positions (n, 2) of real '
            'numbers.'
        )
    first, second = found[:, 0].astype(np.float64), found[:, 1].astype(np.float64)
    return (second, first) if order == 'yx' else (first, second)
