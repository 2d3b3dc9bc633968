"""Files of the original PtychoPINN written as ours: scans, products and settings, with an account of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..config.execution import PyTorchExecutionConfig
from ..config.files import checked_sections, read_values, write_values
from ..config.precedence import resolve_training
from ..errors import ConfigError, DataFileNotFoundError, DataValueError, EngineError
from ..formats.foreign_model import MODEL_SUFFIXES, foreign_model
from ..formats.npz import PATTERN_KEYS, ArrayHeader, read_headers
from ..formats.product import ProductData, is_hdf5_name, read_product
from ..io.preflight import require_file_writable
from ..patterns.dataset_labels import several_datasets
from ..scan.product_exchange import rawdata_of_product
from ..scan.raw_data import RawData
from ..scan.results import read_result
from ..scan.scan import Scan
from ..scan.written import write_result_as, write_scan_as
from .settings import translate_settings

__all__ = ['Account', 'Imported', 'NotBroughtError', 'files_below', 'import_file']

SETTINGS = ('.yaml', '.yml')
MOST_FILES = 10_000
DEEPEST = 6
"""Folders within folders that are looked into."""

UNITS = {
    'counts': 'the square root of counts',
    'normalised': 'the square root of counts, by the factor below',
    'amplitude': '',
}
"""What was done to patterns of each domain."""

NO_USE = 'nothing here has a use for it'


class NotBroughtError(EngineError):
    """A file that is by its kind no scan, product or configuration of the original."""


@dataclass(frozen=True)
class Account:
    """What became of one array, attribute or setting."""

    verdict: str
    """'kept', 'changed', 'dropped' or 'found'."""
    name: str
    text: str = ''
    """What it is now, or why it is no more."""


@dataclass(frozen=True)
class Imported:
    """One file of the original, and what was written of it."""

    source: Path
    target: Path
    rows: tuple[Account, ...]


def files_below(folder: Path) -> list[Path]:
    """Return the files of a run or data folder, those of its own folders too, hidden ones left out.

    Raises
    ------
    DataFileNotFoundError
        If there are none.
    DataValueError
        If there are too many for a run.
    """
    found = list(_walk(folder, DEEPEST))
    if not found:
        raise DataFileNotFoundError(f'{folder} holds no files; give a run or data folder of the original.')
    if len(found) > MOST_FILES:
        raise DataValueError(f'{folder} holds more than {MOST_FILES} files; give the folder of one run.')
    return found


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    for item in sorted(folder.iterdir()):
        if item.name.startswith('.') or item.is_symlink():
            continue
        if item.is_file():
            yield item
        elif item.is_dir() and depth:
            yield from _walk(item, depth - 1)


def import_file(source: Path, folder: Path, *, overwrite: bool = False) -> Imported:
    """Write one file of the original into `folder`.

    Scans become NPZ files, products product files, and settings TOML files, under the name of the source.

    Raises
    ------
    NotBroughtError
        If it is a model, or of no kind that is brought over.
    ConfigError
        If what would be written is there already, and `overwrite` is not given.
    EngineError
        If it is damaged, or holds nothing that can be brought over.
    """
    if not source.is_file():
        raise DataFileNotFoundError(f'{source}: there is no such file.')
    suffix = source.suffix.casefold()
    if suffix in MODEL_SUFFIXES or is_hdf5_name(source):
        told = foreign_model(source)
        if told is not None:
            raise NotBroughtError(told)
    if suffix in SETTINGS:
        return _settings(source, _target(source, folder, '.toml', overwrite))
    if suffix == '.npz':
        headers = read_headers(source)
        if not any(key in headers for key in PATTERN_KEYS):
            return _object_alone(source, _target(source, folder, '.h5', overwrite), headers)
        return _scan(source, _target(source, folder, '.npz', overwrite), headers)
    if is_hdf5_name(source):
        return _product(source, _target(source, folder, '.h5', overwrite))
    raise NotBroughtError(f'{source} is neither a scan nor a product nor settings of the original.')


def _target(source: Path, folder: Path, suffix: str, overwrite: bool) -> Path:
    target = folder / f'{source.stem}{suffix}'
    if target.exists() and not overwrite:
        raise ConfigError(f'{target} is there already; give --overwrite, or another --output.')
    require_file_writable(target, inputs=[source])
    return target


def _settings(source: Path, target: Path) -> Imported:
    try:
        values = read_values(source)
    except ConfigError as error:
        raise NotBroughtError(str(error)) from error
    found = translate_settings(values)
    sections = checked_sections(found.sections, str(source))
    if not any(sections.values()):
        raise NotBroughtError(
            f'{source} holds no setting that has a meaning here; give a configuration of PtychoPINN.'
        )
    # Out of range is said here, before the file is written.
    stated = {**sections['model'], **sections['training']}
    resolve_training(execution=PyTorchExecutionConfig(**sections['execution']), command_line=stated)
    rows = [
        Account(row.verdict, f'{row.name} = {row.value}', _what(row.verdict, row.became, row.why))
        for row in found.rows
    ]
    rows += [
        Account('dropped', f'{name} = {path}', 'files are named on the command line')
        for name, path in found.files.items()
    ]
    rows += [
        Account('dropped', f'{name} = {value}', 'no setting has this name')
        for name, value in found.unknown.items()
    ]
    named = ''.join(f'\n{name}: {path}' for name, path in found.files.items())
    remark = f'from {source.name}, settings of the original PtychoPINN{named}'
    write_values(target, {name: values for name, values in sections.items() if values}, remark)
    return Imported(source, target, tuple(rows))


def _what(verdict: str, became: str, why: str) -> str:
    if verdict == 'kept':
        return ''
    return f'{became}: {why}' if became and why else became or why


def _scan(source: Path, target: Path, headers: Mapping[str, ArrayHeader]) -> Imported:
    raw = RawData.from_file(source)
    raw.to_file(target)
    return Imported(source, target, tuple(_of_scan(raw, headers)))


def _of_scan(raw: RawData, headers: Mapping[str, ArrayHeader]) -> Iterator[Account]:
    """Yield what became of the arrays of a scan."""
    patterns = next(key for key in PATTERN_KEYS if key in headers)
    written = _written_types(raw)
    for name, header in headers.items():
        if name == patterns:
            done = _of_patterns(raw, name, header)
            yield Account('changed' if done else 'kept', name, ', '.join(done))
        elif name in PATTERN_KEYS:
            yield Account('dropped', name, f'{patterns} holds the patterns')
        elif name == 'scan_index':
            several = raw.labels is not None and several_datasets(raw.labels)
            meaning = (
                'it names datasets, and dataset_index too' if several else 'the number of each scan point'
            )
            yield Account('kept', name, meaning)
        elif name == '_metadata':
            yield _of_metadata(raw, header)
        elif name not in written:
            yield Account('dropped', name, NO_USE)
        elif header.dtype != written[name]:
            yield Account('changed', name, f'{written[name]}, was {header.dtype}')
        else:
            yield Account('kept', name)
    for line in raw.assumed:
        yield Account('found', 'patterns', line)


def _written_types(raw: RawData) -> dict[str, np.dtype[Any]]:
    """Return the types of the arrays besides the patterns that a scan is written with."""
    names = ('probeGuess', 'objectGuess', 'xcoords', 'ycoords', 'xcoords_start', 'ycoords_start')
    more = ('dataset_index', 'bad_pixels', 'Y')
    values = {name: getattr(raw, name) for name in (*names, *more)}
    return {name: np.dtype(value.dtype) for name, value in values.items() if value is not None}


def _of_patterns(raw: RawData, name: str, header: ArrayHeader) -> list[str]:
    done = []
    if name != 'diffraction':
        done.append('named diffraction')
    if raw.original_axis_order == 'H,W,n':
        done.append(f'{raw.diffraction.shape}, was {header.shape}')
    if UNITS[raw.original_domain] and raw.counted:
        done.append(UNITS[raw.original_domain])
    if header.dtype != np.float32:
        done.append(f'float32, was {header.dtype}')
    if header.shape[0] != len(raw) and raw.original_axis_order == 'n,H,W':
        done.append(f'{len(raw)} of {header.shape[0]} patterns')
    return done


def _of_metadata(raw: RawData, header: ArrayHeader) -> Account:
    if not raw.metadata:
        return Account('dropped', '_metadata', 'it holds nothing that is read without running it')
    plain = header.dtype.kind == 'U'
    how = '' if plain else 'as plain text; it was pickled, and nothing of it was run'
    return Account('kept' if plain else 'changed', '_metadata', how)


def _object_alone(source: Path, target: Path, headers: Mapping[str, ArrayHeader]) -> Imported:
    """Write an NPZ file of object, probe and positions, which has no patterns, as a product."""
    product = read_result(source)
    write_result_as(target, product, inputs=[source])
    known = ('objectGuess', 'probeGuess', 'xcoords', 'ycoords', '_metadata')
    rows = [
        Account('changed', name, 'in metres, from the centre of the object')
        if name in ('xcoords', 'ycoords')
        else Account('kept', name)
        if name in known
        else Account('dropped', name, 'a product has no place for it')
        for name in headers
    ]
    return Imported(source, target, (*rows, Account('found', 'comments', product.comments)))


def _product(source: Path, target: Path) -> Imported:
    stored = read_product(source)
    raw, product = rawdata_of_product(source, stored)
    rows = [Account('kept', name) for name in ('object', 'probe')]
    if product is stored and _fits_from_the_corner(stored):
        product = _moved_from_the_corner(stored)
    moved = product is not stored
    text = 'from the centre of the object; they counted from its first pixel' if moved else ''
    rows.append(Account('changed' if moved else 'kept', 'probe_position_*_m', text))
    for name in ('detector_distance_m', 'photon_energy_eV'):
        if not getattr(product, name) > 0:
            rows.append(Account('found', name, 'unknown; Ptychodus needs it to reconstruct'))
    if raw.has_patterns:
        scan = Scan(raw, product.grid, product)
        done = _units_of_bundle(raw)
        rows.append(Account('changed' if done else 'kept', '/raw_data', done))
        rows += [Account('found', 'patterns', line) for line in raw.assumed]
        write_scan_as(target, scan)
    else:
        write_result_as(target, product, inputs=[source])
    return Imported(source, target, tuple(rows))


def _units_of_bundle(raw: RawData) -> str:
    return UNITS[raw.original_domain] if raw.counted else ''


def _from_the_corner(product: ProductData) -> tuple[np.ndarray, np.ndarray]:
    """Return positions in pixels, read as the original writes them."""
    x = product.position_x_m / product.object_pixel_width_m
    y = product.position_y_m / product.object_pixel_height_m
    return x, y


def _fits_from_the_corner(product: ProductData) -> bool:
    """Return whether positions lie on the object only where they count from its first pixel."""
    height, width = product.object_array.shape[-2:]

    def on(x: np.ndarray, y: np.ndarray) -> bool:
        inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
        return bool(inside.all())

    return on(*_from_the_corner(product)) and not on(*product.positions_px())


def _moved_from_the_corner(product: ProductData) -> ProductData:
    x_m, y_m = ProductData.positions_m(*_from_the_corner(product), product.grid)
    return replace(product, position_x_m=x_m, position_y_m=y_m)
