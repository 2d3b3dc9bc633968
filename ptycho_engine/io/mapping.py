"""Arrays in scratch files without a name, which nobody else can write."""

from __future__ import annotations

import logging
import mmap
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import numpy as np
import numpy.typing as npt

from ..errors import EngineError
from .file_array import WHOLE, Window

__all__ = ['MappedArray', 'MemoryArray', 'Scratch', 'scratch_array', 'scratch_file']

logger = logging.getLogger('ptychopinn.files')

_told: set[str] = set()
"""Values of TMPDIR that cannot be used, and were told to be so."""


class Scratch(Protocol):
    """An array in memory or in a scratch file."""

    @property
    def array(self) -> npt.NDArray[Any]:
        """The array."""

    def release(self) -> None:
        """Give up what need not be in memory."""

    def read(self, rows: Any, window: Window = WHOLE) -> npt.NDArray[Any]:
        """Return copies of frames, or of a window of each; see :meth:`~.file_array.FileArray.read`."""


@dataclass(frozen=True)
class MemoryArray:
    """An array in memory, or in a memory map of NumPy's."""

    array: npt.NDArray[Any]

    def release(self) -> None:
        """Give the pages of a memory map back to the system; do nothing for other arrays."""
        mapping = getattr(self.array, '_mmap', None)
        if isinstance(mapping, mmap.mmap):
            _release_pages(mapping)

    def read(self, rows: Any, window: Window = WHOLE) -> npt.NDArray[Any]:
        """Return copies of frames, or of a window of each."""
        return _copied(self, rows, window)


def _copied(scratch: Scratch, rows: Any, window: Window) -> npt.NDArray[Any]:
    # The window first: it is a view, and choosing frames copies.
    array = scratch.array if window == WHOLE else scratch.array[:, window[0], window[1]]
    block = np.array(array[rows])
    scratch.release()
    return block


def _release_pages(mapping: mmap.mmap) -> None:
    if hasattr(mmap, 'MADV_DONTNEED'):
        mapping.madvise(mmap.MADV_DONTNEED)


class MappedArray:
    """An array in a file, paged in by the operating system where it is touched.

    Parameters
    ----------
    file : open file
        It may be closed afterwards; the mapping goes on.
    shape, dtype
        Of the array, in C order from the first byte on.
    writable : bool
        Whether changes go to the file.
    """

    def __init__(
        self,
        file: BinaryIO,
        shape: tuple[int, ...],
        dtype: npt.DTypeLike,
        *,
        writable: bool = False,
    ) -> None:
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        self._map = mmap.mmap(file.fileno(), 0, access=access)
        self.array: npt.NDArray[Any] = np.ndarray(shape, dtype, self._map)

    def release(self) -> None:
        """Give the pages touched so far back to the operating system; they are read again when needed.

        What was written stays in the file. Without this a pass over a large file would make it resident.
        """
        _release_pages(self._map)

    def read(self, rows: Any, window: Window = WHOLE) -> npt.NDArray[Any]:
        """Return copies of frames, or of a window of each."""
        return _copied(self, rows, window)


@contextmanager
def scratch_file(size: int, purpose: str, folder: Path | None = None) -> Iterator[BinaryIO]:
    """Yield a new file of `size` bytes, for which there is room, open for reading and writing.

    It lies in `folder`, or in the temporary folder (``TMPDIR``), and has no name: it is gone when it is
    closed and no mapping is left, even if the process is killed.

    Raises
    ------
    EngineError
        If there is no room for it.
    """
    if folder is None:
        _say_where_scratch_is()
    where = tempfile.gettempdir() if folder is None else folder
    remedy = 'set TMPDIR to a folder with more room' if folder is None else 'name another folder'
    with _nameless(where, purpose) as file:
        try:
            # Reserved beforehand: a full disk would otherwise kill the process at some later write. One byte
            # at least, because an empty file cannot be mapped.
            if hasattr(os, 'posix_fallocate'):
                os.posix_fallocate(file.fileno(), 0, max(size, 1))
            else:
                file.truncate(max(size, 1))
        except OSError as error:
            raise EngineError(
                f'{purpose} needs {size / 1e9:.1f} GB of scratch space in {where} ({error.strerror}); '
                f'{remedy}.'
            ) from error
        yield file


def _nameless(folder: Path | str, purpose: str) -> BinaryIO:
    try:
        return cast(BinaryIO, tempfile.TemporaryFile(prefix='ptychopinn-', dir=folder))
    except OSError as error:
        raise EngineError(
            f'{purpose} needs a scratch file in {folder}, which cannot be made ({error.strerror}); name '
            'another folder.'
        ) from error


def _say_where_scratch_is() -> None:
    """Say where scratch files lie if not in the folder of ``TMPDIR``, which Python may pass over."""
    wanted, used = os.environ.get('TMPDIR'), tempfile.gettempdir()
    if wanted and os.path.abspath(wanted) != os.path.abspath(used) and wanted not in _told:
        _told.add(wanted)
        logger.warning('TMPDIR is %s, which cannot be used; scratch files lie in %s.', wanted, used)


def scratch_array(
    shape: tuple[int, ...],
    dtype: npt.DTypeLike,
    purpose: str,
    memory_limit: int = 0,
    folder: Path | None = None,
) -> Scratch:
    """Return a new array: in memory up to `memory_limit` bytes, beyond that in a :func:`scratch_file`.

    Raises
    ------
    EngineError
        If there is no room for it.
    """
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if size <= memory_limit or size == 0:
        return MemoryArray(np.empty(shape, dtype))
    with scratch_file(size, purpose, folder) as file:
        return MappedArray(file, shape, dtype, writable=True)
