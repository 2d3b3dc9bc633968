"""Stacks of frames as they are stored: read where they lie, or staged once to where they can be."""

from __future__ import annotations

import copy
import logging
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import h5py
import numpy as np
import numpy.typing as npt

from ..blocks import blocks
from ..errors import DataValueError
from ..io.damage import reading
from ..io.file_array import WHOLE, FileArray, Window
from ..io.hdf5 import Hdf5Group, open_hdf5
from ..io.mapping import MemoryArray, Scratch, scratch_array
from ..io.npy import ArrayHeader, read_header
from ..io.regular import FileState, open_regular, open_state
from .npz import npz_headers

__all__ = ['COMPLEX', 'StoredStack', 'hdf5_stack', 'open_hdf5_stack', 'open_npy_stack', 'open_npz_stack']

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
        """Return copies of frames, or of a window of each; see :meth:`~.FileArray.read`."""


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
    ) -> None:
        self.dtype = np.dtype(dtype)
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
            if isinstance(stored, _Reversed):
                return _Swapped(stored.frames)
            return _turned(stored, shape, (2, 0, 1), self.dtype, self.source)

        return StoredStack(shape, self.dtype, turn, self.source)


def _within(outer: slice, inner: slice, size: int) -> slice:
    start, stop, _ = inner.indices(size)
    offset = outer.start or 0
    return slice(offset + start, offset + stop)


def _staging(shape: tuple[int, ...], dtype: npt.DTypeLike, source: str, why: str) -> Scratch:
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if size > MEMORY_LIMIT_BYTES:
        logger.info('%s: %s; staging %.1f GB once in a scratch file.', source, why, size / 1e9)
    return scratch_array(shape, dtype, f'Staging {source}', MEMORY_LIMIT_BYTES)


def _slabs(shape: tuple[int, ...], dtype: npt.DTypeLike, multiple: int = 1) -> Iterator[slice]:
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
) -> Backing:
    """Copy an array to `shape` in the order `axes` of its own axes, the last of which are the frames."""
    if isinstance(stored, MemoryArray):
        return MemoryArray(np.ascontiguousarray(stored.array.transpose(axes)))
    n = shape[0]
    before = tuple(shape[axes.index(axis)] for axis in range(3))
    turned = _staging(shape, dtype, source, 'its patterns are on the last axis')
    for part in _slabs(before, dtype):
        slab = stored.read(part).transpose(axes)
        place = [slice(None)] * 3
        place[axes.index(0)] = part
        target = turned.array[tuple(place)]
        # Some frames at a time, for each write touches a page of its frame.
        for frames in blocks(n, TURNED_FRAMES):
            target[frames] = slab[frames]
            turned.release()
    return turned


class _Reversed:
    """An array that is stored with its axes reversed, as Fortran orders them; turned once it is read.

    Parameters
    ----------
    frames : Backing
        The array as it is stored, of shape (w, h, n).
    """

    def __init__(self, frames: Backing, shape: tuple[int, ...], dtype: npt.DTypeLike, source: str) -> None:
        self.frames = frames
        self._turned = _OnDemand(lambda: _turned(frames, shape, (2, 1, 0), dtype, source))

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


def _in_order(frames: Backing, header: ArrayHeader, source: str) -> Backing:
    """Return frames in C order, given those that are stored."""
    if header.order == 'C':
        return frames
    return _Reversed(frames, header.shape, header.dtype, source)


def _as_stored(header: ArrayHeader) -> tuple[int, ...]:
    # The bytes of a Fortran-ordered array are those of its transpose in C order.
    return header.shape if header.order == 'C' else header.shape[::-1]


def open_npy_stack(path: Path) -> StoredStack:
    """Open an ``.npy`` file; its frames are read where they lie.

    Raises
    ------
    DataFileNotFoundError, DataValueError
        If it is not an ``.npy`` file of numbers.
    """
    with reading(f'{path} is not a readable .npy file'), open_regular(path) as stream:
        header = read_header(stream)
        offset = stream.tell()
        state = open_state(stream)
    return StoredStack(
        header.shape, header.dtype, lambda: _lying(path, header, offset, state, str(path)), str(path)
    )


def open_npz_stack(path: Path, key: str, kinds: str = REAL) -> StoredStack:
    """Open one array of an NPZ file, to be read where it lies, or at once if it is compressed or small.

    What is read at once is checked against its checksum. `kinds` is as for :class:`StoredStack`.

    Raises
    ------
    DataFileNotFoundError, DataKeyError, DataValueError
        If the file is damaged or the array is not one of numbers.
    """
    source = f"{path}: '{key}'"
    with reading(f'{source} cannot be read'), open_regular(path) as file:
        state = open_state(file)
        with zipfile.ZipFile(file) as archive:
            member = npz_headers(archive)[key]
            header, info = member.header, member.info
        # The local header repeats name and extra fields, which may differ from the directory's.
        file.seek(info.header_offset + 26)
        lengths = np.frombuffer(file.read(4), '<u2')
        offset = info.header_offset + 30 + int(lengths.sum()) + member.offset
    if header.dtype.hasobject:
        raise DataValueError(f'{source} is pickled, which is never loaded; save it as a plain numeric array.')
    small = header.size * AMPLITUDE_BYTES <= MEMORY_LIMIT_BYTES
    if info.compress_type == zipfile.ZIP_STORED and not small:
        open_: Callable[[], Backing] = lambda: _lying(path, header, offset, state, source)  # noqa: E731
    else:
        open_ = lambda: _unpack(path, member.info.filename, header, state, source)  # noqa: E731
    return StoredStack(header.shape, header.dtype, open_, source, kinds)


def _lying(path: Path, header: ArrayHeader, offset: int, state: FileState, source: str) -> Backing:
    frames = FileArray(path, _as_stored(header), header.dtype, offset=offset, state=state)
    return _in_order(frames, header, source)


def _unpack(path: Path, name: str, header: ArrayHeader, state: FileState, source: str) -> Backing:
    """Unpack a member of a zip file as it comes, and check it against its checksum."""
    stored = _as_stored(header)
    staged = _staging(stored, header.dtype, source, 'it is compressed')
    with (
        reading(f'{source} is damaged'),
        open_regular(path, state) as file,
        zipfile.ZipFile(file) as archive,
        archive.open(name) as stream,
    ):
        read_header(cast(BinaryIO, stream))
        for part in _slabs(stored, header.dtype):
            slab = staged.array[part]
            data = stream.read(slab.nbytes)
            slab[...] = np.frombuffer(data, header.dtype).reshape(slab.shape)
            staged.release()
        # The checksum is looked at when the end is reached.
        if stream.read(1):
            raise ValueError('it is larger than its array')
    return _in_order(staged, header, source)


def open_hdf5_stack(path: Path, name: str) -> StoredStack:
    """Open a dataset of an HDF5 file as :func:`hdf5_stack` does.

    Raises
    ------
    DataFileNotFoundError, DataValueError
        If it cannot be read, or part of it is missing.
    KeyError
        If there is no such dataset.
    """
    with reading(f'{path} is not a readable HDF5 file'), open_hdf5(path) as file:
        return hdf5_stack(file, name)


def hdf5_stack(file: Hdf5Group, name: str) -> StoredStack:
    """Return a dataset of an open HDF5 file: read where it lies if it is contiguous, else unpacked once.

    Raises
    ------
    DataFileNotFoundError, DataValueError
        If it cannot be read, or part of it is missing.
    KeyError
        If there is no such dataset.
    """
    source = file.title(name)
    path, state, place = file.path, file.state, file.absolute(name)
    assert path is not None
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise DataValueError(f'{source} is a group; expected a dataset of patterns.')
    shape, dtype = dataset.shape, dataset.dtype
    # The place in the file says nothing where a link led to another one.
    plain = dataset.chunks is None and not dataset.external and not dataset.is_virtual
    offset = dataset.id.get_offset() if plain and file.file_of(name) == path else None
    if offset is not None and state is not None:
        header = ArrayHeader(shape, 'C', dtype)
        return StoredStack(shape, dtype, lambda: _lying(path, header, offset, state, source), source)
    return StoredStack(shape, dtype, lambda: _copy_dataset(path, place, state, source), source)


def _copy_dataset(path: Path, name: str, state: FileState | None, source: str) -> Backing:
    """Read a dataset once by HDF5, in whole rows of chunks."""
    with reading(f'{source} cannot be read'), open_hdf5(path, state=state) as file:
        dataset = file.dataset(name)
        staged = _staging(dataset.shape, dataset.dtype, source, 'it is not stored there in one piece')
        multiple = dataset.chunks[0] if dataset.chunks else 1
        for part in _slabs(dataset.shape, dataset.dtype, multiple):
            dataset.read_direct(staged.array, np.s_[part], np.s_[part])
            staged.release()
    return staged
