"""Results of reconstructions in files: products, NPZ, CXI, and the folders that hold them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import as_column, as_numbers
from ..errors import DataFileNotFoundError
from ..formats.cxi import holds_cxi_patterns, is_cxi, read_cxi_object, read_cxi_provenance
from ..formats.npz import (
    COHERENT,
    METADATA_CHARACTERS,
    PATTERN_KEYS,
    parse_metadata,
    read_arrays,
    read_headers,
)
from ..formats.npz_scan import coherent_of_arrays
from ..formats.product import MOST_NUMBERS, ProductData, is_hdf5_name, read_product
from ..formats.provenance import provenance_in_product
from ..formats.training_file import is_training_file
from ..scan.bundle import holds_patterns
from ..scan.product_exchange import ExportMeta, product_of_rawdata
from ..scan.raw_data import RawData
from ..scan.scan import is_ptychodus_directory

__all__ = ['RESULT_FILES', 'account_of_result', 'is_result', 'read_result', 'result_file']

RESULT_FILES = ('product.h5', 'reconstruction.npz')
"""What a folder with a result holds, the first that is there being read."""


def result_file(path: Path) -> Path:
    """Return the file of a result: that in a folder, or the path itself.

    Raises
    ------
    DataFileNotFoundError
        If there is none.
    """
    if path.is_dir():
        for name in RESULT_FILES:
            if (path / name).is_file():
                return path / name
        raise DataFileNotFoundError(f'{path} holds no result: expected {" or ".join(RESULT_FILES)}.')
    if not path.is_file():
        raise DataFileNotFoundError(f'{path}: there is no such file; give a result or a scan.')
    return path


def is_result(path: Path) -> bool:
    """Return whether a path is a result, an object without patterns, rather than a scan."""
    if path.is_dir():
        return not is_ptychodus_directory(path) and any((path / name).is_file() for name in RESULT_FILES)
    if not path.is_file():
        return False
    if is_cxi(path):
        return not holds_cxi_patterns(path)
    if is_hdf5_name(path):
        return path.name != 'diffraction.h5' and not holds_patterns(path) and not is_training_file(path)
    if path.suffix.casefold() != '.npz':
        return False
    names = read_headers(path)
    return 'objectGuess' in names and not any(key in names for key in PATTERN_KEYS)


def read_result(path: Path) -> ProductData:
    """Read a result as a product.

    An NPZ file that does not say how large its pixels are gets estimated sizes (EXCHANGE-*).

    Raises
    ------
    DataFileNotFoundError, DataKeyError, DataValueError, ProductError
        With a sentence that says what is wrong.
    """
    path = result_file(path)
    if is_cxi(path):
        return read_cxi_object(path)
    if is_hdf5_name(path):
        return read_product(path)
    most = {'xcoords': MOST_NUMBERS, 'ycoords': MOST_NUMBERS, '_metadata': METADATA_CHARACTERS}
    needed = 'objectGuess', 'probeGuess', 'xcoords', 'ycoords'
    arrays = read_arrays(path, needed, ('_metadata', *COHERENT), most)
    metadata = parse_metadata(arrays.get('_metadata'), str(path))
    probe = arrays['probeGuess']
    raw = RawData(
        diffraction=np.empty((0, *probe.shape[-2:]), np.float32),
        probeGuess=probe,
        coherent=coherent_of_arrays(arrays, str(path)),
        xcoords=as_column(arrays['xcoords'], f'{path}: xcoords'),
        ycoords=as_column(arrays['ycoords'], f'{path}: ycoords'),
        objectGuess=as_numbers(arrays['objectGuess'], np.complex64, f'{path}: objectGuess'),
        metadata=metadata,
        source=str(path),
    )
    name, comments = (str(metadata.get(key, '')) for key in ('name', 'comments'))
    return product_of_rawdata(raw, ExportMeta(name=name or path.stem, comments=comments))


def account_of_result(path: Path) -> dict[str, Any]:
    """Return what a result records of itself beside its product: ``provenance``, ``quality`` and more.

    A product and a CXI file have their provenance alone; NPZ files of ``ptychopinn reconstruct`` the
    whole of ``Reconstruction.results``.

    Raises
    ------
    DataFileNotFoundError, DataValueError
        If it cannot be read.
    """
    path = result_file(path)
    if path.suffix.casefold() == '.npz':
        most = {'_metadata': METADATA_CHARACTERS}
        return parse_metadata(read_arrays(path, (), ('_metadata',), most).get('_metadata'), str(path))
    found = read_cxi_provenance(path) if is_cxi(path) else provenance_in_product(path)
    return {} if found is None else {'provenance': found}
