"""The group ``/raw_data`` of a product file: the patterns a product belongs to (BUNDLE-*)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..blocks import block_length, blocks
from ..data.detector_mask import detector_mask
from ..data.npz import AxisOrder, parse_metadata
from ..data.npz_scan import FEW, in_canonical_order
from ..data.patterns import Patterns
from ..data.raw_data import RawData
from ..data.stack_files import hdf5_stack
from ..errors import EngineError, ProductError
from ..io.damage import reading
from ..io.hdf5 import Attributes, Hdf5Group, open_hdf5
from ..physics.geometry import ObjectGrid

__all__ = ['BUNDLE', 'holds_patterns', 'read_bundle', 'write_bundle']

BUNDLE = 'raw_data'
BUNDLE_VERSION = '1.0'
AXES: dict[AxisOrder, str] = {'n,H,W': 'NHW', 'H,W,n': 'HWN'}
"""Axis orders as the attributes of a bundle spell them."""


def holds_patterns(path: Path) -> bool:
    """Return whether a file is HDF5 with the patterns of a product; they are not read."""
    try:
        with open_hdf5(path) as file:
            return f'{BUNDLE}/diffraction' in file
    except EngineError:
        return False


def write_bundle(file: h5py.File, raw: RawData, grid: ObjectGrid) -> None:
    """Write patterns, coordinates in pixels of `grid` and scan index beside a product's own datasets.

    ``probeGuess`` and ``objectGuess`` are hard links to the product's probe and object.
    """
    group = file.create_group(BUNDLE)
    group.attrs['bundle_version'] = BUNDLE_VERSION
    group.attrs['contains_raw_data'] = 1
    group.attrs['metadata'] = json.dumps(raw.metadata)
    patterns = group.create_dataset(
        'diffraction',
        raw.diffraction.shape,
        np.float32,
        chunks=(1, raw.N, raw.N),
        compression='gzip',
        compression_opts=4,
        shuffle=True,
    )
    for part in blocks(len(raw), block_length(raw.N)):
        patterns[part] = raw.diffraction[part]
    patterns.attrs['axis_canonical'] = AXES['n,H,W']
    patterns.attrs['original_axis_order'] = AXES[raw.original_axis_order]
    patterns.attrs['measurement_domain'] = 'amplitude'
    group['xcoords'] = raw.xcoords - grid.origin_x
    group['ycoords'] = raw.ycoords - grid.origin_y
    if raw.scan_index is None:
        group['scan_index'] = np.zeros(len(raw), np.int64)
    else:
        group['scan_index'] = file['scan_index']
    group['probeGuess'] = file['probe']
    group['objectGuess'] = file['object']
    if raw.bad_pixels is not None:
        group['bad_pixels'] = raw.bad_pixels


def read_bundle(path: Path, n: int) -> dict[str, Any]:
    """Return the fields of RawData that ``/raw_data`` and ``/scan_index`` hold, as far as they are there."""
    fields: dict[str, Any] = {}
    with reading(f'{path}: the group /{BUNDLE} cannot be read'), open_hdf5(path) as file:
        index = file.get('scan_index')
        group = file.get(BUNDLE)
        if isinstance(group, Hdf5Group):
            index = group.get('scan_index') or index
            if 'metadata' in group.attrs:
                fields['metadata'] = parse_metadata(np.asarray(group.attrs['metadata']), str(path))
            fields.update(_read_patterns(group, path, n))
        if isinstance(index, h5py.Dataset):
            if index.size > max(n, FEW):
                raise ProductError(
                    f'{path}: scan_index has shape {index.shape}; expected one for each of {n} positions.'
                )
            fields['scan_index'] = index[()]
    return fields


def _read_patterns(group: Hdf5Group, path: Path, n: int) -> dict[str, Any]:
    if not isinstance(group.get('diffraction'), h5py.Dataset):
        raise ProductError(f'{path}: /{BUNDLE} lacks the dataset diffraction; export the product again.')
    attributes = group.attributes_of('diffraction')
    stated = _axis_order(attributes, 'axis_canonical', path)
    stack, order = in_canonical_order(hdf5_stack(group, 'diffraction'), n, stated)
    mask = group.get('bad_pixels')
    stored = None
    if isinstance(mask, h5py.Dataset):
        if mask.size > np.prod(stack.shape, dtype=object):
            raise ProductError(
                f'{path}: bad_pixels of /{BUNDLE} has shape {mask.shape}; expected {stack.shape[1:]}, that '
                'of a pattern.'
            )
        stored = mask[()]
    bad = detector_mask(stored, stack, f'{path}: /{BUNDLE}')
    return {
        'diffraction': Patterns(stack, counts=False, bad_pixels=bad, source=str(path)).in_memory_if_small(),
        'bad_pixels': bad,
        'original_axis_order': _axis_order(attributes, 'original_axis_order', path) or order,
    }


def _axis_order(attributes: Attributes, name: str, path: Path) -> AxisOrder | None:
    value = attributes.get(name)
    if value is None:
        return None
    for order, spelling in AXES.items():
        if value == spelling:
            return order
    raise ProductError(
        f'{path}: {name} of /{BUNDLE}/diffraction is {value!r}; expected {" or ".join(AXES.values())}.'
    )
