"""Our scans as Ptychodus opens diffraction files (API-90); test_install.py sees them in its dialog."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

pytest.importorskip('ptychodus.api.diffraction')

from scan_maker import simulated_scan, write_scan

from ptycho_engine.errors import EngineError
from ptycho_engine.scan.raw_data import RawData
from ptychopinn_ptychodus.scan_reader import ScanProductReader, ScanReader

pytestmark = pytest.mark.ptychodus


@pytest.fixture(scope='module')
def reader() -> Any:
    return ScanReader()


@pytest.fixture(scope='module')
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('scan')
    raw = simulated_scan(size=32, grid=3)
    write_scan(folder, raw, {})
    raw.to_file(folder / 'scan.npz')
    return folder


def test_a_directory_of_batch_mode_opens_in_the_window(reader: Any, scan: Path) -> None:
    dataset = reader.read(scan / 'diffraction.h5')
    with h5py.File(scan / 'diffraction.h5') as file:
        counts, indexes = file['patterns'][()], file['indexes'][()]
        width_m = file['patterns'].attrs['detector_pixel_width_m']
    (array,) = dataset
    np.testing.assert_array_equal(array.get_patterns(), counts)
    np.testing.assert_array_equal(array.get_indexes(), indexes)
    assert array.get_patterns().dtype == counts.dtype
    metadata = dataset.get_metadata()
    assert metadata.detector_extent.width_px == 32
    assert metadata.detector_pixel_geometry.width_m == width_m
    assert metadata.file_path == scan / 'diffraction.h5'


def test_an_npz_scan_opens_as_counts(reader: Any, scan: Path, tmp_path: Path) -> None:
    (array,) = reader.read(scan / 'scan.npz')
    with h5py.File(scan / 'diffraction.h5') as file:
        np.testing.assert_array_equal(array.get_patterns(), file['patterns'][()])
    assert array.get_patterns().dtype.kind == 'u'
    with np.load(scan / 'scan.npz') as file:
        arrays = dict(file)
    np.savez(tmp_path / 'scan.npz', **{**arrays, 'diffraction': arrays['diffraction'] * np.float32(0.7)})
    (array,) = reader.read(tmp_path / 'scan.npz')
    expected = np.square(arrays['diffraction'] * np.float32(0.7))
    np.testing.assert_allclose(array.get_patterns(), expected, rtol=1e-5)


def test_bad_pixels_are_known(reader: Any, scan: Path, tmp_path: Path) -> None:
    bad = np.zeros((32, 32), bool)
    bad[3, 4:9] = True
    with np.load(scan / 'scan.npz') as file:
        np.savez(tmp_path / 'scan.npz', **{**file, 'bad_pixels': bad})
    np.testing.assert_array_equal(reader.read(tmp_path / 'scan.npz').get_bad_pixels(), bad)


def test_an_npz_scan_opens_as_a_product(scan: Path, tmp_path: Path) -> None:
    raw = RawData.from_file(scan / 'scan.npz')
    product = ScanProductReader().read(scan / 'scan.npz')
    assert product.metadata.name == 'scan'
    pixel = product.object_.get_pixel_geometry().width_m
    x = np.array([point.x_m for point in product.probe_positions])
    np.testing.assert_allclose(np.diff(x), np.diff(raw.xcoords) * pixel, rtol=1e-5, atol=pixel * 1e-4)
    np.testing.assert_array_equal(product.probes[0].get_array()[0], raw.probeGuess[0])
    np.testing.assert_array_equal(product.object_.get_array()[0], raw.objectGuess)
    with np.load(scan / 'scan.npz') as file:
        np.savez(tmp_path / 'flat.npz', **{key: file[key] for key in file.files if key != 'objectGuess'})
    assert np.all(ScanProductReader().read(tmp_path / 'flat.npz').object_.get_array() == 1)


def test_what_is_no_scan_is_told_in_a_sentence(reader: Any, tmp_path: Path) -> None:
    (tmp_path / 'scan.npz').write_bytes(b'nothing')
    for one in (reader, ScanProductReader()):
        with pytest.raises(EngineError, match=r'scan\.npz'):
            one.read(tmp_path / 'scan.npz')
