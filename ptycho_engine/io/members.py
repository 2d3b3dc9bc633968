"""What the members of a sealed zip hold, as bytes: JSON, one array, or named arrays."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from ..errors import ArchiveError

__all__ = [
    'array_bytes',
    'arrays_bytes',
    'json_bytes',
    'parse_array',
    'parse_arrays',
    'parse_json',
    'parse_object',
]

Shape = tuple[int, ...]


def json_bytes(value: object) -> bytes:
    """Return JSON with sorted keys."""
    return json.dumps(value, indent=1, sort_keys=True, default=str).encode()


def array_bytes(array: npt.NDArray[Any]) -> bytes:
    """Return one array as an ``.npy`` file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def arrays_bytes(arrays: Mapping[str, npt.NDArray[np.floating[Any]]]) -> bytes:
    """Return an HDF5 file with one dataset for each name: float64 where the array is, else float32."""
    buffer = io.BytesIO()
    with h5py.File(buffer, 'w') as file:
        for name in sorted(arrays):
            file.create_dataset(name, data=_single_or_double(arrays[name]), track_times=False)
    return buffer.getvalue()


def _single_or_double(values: npt.ArrayLike) -> npt.NDArray[Any]:
    array = np.asarray(values)
    return np.asarray(array, np.float64 if array.dtype == np.float64 else np.float32)


def parse_json(data: bytes, path: Path) -> Any:
    """Read JSON.

    Raises
    ------
    ArchiveError
        If it is broken.
    """
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ArchiveError(f'{path} holds broken JSON ({error}); the file is damaged.') from error


def parse_object(data: bytes, path: Path) -> dict[str, Any]:
    """Read JSON that is an object.

    Raises
    ------
    ArchiveError
        If it is broken or something else.
    """
    value = parse_json(data, path)
    if not isinstance(value, dict):
        raise ArchiveError(f'{path} holds JSON of the wrong kind; the file is damaged.')
    return value


def parse_array(data: bytes, path: Path) -> npt.NDArray[Any]:
    """Read an ``.npy`` file; nothing is unpickled.

    Raises
    ------
    ArchiveError
        If it is no array or ends too early.
    """
    try:
        return np.asarray(np.load(io.BytesIO(data), allow_pickle=False))
    except (ValueError, EOFError, MemoryError) as error:
        raise ArchiveError(f'{path} is damaged ({error}); copy it again or train again.') from error


def parse_arrays(
    data: bytes, path: Path, check: Callable[[dict[str, Shape]], None]
) -> dict[str, npt.NDArray[np.float32]]:
    """Read named arrays, in the order of the file; float64 where it is stored so, else float32.

    Parameters
    ----------
    check : callable
        Gets names and shapes before any array is read, and raises where they are not the expected ones: a
        few bytes of HDF5 can declare an array of any size.

    Raises
    ------
    ArchiveError
        If the file is damaged or `check` says so.
    """
    try:
        with h5py.File(io.BytesIO(data), 'r') as file:
            found: dict[str, Shape] = {}
            file.visititems(
                lambda name, item: (
                    found.update({name: item.shape}) if isinstance(item, h5py.Dataset) else None
                )
            )
            check(found)
            return {name: _single_or_double(file[name][()]) for name in found}
    except (OSError, KeyError, ValueError, TypeError) as error:
        if isinstance(error, ArchiveError):
            raise
        raise ArchiveError(f'{path}: the weights are damaged ({error}).') from error
