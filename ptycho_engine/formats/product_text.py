"""Text attributes of product files, whatever they hold: read without loss, written with the same bytes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import h5py
import numpy as np

from ..io.text import decode, encode, is_utf8

__all__ = ['ATTRIBUTE_LIMIT_BYTES', 'Name', 'copy_attributes', 'is_plain_text', 'read_text', 'write_text']

Name = str | bytes
"""h5py gives names that are not UTF-8 as bytes."""

ATTRIBUTE_LIMIT_BYTES = 60_000
"""HDF5 keeps attributes below 64 KiB in compact storage; larger ones cannot be written."""


def read_text(owner: Any, name: str, default: str = '') -> str:
    """Return an attribute as text: strings decoded without loss, numbers as digits, what is empty as ''.

    Parameters
    ----------
    owner : HDF5 file, group or dataset
    name : str
        The attribute.
    default : str
        For an attribute that is not there, or of a type that has no value in NumPy.
    """
    try:
        value = owner.attrs.get(name, default)
    except TypeError:
        return default
    if isinstance(value, h5py.Empty):
        return ''
    if isinstance(value, np.ndarray):
        return ', '.join(_one(item) for item in value.ravel())
    return _one(value)


def _one(value: object) -> str:
    return decode(value) if isinstance(value, bytes) else str(value)


def is_plain_text(owner: Any, name: str) -> bool:
    """Return whether :func:`write_text` makes the same of what :func:`read_text` reads as the file holds.

    That is so for a string of variable length, and for one of fixed length that could be of variable length.
    """
    try:
        value = owner.attrs[name]
    except TypeError:
        return False
    if isinstance(value, bytes):
        return value != b'' and b'\0' not in value and is_utf8(decode(value))
    return isinstance(value, str)


def write_text(owner: Any, name: str, text: str) -> None:
    """Write text as an attribute of variable length, with the bytes that :func:`read_text` read.

    Text with a NUL inside, where a string of variable length would end, has a fixed length; where it is too
    long for that, NUL is written as its escape.
    """
    data = encode(text)
    if b'\0' in data and len(data) > ATTRIBUTE_LIMIT_BYTES:
        data = data.replace(b'\0', b'\\x00')
    if b'\0' in data:
        owner.attrs.create(name, np.array(data, f'S{len(data)}'))
    else:
        owner.attrs.create(name, np.array(data, object), dtype=h5py.string_dtype())


def copy_attributes(source: Any, target: Any, names: Collection[Name] | None = None) -> None:
    """Copy attributes as they are: type, padding and bytes, whatever the encoding of names and values."""
    for name in source.attrs if names is None else names:
        _copy_attribute(source, target, name if isinstance(name, bytes) else encode(name))


def _copy_attribute(source: Any, target: Any, name: bytes) -> None:
    old = h5py.h5a.open(source.id, name)
    # A copy, because a named type belongs to its file.
    kind, space = old.get_type().copy(), old.get_space()
    # Other values travel as bytes: NumPy would cut the padding, and does not know every type.
    pointers = _has_pointers(old)
    in_memory = None if pointers else kind
    values = None
    if space.get_simple_extent_type() != h5py.h5s.NULL:
        values = np.zeros(old.shape, old.dtype if pointers else f'V{kind.get_size()}')
        old.read(values, mtype=in_memory)
    if h5py.h5a.exists(target.id, name):
        h5py.h5a.delete(target.id, name)
    new = h5py.h5a.create(target.id, name, kind, space)
    if values is not None:
        new.write(values, mtype=in_memory)


def _has_pointers(attribute: Any) -> bool:
    """Return whether what is in memory are pointers to the values, as of strings of variable length."""
    try:
        return bool(attribute.dtype.hasobject)
    except TypeError:
        return bool(attribute.get_type().detect_class(h5py.h5t.VLEN))
