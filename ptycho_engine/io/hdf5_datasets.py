"""Datasets of HDF5 files, looked at before they are read: where their bytes lie, and how many there are."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5z

from ..errors import DataFileNotFoundError, DataValueError
from .damage import most_unpacked
from .hdf5_links import Found, OpenFile, Session, address, open_beside
from .regular import regular_state
from .text import encode

__all__ = ['DatasetOpener']

COMPACT_BYTES = 1 << 16
"""Data in the header of a dataset."""

MOST_BLOCKS = 1_000_000
"""Sources that one numbered name (``data_%b``) of a virtual dataset may stand for."""

GAP = 64
"""So many numbers after the last source of a numbered name must be free, else one in between is missing."""

MOST_FRAMES = 1 << 28
"""A virtual dataset of more is not looked through for frames that come from nowhere."""

MOST_NESTED = 8
"""Virtual datasets of virtual datasets."""


class DatasetOpener:
    """Opens datasets of one session whose bytes are within reach and bound.

    HDF5 fills what it does not find with zeros, without a word, reads raw data from any path, and dies of a
    virtual dataset that is a part of itself.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._stored: dict[tuple[int, int], int] = {}

    def open(self, found: Found, source: str) -> h5py.Dataset:
        """Return the dataset that was found.

        Raises
        ------
        DataFileNotFoundError, DataValueError
            If it is not one of plain numbers, part of it is missing or lies where it must not, or it
            declares more than there is.
        """
        id_ = found.id
        if id_.get_create_plist().get_external_count():
            id_.close()
            id_ = open_beside(found.file, found.parent, found.name)
        self._require_sound(found.file, id_, source, ())
        return h5py.Dataset(id_)

    def _require_sound(
        self, file: OpenFile, id_: h5d.DatasetID, source: str, trail: tuple[tuple[int, int], ...]
    ) -> int:
        """Check a dataset and return the bytes stored of it; `trail` are those it is a part of."""
        key = address(id_)
        if key in trail or len(trail) > MOST_NESTED:
            raise DataValueError(
                f'{source} is a virtual dataset that is a part of itself; write it again from its sources.'
                if key in trail
                else f'{source} is made of virtual datasets in one another more than {MOST_NESTED} deep.'
            )
        if key in self._stored:
            return self._stored[key]
        # Before anything asks for its shape: to tell that of a virtual dataset, HDF5 opens its sources.
        plist = id_.get_create_plist()
        layout = plist.get_layout()
        if layout == h5d.VIRTUAL:
            stored = self._virtual(file, plist, source, (*trail, key))
            missing = _without_source(plist, id_.shape)
            if missing:
                raise DataFileNotFoundError(
                    f'{source} is a virtual dataset, {missing} of whose {id_.shape[0]} frames come from no '
                    'file; write it again without them.'
                )
        elif plist.get_external_count():
            stored = self._external(file, id_, plist, source, nested=bool(trail))
        else:
            stored = -1
        self._require_bound(file, id_, plist, stored, source)
        self._stored[key] = max(stored, 0) or min(int(id_.get_storage_size()), file.state.size)
        return self._stored[key]

    def _require_bound(
        self, file: OpenFile, id_: h5d.DatasetID, plist: h5p.PropDCID, elsewhere: int, source: str
    ) -> None:
        """Check what a dataset declares against what is stored of it, `elsewhere` if that is not negative."""
        try:
            dtype = np.dtype(id_.dtype)
        except TypeError as error:
            raise DataValueError(f'{source} is of a type that cannot be read ({error}).') from error
        shape = id_.shape
        if dtype.hasobject or shape is None:
            what = 'nothing' if shape is None else 'text or lists'
            raise DataValueError(f'{source} holds {what}; expected numbers.')
        needed = math.prod(shape) * dtype.itemsize
        layout = plist.get_layout()
        stored, largest = elsewhere, needed
        if elsewhere < 0:
            stored = min(int(id_.get_storage_size()), file.state.size)
            if layout == h5d.CONTIGUOUS:
                offset = id_.get_offset()
                if offset is not None and offset + needed > file.state.size:
                    raise DataValueError(
                        f'{source} is cut short: the file has {file.state.size} bytes, but its array ends at '
                        f'byte {offset + needed}; copy the file again.'
                    )
            elif layout == h5d.CHUNKED:
                largest = max(needed, math.prod(plist.get_chunk()) * dtype.itemsize)
            elif layout == h5d.COMPACT and needed > COMPACT_BYTES:
                raise DataValueError(f'{source} is damaged: its header holds no {needed} bytes.')
        if largest > most_unpacked(stored):
            raise DataValueError(
                f'{source} declares {" × ".join(map(str, shape))} values of type {dtype}, which take '
                f'{largest / 1e6:.0f} MB, but only {stored / 1e6:.3g} MB are stored of it; the file is '
                'damaged.'
            )
        filters = [plist.get_filter(index)[0] for index in range(plist.get_nfilters())]
        missing = [number for number in filters if not h5z.filter_avail(number)]
        if missing:
            raise DataValueError(
                f'{source} is compressed by a filter that is not installed here (HDF5 number {missing[0]}); '
                'write it with another, such as gzip, or install that one and set HDF5_PLUGIN_PATH.'
            )

    def _external(
        self, file: OpenFile, id_: h5d.DatasetID, plist: h5p.PropDCID, source: str, *, nested: bool
    ) -> int:
        """Check that raw data lie in regular files in the folder of the file or below."""
        if nested or 'HDF5_EXTFILE_PREFIX' in os.environ:
            raise DataValueError(
                f'{source} keeps its data as raw bytes in other files, which are not read here; write them '
                'into the HDF5 file itself.'
            )
        folder = file.path.absolute().parent
        within = Path(os.path.realpath(folder))
        needed = math.prod(id_.shape or ()) * int(id_.get_type().get_size())
        stored = 0
        for index in range(plist.get_external_count()):
            name, offset, size = plist.get_external(index)
            path = folder / os.fsdecode(name)
            if not Path(os.path.realpath(path)).is_relative_to(within):
                raise DataValueError(
                    f'{source} keeps its data as raw bytes in {path}, outside its own folder; write them '
                    'into the HDF5 file itself, or copy that file beside it.'
                )
            try:
                held = regular_state(path).size - offset
            except (DataFileNotFoundError, DataValueError) as error:
                raise DataValueError(
                    f'{source} keeps its data as raw bytes elsewhere, but {error}'
                ) from error
            part = min(needed - stored, size if 0 <= size < h5s.UNLIMITED else needed)
            if held < part:
                raise DataValueError(
                    f'{source} lies in {path}, which is cut short: it ends at byte {held + offset}, but the '
                    f'data at byte {offset + part}.'
                )
            stored += part
        return stored

    def _virtual(
        self, file: OpenFile, plist: h5p.PropDCID, source: str, trail: tuple[tuple[int, int], ...]
    ) -> int:
        """Check that every source of a virtual dataset is there, and return the bytes stored of them all."""
        known: dict[tuple[str, str], tuple[int, tuple[int, ...]]] = {}
        for index in range(plist.get_virtual_count()):
            names = plist.get_virtual_filename(index), plist.get_virtual_dsetname(index)
            taken = plist.get_virtual_srcspace(index)
            count = _points(plist.get_virtual_vspace(index))
            for concrete in self._concrete(file, names, source):
                if concrete not in known:
                    known[concrete] = self._source(file, concrete, source, trail)
                shape = known[concrete][1]
                if not _holds(shape, taken, count):
                    raise DataValueError(
                        f'{source} is a virtual dataset that takes more than there is from '
                        f'{_of(concrete, file)}, which has shape {shape}; is that still being written?'
                    )
        return sum(stored for stored, _ in known.values())

    def _source(
        self, file: OpenFile, names: tuple[str, str], source: str, trail: tuple[tuple[int, int], ...]
    ) -> tuple[int, tuple[int, ...]]:
        found = self._find_source(file, names, source)
        if found is None or not isinstance(found.id, h5d.DatasetID):
            raise DataFileNotFoundError(
                f'{source} is a virtual dataset, a part of which is missing: {_of(names, file)}.'
            )
        stored = self._require_sound(found.file, found.id, source, trail)
        return stored, tuple(found.id.shape)

    def _find_source(self, file: OpenFile, names: tuple[str, str], source: str) -> Found | None:
        filename, dataset = names
        part = f'{source} is a virtual dataset, a part of which'
        if filename != '.':
            file = self._session.open_target(filename, file, 'HDF5_VDS_PREFIX', part)
        root = h5py.h5g.open(file.handle.id, b'/')
        return self._session.find(file, root, encode(dataset), part)

    def _concrete(self, file: OpenFile, names: tuple[str, str], source: str) -> Iterator[tuple[str, str]]:
        """Yield file and dataset names with their block numbers, up to the last that is there."""
        if not any(_numbered(name) for name in names):
            yield _fill(names, 0)
            return
        for number in range(MOST_BLOCKS):
            concrete = _fill(names, number)
            if number and not self._is_there(file, concrete, source):
                following = range(number + 1, number + GAP)
                later = next((n for n in following if self._is_there(file, _fill(names, n), source)), None)
                if later is not None:
                    raise DataFileNotFoundError(
                        f'{source} is a virtual dataset, a part of which is missing: {_of(concrete, file)}, '
                        f'although number {later} is there.'
                    )
                return
            yield concrete
        raise DataValueError(f'{source} is a virtual dataset of more than {MOST_BLOCKS} parts.')

    def _is_there(self, file: OpenFile, names: tuple[str, str], source: str) -> bool:
        try:
            return self._find_source(file, names, source) is not None
        except DataFileNotFoundError:
            return False


def _numbered(name: str) -> bool:
    return '%b' in name.replace('%%', '')


def _fill(names: tuple[str, str], number: int) -> tuple[str, str]:
    def put(name: str) -> str:
        return re.sub('%(.)', lambda match: str(number) if match[1] == 'b' else match[1], name)

    return put(names[0]), put(names[1])


def _of(names: tuple[str, str], file: OpenFile) -> str:
    return f'{names[1]!r} of {file.path if names[0] == "." else names[0]}'


def _unlimited(space: h5s.SpaceID) -> bool:
    if space.get_select_type() != h5s.SEL_HYPERSLABS or not space.is_regular_hyperslab():
        return False
    _, _, counts, blocks = space.get_regular_hyperslab()
    return h5s.UNLIMITED in (*counts, *blocks)


def _without_source(plist: h5p.PropDCID, shape: tuple[int, ...]) -> int:
    """Return how many frames of a virtual dataset no source has a part in; gaps in frames are usual."""
    spaces = [plist.get_virtual_vspace(index) for index in range(plist.get_virtual_count())]
    if len(shape) < 3 or any(map(_unlimited, spaces)) or shape[0] > MOST_FRAMES:
        return 0
    covered = np.zeros(shape[0], bool)
    for space in spaces:
        if space.get_select_type() == h5s.SEL_ALL:
            return 0
        if space.get_select_npoints():
            low, high = space.get_select_bounds()
            covered[low[0] : high[0] + 1] = True
    return int(shape[0] - np.count_nonzero(covered))


def _points(space: h5s.SpaceID) -> int:
    """Return how many values are selected; 0 where it is as many as there are."""
    return 0 if _unlimited(space) else int(space.get_select_npoints())


def _holds(shape: tuple[int, ...], taken: h5s.SpaceID, count: int) -> bool:
    """Return whether a dataset of `shape` has what is taken of it: a selection, or all its `count` values."""
    if taken.get_select_type() == h5s.SEL_ALL:
        return math.prod(shape) >= count
    if taken.get_select_type() == h5s.SEL_NONE or _unlimited(taken):
        return True
    last = taken.get_select_bounds()[1]
    return len(last) == len(shape) and all(at < size for at, size in zip(last, shape, strict=True))
