"""The plain part of HDF5, read from bytes without the HDF5 library: groups and stored arrays of floats.

That is all that model files of format 1 hold. The library follows links into other files, calls itself
without end on a virtual dataset, and may be crashed by damaged bytes; here anything but plain arrays is
refused, no address is visited twice, and nothing is larger than the bytes at hand. Layout as in the *HDF5
File Format Specification Version 3.0*: superblock 0, object headers 1, groups with symbol tables, contiguous
data.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ['read_plain_hdf5']

Shape = tuple[int, ...]

SIGNATURE = b'\x89HDF\r\n\x1a\n'
HEADER = struct.Struct('<BxHII4x')
MESSAGE = struct.Struct('<HHB3x')
TREE = struct.Struct('<4sBBHQQ')
SYMBOLS = struct.Struct('<4sBxH')
ENTRY = struct.Struct('<QQI4x16x')
HEAP = struct.Struct('<4sB3xQQQ')
TWO = struct.Struct('<QQ')

ROOT_ENTRY = 56
MOST_OBJECTS = 20_000
MOST_NAME = 200
DEEPEST = 8
MOST_AXES = 8

DATASPACE, DATATYPE, LAYOUT, CONTINUATION, SYMBOL_TABLE = 0x01, 0x03, 0x08, 0x10, 0x11
HARMLESS = {0x00, 0x04, 0x05, 0x0E, 0x12}
"""Empty messages, fill values and times of modification."""
STRANGE = {
    0x02: 'links',
    0x06: 'links',
    0x07: 'data in other files',
    0x0B: 'compressed data',
    0x0C: 'attributes',
    0x0F: 'settings that are shared',
}
STRANGE_LAYOUTS = {0: 'data inside a header', 2: 'data in chunks', 3: 'a virtual dataset'}

FLOATS: dict[bytes, np.dtype[np.floating]] = {
    bytes.fromhex('11201f000400000000002000170800177f000000'): np.dtype('<f4'),
    bytes.fromhex('11203f000800000000004000340b0034ff030000'): np.dtype('<f8'),
}
"""The two types of numbers, as their messages state them."""


@dataclass(frozen=True)
class _Array:
    shape: Shape
    dtype: np.dtype[np.floating]
    address: int

    def cut(self, data: bytes) -> npt.NDArray[np.floating]:
        """Return its numbers."""
        flat = np.frombuffer(data, self.dtype, math.prod(self.shape), self.address)
        return flat.reshape(self.shape).copy()


def read_plain_hdf5(
    data: bytes, check: Callable[[dict[str, Shape]], None]
) -> dict[str, npt.NDArray[np.floating]]:
    """Return the arrays of an HDF5 file by their names, as ``group/name``, in float32 or float64 as stored.

    Parameters
    ----------
    data : bytes
        The file.
    check : callable
        Gets names and shapes before any array is made, and raises where they are not the expected ones.

    Raises
    ------
    ValueError
        With the reason, if the file is damaged or holds anything but plain arrays.
    """
    try:
        found = dict(_File(data).arrays())
    except (struct.error, IndexError) as error:
        raise ValueError('the file ends too early') from error
    check({name: array.shape for name, array in found.items()})
    return {name: array.cut(data) for name, array in found.items()}


class _File:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._seen: set[int] = set()
        if data[:8] != SIGNATURE:
            raise ValueError('it is no HDF5 file')
        # Versions 0, offsets and lengths of 8 bytes, and the file begins at its beginning.
        if data[8:13] != bytes(5) or data[13:16] != b'\x08\x08\x00' or data[24:32] != bytes(8):
            raise ValueError('it was written by another program')

    def arrays(self) -> Iterator[tuple[str, _Array]]:
        """Go through all groups; none is entered twice."""
        _, root, _ = ENTRY.unpack_from(self._data, ROOT_ENTRY)
        waiting: list[tuple[str, int, int]] = [('', root, 0)]
        while waiting:
            name, address, depth = waiting.pop()
            messages = dict(self._messages(address))
            if SYMBOL_TABLE not in messages:
                yield name, self._array(messages)
                continue
            if depth == DEEPEST:
                raise ValueError('its groups are nested too deeply')
            tree, heap = TWO.unpack_from(messages[SYMBOL_TABLE])
            prefix = f'{name}/' if name else ''
            waiting += [
                (prefix + member, where, depth + 1) for member, where in self._members(tree, self._heap(heap))
            ]

    def _visit(self, address: int) -> int:
        """Return an address that was not visited before; what overlaps or goes in circles is damaged."""
        if address in self._seen:
            raise ValueError('two of its parts lie at one place')
        if len(self._seen) >= MOST_OBJECTS:
            raise ValueError('it has too many parts')
        if address >= len(self._data):
            raise ValueError('the file ends too early')
        self._seen.add(address)
        return address

    def _messages(self, address: int) -> Iterator[tuple[int, bytes]]:
        version, _, _, size = HEADER.unpack_from(self._data, self._visit(address))
        if version != 1:
            raise ValueError('it was written by another program')
        blocks = [(address + HEADER.size, size)]
        given: set[int] = set()
        while blocks:
            start, length = blocks.pop()
            end = start + length
            while start + MESSAGE.size <= end:
                kind, size, flags = MESSAGE.unpack_from(self._data, start)
                start += MESSAGE.size
                body = self._data[start : start + size]
                start += size
                if start > end or len(body) != size:
                    raise ValueError('the file ends too early')
                if kind in HARMLESS:
                    continue
                if kind in STRANGE or flags & 2:
                    raise ValueError(f'it holds {STRANGE.get(kind, "settings that are shared")}')
                if kind in given:
                    raise ValueError('an array is described twice')
                if kind == CONTINUATION:
                    where, length = TWO.unpack_from(body)
                    blocks.append((self._visit(where), length))
                elif kind in (DATASPACE, DATATYPE, LAYOUT, SYMBOL_TABLE):
                    given.add(kind)
                    yield kind, body
                else:
                    raise ValueError(f'it holds messages of the unknown kind {kind}')

    def _heap(self, address: int) -> bytes:
        """Return the names of a group's members, each ending with a zero."""
        signature, version, size, _, where = HEAP.unpack_from(self._data, self._visit(address))
        if (signature, version) != (b'HEAP', 0):
            raise ValueError('the names of a group are damaged')
        return self._data[where : where + size]

    def _members(self, tree: int, names: bytes) -> Iterator[tuple[str, int]]:
        nodes = [tree]
        while nodes:
            address = self._visit(nodes.pop())
            if self._data[address : address + 4] == b'SNOD':
                yield from self._symbols(address, names)
                continue
            signature, kind, _, used, _, _ = TREE.unpack_from(self._data, address)
            if (signature, kind) != (b'TREE', 0):
                raise ValueError('a group is damaged')
            pairs = address + TREE.size
            # Keys and children alternate; only the children matter.
            nodes += [TWO.unpack_from(self._data, pairs + 16 * index)[1] for index in range(used)]

    def _symbols(self, address: int, names: bytes) -> Iterator[tuple[str, int]]:
        _, version, count = SYMBOLS.unpack_from(self._data, address)
        if version != 1:
            raise ValueError('a group is damaged')
        for index in range(count):
            at, where, cached = ENTRY.unpack_from(self._data, address + SYMBOLS.size + ENTRY.size * index)
            if cached > 1:
                raise ValueError('it holds links')
            name, ended, _ = names[at : at + MOST_NAME].partition(b'\0')
            if not name or not ended or not name.isascii() or b'/' in name:
                raise ValueError('the names of a group are damaged')
            yield name.decode(), where

    def _array(self, messages: dict[int, bytes]) -> _Array:
        if not {DATASPACE, DATATYPE, LAYOUT} <= set(messages):
            raise ValueError('an array is not described')
        shape = _shape(messages[DATASPACE])
        dtype = FLOATS.get(messages[DATATYPE][:20])
        if dtype is None:
            raise ValueError('it holds something else than numbers of float32 or float64')
        layout = messages[LAYOUT]
        version, kind = layout[0], layout[1]
        if kind != 1:
            raise ValueError(f'it holds {STRANGE_LAYOUTS.get(kind, "data of an unknown kind")}')
        if version != 3:
            raise ValueError('it was written by another program')
        address, size = TWO.unpack_from(layout, 2)
        if size != math.prod(shape) * dtype.itemsize:
            raise ValueError('an array has not its stated size')
        if address + size > len(self._data):
            raise ValueError('the file ends too early')
        return _Array(shape, dtype, address)


def _shape(body: bytes) -> Shape:
    version, axes = body[0], body[1]
    if version != 1 or axes > MOST_AXES:
        raise ValueError('the shape of an array is not stated as expected')
    return struct.unpack_from(f'<{axes}Q', body, 8)
