"""Arrays that live in files: parts of existing files, and scratch files without a name."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol, cast

import numpy as np
import numpy.typing as npt

from ..errors import EngineError

__all__ = ['Backing', 'MappedArray', 'MemoryArray', 'map_file', 'scratch_array', 'scratch_file']


class Backing(Protocol):
    """Where the elements of an array are."""

    @property
    def array(self) -> npt.NDArray[Any]:
        """The array."""

    def release(self) -> None:
        """Give up what need not be in memory."""


@dataclass(frozen=True)
class MemoryArray:
    """An array in memory, or in a memory map of NumPy's."""

    array: npt.NDArray[Any]

    def release(self) -> None:
        """Give the pages of a memory map back; of other arrays nothing can be given up."""
        mapping = getattr(self.array, '_mmap', None)
        if isinstance(mapping, mmap.mmap):
            _release_pages(mapping)


def _release_pages(mapping: mmap.mmap) -> None:
    if hasattr(mmap, 'MADV_DONTNEED'):
        mapping.madvise(mmap.MADV_DONTNEED)


class MappedArray:
    """An array in a file, paged in by the operating system where it is touched.

    Parameters
    ----------
    file : open file
        It may be closed afterwards; the mapping goes on.
    shape, dtype, order
        Of the array.
    offset : int
        Bytes before its first element.
    writable : bool
        Whether changes go to the file.
    """

    def __init__(
        self,
        file: BinaryIO,
        shape: tuple[int, ...],
        dtype: npt.DTypeLike,
        *,
        offset: int = 0,
        order: Literal['C', 'F'] = 'C',
        writable: bool = False,
    ) -> None:
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        self._map = mmap.mmap(file.fileno(), 0, access=access)
        self.array: npt.NDArray[Any] = np.ndarray(shape, dtype, self._map, offset, order=order)

    def release(self) -> None:
        """Give the pages touched so far back to the operating system; they are read again when needed.

        What was written stays in the file. Without this a pass over a large file would make it resident.
        """
        _release_pages(self._map)


def map_file(
    path: Path,
    shape: tuple[int, ...],
    dtype: npt.DTypeLike,
    *,
    offset: int = 0,
    order: Literal['C', 'F'] = 'C',
) -> MappedArray:
    """Map an array that lies at `offset` of a file, read-only.

    Raises
    ------
    ValueError
        If the file ends before the array does.
    """
    with path.open('rb') as file:
        needed = offset + int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        found = os.fstat(file.fileno()).st_size
        if found < needed:
            raise ValueError(f'the file has {found} bytes, but its array ends at byte {needed}')
        return MappedArray(file, shape, dtype, offset=offset, order=order)


@contextmanager
def scratch_file(size: int, purpose: str) -> Iterator[BinaryIO]:
    """Yield a new file of `size` bytes, for which there is room, open for reading and writing.

    It lies in the temporary folder (``TMPDIR``) and has no name: it is gone when it is closed and no mapping
    is left, even if the process is killed.

    Raises
    ------
    EngineError
        If there is no room for it.
    """
    with tempfile.TemporaryFile(prefix='ptychopinn-') as file:
        try:
            # Reserved beforehand: a full disk would otherwise kill the process at some later write. One byte
            # at least, because an empty file cannot be mapped.
            if hasattr(os, 'posix_fallocate'):
                os.posix_fallocate(file.fileno(), 0, max(size, 1))
            else:
                file.truncate(max(size, 1))
        except OSError as error:
            raise EngineError(
                f'{purpose} needs {size / 1e9:.1f} GB of scratch space in {tempfile.gettempdir()} '
                f'({error.strerror}); set TMPDIR to a folder with more room.'
            ) from error
        yield cast(BinaryIO, file)


def scratch_array(
    shape: tuple[int, ...], dtype: npt.DTypeLike, purpose: str, memory_limit: int = 0
) -> Backing:
    """Return a new array: in memory up to `memory_limit` bytes, beyond that in a :func:`scratch_file`.

    Raises
    ------
    EngineError
        If there is no room for it.
    """
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if size <= memory_limit or size == 0:
        return MemoryArray(np.empty(shape, dtype))
    with scratch_file(size, purpose) as file:
        return MappedArray(file, shape, dtype, writable=True)
