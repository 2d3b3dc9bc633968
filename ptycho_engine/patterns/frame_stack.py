"""Stacks of frames as they are stored: read where they lie, or staged once to where they can be."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..blocks import blocks
from ..errors import DataValueError
from ..io.damage import reading
from ..io.file_array import WHOLE, Window
from ..io.mapping import MemoryArray, Scratch, scratch_array

__all__ = [
    'COMPLEX',
    'REAL',
    'Backing',
    'ReversedFrames',
    'StoredStack',
    'fits_in_memory',
    'slabs',
    'staging',
]

logger = logging.getLogger('ptychopinn.data')

MEMORY_LIMIT_BYTES = 64 * 2**20
"""Stacks up to this size are staged in memory, larger ones in a scratch file."""

SLAB_BYTES = 64 * 2**20
"""Copied at once while a stack is staged."""

TURNED_FRAMES = 8192
"""Frames written at once while a stack is turned."""

AMPLITUDE_BYTES = 4
"""Of each pixel once it is read; what takes no more than the limit then is read whole at once."""

REAL, COMPLEX = 'biuf', 'biufc'
"""Kinds of NumPy types that frames may have: real numbers, as patterns are, or any."""


class Backing(Protocol):
    """Where the frames of a stack are."""

    def read(self, rows: Any, window: Window = WHOLE) -> npt.NDArray[Any]:
        """Return copies of frames, or of a window of each; see :meth:`~..io.file_array.FileArray.read`."""


class _OnDemand:
    """A backing that is opened when it is first needed, and then kept."""

    def __init__(self, open_: Callable[[], Backing]) -> None:
        self._open = open_
        self._backing: Backing | None = None

    def get(self) -> Backing:
        if self._backing is None:
            self._backing = self._open()
        return self._backing


class StoredStack:
    """Frames (n, h, w) in their stored type, read where they are asked for.

    Nothing but the shape is known of the data until then, so that opening takes no time. Indexing the stack
    copies frames into memory; :meth:`select`, :meth:`window` and :meth:`frames_last` do not read.

    Parameters
    ----------
    shape : tuple of int
        Of the stored array, which should have three axes.
    dtype : dtype
        Stored type.
    open_ : callable
        Returns the stored array; called once, when it is first needed.
    source : str
        File and key, for messages.
    kinds : str
        Kinds of types that are accepted.
    folder : Path, optional
        For scratch files; None for the temporary folder.

    Raises
    ------
    DataValueError
        If the type is another.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: npt.DTypeLike,
        open_: Callable[[], Backing],
        source: str,
        kinds: str = REAL,
        folder: Path | None = None,
    ) -> None:
        self.dtype = np.dtype(dtype)
        self._folder = folder
        self.source = source
        if self.dtype.kind not in kinds:
            expected = 'patterns of real numbers' if kinds == REAL else 'frames of numbers'
            raise DataValueError(f'{source} is of type {self.dtype}; expected {expected}.')
        self._backing = _OnDemand(open_)
        self._stored_shape = shape
        self._rows: npt.NDArray[np.int64] | None = None
        self._window = (slice(None), slice(None))

    @classmethod
    def of_array(cls, array: npt.NDArray[Any], source: str = 'arrays') -> StoredStack:
        """Return a stack that lies in memory, or in the memory map that `array` is."""
        return cls(array.shape, array.dtype, lambda: MemoryArray(array), source)

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, h, w), or the stored shape if that has not three axes."""
        if len(self._stored_shape) != 3:
            return self._stored_shape
        n, height, width = self._stored_shape
        rows, columns = (
            len(range(*part.indices(size))) for part, size in zip(self._window, (height, width), strict=True)
        )
        return n if self._rows is None else len(self._rows), rows, columns

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self._stored_shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        chosen, *rest = key if isinstance(key, tuple) else (key,)
        rows = chosen if self._rows is None else self._rows[chosen]
        with reading(f'{self.source} cannot be read'):
            block = self._backing.get().read(rows, self._window)
        return block[(slice(None),) * (block.ndim - 2) + tuple(rest)]

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)

    def select(self, indices: npt.ArrayLike) -> StoredStack:
        """Return the given frames, in that order; nothing is read."""
        chosen = copy.copy(self)
        chosen._rows = (
            np.arange(len(self))[np.asarray(indices)]
            if self._rows is None
            else (self._rows[np.asarray(indices)])
        )
        return chosen

    def window(self, rows: slice, columns: slice) -> StoredStack:
        """Return a stack reduced to part of each frame; nothing is read."""
        height, width = self.shape[-2:]
        inner = copy.copy(self)
        inner._window = (
            _within(self._window[0], rows, height),
            _within(self._window[1], columns, width),
        )
        return inner

    def frames_last(self) -> StoredStack:
        """Return a stack stored as (h, w, n) in the canonical order (n, h, w); nothing is read yet.

        Reading one frame of the stored order touches the whole file. The stack is therefore turned once, in
        memory or in a scratch file, when its first frame is read.
        """
        height, width, n = self._stored_shape
        shape = (n, height, width)
        source = self._backing

        def turn() -> Backing:
            stored = source.get()
            if isinstance(stored, ReversedFrames):
                return _Swapped(stored.frames)
            return _turned(stored, shape, (2, 0, 1), self.dtype, self.source, self._folder)

        return StoredStack(shape, self.dtype, turn, self.source, folder=self._folder)


def _within(outer: slice, inner: slice, size: int) -> slice:
    start, stop, _ = inner.indices(size)
    offset = outer.start or 0
    return slice(offset + start, offset + stop)


def fits_in_memory(elements: int) -> bool:
    """Return whether frames of so many elements are read whole at once."""
    return elements * AMPLITUDE_BYTES <= MEMORY_LIMIT_BYTES


def staging(
    shape: tuple[int, ...], dtype: npt.DTypeLike, source: str, why: str, folder: Path | None = None
) -> Scratch:
    """Return room for a stack: in memory, or where it is large in a scratch file in `folder`."""
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if size > MEMORY_LIMIT_BYTES:
        logger.info('%s: %s; staging %.1f GB once in a scratch file.', source, why, size / 1e9)
    return scratch_array(shape, dtype, f'Staging {source}', MEMORY_LIMIT_BYTES, folder)


def slabs(shape: tuple[int, ...], dtype: npt.DTypeLike, multiple: int = 1) -> Iterator[slice]:
    """Yield slices along the first axis of about ``SLAB_BYTES``."""
    row = int(np.prod(shape[1:], dtype=np.int64)) * np.dtype(dtype).itemsize
    length = max(SLAB_BYTES // max(row * multiple, 1), 1) * multiple
    return blocks(shape[0], length)


def _turned(
    stored: Backing,
    shape: tuple[int, ...],
    axes: tuple[int, ...],
    dtype: npt.DTypeLike,
    source: str,
    folder: Path | None,
) -> Backing:
    """Copy an array to `shape` in the order `axes` of its own axes, the last of which are the frames."""
    if isinstance(stored, MemoryArray):
        return MemoryArray(np.ascontiguousarray(stored.array.transpose(axes)))
    n = shape[0]
    before = tuple(shape[axes.index(axis)] for axis in range(3))
    turned = staging(shape, dtype, source, 'its patterns are on the last axis', folder)
    for part in slabs(before, dtype):
        slab = stored.read(part).transpose(axes)
        place = [slice(None)] * 3
        place[axes.index(0)] = part
        target = turned.array[tuple(place)]
        # Some frames at a time, for each write touches a page of its frame.
        for frames in blocks(n, TURNED_FRAMES):
            target[frames] = slab[frames]
            turned.release()
    return turned


class ReversedFrames:
    """An array that is stored with its axes reversed, as Fortran orders them; turned once it is read.

    Parameters
    ----------
    frames : Backing
        The array as it is stored, of shape (w, h, n).
    """

    def __init__(
        self,
        frames: Backing,
        shape: tuple[int, ...],
        dtype: npt.DTypeLike,
        source: str,
        folder: Path | None = None,
    ) -> None:
        self.frames = frames
        self._turned = _OnDemand(lambda: _turned(frames, shape, (2, 1, 0), dtype, source, folder))

    def read(self, rows: Any, window: Window = WHOLE) -> npt.NDArray[Any]:
        """Return copies of frames, or of a window of each."""
        return self._turned.get().read(rows, window)


class _Swapped:
    """Frames whose rows are stored as columns."""

    def __init__(self, frames: Backing) -> None:
        self._frames = frames

    def read(self, rows: Any, window: Window = WHOLE) -> npt.NDArray[Any]:
        """Return copies of frames, or of a window of each."""
        return self._frames.read(rows, (window[1], window[0])).swapaxes(-2, -1)
