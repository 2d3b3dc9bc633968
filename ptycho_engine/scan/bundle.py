"""The group ``/raw_data`` of a product file: the patterns a product belongs to (BUNDLE-*)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from ..arrays import as_column
from ..blocks import block_length, blocks
from ..config.choices import AxisOrder
from ..errors import EngineError, ProductError
from ..formats.npz import parse_metadata
from ..formats.npz_scan import FEW, INDEXES, in_canonical_order
from ..formats.product import BUNDLE
from ..formats.stack_files import hdf5_stack
from ..io.damage import reading
from ..io.hdf5 import Attributes, Hdf5Group, open_hdf5
from ..io.text import decode
from ..patterns.detector_mask import survey
from ..patterns.stack import Patterns
from ..patterns.units import decide_units
from ..physics.geometry import ObjectGrid
from .raw_data import RawData

__all__ = ['holds_patterns', 'read_bundle', 'write_bundle']

BUNDLE_VERSION = '1.0'
PIXELS = ('xcoords', 'ycoords')
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
    if raw.counted:
        patterns.attrs['measurement_domain'] = 'amplitude'
    group['xcoords'] = raw.xcoords - grid.origin_x
    group['ycoords'] = raw.ycoords - grid.origin_y
    if raw.scan_index is None:
        group['scan_index'] = np.zeros(len(raw), np.int64)
    else:
        group['scan_index'] = file.get('scan_index', raw.scan_index)
    group['probeGuess'] = file['probe']
    group['objectGuess'] = file['object']
    if raw.bad_pixels is not None:
        group['bad_pixels'] = raw.bad_pixels


def read_bundle(
    path: Path, n: int, domain: str | None = None, nphotons: float | None = None
) -> dict[str, Any]:
    """Return the fields of RawData that ``/raw_data`` and the indexes beside it hold."""
    fields: dict[str, Any] = {}
    with reading(f'{path}: the group /{BUNDLE} cannot be read'), open_hdf5(path) as file:
        group = file.get(BUNDLE)
        places = [file]
        if isinstance(group, Hdf5Group):
            places.insert(0, group)
            if 'metadata' in group.attrs:
                fields['metadata'] = parse_metadata(np.asarray(group.attrs['metadata']), str(path))
            if all(isinstance(group.get(name), h5py.Dataset) for name in PIXELS):
                fields['pixels'] = [_column(group, name, path, n) for name in PIXELS]
            said = fields.get('metadata', {}), domain, nphotons
            fields.update(_read_patterns(group, path, n, *said))
        for name in INDEXES:
            found = [item for place in places if isinstance(item := place.get(name), h5py.Dataset)]
            if found:
                fields[name] = _read_index(found[0], path, name, n)
    return fields


def _column(group: Hdf5Group, name: str, path: Path, n: int) -> npt.NDArray[np.float64]:
    dataset = group.dataset(name)
    if dataset.size > max(n, FEW):
        raise ProductError(
            f'{path}: {name} has shape {dataset.shape}; expected one for each of {n} positions.'
        )
    return as_column(dataset[()], f'{path}: {name}')


def _read_index(index: h5py.Dataset, path: Path, name: str, n: int) -> npt.NDArray[Any]:
    if index.size > max(n, FEW):
        raise ProductError(f'{path}: {name} has shape {index.shape}; expected one for each of {n} positions.')
    return np.asarray(index[()])


def _read_patterns(
    group: Hdf5Group,
    path: Path,
    n: int,
    metadata: dict[str, Any],
    domain: str | None,
    nphotons: float | None,
) -> dict[str, Any]:
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
    found = survey(stored, stack, f'{path}: /{BUNDLE}')
    if 'measurement_domain' in attributes:
        stated = attributes['measurement_domain']
        word = decode(stated) if isinstance(stated, bytes) else stated
        metadata = {**metadata, 'measurement_domain': word}
    units = decide_units(stack, found, metadata=metadata, said=domain, nphotons=nphotons)
    # The original PtychoPINN has moved such an axis, and tells of it, but nobody has use for it.
    moved = attributes.get('original_axis_order') == 'HNW'
    return {
        'diffraction': Patterns.of(stack, found, units, str(path)).in_memory_if_small(),
        'bad_pixels': found.bad,
        'original_domain': units.domain,
        'counted': units.counted,
        'assumed': (*found.told, *units.told),
        'original_axis_order': order
        if moved
        else _axis_order(attributes, 'original_axis_order', path) or order,
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
