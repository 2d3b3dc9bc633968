"""Stacks of frames in files: ``.npy``, NPZ and HDF5."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

import h5py
import numpy as np

from ..errors import DataValueError
from ..io.damage import reading
from ..io.file_array import FileArray
from ..io.hdf5 import Hdf5Group, open_hdf5
from ..io.npy import ArrayHeader, read_header
from ..io.regular import FileState, open_regular, open_state
from ..patterns.frame_stack import REAL, Backing, ReversedFrames, StoredStack, fits_in_memory, slabs, staging
from .npz import npz_headers, open_npz

__all__ = ['hdf5_patterns', 'hdf5_stack', 'open_npy_stack', 'open_npz_stack']


def _in_order(frames: Backing, header: ArrayHeader, source: str, folder: Path | None) -> Backing:
    """Return frames in C order, given those that are stored."""
    if header.order == 'C':
        return frames
    return ReversedFrames(frames, header.shape, header.dtype, source, folder)


def _as_stored(header: ArrayHeader) -> tuple[int, ...]:
    # The bytes of a Fortran-ordered array are those of its transpose in C order.
    return header.shape if header.order == 'C' else header.shape[::-1]


def open_npy_stack(path: Path, kinds: str = REAL, folder: Path | None = None) -> StoredStack:
    """Open an ``.npy`` file; its frames are read where they lie.

    `kinds` and `folder` are as for :class:`StoredStack`.

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
        header.shape,
        header.dtype,
        lambda: _lying(path, header, offset, state, str(path), folder),
        str(path),
        kinds,
        folder,
    )


def open_npz_stack(path: Path, key: str, kinds: str = REAL, folder: Path | None = None) -> StoredStack:
    """Open one array of an NPZ file, to be read where it lies, or at once if it is compressed or small.

    What is read at once is checked against its checksum. `kinds` and `folder` are as for
    :class:`StoredStack`.

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
    if info.compress_type == zipfile.ZIP_STORED and not fits_in_memory(header.size):
        open_: Callable[[], Backing] = lambda: _lying(path, header, offset, state, source, folder)  # noqa: E731
    else:
        open_ = lambda: _unpack(path, member.info.filename, header, state, source, folder)  # noqa: E731
    return StoredStack(header.shape, header.dtype, open_, source, kinds, folder)


def _lying(
    path: Path,
    header: ArrayHeader,
    offset: int,
    state: FileState,
    source: str,
    folder: Path | None = None,
) -> Backing:
    frames = FileArray(path, _as_stored(header), header.dtype, offset=offset, state=state)
    return _in_order(frames, header, source, folder)


def _unpack(
    path: Path, name: str, header: ArrayHeader, state: FileState, source: str, folder: Path | None
) -> Backing:
    """Unpack a member of a zip file as it comes, and check it against its checksum."""
    stored = _as_stored(header)
    staged = staging(stored, header.dtype, source, 'it is compressed', folder)
    with open_npz(path, f'{source} is damaged', state) as archive, archive.open(name) as stream:
        read_header(cast(BinaryIO, stream))
        for part in slabs(stored, header.dtype):
            slab = staged.array[part]
            data = stream.read(slab.nbytes)
            slab[...] = np.frombuffer(data, header.dtype).reshape(slab.shape)
            staged.release()
        # The checksum is looked at when the end is reached.
        if stream.read(1):
            raise ValueError('it is larger than its array')
    return _in_order(staged, header, source, folder)


def hdf5_stack(file: Hdf5Group, name: str, folder: Path | None = None) -> StoredStack:
    """Return a dataset of an open HDF5 file: read where it lies if it is contiguous, else unpacked once.

    `folder` is as for :class:`StoredStack`.

    Raises
    ------
    DataFileNotFoundError, DataValueError
        If it cannot be read, or part of it is missing.
    KeyError
        If there is no such dataset.
    """
    source = file.title(name)
    path, state, place = file.path, file.state, file.absolute(name)
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise DataValueError(f'{source} is a group; expected a dataset of patterns.')
    shape, dtype = dataset.shape, dataset.dtype
    # The place in the file says nothing where a link led to another one.
    plain = dataset.chunks is None and not dataset.external and not dataset.is_virtual
    offset = dataset.id.get_offset() if plain and file.file_of(name) == path else None
    if offset is not None:
        header = ArrayHeader(shape, 'C', dtype)
        return StoredStack(
            shape, dtype, lambda: _lying(path, header, offset, state, source), source, folder=folder
        )
    return StoredStack(
        shape, dtype, lambda: _copy_dataset(path, place, state, source, folder), source, folder=folder
    )


def hdf5_patterns(file: Hdf5Group, each: str) -> StoredStack:
    """Return the dataset ``patterns`` of a file of Ptychodus', held against what belongs to it.

    Parameters
    ----------
    file : Hdf5Group
        The open file; ``patterns``, ``bad_pixels`` and `each` must be there.
    each : str
        The dataset of one number for each pattern.

    Raises
    ------
    DataFileNotFoundError, DataValueError
        As for :func:`hdf5_stack`; or if the patterns are not (n, h, w) with n > 0, `each` is not (n,), or
        ``bad_pixels`` holds more than one value for each pixel of each pattern.
    """
    counts, numbers, mask = hdf5_stack(file, 'patterns'), file.dataset(each), file.dataset('bad_pixels')
    if counts.ndim != 3 or numbers.shape != counts.shape[:1]:
        raise DataValueError(
            f'{file.title()}: patterns have shape {counts.shape} and {each} {numbers.shape}; expected '
            '(n, h, w) and (n,).'
        )
    if len(counts) == 0:
        raise DataValueError(
            f'{file.title()}: patterns have shape {counts.shape}; the file holds no pattern.'
        )
    if mask.size > np.prod(counts.shape, dtype=object):
        raise DataValueError(
            f'{file.title()}: bad_pixels has shape {mask.shape}; expected {counts.shape[1:]}, that of a '
            'pattern.'
        )
    return counts


def _copy_dataset(path: Path, name: str, state: FileState, source: str, folder: Path | None) -> Backing:
    """Read a dataset once by HDF5, in whole rows of chunks."""
    with reading(f'{source} cannot be read'), open_hdf5(path, state=state) as file:
        dataset = file.dataset(name)
        staged = staging(dataset.shape, dataset.dtype, source, 'it is not stored there in one piece', folder)
        multiple = dataset.chunks[0] if dataset.chunks else 1
        for part in slabs(dataset.shape, dataset.dtype, multiple):
            dataset.read_direct(staged.array, np.s_[part], np.s_[part])
            staged.release()
    return staged
