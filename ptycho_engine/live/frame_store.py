"""Frames that come one after another, kept as they came: in memory up to a budget, then in a scratch file."""

from __future__ import annotations

import os
import tempfile
from typing import Any

import numpy as np
import numpy.typing as npt

from ..io.file_array import WHOLE, Window

__all__ = ['FrameStore']

CHUNK_BYTES = 4 * 2**20
"""Frames in memory lie in chunks of this size, so that none is ever copied to make room for the next."""


class FrameStore:
    """Frames (n, h, w) of one type that grow in number.

    Parameters
    ----------
    shape : (h, w)
        Of a frame.
    dtype : dtype
        In which frames are kept.
    budget : int
        Bytes that frames may take in memory; those beyond go into a file without a name, in the folder for
        temporary files, which the system removes with the process.
    """

    def __init__(self, shape: tuple[int, int], dtype: npt.DTypeLike, budget: int) -> None:
        self._shape, self.dtype = shape, np.dtype(dtype)
        self._bytes = shape[0] * shape[1] * self.dtype.itemsize
        self._per_chunk = max(CHUNK_BYTES // self._bytes, 1)
        self._most_in_memory = max(budget // (self._per_chunk * self._bytes), 1) * self._per_chunk
        self._chunks: list[npt.NDArray[Any]] = []
        self._file: Any = None
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def on_disk(self) -> int:
        """Frames that are in the scratch file."""
        return max(self._count - self._most_in_memory, 0)

    def append(self, frames: npt.NDArray[Any]) -> None:
        """Keep frames (b, h, w).

        Raises
        ------
        OSError
            If the scratch file cannot be written.
        """
        for frame in frames:
            number = self._count
            if number < self._most_in_memory:
                chunk, place = divmod(number, self._per_chunk)
                if chunk == len(self._chunks):
                    self._chunks.append(np.empty((self._per_chunk, *self._shape), self.dtype))
                self._chunks[chunk][place] = frame
            else:
                self._write(number - self._most_in_memory, np.ascontiguousarray(frame, self.dtype))
            self._count += 1

    def _write(self, place: int, frame: npt.NDArray[Any]) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix='ptychopinn-live-')  # noqa: SIM115
        data, offset = frame.tobytes(), place * self._bytes
        while data:
            written = os.pwrite(self._file.fileno(), data, offset)
            data, offset = data[written:], offset + written

    def read(self, rows: Any, window: Window = WHOLE) -> npt.NDArray[Any]:
        """Return copies of frames by their numbers, or of a window of each, as a stored stack does."""
        numbers = np.arange(self._count)[rows]
        flat = numbers.ravel()
        frames = np.empty((len(flat), *self._shape), self.dtype)
        for target, number in zip(frames, flat.tolist(), strict=True):
            if number < self._most_in_memory:
                chunk, place = divmod(number, self._per_chunk)
                target[...] = self._chunks[chunk][place]
            else:
                offset = (number - self._most_in_memory) * self._bytes
                found = os.preadv(self._file.fileno(), [target.data.cast('B')], offset)
                assert found == self._bytes
        inner = frames[:, window[0], window[1]]
        return inner.reshape(*numbers.shape, *inner.shape[1:])
