"""The files of a result: object and how it came about as NPZ, product, picture, and other formats."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..formats.cxi import write_cxi
from ..formats.npz import write_arrays
from ..formats.product import write_product
from ..formats.provenance import patterns_sha256, with_provenance
from ..formats.tiff import write_tiff
from ..io.staging import staged
from ..patterns.stack import Patterns
from ..reconstruction.picture import save_figure
from ..reconstruction.result import Reconstruction
from ..scan.product_exchange import ExportMeta, product_metadata, product_of_rawdata
from ..scan.raw_arrays import arrays_of_coherent
from ..scan.scan import Scan
from ..scan.written import PROGRAM
from ..scoring.scores import scan_box
from .arguments.reconstruct import MORE_FILES
from .evaluate import TABLES

__all__ = [
    'FILES',
    'PRODUCT',
    'patterns_record',
    'result_bytes',
    'result_names',
    'with_product',
    'write_results',
]

PRODUCT = 'product.h5'
CALIBRATED = ('intensity', 'background', 'bad_pixels')
"""What else belongs to an object where calibration found it."""
FILES = ('reconstruction.npz', 'reconstruction.png', PRODUCT)


def result_names(formats: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the names of the files of a result; `formats` are names of :data:`MORE_FILES`."""
    return (*FILES, *(name for chosen in formats for name in MORE_FILES[chosen]))


def result_bytes(scan: Scan) -> int:
    """Return about how much the arrays and the product of a result take."""
    assert scan.product is not None
    height, width = scan.grid.shape
    # As complex in both files, with two maps in the one and one in the other.
    pixels = height * width * (2 * 8 + 3 * 4)
    extras = len(scan.product.extras.image) + sum(size for _, size in scan.product.extras.large)
    return pixels + 2 * scan.product.probe.nbytes + 2 * scan.product.position_x_m.nbytes + extras


def with_product(scan: Scan) -> Scan:
    """Return a scan with the product that it came with, or one made of it."""
    if scan.product is not None:
        return scan
    product = product_of_rawdata(scan.raw, ExportMeta(name=_name(scan)))
    # The probe of a scan has the pixels of its object, whatever sizes are presumed where none is known.
    width_m, height_m = product.object_pixel_width_m, product.object_pixel_height_m
    product = replace(product, probe_pixel_width_m=width_m, probe_pixel_height_m=height_m)
    return replace(scan, product=product)


def _name(scan: Scan) -> str:
    """Return the name of the file or directory that holds a scan."""
    path = scan.raw.path
    assert path is not None
    return path.resolve().name if path.is_dir() else path.stem


def patterns_record(scan: Scan, *, foreign: bool) -> dict[str, Any]:
    """Return which patterns a result is of, unless that takes another pass over a file that says it itself.

    Of files of others it may depend on the reader what they hold.
    """
    if isinstance(scan.raw.diffraction, Patterns) and not foreign:
        return {}
    return {'patterns': {'name': scan.raw.source, 'sha256': patterns_sha256(scan.raw.diffraction)}}


def write_results(
    directory: Path,
    scan: Scan,
    result: Reconstruction,
    record: dict[str, Any],
    formats: Sequence[str] = (),
) -> tuple[str, ...]:
    """Write arrays, picture and product together, in place of those of an earlier run and its scores.

    `record` says how they came about (:func:`~..formats.provenance.made_by`), `formats` are names of
    :data:`MORE_FILES`. Returns the names of the files.
    """
    assert scan.product is not None
    grid = result.grid
    x, y = scan.raw.xcoords - grid.origin_x, scan.raw.ycoords - grid.origin_y
    if result.position_shift is not None:
        dy, dx = result.position_shift.T
        x, y = x + dx, y + dy
    found = {name: getattr(result, name) for name in CALIBRATED}
    others = (name for names in MORE_FILES.values() for name in names)
    written = result.to_product(scan.product)
    written = replace(written, extras=with_provenance(written.extras, record))
    results = {**product_metadata(scan.product), **result.results, 'provenance': record}
    with staged(directory, remove=(*TABLES, *others, f'{directory.resolve().name}.png')) as staging:
        # The product comes first, for it is what others may be looking at.
        product, arrays, picture = (staging.path(name) for name in (PRODUCT, *FILES[:2]))
        write_arrays(
            arrays,
            {
                'objectGuess': result.object_array,
                'weight': result.weight,
                'uncertainty': result.uncertainty,
                'probeGuess': scan.raw.probeGuess if result.probe is None else result.probe,
                **arrays_of_coherent(scan.raw.coherent if result.probe is None else result.coherent),
                'xcoords': x,
                'ycoords': y,
                **{name: values for name, values in found.items() if values is not None},
                '_metadata': np.array(json.dumps(results)),
            },
        )
        save_figure(result.plot(scan_box(x, y, grid.shape)), picture)
        write_product(product, written)
        pixel = written.object_pixel_height_m, written.object_pixel_width_m
        if 'tiff' in formats:
            amplitude, phase = (staging.path(name) for name in MORE_FILES['tiff'])
            write_tiff(
                *(amplitude, phase, result.object_array, pixel),
                name=written.name,
                comments=result.comments,
                provenance=record,
            )
        if 'cxi' in formats:
            write_cxi(
                staging.path(*MORE_FILES['cxi']),
                written,
                program={**PROGRAM, 'provenance': json.dumps(record)},
            )
    return result_names(formats)
