"""Every byte of a scan read once, to hold it against the checksums that its files have."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Iterable
from pathlib import Path

import h5py
from h5py import h5z

from ..blocks import blocks
from ..errors import DataValueError
from ..io.damage import reading
from ..io.hdf5 import Hdf5Group, open_hdf5
from ..io.regular import open_regular
from .npz import open_npz

__all__ = ['verify_file']

logger = logging.getLogger('ptychopinn.data')

BLOCK_BYTES = 16 << 20
CHECKED = (h5z.FILTER_FLETCHER32, h5z.FILTER_DEFLATE)
"""Filters of HDF5 that keep a checksum of what they pack."""


def verify_file(path: Path) -> None:
    """Read a file of a scan from end to end, and hold it against its checksums.

    NPZ files have one of each array. HDF5 has them only of datasets with the filter ``fletcher32`` or
    ``gzip``; the log names the others, of which no more is known than that they can be read.

    Parameters
    ----------
    path : Path
        NPZ or HDF5.

    Raises
    ------
    DataFileNotFoundError, DataValueError
        If the file cannot be read, or something in it is not what was written.
    """
    with open_regular(path) as file:
        zipped = zipfile.is_zipfile(file)
    if zipped:
        _verify_zip(path)
    else:
        _verify_hdf5(path)


def _verify_zip(path: Path) -> None:
    with open_npz(path, f'{path} is not a readable NPZ file') as archive:
        members = archive.infolist()
        for info in members:
            complaint = f'{path}: {info.filename.removesuffix(".npy")!r} is damaged; copy the file again'
            with reading(complaint), archive.open(info) as stream:
                # At its end the checksum is looked at.
                while stream.read(BLOCK_BYTES):
                    pass
    logger.info('%s: all %d arrays match their checksums.', path, len(members))


def _verify_hdf5(path: Path) -> None:
    with reading(f'{path} cannot be read to its end'), open_hdf5(path) as file:
        names = [name for name, found in file.walk() if isinstance(found.id, h5py.h5d.DatasetID)]
        linked = [name for name in file if name not in names and name in file]
        checked, unchecked = 0, []
        for name in _numeric(file, (*names, *linked)):
            dataset = file.dataset(name)
            _read_all(dataset, file.title(name))
            if _has_checksum(dataset):
                checked += 1
            else:
                unchecked.append(name)
    if unchecked:
        logger.warning(
            '%s has no checksum of %s, so that damage there cannot be told; HDF5 keeps them of datasets with '
            'the filter fletcher32 or gzip.',
            path,
            ', '.join(unchecked),
        )
    logger.info('%s: %d of %d datasets match their checksums.', path, checked, checked + len(unchecked))


def _numeric(file: Hdf5Group, names: Iterable[str]) -> Iterable[str]:
    """Yield the names of datasets that hold numbers; texts are no part of a scan's data."""
    for name in names:
        try:
            if isinstance(file.get(name), h5py.Dataset):
                yield name
        except DataValueError as error:
            if 'expected numbers' not in str(error):
                raise


def _read_all(dataset: h5py.Dataset, source: str) -> None:
    with reading(f'{source} is damaged; copy the file again'):
        if dataset.ndim == 0 or dataset.size == 0:
            dataset[()]
            return
        row = max(int(dataset.nbytes) // len(dataset), 1)
        step = max(BLOCK_BYTES // row, 1)
        if dataset.chunks:
            # Whole rows of chunks, each of which is unpacked once.
            step = max(step // dataset.chunks[0], 1) * dataset.chunks[0]
        for part in blocks(len(dataset), step):
            dataset[part]


def _has_checksum(dataset: h5py.Dataset) -> bool:
    plist = dataset.id.get_create_plist()
    filters = {plist.get_filter(index)[0] for index in range(plist.get_nfilters())}
    return bool(filters & set(CHECKED))
