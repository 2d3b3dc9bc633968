"""Items of HDF5 files copied into another: types, filters, attributes and links as they are.

HDF5 has a function for it, which trusts the file: a damaged index of chunks ends it, and the process, in a
corrupt heap. Datasets are therefore copied here, chunk by chunk as they are stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

from ..blocks import blocks
from ..io.text import encode
from .product_text import Name, copy_attributes

__all__ = ['copy_item', 'link_of', 'own_dataset']

BYTES_AT_ONCE = 16 << 20

Copied = dict[Any, h5py.HLObject]
"""The copy of each object, by its place in the file: what had two names has two names again."""


def link_of(group: h5py.Group, name: Name) -> Any:
    """Return the link of that name as h5py describes it."""
    if isinstance(name, str):
        return group.get(name, getlink=True)
    if group.id.links.get_info(name).type != h5py.h5l.TYPE_HARD:
        raise ValueError('it is a link to elsewhere, and its name is not UTF-8')
    return h5py.HardLink()


def copy_item(source: h5py.Group, target: h5py.Group, name: Name) -> None:
    """Copy an item of the root; a group's links to the product's own datasets become such links again."""
    link = link_of(source, name)
    if isinstance(link, h5py.HardLink):
        _copy(source, source, target, name, {})
    else:
        target[name] = link


def own_dataset(file: h5py.Group, item: h5py.HLObject) -> str | None:
    """Return 'object' or 'probe' if `item` is that very dataset of the root."""
    return next((name for name in ('object', 'probe') if name in file and file[name] == item), None)


def _copy(root: h5py.Group, source: h5py.Group, target: h5py.Group, name: Name, copied: Copied) -> None:
    """Copy an object that `source` holds by a hard link."""
    # By bytes, for h5py takes names that it reads back for UTF-8.
    key = name if isinstance(name, bytes) else encode(name)
    item: Any = h5py.Group(source.id)[key]
    place = h5py.h5o.get_info(item.id)
    earlier = copied.get((place.fileno, place.addr))
    if earlier is not None:
        h5py.Group(target.id)[key] = earlier
        return
    if isinstance(item, h5py.Group):
        made: Any = target.create_group(key)
        copied[place.fileno, place.addr] = made
        copy_attributes(item, made)
        for member in item:
            _copy_member(root, item, made, member, copied)
    elif isinstance(item, h5py.Dataset):
        made = _copied_dataset(item, target, key)
        copied[place.fileno, place.addr] = made
        copy_attributes(item, made)
    else:
        target[key] = item


def _copy_member(
    root: h5py.Group, source: h5py.Group, target: h5py.Group, name: Name, copied: Copied
) -> None:
    link = link_of(source, name)
    if isinstance(link, h5py.SoftLink):
        own = link.path.removeprefix('/') if link.path in ('/object', '/probe') else None
    elif isinstance(link, h5py.HardLink):
        own = own_dataset(root, source[name])
    else:
        own = None
    if own is not None:
        # In an image, which lacks those datasets, the link waits as a soft one.
        target[name] = target.file[own] if own in target.file else h5py.SoftLink(f'/{own}')
    elif isinstance(link, h5py.HardLink):
        _copy(root, source, target, name, copied)
    else:
        target[name] = link


def _copied_dataset(item: h5py.Dataset, target: h5py.Group, name: bytes) -> h5py.Dataset:
    properties = item.id.get_create_plist()
    if properties.get_external_count():
        # They would be shared with the copy, which is written.
        raise ValueError('its data lie in other files')
    # Equal items give equal bytes, whenever they are copied.
    properties.set_obj_track_times(False)
    # A copy, because a named type belongs to its file.
    kind, space = item.id.get_type().copy(), item.id.get_space()
    made = h5py.Dataset(h5py.h5d.create(target.id, name, kind, space, dcpl=properties))
    if kind.detect_class(h5py.h5t.REFERENCE):
        # A reference means nothing in another file; the copy's are empty.
        return made
    pointers = kind.detect_class(h5py.h5t.VLEN) or item.dtype.hasobject
    if properties.get_layout() == h5py.h5d.CHUNKED:
        _copy_chunks(item, made, as_they_are=not pointers)
    elif properties.get_layout() != h5py.h5d.VIRTUAL and item.size and item.id.get_storage_size():
        for part in _parts(item.shape, item.dtype.itemsize):
            _copy_part(item, made, part, as_they_are=not pointers)
    return made


def _copy_chunks(item: h5py.Dataset, made: h5py.Dataset, *, as_they_are: bool) -> None:
    """Copy the chunks that are stored, of however many there could be; without unpacking them if possible."""
    most = item.file.id.get_filesize()
    for number in range(item.id.get_num_chunks()):
        chunk = item.id.get_chunk_info(number)
        if chunk.size > most:
            raise ValueError(f'a chunk of {chunk.size} bytes in a file of {most}')
        if as_they_are:
            mask, data = item.id.read_direct_chunk(chunk.chunk_offset)
            made.id.write_direct_chunk(chunk.chunk_offset, data, mask)
        else:
            ends = (start + side for start, side in zip(chunk.chunk_offset, item.chunks, strict=True))
            stops = map(min, ends, item.shape)
            part = tuple(map(slice, chunk.chunk_offset, stops))
            _copy_part(item, made, part, as_they_are=False)


Part = tuple[slice, ...]


def _copy_part(item: h5py.Dataset, made: h5py.Dataset, part: Part, *, as_they_are: bool) -> None:
    kind = item.id.get_type()
    shape = tuple(side.stop - side.start for side in part)
    there = item.id.get_space()
    if part:
        there.select_hyperslab(tuple(side.start for side in part), shape)
    here = h5py.h5s.create_simple(shape) if part else h5py.h5s.create(h5py.h5s.SCALAR)
    # As bytes where it can be: NumPy would cut the padding of texts, and does not know every type.
    in_memory = kind if as_they_are else None
    values = np.zeros(shape, f'V{kind.get_size()}' if as_they_are else item.dtype)
    item.id.read(here, there, values, mtype=in_memory)
    made.id.write(here, there, values, mtype=in_memory)


def _parts(shape: tuple[int, ...], size: int) -> Iterator[Part]:
    """Yield parts of an array that hold a bounded number of bytes; one without axes for a lone value."""
    if not shape:
        yield ()
        return
    row = max(int(np.prod(shape[1:], dtype=np.int64)) * size, 1)
    for rows in blocks(shape[0], max(BYTES_AT_ONCE // row, 1)):
        yield (rows, *(slice(0, side) for side in shape[1:]))
