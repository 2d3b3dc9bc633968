"""Messages of an Eiger detector as frames: stream version 1 (JSON and blobs) and Stream2 (CBOR) (LIVE-26).

SIMPLON API reference of Dectris; CBOR typed arrays: RFC 8746; compressed byte strings: tag 56500 of Dectris.
Whoever sends is not trusted: every size is checked before memory is taken for it.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..io.bounded_json import parse_bounded

__all__ = ['MOST_PARTS', 'PART_BYTES', 'StreamMessage', 'read_message']

MOST_PARTS, PART_BYTES = 16, 128 << 20
"""Parts of a message, and bytes of each."""

HEAD_BYTES, HEAD_ELEMENTS = 1 << 20, 1 << 16
"""Of a part in JSON: a header may hold the whole configuration of a detector."""

MOST_PIXELS = 1 << 25
"""Of a frame: an Eiger2 16M has 18 million."""

TYPES = {'uint8': '<u1', 'uint16': '<u2', 'uint32': '<u4'}
TAGGED_TYPES = {64: '<u1', 68: '<u1', 69: '<u2', 70: '<u4'}
"""Typed arrays of RFC 8746, little-endian."""
ARRAY_TAG, COMPRESSED_TAG = 40, 56500
ENCODING = re.compile(r'(?:bs(8|16|32)-?)?(lz4)?(<)')
BLOCK_HEAD = struct.Struct('>QI')
BLOCK_BYTES = 8192
"""Of a block of bitshuffle, where its header says 0."""
LARGEST_BLOCK = 1 << 26

Codec = Literal['', 'lz4', 'bslz4']


@dataclass(frozen=True)
class StreamMessage:
    """What a message of a detector says."""

    kind: Literal['frame', 'end', 'other']
    series: int = 0
    number: int = 0
    """Of the frame within its series."""
    frame: npt.NDArray[Any] | None = None
    """(h, w) unsigned, where it is one."""


def read_message(parts: Sequence[bytes]) -> StreamMessage:
    """Return what the parts of a message say.

    Raises
    ------
    ValueError
        With the reason, if it is no message of an Eiger, or beyond the limits above.
    """
    if not 0 < len(parts) <= MOST_PARTS or max(map(len, parts)) > PART_BYTES:
        raise ValueError(f'{len(parts)} parts, the longest of {max(map(len, parts), default=0)} bytes')
    return _of_json(parts) if parts[0][:1] == b'{' else _of_cbor(parts[0])


def _of_json(parts: Sequence[bytes]) -> StreamMessage:
    head = _head(parts[0])
    kind, series = head.get('htype'), _whole(head, 'series')
    if kind == 'dseries_end-1.0':
        return StreamMessage('end', series)
    if kind != 'dimage-1.0':
        return StreamMessage('other', series)
    if len(parts) < 3:
        raise ValueError(f'an image of {len(parts)} parts')
    about = _head(parts[1])
    encoding, dtype = about.get('encoding'), TYPES.get(str(about.get('type')))
    found = ENCODING.fullmatch(encoding) if isinstance(encoding, str) else None
    if found is None or dtype is None or (found[1] and not found[2]):
        raise ValueError(f'frames of the type {about.get("type")!r} in the encoding {encoding!r}')
    shape = about.get('shape')
    # Width before height, unlike arrays.
    height, width = _sides(shape[::-1] if isinstance(shape, list) else shape)
    codec: Codec = 'bslz4' if found[1] else 'lz4' if found[2] else ''
    if found[1] and int(found[1]) != 8 * np.dtype(dtype).itemsize:
        raise ValueError(f'the encoding {encoding!r} of numbers of the type {about.get("type")!r}')
    size = height * width * np.dtype(dtype).itemsize
    # Without bitshuffle it is one block of lz4, without a head.
    data = _lz4_block(parts[2], size) if codec == 'lz4' else _decoded(parts[2], codec, dtype, size)
    frame = np.frombuffer(data, dtype).reshape(height, width)
    return StreamMessage('frame', series, _whole(head, 'frame'), frame)


def _of_cbor(data: bytes) -> StreamMessage:
    import cbor2

    try:
        told = cbor2.loads(data)
    except (cbor2.CBORDecodeError, RecursionError, MemoryError, OverflowError, TypeError) as error:
        raise ValueError(f'no CBOR ({type(error).__name__})') from error
    if not isinstance(told, dict):
        raise ValueError('CBOR that is no map')
    kind, series = told.get('type'), _whole(told, 'series_id')
    if kind == 'end':
        return StreamMessage('end', series)
    if kind != 'image':
        return StreamMessage('other', series)
    channels = told.get('data')
    if not isinstance(channels, dict) or not channels:
        raise ValueError('an image without data')
    # The first threshold is that of all photons.
    array = channels.get('threshold_1', next(iter(channels.values())))
    (sides, values), _ = _tagged(array, (ARRAY_TAG,), 2)
    height, width = _sides(sides)
    content, tag = _tagged(values, tuple(TAGGED_TYPES), None)
    dtype = TAGGED_TYPES[tag]
    size = height * width * np.dtype(dtype).itemsize
    codec: Any = ''
    if not isinstance(content, bytes):
        (codec, item, content), _ = _tagged(content, (COMPRESSED_TAG,), 3)
        if codec not in ('lz4', 'bslz4') or (codec == 'bslz4' and item != np.dtype(dtype).itemsize):
            raise ValueError(f'frames compressed by {codec!r} with elements of {item!r} bytes')
    if not isinstance(content, bytes):
        raise ValueError('an image that is no bytes')
    frame = np.frombuffer(_decoded(content, codec, dtype, size), dtype).reshape(height, width)
    return StreamMessage('frame', series, _whole(told, 'image_id'), frame)


def _tagged(value: Any, tags: tuple[int, ...], length: int | None) -> tuple[Any, int]:
    """Return what a CBOR tag holds, a list of a length if one is given, and the tag."""
    tag, content = getattr(value, 'tag', None), getattr(value, 'value', None)
    if tag not in tags or (
        length is not None and (not isinstance(content, list | tuple) or len(content) != length)
    ):
        raise ValueError(f'data with the CBOR tag {tag!r}; expected one of {tags}')
    return content, int(tag)


def _head(data: bytes) -> dict[str, Any]:
    if len(data) > HEAD_BYTES:
        raise ValueError(f'a header of {len(data)} bytes')
    head = parse_bounded(data, HEAD_ELEMENTS)
    if not isinstance(head, dict):
        raise ValueError('a header that is no object')
    return head


def _whole(head: dict[Any, Any], name: str) -> int:
    value = head.get(name)
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise ValueError(f'{name} is {value!r}')
    return value


def _sides(shape: Any) -> tuple[int, int]:
    """Return height and width of a frame that is not too large."""
    if not isinstance(shape, list | tuple) or len(shape) != 2:
        raise ValueError(f'frames of the shape {shape!r}')
    height, width = shape
    if type(height) is not int or type(width) is not int or min(height, width) < 1:
        raise ValueError(f'frames of the shape {shape!r}')
    if height * width > MOST_PIXELS:
        raise ValueError(f'frames of {height}×{width} pixels; at most {MOST_PIXELS} are taken')
    return height, width


def _decoded(data: bytes, codec: Codec, dtype: str, size: int) -> bytes:
    """Return the bytes of a frame that are `size`."""
    if codec:
        data = _in_blocks(data, codec, np.dtype(dtype), size)
    if len(data) != size:
        raise ValueError(f'a frame of {len(data)} bytes; expected {size}')
    return data


def _in_blocks(data: bytes, codec: Codec, dtype: np.dtype[Any], size: int) -> bytes:
    """Return what blocks of lz4 behind a head hold, as the HDF5 filters write them."""
    if len(data) < BLOCK_HEAD.size:
        raise ValueError(f'a frame of {len(data)} bytes')
    told, block = BLOCK_HEAD.unpack_from(data)
    block = block or BLOCK_BYTES
    if told != size or not 0 < block <= LARGEST_BLOCK or (codec == 'bslz4' and block % (8 * dtype.itemsize)):
        raise ValueError(f'a frame of {told} bytes in blocks of {block}; expected {size}')
    # Bits are shuffled among eight numbers; what is left of these at the end is stored as it is.
    loose = size % (8 * dtype.itemsize) if codec == 'bslz4' else 0
    parts, offset, left = [], BLOCK_HEAD.size, size - loose
    for _ in range(math.ceil(left / block)):
        length = min(block, left)
        end = offset + 4 + int.from_bytes(data[offset : offset + 4], 'big')
        if end > len(data):
            raise ValueError('a frame that is cut short')
        stored = data[offset + 4 : end]
        whole = codec == 'lz4' and len(stored) == length
        parts.append(stored if whole else _lz4_block(stored, length))
        offset, left = end, left - length
    if codec == 'lz4':
        return b''.join(parts)
    import bitshuffle

    shuffled = np.frombuffer(b''.join(parts), dtype)
    return bytes(bitshuffle.bitunshuffle(shuffled, block // dtype.itemsize)) + data[offset : offset + loose]


def _lz4_block(data: bytes, size: int) -> bytes:
    import lz4.block

    decompress: Callable[..., bytes] = lz4.block.decompress
    try:
        found = decompress(data, uncompressed_size=size)
    except (lz4.block.LZ4BlockError, ValueError, OverflowError) as error:
        raise ValueError(f'no lz4 ({error})') from error
    if len(found) != size:
        raise ValueError(f'{len(found)} bytes in a block of {size}')
    return found
