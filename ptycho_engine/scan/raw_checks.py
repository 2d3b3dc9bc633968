"""What a scan must be: lengths, shapes and values that go together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..arrays import as_column, as_index, as_numbers, check_finite
from ..blocks import block_length, blocks
from ..errors import DataValueError
from ..patterns.stack import LazyFrames, check_amplitudes
from ..physics.coherent import CoherentModes
from ..physics.probe import REMEDY, as_mode_stack

__all__ = ['as_fields', 'check_fields', 'checked_amplitudes', 'saturation_amplitude']

TYPES = {'objectGuess': np.complex64, 'Y': np.complex64, 'bad_pixels': bool, 'diffraction': np.float32}

ROUNDED = 1e-5
"""Part by which the root of saturated counts may be off in single precision."""

FARTHEST_PX = 1e9
"""Coordinates beyond which double precision does not tell positions a millionth of a pixel apart."""


def as_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arrays of a :class:`RawData` in their types; those that lie in files stay there.

    Raises
    ------
    DataValueError
        If one is no array of such numbers.
    """
    source = fields['source']
    found: dict[str, Any] = {'probeGuess': as_mode_stack(fields['probeGuess'], f'{source}: probeGuess')}
    for convert, names in (
        (as_column, ('xcoords', 'ycoords', 'xcoords_start', 'ycoords_start')),
        (as_index, ('scan_index', 'dataset_index')),
    ):
        for name in names:
            if fields[name] is not None:
                found[name] = convert(fields[name], f'{source}: {name}')
    for name, dtype in TYPES.items():
        value = fields[name]
        if value is not None and not isinstance(value, LazyFrames):
            found[name] = as_numbers(value, dtype, f'{source}: {name}')
    return found


def saturation_amplitude(metadata: Mapping[str, Any], source: str) -> float:
    """Return the amplitude above which a pixel is saturated by ``saturation_counts``, or infinity.

    Raises
    ------
    DataValueError
        If that is no positive number.
    """
    counts = metadata.get('saturation_counts')
    if counts is None:
        return math.inf
    if isinstance(counts, bool) or not isinstance(counts, int | float) or not 0 < counts < math.inf:
        raise DataValueError(
            f'{source}: saturation_counts in _metadata is {counts!r}; expected a positive number, the counts '
            'at which the detector is saturated.'
        )
    return math.sqrt(counts) * (1 - ROUNDED)


def check_fields(fields: Mapping[str, Any]) -> None:
    """Check the fields of a :class:`~.raw_data.RawData`, but for the values of its patterns.

    Raises
    ------
    DataValueError
        If lengths, shapes or values contradict each other.
    """
    source, diffraction = fields['source'], fields['diffraction']
    bad_pixels, obj, patches = (fields[name] for name in ('bad_pixels', 'objectGuess', 'Y'))
    width = fields['probeGuess'].shape[-1]
    n = len(fields['xcoords'])
    shape = diffraction.shape
    if diffraction.ndim != 3 or shape[1] != shape[2]:
        raise DataValueError(
            f'{source}: diffraction has shape {shape}; expected (n, N, N) with square patterns.'
        )
    size = shape[1]
    if n == 0:
        raise DataValueError(f'{source}: the scan is empty; expected at least one pattern.')
    lengths = {
        'diffraction': shape[0] or n,
        'ycoords': len(fields['ycoords']),
        **{
            name: len(value)
            for name in ('xcoords_start', 'ycoords_start', 'scan_index', 'dataset_index', 'Y')
            if (value := fields[name]) is not None
        },
    }
    for name, length in lengths.items():
        if length != n:
            raise DataValueError(
                f'{source}: {name} has {length} entries but xcoords has {n}; they must match.'
            )
    if width != size:
        raise DataValueError(
            f'{source}: probeGuess is {width} pixels wide but the patterns are {size}; '
            f'{_resized(width, size)} if its pixels are those of the object, or {REMEDY}.'
        )
    if bad_pixels is not None and bad_pixels.shape != (size, size):
        raise DataValueError(f'{source}: bad_pixels has shape {bad_pixels.shape}; expected {(size, size)}.')
    if obj is not None and obj.ndim != 2:
        raise DataValueError(f'{source}: objectGuess has shape {obj.shape}; expected (H, W).')
    if patches is not None and patches.shape != (n, size, size):
        raise DataValueError(f'{source}: Y has shape {patches.shape}; expected {(n, size, size)}.')
    varying = fields['coherent']
    if varying is not None:
        _check_coherent(varying, n, size, source)
    for name in ('objectGuess', 'Y'):
        value = fields[name]
        if isinstance(value, np.ndarray):
            check_finite(value, f'{source}: {name}')
    for name in ('xcoords', 'ycoords'):
        _check_positions(fields[name], f'{source}: {name}')


def _resized(width: int, size: int) -> str:
    """Return how a probe of another width becomes one of this size."""
    before, after = abs(size - width) // 2, (abs(size - width) + 1) // 2
    if width < size:
        return f'pad it with zeros (numpy.pad(probe, ({before}, {after})))'
    return f'cut it to its middle (probe[{after}:{after + size}, {after}:{after + size}])'


def _check_positions(values: npt.NDArray[np.float64], what: str) -> None:
    if not np.isfinite(values).all():
        raise DataValueError(f'{what} holds NaN or infinite values; remove those positions.')
    farthest = float(np.abs(values).max())
    if farthest > FARTHEST_PX:
        raise DataValueError(
            f'{what} reaches {farthest:.3g}, beyond {FARTHEST_PX:.0e} object pixels; '
            'positions must be in object pixels (metres divided by the pixel size of the object), '
            'with their origin near the object.'
        )


def _check_coherent(varying: CoherentModes, n: int, size: int, source: str) -> None:
    modes, weights = varying.modes, varying.weights
    if modes.shape != (len(modes), size, size) or weights.shape != (n, len(modes)):
        raise DataValueError(
            f'{source}: coherent (OPR) modes have shape {modes.shape} and weights {weights.shape}; expected '
            f'(K, {size}, {size}) and ({n}, K).'
        )
    check_finite(modes, f'{source}: coherent (OPR) modes')
    check_finite(weights, f'{source}: weights of coherent (OPR) modes')


def checked_amplitudes(
    amplitude: npt.NDArray[np.float32], bad: npt.NDArray[np.bool_] | None, source: str
) -> npt.NDArray[np.float32]:
    """Return patterns (n, N, N) with 0 in bad pixels (N, N), checked; the caller's array is left as it is.

    Raises
    ------
    DataValueError
        If an amplitude is negative or not finite.
    """
    if bad is not None and bad.any() and np.any(amplitude[:, bad]):
        amplitude = amplitude.copy()
        amplitude[:, bad] = 0
    for part in blocks(len(amplitude), block_length(amplitude.shape[-1])):
        check_amplitudes(amplitude[part], source)
    return amplitude
