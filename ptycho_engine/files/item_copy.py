"""Items of HDF5 files copied into another: types, filters, attributes and links as they are.

HDF5 has a function for it, which trusts the file: a damaged index of chunks ends it, and the process, in a
corrupt heap. Datasets are therefore read and written here.
"""

from __future__ import annotations

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
    if properties.get_layout() == h5py.h5d.VIRTUAL or item.shape is None or not item.size:
        return made
    if kind.detect_class(h5py.h5t.REFERENCE):
        # A reference means nothing in another file; the copy's are empty.
        return made
    pointers = kind.detect_class(h5py.h5t.VLEN) or item.dtype.hasobject
    # Other values travel as bytes: NumPy would cut the padding of texts, and does not know every type.
    in_memory = None if pointers else kind
    element = item.dtype if pointers else np.dtype(f'V{kind.get_size()}')
    for part in _parts(item.shape, element.itemsize):
        there = item.id.get_space()
        if item.shape:
            there.select_hyperslab(
                (part.start, *(0 for _ in item.shape[1:])), (part.stop - part.start, *item.shape[1:])
            )
        values = np.zeros((part.stop - part.start, *item.shape[1:]) if item.shape else (), element)
        here = h5py.h5s.create_simple(values.shape) if item.shape else h5py.h5s.create(h5py.h5s.SCALAR)
        item.id.read(here, there, values, mtype=in_memory)
        made.id.write(here, there, values, mtype=in_memory)
    return made


def _parts(shape: tuple[int, ...], size: int) -> Any:
    """Return slices of the first axis that hold a bounded number of bytes; one for a lone value."""
    if not shape:
        return [slice(0, 1)]
    row = max(int(np.prod(shape[1:], dtype=np.int64)) * size, 1)
    return blocks(shape[0], max(BYTES_AT_ONCE // row, 1))
