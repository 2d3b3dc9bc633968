"""Stacks of frames as they are stored: mapped where they lie, or staged once to where they can be."""

from __future__ import annotations

import copy
import logging
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import h5py
import hdf5plugin  # noqa: F401  registers the compression filters of detector files
import numpy as np
import numpy.typing as npt

from ..blocks import blocks
from ..errors import DataValueError
from ..io.damage import reading
from ..io.mapping import Backing, MemoryArray, map_file, scratch_array
from .npz import read_header

__all__ = ['COMPLEX', 'StoredStack', 'open_hdf5_stack', 'open_npy_stack', 'open_npz_stack']

logger = logging.getLogger('ptychopinn.data')

MEMORY_LIMIT_BYTES = 64 * 2**20
"""Stacks up to this size are staged in memory, larger ones in a scratch file."""

SLAB_BYTES = 64 * 2**20
"""Copied at once while a stack is staged."""

TURNED_FRAMES = 8192
"""Frames written at once while a stack is turned."""

REAL, COMPLEX = 'biuf', 'biufc'
"""Kinds of NumPy types that frames may have: real numbers, as patterns are, or any."""

Order = Literal['C', 'F']


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
        backing = self._backing.get()
        chosen, *rest = key if isinstance(key, tuple) else (key,)
        rows = chosen if self._rows is None else self._rows[chosen]
        # The window first: it is a view, and choosing frames copies.
        block = np.array(backing.array[:, self._window[0], self._window[1]][rows])
        backing.release()
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
        source = self._backing
        return StoredStack(
            (n, height, width), self.dtype, lambda: _turned(source.get(), self.source), self.source
        )


def _within(outer: slice, inner: slice, size: int) -> slice:
    start, stop, _ = inner.indices(size)
    offset = outer.start or 0
    return slice(offset + start, offset + stop)


def _staging(shape: tuple[int, ...], dtype: npt.DTypeLike, source: str, why: str) -> Backing:
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if size > MEMORY_LIMIT_BYTES:
        logger.info('%s: %s; staging %.1f GB once in a scratch file.', source, why, size / 1e9)
    return scratch_array(shape, dtype, f'Staging {source}', MEMORY_LIMIT_BYTES)


def _slabs(shape: tuple[int, ...], dtype: npt.DTypeLike, multiple: int = 1) -> Iterator[slice]:
    """Yield slices along the first axis of about ``SLAB_BYTES``."""
    row = int(np.prod(shape[1:], dtype=np.int64)) * np.dtype(dtype).itemsize
    length = max(SLAB_BYTES // max(row * multiple, 1), 1) * multiple
    return blocks(shape[0], length)


def _turned(stored: Backing, source: str) -> Backing:
    """Copy an array (h, w, n) to (n, h, w)."""
    height, width, n = stored.array.shape
    if isinstance(stored, MemoryArray):
        return MemoryArray(np.ascontiguousarray(stored.array.transpose(2, 0, 1)))
    turned = _staging((n, height, width), stored.array.dtype, source, 'its patterns are on the last axis')
    for part in _slabs(stored.array.shape, stored.array.dtype):
        slab = np.array(stored.array[part])
        stored.release()
        # Some frames at a time, for each write touches a page of its frame.
        for frames in blocks(n, TURNED_FRAMES):
            turned.array[frames, part] = slab[..., frames].transpose(2, 0, 1)
            turned.release()
    return turned


def open_npy_stack(path: Path) -> StoredStack:
    """Open an ``.npy`` file, mapped.

    Raises
    ------
    DataValueError
        If it is not an ``.npy`` file of numbers.
    """
    with reading(f'{path} is not a readable .npy file'), path.open('rb') as stream:
        shape, order, dtype = read_header(stream)
        offset = stream.tell()
    return StoredStack(shape, dtype, lambda: _map(path, shape, dtype, offset, order, str(path)), str(path))


def open_npz_stack(path: Path, key: str, kinds: str = REAL) -> StoredStack:
    """Open one array of an NPZ file: mapped at its place in the file, or unpacked once if it is compressed.

    `kinds` is as for :class:`StoredStack`.

    Raises
    ------
    DataValueError
        If the file is damaged or the array is not one of numbers.
    """
    name = f'{key}.npy'
    source = f"{path}: '{key}'"
    with reading(f'{source} cannot be read'), zipfile.ZipFile(path) as archive:
        member = archive.getinfo(name)
        with archive.open(member) as stream:
            shape, order, dtype = read_header(cast(BinaryIO, stream))
            header = stream.tell()
        with path.open('rb') as file:
            # The local header repeats name and extra fields, which may differ from the directory's.
            file.seek(member.header_offset + 26)
            lengths = np.frombuffer(file.read(4), '<u2')
            offset = member.header_offset + 30 + int(lengths.sum()) + header
    if dtype.hasobject:
        raise DataValueError(f'{source} is pickled, which is never loaded; save it as a plain numeric array.')
    if member.compress_type == zipfile.ZIP_STORED:
        return StoredStack(
            shape, dtype, lambda: _map(path, shape, dtype, offset, order, source), source, kinds
        )
    return StoredStack(shape, dtype, lambda: _unpack(path, name, shape, dtype, order, source), source, kinds)


def _map(
    path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], offset: int, order: Order, source: str
) -> Backing:
    with reading(f'{source} is cut short or cannot be read'):
        return map_file(path, shape, dtype, offset=offset, order=order)


def _unpack(
    path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], order: Order, source: str
) -> Backing:
    """Unpack a compressed member of a zip file as it comes."""
    # The bytes of a Fortran-ordered array are those of its transpose in C order.
    stored = shape if order == 'C' else shape[::-1]
    staged = _staging(stored, dtype, source, 'it is compressed')
    with reading(f'{source} is damaged'), zipfile.ZipFile(path) as archive, archive.open(name) as stream:
        read_header(cast(BinaryIO, stream))
        for part in _slabs(stored, dtype):
            slab = staged.array[part]
            data = stream.read(slab.nbytes)
            slab[...] = np.frombuffer(data, dtype).reshape(slab.shape)
            staged.release()
    return staged if order == 'C' else _Transposed(staged)


class _Transposed:
    """A backing with its axes reversed."""

    def __init__(self, stored: Backing) -> None:
        self.array = stored.array.T
        self.release = stored.release


def open_hdf5_stack(path: Path, name: str) -> StoredStack:
    """Open a dataset of an HDF5 file: mapped where it is contiguous, else unpacked once.

    Raises
    ------
    DataValueError
        If it cannot be read.
    KeyError
        If there is no such dataset.
    """
    source = f"{path}: '{name}'"
    with reading(f'{path} is not a readable HDF5 file'), h5py.File(path, 'r') as file:
        dataset = file[name]
        if not isinstance(dataset, h5py.Dataset):
            raise DataValueError(f'{source} is a group; expected a dataset of patterns.')
        shape, dtype = dataset.shape, dataset.dtype
        offset = None
        if dataset.chunks is None and not dataset.external and not dataset.is_virtual:
            offset = dataset.id.get_offset()
    if offset is not None:
        return StoredStack(shape, dtype, lambda: _map(path, shape, dtype, offset, 'C', source), source)
    return StoredStack(shape, dtype, lambda: _copy_dataset(path, name, source), source)


def _copy_dataset(path: Path, name: str, source: str) -> Backing:
    """Read a chunked dataset once, in whole rows of chunks."""
    with reading(f'{source} cannot be read'), h5py.File(path, 'r') as file:
        dataset = file[name]
        staged = _staging(dataset.shape, dataset.dtype, source, 'it is stored in chunks')
        multiple = dataset.chunks[0] if dataset.chunks else 1
        for part in _slabs(dataset.shape, dataset.dtype, multiple):
            dataset.read_direct(staged.array, np.s_[part], np.s_[part])
            staged.release()
    return staged
