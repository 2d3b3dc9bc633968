"""A scan in an NPZ file: which array is what, and in which units (``specs/data_contracts.md``, NPZ-*)."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, get_args

import h5py
import numpy as np
import numpy.typing as npt

from ..arrays import as_column, as_index, as_numbers
from ..config.choices import AxisOrder
from ..errors import DataKeyError, DataValueError
from ..io.damage import reading
from ..io.hdf5 import open_hdf5
from ..io.regular import read_as_one
from ..patterns.dataset_labels import tell_labels
from ..patterns.detector_mask import survey, unread
from ..patterns.frame_stack import COMPLEX, StoredStack
from ..patterns.known_patches import KnownPatches
from ..patterns.matching import count_frames, match_frames
from ..patterns.stack import Patterns
from ..patterns.units import Units, decide_units
from ..physics.coherent import CoherentModes
from .named_array import as_frames
from .npz import (
    COHERENT,
    METADATA_CHARACTERS,
    PATTERN_KEYS,
    choose_pattern_key,
    decide_axis_order,
    parse_metadata,
    read_arrays,
    read_headers,
)
from .stack_files import hdf5_stack, open_npy_stack, open_npz_stack

__all__ = ['coherent_of_arrays', 'in_canonical_order', 'read_npz_scan']

logger = logging.getLogger('ptychopinn.data')

FEW = 1 << 16
"""Values of any array that are read, to say what is wrong with them."""

MOST_MODES = 256
"""Modes of a probe."""

SPARSEST_OBJECT, LARGE_OBJECT = 64, 1 << 24
"""An object may have so many times the pixels of all patterns, and in any case the second number."""

NEEDED = ('probeGuess', 'xcoords', 'ycoords')
INDEXES = ('scan_index', 'dataset_index')
MASKS = ('bad_pixels', 'pixel_mask')
"""Names of bad pixels: ours, and that of Eiger detectors, whose every kind of fault is a number but 0."""
OPTIONAL = ('objectGuess', 'xcoords_start', 'ycoords_start', *INDEXES, *MASKS, *COHERENT, '_metadata')
MASK_LIKE = re.compile('mask|bad|dead|good|valid')
"""Parts of names that such arrays have elsewhere, some with 1 for a valid one."""
EIGER_MASK = 'entry/instrument/detector/detectorSpecific/pixel_mask'
"""Where the master file of an Eiger detector has it."""


def read_npz_scan(
    path: Path,
    *,
    axis_order: AxisOrder | None = None,
    domain: str | None = None,
    nphotons: float | None = None,
    patterns_file: Path | None = None,
    folder: Path | None = None,
    own_probe: bool = True,
) -> dict[str, Any]:
    """Return the fields of a :class:`~ptycho_engine.RawData`; its patterns and `Y` are not read yet.

    Parameters and errors are those of :meth:`RawData.from_file`. Patterns may lie in a file of their own:
    ``.npy``, or HDF5 with a dataset ``diffraction`` or ``diff3d``. `folder` is for scratch files.
    """
    paths = [path] if patterns_file is None else [path, patterns_file]
    return read_as_one(
        paths, lambda: _read(path, axis_order, domain, nphotons, patterns_file, folder, own_probe)
    )


def _read(
    path: Path,
    axis_order: AxisOrder | None,
    domain: str | None,
    nphotons: float | None,
    patterns_file: Path | None,
    folder: Path | None,
    own_probe: bool,
) -> dict[str, Any]:
    names, mask = read_headers(path), None
    if patterns_file is None:
        key = choose_pattern_key(names, str(path), {name: names[name].shape for name in names})
        if set(PATTERN_KEYS) <= set(names):
            logger.warning("%s holds both 'diffraction' and 'diff3d'; taking 'diffraction'.", path)
        stack = open_npz_stack(path, key, folder=folder)
    else:
        stack, mask = open_patterns(patterns_file, folder)
    arrays = _arrays_beside(path, stack.shape, names, own_probe)
    xcoords = as_column(arrays['xcoords'], f'{path}: xcoords')
    if stack.ndim > 3 and math.prod(stack.shape[:-2]) == len(xcoords):
        grid = '×'.join(map(str, stack.shape[:-2]))
        logger.info(
            '%s: the frames are a grid of %s; they are counted through, its last axis first.', path, grid
        )
        stack = as_frames(stack, str(path))
    indexes = {
        name: as_index(arrays[name], f'{path}: {name}') if name in arrays else None for name in INDEXES
    }
    metadata = parse_metadata(arrays.get('_metadata'), str(path))
    if axis_order is None and len(set(stack.shape)) == 1:
        # Of a cube the shape does not say it.
        axis_order = _stated_order(metadata)
    stack, order = in_canonical_order(stack, count_frames(stack.shape, len(xcoords)), axis_order)
    _tell_unread_masks(path, names, stack.shape[1:])
    if not own_probe:
        arrays['probeGuess'] = np.ones(stack.shape[1:], np.complex64)
    mask = next((arrays[name] for name in MASKS if name in arrays), mask)
    stated = metadata.get('measurement_domain') == 'amplitude' and domain is None and nphotons is None
    if stated and stack.dtype.kind == 'f':
        # As we write it: there is nothing to find out, and nothing need be read yet.
        found, units = unread(mask, stack, str(path)), Units('amplitude')
    else:
        found = survey(mask, stack, str(path))
        units = decide_units(
            stack,
            found,
            names=names,
            metadata=metadata,
            said=domain,
            nphotons=nphotons,
            probe_power=_power(arrays['probeGuess']) if own_probe else None,
        )
    match = match_frames(len(stack), len(xcoords), indexes['scan_index'], found.dark_end, str(path))
    for line in match.told:
        logger.info('%s: %s', path, line)
    frames, positions = match.frames, match.positions

    def at_positions(name: str) -> npt.NDArray[Any] | None:
        if name not in arrays:
            return None
        column = as_column(arrays[name], f'{path}: {name}')
        return column[positions] if len(column) == len(xcoords) else column

    whole = len(frames) == len(stack)
    known = KnownPatches(open_npz_stack(path, 'Y', COMPLEX, folder), str(path)) if 'Y' in names else None
    for name, value in indexes.items():
        if value is not None and len(value) in (len(stack), len(xcoords)):
            indexes[name] = value[positions if len(value) == len(xcoords) else frames]
    tell_labels(str(path), **indexes)
    coherent = coherent_of_arrays(arrays, str(path))
    if coherent is not None and len(coherent.weights) == len(xcoords):
        coherent = coherent.at(positions)
    return {
        'diffraction': Patterns.of(stack if whole else stack.select(frames), found, units, str(path)),
        'bad_pixels': found.bad,
        'xcoords': xcoords[positions],
        'metadata': metadata,
        'source': str(path),
        'path': path,
        'original_axis_order': order,
        'original_domain': units.domain,
        'counted': units.counted,
        'assumed': (*found.told, *match.told, *units.told),
        'coherent': coherent,
        'Y': known if known is None or whole else known.select(frames),
        **{name: arrays.get(name) for name in ('probeGuess', 'objectGuess')},
        **{name: at_positions(name) for name in ('ycoords', 'xcoords_start', 'ycoords_start')},
        **indexes,
    }


def _arrays_beside(
    path: Path, shape: tuple[int, ...], names: Collection[str], own_probe: bool
) -> dict[str, npt.NDArray[Any]]:
    """Read the arrays beside patterns of `shape`, one of the `names` in a file; the probe where wanted."""
    if not own_probe:
        own = [name for name in NEEDED if name != 'probeGuess']
        return read_arrays(path, own, [name for name in OPTIONAL if name not in COHERENT], _most(shape))
    if [name for name in NEEDED if name not in names] == ['probeGuess']:
        raise DataKeyError(
            f"{path} lacks 'probeGuess'; expected {', '.join(NEEDED)}, found {', '.join(sorted(names))}. To "
            'let it be made from the patterns, give --probe estimate.'
        )
    return read_arrays(path, NEEDED, OPTIONAL, _most(shape))


def _tell_unread_masks(path: Path, headers: Mapping[str, Any], frame: tuple[int, ...]) -> None:
    """Warn of arrays of the size of a frame (N, N) that seem to be masks, but are not named as ours."""
    for name, header in headers.items():
        masks = name not in MASKS and MASK_LIKE.search(name.casefold())
        if masks and header.shape[-2:] == frame and header.dtype.kind in 'bui':
            logger.warning(
                "%s: '%s' %s is not read; if it says which pixels are bad, save it as bad_pixels, with 1 for "
                'a bad one.',
                path,
                name,
                header.shape,
            )


def coherent_of_arrays(arrays: dict[str, npt.NDArray[Any]], source: str) -> CoherentModes | None:
    """Return how the probe of an NPZ file varies over its positions; None where it does not.

    Raises
    ------
    DataValueError
        If one of the two arrays is missing, or they do not belong to each other.
    """
    found = [arrays.get(name) for name in COHERENT]
    if all(array is None for array in found):
        return None
    modes, weights = (array if array is None else np.asarray(array) for array in found)
    if modes is None or weights is None or modes.ndim != 3 or weights.shape[1:] != modes.shape[:1]:
        shapes = ' and '.join('none' if a is None else str(a.shape) for a in (modes, weights))
        raise DataValueError(
            f'{source}: {" and ".join(COHERENT)} have shapes {shapes}; expected (K, N, N) and (n, K), or '
            'neither of them.'
        )
    names = [f'{source}: {name}' for name in COHERENT]
    return CoherentModes(as_numbers(modes, np.complex64, names[0]), as_numbers(weights, np.float64, names[1]))


def _stated_order(metadata: dict[str, Any]) -> AxisOrder | None:
    """Return the order of axes that a file says of itself, as ours do."""
    stated = metadata.get('axis_order')
    return next((order for order in get_args(AxisOrder) if order == stated), None)


def _most(shape: tuple[int, ...]) -> dict[str, int]:
    """Return how many elements the arrays beside patterns of `shape`, in either order of axes, may have."""
    n, pixels, all_pixels = max(shape, default=0), math.prod(sorted(shape)[-2:]), math.prod(shape)
    each = max(n, FEW)
    return {
        **dict.fromkeys(('xcoords', 'ycoords', 'xcoords_start', 'ycoords_start', *INDEXES), each),
        **dict.fromkeys(('probeGuess', COHERENT[0]), max(MOST_MODES * pixels, FEW)),
        COHERENT[1]: MOST_MODES * each,
        **dict.fromkeys(MASKS, max(all_pixels, FEW)),
        'objectGuess': max(SPARSEST_OBJECT * all_pixels, LARGE_OBJECT),
        '_metadata': METADATA_CHARACTERS,
    }


def open_patterns(path: Path, folder: Path | None = None) -> tuple[StoredStack, npt.NDArray[Any] | None]:
    """Open a file of patterns alone, ``.npy`` or HDF5; return them and the mask of their detector, if any.

    `folder` is for scratch files.

    Raises
    ------
    DataKeyError, DataValueError
        If it holds no patterns or cannot be read.
    """
    if path.suffix == '.npy':
        return open_npy_stack(path, folder=folder), None
    with reading(f'{path} is neither .npy nor a readable HDF5 file'), open_hdf5(path) as file:
        stack = hdf5_stack(file, choose_pattern_key(file, str(path)), folder)
        for name in (*MASKS, EIGER_MASK):
            mask = file.get(name)
            if isinstance(mask, h5py.Dataset) and mask.size <= math.prod(stack.shape):
                return stack, mask[()]
        return stack, None


def in_canonical_order(
    stack: StoredStack, n_positions: int, axis_order: AxisOrder | None = None
) -> tuple[StoredStack, AxisOrder]:
    """Return a stack as (n, N, N), and the order in which it is stored; nothing is read.

    Raises
    ------
    DataValueError
        If the order cannot be told (:func:`~.npz.decide_axis_order`).
    """
    order = decide_axis_order(stack.shape, n_positions, stack.source, axis_order)
    if order == 'H,W,n':
        logger.info('%s: patterns are in the legacy order (N, N, n); transposing.', stack.source)
        stack = stack.frames_last()
    return stack, order


def _power(probe: npt.NDArray[Any]) -> float | None:
    """Return the sum of a squared probe, of whatever shape; None where it holds no numbers."""
    if probe.dtype.kind not in 'fc':
        return None
    with np.errstate(over='ignore', invalid='ignore'):
        return float(np.square(np.abs(probe), dtype=np.float64).sum())
