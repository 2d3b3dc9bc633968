"""An array in a file that others may write: read in blocks and never mapped.

A map of a file that becomes shorter ends the process by a signal. Here each block that is read is checked.
"""

from __future__ import annotations

import os
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DataValueError
from .regular import FileState, open_regular, open_state

__all__ = ['WHOLE', 'FileArray', 'Window']

Window = tuple[slice, slice]

WHOLE: Window = (slice(None), slice(None))
"""The window that is the whole frame."""


class FileArray:
    """Frames (n, h, w) that lie one after the other in a file; reading copies them into memory.

    Parameters
    ----------
    path : Path
        The file. It stays open, so that another that takes its name does no harm.
    shape : tuple of int
        (n, h, w).
    dtype : dtype
        Stored type.
    offset : int
        Bytes before the first frame.
    state : FileState, optional
        The state in which the file was when `shape` and `offset` were found.

    Raises
    ------
    DataFileNotFoundError, DataValueError
        If the file is gone, changed, or ends before the array does.
    """

    def __init__(
        self,
        path: Path,
        shape: tuple[int, ...],
        dtype: npt.DTypeLike,
        *,
        offset: int = 0,
        state: FileState | None = None,
    ) -> None:
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self._path = path
        self._offset = offset
        self._lock = threading.Lock()
        with open_regular(path, state) as stream:
            self._descriptor = os.dup(stream.fileno())
        weakref.finalize(self, os.close, self._descriptor)
        self._state = open_state(self._descriptor)
        needed = offset + int(np.prod(shape, dtype=object)) * self.dtype.itemsize
        if self._state.size < needed:
            raise DataValueError(
                f'{path} is cut short: it has {self._state.size} bytes, but its array ends at byte {needed}; '
                'copy it again.'
            )

    def read(self, rows: Any, window: Window = WHOLE) -> npt.NDArray[Any]:
        """Return copies of frames, or of a window of each.

        Parameters
        ----------
        rows : int, slice or array
            As an array would be indexed along its first axis.
        window : tuple of slice
            Rows and columns of each frame.

        Raises
        ------
        DataValueError
            If the file was written since it was opened.
        """
        n, *frame = self.shape
        chosen = _indices(rows, n)
        flat = chosen.ravel()
        height = range(*window[0].indices(frame[0])) if frame else range(1)
        row_bytes = int(np.prod(frame[1:], dtype=object)) * self.dtype.itemsize
        inner = (len(height), *frame[1:]) if frame else ()
        out = np.empty((len(flat), *inner), self.dtype)
        if out.size:
            target = out.reshape(-1).view(np.uint8).data
            frame_bytes, part_bytes = row_bytes * (frame[0] if frame else 1), row_bytes * len(height)
            # Frames that follow each other are read in one go, if they are read whole.
            breaks = (
                np.flatnonzero(np.diff(flat) != 1) + 1 if part_bytes == frame_bytes else range(1, len(flat))
            )
            starts = [0, *breaks]
            for start, stop in zip(starts, [*starts[1:], len(flat)], strict=True):
                at = self._offset + int(flat[start]) * frame_bytes + height.start * row_bytes
                self._fill(target[start * part_bytes : stop * part_bytes], at)
        self._state.require(open_state(self._descriptor), self._path)
        block = out.reshape(*chosen.shape, *inner)
        if len(frame) > 1 and window[1] != slice(None):
            block = np.ascontiguousarray(block[..., window[1]])
        return block

    def _fill(self, target: memoryview, at: int) -> None:
        done = 0
        while done < len(target):
            count = self._read_at(target[done:], at + done)
            if count == 0:
                self._state.require(open_state(self._descriptor), self._path)
                raise DataValueError(f'{self._path} changed while it was read: it ends too early.')
            done += count

    def _read_at(self, target: memoryview, at: int) -> int:
        if hasattr(os, 'preadv'):
            return os.preadv(self._descriptor, [target], at)
        # Elsewhere a file has one place at which it is read.
        with self._lock:
            os.lseek(self._descriptor, at, os.SEEK_SET)
            data = os.read(self._descriptor, len(target))
        target[: len(data)] = data
        return len(data)


def _indices(rows: Any, n: int) -> npt.NDArray[np.int64]:
    """Return the non-negative indices that `rows` mean of an axis of length `n`."""
    if isinstance(rows, slice):
        return np.arange(*rows.indices(n))
    chosen = np.asarray(rows)
    if chosen.dtype.kind not in 'iu' or chosen.size == 0:
        return np.asarray(np.arange(n)[rows])
    low, high = int(chosen.min()), int(chosen.max())
    if low < -n or high >= n:
        raise IndexError(f'index {low if low < -n else high} is out of bounds for {n} frames')
    return np.where(chosen < 0, chosen + n, chosen) if low < 0 else chosen
