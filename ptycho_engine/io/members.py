"""What the members of a sealed zip hold, as bytes: JSON, one array, or named arrays."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ..errors import ArchiveError
from ..printable import printable
from .bounded_json import parse_bounded
from .npy import ArrayHeader, read_header
from .plain_hdf5 import read_plain_hdf5

__all__ = [
    'ARRAY_START',
    'LIST_BYTES',
    'OBJECT_BYTES',
    'array_bytes',
    'array_shape',
    'arrays_bytes',
    'arrays_limit',
    'json_bytes',
    'parse_array',
    'parse_arrays',
    'parse_hdf5_arrays',
    'parse_list',
    'parse_object',
]

Kind = TypeVar('Kind')
Shape = tuple[int, ...]
Check = Callable[[dict[str, Shape]], None]
Floats = npt.NDArray[np.floating[Any]]

OBJECT_BYTES, OBJECT_ELEMENTS = 4 << 20, 200_000
"""At most, of a member that is one JSON object."""
LIST_BYTES, LIST_ELEMENTS = 16 << 20, 1_000_000
"""At most, of a member that is a list of records."""

LONGEST_REASON = 200
ARRAY_START = 1010
"""Bytes that hold the header of any array that is read, with what comes before it."""
LONGEST_HEADER = 8 << 20
"""Of safetensors; 100 MB are allowed there."""
TYPES = {'F32': np.dtype('<f4'), 'F64': np.dtype('<f8')}
MOST_AXES = 8
BYTES_PER_ARRAY, BYTES_BESIDES = 4096, 1 << 16
"""What describes an array, in either format, and a file as a whole."""


def json_bytes(value: object) -> bytes:
    """Return JSON with sorted keys.

    Raises
    ------
    ValueError
        If a number is not finite.
    """
    return json.dumps(value, indent=1, sort_keys=True, default=str, allow_nan=False).encode()


def array_bytes(array: npt.NDArray[Any]) -> bytes:
    """Return one array as an ``.npy`` file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def arrays_bytes(arrays: Mapping[str, npt.ArrayLike]) -> bytes:
    """Return named arrays as safetensors: float64 where the array is, else float32.

    Raises
    ------
    ArchiveError
        If a number is not finite: what would not be read is not written.
    """
    plain = {name: _single_or_double(values) for name, values in arrays.items()}
    _require_finite(plain, 'nothing was written')
    return save(plain)


def _single_or_double(values: npt.ArrayLike) -> Floats:
    array = np.asarray(values)
    return np.asarray(array, np.float64 if array.dtype == np.float64 else np.float32, order='C')


def arrays_limit(shapes: Mapping[str, Shape], item_bytes: int = 4) -> int:
    """Return how many bytes named arrays may have as a file, in either format."""
    numbers = sum(math.prod(shape) for shape in shapes.values())
    return numbers * item_bytes + len(shapes) * BYTES_PER_ARRAY + BYTES_BESIDES


def parse_object(data: bytes, path: Path) -> dict[str, Any]:
    """Read JSON that is an object.

    Raises
    ------
    ArchiveError
        If it is broken, too large, or something else.
    """
    return _parse_json(data, path, OBJECT_ELEMENTS, dict)


def parse_list(data: bytes, path: Path) -> list[Any]:
    """Read JSON that is a list.

    Raises
    ------
    ArchiveError
        If it is broken, too large, or something else.
    """
    return _parse_json(data, path, LIST_ELEMENTS, list)


def _parse_json(data: bytes, path: Path, most: int, kind: type[Kind]) -> Kind:
    try:
        value = parse_bounded(data, most)
    except ValueError as error:
        reason = printable(error, LONGEST_REASON)
        raise ArchiveError(f'{path} holds broken JSON ({reason}); the file is damaged.') from error
    if not isinstance(value, kind):
        raise ArchiveError(f'{path} holds JSON of the wrong kind; the file is damaged.')
    return value


def parse_array(data: bytes, path: Path) -> npt.NDArray[np.complexfloating[Any] | np.floating[Any]]:
    """Read an ``.npy`` file of real or complex numbers, of just its stated size; nothing is unpickled.

    Raises
    ------
    ArchiveError
        If it is none, or a number is not finite.
    """
    header, start = _array_header(data, len(data), path)
    flat = np.frombuffer(data, header.dtype, header.size, start)
    array = flat.reshape(header.shape, order=header.order)
    _require_finite({'the probe': array}, str(path))
    return array


def array_shape(start: bytes, size: int, path: Path) -> Shape:
    """Return the shape that an ``.npy`` file of `size` bytes states at its `start`.

    Raises
    ------
    ArchiveError
        If the start is damaged, or does not state what takes just so many bytes.
    """
    header, _ = _array_header(start, size, path)
    return header.shape


def _array_header(start: bytes, size: int, path: Path) -> tuple[ArrayHeader, int]:
    """Return the header, and where the numbers begin."""
    stream = io.BytesIO(start)
    with _damage(f'{path}: an array is damaged', ValueError):
        header = read_header(stream)
        if header.dtype.kind not in 'fc':
            raise ValueError('it holds no numbers')
        if size - stream.tell() != header.nbytes:
            raise ValueError('it has not its stated size')
    return header, stream.tell()


def parse_arrays(data: bytes, path: Path, check: Check) -> dict[str, Floats]:
    """Read named arrays of safetensors, in float32 or float64 as they are stored.

    Parameters
    ----------
    check : callable
        Gets names and shapes before any array is made, and raises where they are not the expected ones.

    Raises
    ------
    ArchiveError
        If the file is damaged, `check` says so, or a number is not finite.
    """
    with _damage(f'{path}: the weights are damaged', ValueError):
        header = int.from_bytes(data[:8], 'little')
        if not 0 < header <= min(LONGEST_HEADER, len(data) - 8):
            raise ValueError('they are no safetensors')
        entries = parse_bounded(data[8 : 8 + header], LIST_ELEMENTS)
        if not isinstance(entries, dict):
            raise ValueError('they are not described')
        entries.pop('__metadata__', None)
        shapes = {name: _shape(entry) for name, entry in entries.items()}
    check(shapes)
    with _damage(f'{path}: the weights are damaged', SafetensorError, ValueError, KeyError):
        arrays = load(data)
    _require_finite(arrays, str(path))
    return arrays


def _shape(entry: Any) -> Shape:
    """Return the shape of an array that a header describes."""
    if not isinstance(entry, dict) or set(entry) != {'dtype', 'shape', 'data_offsets'}:
        raise ValueError('an array is not described')
    shape = entry['shape']
    if not isinstance(entry['dtype'], str) or entry['dtype'] not in TYPES:
        raise ValueError('they are something else than numbers of float32 or float64')
    whole = isinstance(shape, list) and all(type(side) is int and side >= 0 for side in shape)
    if not whole or len(shape) > MOST_AXES:
        raise ValueError('the shape of an array is impossible')
    return tuple(shape)


def parse_hdf5_arrays(data: bytes, path: Path, check: Check) -> dict[str, Floats]:
    """Read named arrays of HDF5, as format 1 has them; otherwise as :func:`parse_arrays`.

    Raises
    ------
    ArchiveError
        If the file is damaged or holds more than plain arrays, `check` says so, or a number is not finite.
    """
    with _damage(f'{path}: the weights are damaged', ValueError):
        arrays = read_plain_hdf5(data, check)
    _require_finite(arrays, str(path))
    return arrays


@contextmanager
def _damage(complaint: str, *kinds: type[Exception]) -> Iterator[None]:
    """Turn errors of these kinds into ``complaint (reason).``; the engine's own pass."""
    try:
        yield
    except ArchiveError:
        raise
    except kinds as error:
        reason = printable(error, LONGEST_REASON)
        raise ArchiveError(f'{complaint} ({reason}); copy the file again or train again.') from error


def _require_finite(arrays: Mapping[str, npt.NDArray[Any]], what: str) -> None:
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ArchiveError(
                f'{what}: {printable(name, LONGEST_REASON)} holds NaN or infinite numbers, of which no image '
                'can come; train again, with a lower learning_rate.'
            )
