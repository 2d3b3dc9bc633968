"""Scans and results written in the format that a file name asks for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError, DataValueError
from ..formats.cxi import is_cxi_name, write_cxi
from ..formats.npz import write_arrays
from ..formats.product import ProductData, is_hdf5_name, write_into, write_product
from ..formats.product_extras import ProductExtras, write_extras
from ..formats.tiff import write_tiff
from ..io.hdf5_writing import new_hdf5_file
from ..io.preflight import require_writable
from ..patterns.count_stack import CountStack
from ..physics.coherent import of_product
from ..physics.geometry import wavelength_m
from ..scan.bundle import write_bundle
from ..scan.scan import Scan
from ..scan.scan_directory import write_scan_directory
from ..version import __version__
from .product_exchange import product_metadata, with_lengths
from .raw_arrays import arrays_of_coherent

__all__ = ['PROGRAM', 'files_of_scan', 'require_scan_format', 'write_result_as', 'write_scan_as']

PROGRAM: Mapping[str, str] = {'program': 'ptychopinn', 'version': __version__}
TIFF = ('.tif', '.tiff')
SCAN_FORMATS = (
    'NAME.npz, NAME.cxi, NAME.h5 (a product with its patterns), or a folder (a Ptychodus directory)'
)
RESULT_FORMATS = 'NAME.tif (amplitude and phase), NAME.cxi, NAME.h5 (a product) or NAME.npz'


def require_scan_format(path: Path) -> None:
    """Check that a scan can be written under that name.

    Raises
    ------
    ConfigError
        If the ending is of no format.
    """
    known = path.suffix.casefold() in ('', '.npz', '.cxi') or is_hdf5_name(path)
    if not (known or path.is_dir()):
        raise ConfigError(f'--output is {path}; expected {SCAN_FORMATS}.')


def files_of_scan(path: Path) -> tuple[Path, tuple[str, ...]]:
    """Return folder and names of the files that :func:`write_scan_as` writes."""
    if path.suffix.casefold() in ('.npz', '.cxi') or is_hdf5_name(path):
        return path.parent, (path.name,)
    return path, ('diffraction.h5', 'product.h5')


def write_scan_as(path: Path, scan: Scan) -> None:
    """Write a scan in the format that the ending of `path` asks for; none stands for a Ptychodus directory.

    Raises
    ------
    ConfigError
        If the ending is of no format.
    DataValueError
        If the format needs what the scan does not say.
    """
    require_scan_format(path)
    ending = path.suffix.casefold()
    if ending == '.npz':
        raw = scan.raw if scan.product is None else with_lengths(scan.raw, scan.product)
        raw.to_file(path)
        return
    if ending not in ('.cxi', '.h5', '.hdf5'):
        write_scan_directory(path, scan)
        return
    product = scan.product
    if product is None:
        raise DataValueError(
            f'{scan.raw.source} has no physical scale, which {path.name} needs; give '
            '--object-pixel-size-m, or write an NPZ file.'
        )
    if ending == '.cxi':
        write_cxi(
            path,
            product,
            CountStack(scan.raw.diffraction),
            ~scan.raw.valid,
            detector_pixels(scan),
            program=PROGRAM,
        )
        return
    with new_hdf5_file(path) as file:
        write_into(file, replace(product, extras=ProductExtras()))
        # Before what else the product's file held, the patterns it had among that.
        write_bundle(file, with_lengths(scan.raw, product), scan.grid)
        write_extras(file, product.extras)


def detector_pixels(scan: Scan) -> tuple[float, float] | None:
    """Return height and width in metres of a pixel of the detector, as far as that is known."""
    product = scan.product
    if product is None or not product.photon_energy_eV > 0 or not product.detector_distance_m > 0:
        return None
    far = wavelength_m(product.photon_energy_eV) * product.detector_distance_m / scan.raw.N
    return far / product.object_pixel_height_m, far / product.object_pixel_width_m


def write_result_as(
    path: Path,
    product: ProductData,
    results: Mapping[str, Any] | None = None,
    *,
    inputs: Sequence[Path] = (),
) -> list[Path]:
    """Write a result in the format that the ending of `path` asks for; returns the files.

    Parameters
    ----------
    results : mapping, optional
        How it came about, for formats that have a place for it.
    inputs : sequence of Path
        Files that must not be replaced.

    Raises
    ------
    ConfigError
        If the ending is of no format.
    """
    ending = path.suffix.casefold()
    files = [path]
    if ending in TIFF:
        files = [path.with_name(f'{path.stem}_{part}{path.suffix}') for part in ('amplitude', 'phase')]
    require_writable(path.parent, [file.name for file in files], inputs=inputs)
    if ending in TIFF:
        pixel = product.object_pixel_height_m, product.object_pixel_width_m
        write_tiff(
            files[0],
            files[1],
            product.object_array[0],
            pixel,
            name=product.name,
            comments=product.comments,
            provenance=(results or {}).get('provenance'),
        )
    elif is_cxi_name(path):
        record = (results or {}).get('provenance')
        how = {} if record is None else {'provenance': json.dumps(record)}
        write_cxi(path, product, program={**PROGRAM, **how})
    elif is_hdf5_name(path):
        write_product(path, product)
    elif ending == '.npz':
        x, y = product.positions_px()
        probe, coherent = of_product(product.probe, product.opr_weights, product.name)
        arrays = {
            'objectGuess': product.object_array[0],
            'probeGuess': probe,
            **arrays_of_coherent(coherent),
            'xcoords': x,
            'ycoords': y,
            '_metadata': np.array(json.dumps({**product_metadata(product), **(results or {})})),
        }
        write_arrays(path, arrays)
    else:
        raise ConfigError(f'--output is {path}; expected {RESULT_FORMATS}.')
    return files
