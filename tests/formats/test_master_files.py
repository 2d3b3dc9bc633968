"""Scans whose patterns lie in other files, as detectors write them (HDF-01, HDF-02)."""

import io
import logging

import h5py
import numpy as np
import pytest

from ptycho_engine.commands import main
from ptycho_engine.errors import DataFileNotFoundError
from ptycho_engine.patterns import frame_stack as stored
from ptycho_engine.scan.scan import load_scan
from ptycho_engine.upstream.memmap import MemmapDatasetBridge

N, SIZE = 9, 32


@pytest.fixture(params=[True, False], ids=['in memory', 'in files'])
def scan(tmp_path, monkeypatch, request):
    """A directory, with its counts, whose diffraction.h5 lacks the patterns."""
    if not request.param:
        monkeypatch.setattr(stored, 'MEMORY_LIMIT_BYTES', 0)
    folder = tmp_path / 'scan'
    words = ['simulate', '--output', str(folder), '--points', '3x3', '--size', str(SIZE), '--quiet']
    assert main(words) == 0
    with h5py.File(folder / 'diffraction.h5', 'r+') as file:
        counts = file['patterns'][()]
        del file['patterns']
    return folder, counts


@pytest.fixture
def log():
    """What is logged of data."""
    stream = io.StringIO()
    handler, logger = logging.StreamHandler(stream), logging.getLogger('ptychopinn.io')
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield stream
    logger.removeHandler(handler)
    logger.setLevel(level)


def test_hdf_01_a_link_to_a_contiguous_dataset_of_another_file(scan, log):
    folder, counts = scan
    with h5py.File(folder / 'frames.h5', 'w') as file:
        file['entry/data/data'] = counts
    with h5py.File(folder / 'diffraction.h5', 'r+') as file:
        file['patterns'] = h5py.ExternalLink('frames.h5', '/entry/data/data')
        file['dark'] = np.full((100, SIZE, SIZE), 3, counts.dtype)
    found = load_scan(folder).raw.diffraction
    np.testing.assert_array_equal(found[:], np.sqrt(counts.astype(np.float32)))
    said = log.getvalue()
    assert said.count('frames.h5') == 1, said
    np.savez(
        folder / 'x.npz',
        probeGuess=np.ones((SIZE, SIZE), complex),
        xcoords=np.arange(N),
        ycoords=np.arange(N),
    )
    with h5py.File(folder / 'master.h5', 'w') as file:
        file['other'] = np.ones((200, SIZE, SIZE), counts.dtype)
        file['diffraction'] = h5py.ExternalLink('frames.h5', '/entry/data/data')
    bridge = MemmapDatasetBridge(folder / 'x.npz', patterns_path=folder / 'master.h5')
    np.testing.assert_array_equal(bridge.diffraction[:], np.sqrt(counts.astype(np.float32)))


def eiger(folder, counts):
    """Write the files of a detector: frames in several files, and a master file that joins them."""
    layout = h5py.VirtualLayout(counts.shape, counts.dtype)
    with h5py.File(folder / 'scan_master.h5', 'w') as master:
        for number, start in enumerate(range(0, N, 4), start=1):
            part = counts[start : start + 4]
            name = f'scan_data_{number:06d}.h5'
            with h5py.File(folder / name, 'w') as file:
                file.create_dataset('entry/data/data', data=part, chunks=(1, SIZE, SIZE), compression='lzf')
            master[f'entry/data/data_{number:06d}'] = h5py.ExternalLink(name, '/entry/data/data')
            layout[start : start + 4] = h5py.VirtualSource(name, 'entry/data/data', part.shape)
        master.create_virtual_dataset('entry/data/all', layout, fillvalue=0)
    with h5py.File(folder / 'diffraction.h5', 'r+') as file:
        file['patterns'] = h5py.ExternalLink('scan_master.h5', '/entry/data/all')


def test_hdf_01_a_virtual_dataset_behind_a_link_over_several_files(scan, log, monkeypatch):
    folder, counts = scan
    eiger(folder, counts)
    monkeypatch.chdir('/')
    found = load_scan(folder).raw.diffraction
    np.testing.assert_array_equal(found[:], np.sqrt(counts.astype(np.float32)))
    said = log.getvalue()
    for name in ('scan_master.h5', *(f'scan_data_{number:06d}.h5' for number in (1, 2, 3))):
        assert said.count(name) == 1, said


def test_hdf_02_one_missing_file_of_several_is_named(scan):
    folder, counts = scan
    eiger(folder, counts)
    (folder / 'scan_data_000002.h5').unlink()
    with pytest.raises(DataFileNotFoundError, match=r"'patterns' .*'scan_data_000002\.h5', which is missing"):
        load_scan(folder)
