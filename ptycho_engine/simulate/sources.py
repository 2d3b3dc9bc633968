"""Objects, probes and positions for a simulation, from files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..arrays import as_column, as_numbers
from ..errors import DataValueError
from ..formats.npz import read_arrays
from ..formats.product import MOST_NUMBERS, is_hdf5_name, read_product
from ..io.damage import reading
from ..io.npy import read_body, read_header
from ..io.regular import open_regular
from ..physics.probe import as_mode_stack

__all__ = ['read_mask', 'read_object', 'read_positions', 'read_probe']

TEXT = ('.csv', '.txt', '.dat')


def read_object(path: Path) -> npt.NDArray[np.complex64]:
    """Read an object (H, W): ``objectGuess`` of an NPZ file, a ``.npy`` array, or the object of a product.

    Raises
    ------
    DataFileNotFoundError, DataKeyError, DataValueError, ProductError
        With a sentence that names the file and what is wrong.
    """
    if is_hdf5_name(path):
        array: npt.NDArray[Any] = read_product(path).object_array[0]
    else:
        array = _read_array(path, 'objectGuess')
    if array.ndim != 2:
        raise DataValueError(f'{path}: the object has shape {array.shape}; expected (H, W).')
    obj: npt.NDArray[np.complex64] = as_numbers(array, np.complex64, f'{path}: the object')
    if not np.isfinite(obj).all():
        raise DataValueError(f'{path}: the object holds NaN or infinite values; correct it first.')
    return obj


def read_probe(path: Path) -> npt.NDArray[np.complex64]:
    """Read probe modes (P, N, N): ``probeGuess`` of an NPZ file, a ``.npy`` array, or a product's probe.

    Raises
    ------
    DataFileNotFoundError, DataKeyError, DataValueError, ProductError
        With a sentence that names the file and what is wrong.
    """
    array = read_product(path).probe[0] if is_hdf5_name(path) else _read_array(path, 'probeGuess')
    return as_mode_stack(array, f'{path}: the probe')


def read_positions(
    path: Path, pixel_size_m: float | None = None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Read positions x and y (n,) in pixels.

    Parameters
    ----------
    path : Path
        NPZ file with ``xcoords`` and ``ycoords``; product, whose positions are relative to the corner of its
        object; or text with two columns x and y, separated by commas or spaces.
    pixel_size_m : float, optional
        Object pixel; given, the numbers of an NPZ or text file are metres.

    Raises
    ------
    DataFileNotFoundError, DataKeyError, DataValueError, ProductError
        With a sentence that names the file and what is wrong.
    """
    if is_hdf5_name(path):
        return read_product(path).positions_px()
    if path.suffix in TEXT:
        x, y = _read_columns(path)
    else:
        most = dict.fromkeys(('xcoords', 'ycoords'), MOST_NUMBERS)
        arrays = read_arrays(path, tuple(most), most=most)
        x, y = (as_column(arrays[name], f'{path}: {name}') for name in ('xcoords', 'ycoords'))
    if x.shape != y.shape or len(x) == 0 or not np.isfinite(x + y).all():
        raise DataValueError(
            f'{path}: found {x.shape} x and {y.shape} y positions; expected equally many finite numbers.'
        )
    return (x, y) if pixel_size_m is None else (x / pixel_size_m, y / pixel_size_m)


def read_mask(path: Path) -> npt.NDArray[np.bool_]:
    """Read bad pixels (N, N): ``bad_pixels`` of an NPZ file or a ``.npy`` array, true or not 0 where bad."""
    mask = as_numbers(_read_array(path, 'bad_pixels'), bool, f'{path}: bad_pixels')
    return np.asarray(mask.any(axis=0) if mask.ndim == 3 else mask)


def _read_array(path: Path, key: str) -> npt.NDArray[Any]:
    if path.suffix == '.npy':
        with reading(f'{path} is not a readable .npy file'), open_regular(path) as stream:
            header = read_header(stream)
            if header.nbytes != path.stat().st_size - stream.tell():
                raise ValueError(f'its array has {header.nbytes} bytes, but the file holds another number')
            return read_body(stream, header)
    return read_arrays(path, (key,))[key]


def _read_columns(path: Path) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    with reading(f'{path}: expected two columns of numbers, x and y'), open_regular(path) as stream:
        lines = stream.read().decode('utf-8').replace(',', ' ').splitlines()
        x, y = np.loadtxt(lines, ndmin=2).T
    return x, y
