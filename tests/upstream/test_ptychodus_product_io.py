"""Products by the names of the original's plans (specs/data_contracts.md, EXCHANGE-01 to EXCHANGE-07)."""

from dataclasses import replace

import h5py
import numpy as np
import pytest

from ptycho_engine import ExportMeta, export_product_from_rawdata, import_product_to_rawdata
from ptycho_engine.commands import main
from tests.conftest import small_scan


@pytest.fixture(scope='module')
def raw():
    return small_scan(points=4)


def test_export_writes_minimal_hdf5(tmp_path, raw):
    meta = ExportMeta(
        name='demo',
        object_pixel_width_m=5e-8,
        object_pixel_height_m=5e-8,
        probe_pixel_width_m=1.25e-7,
        probe_pixel_height_m=1.25e-7,
    )
    export_product_from_rawdata(raw, tmp_path / 'product.h5', meta)
    with h5py.File(tmp_path / 'product.h5') as file:
        assert file.attrs['name'] == 'demo'
        for name in ('probe_position_indexes', 'probe_position_x_m', 'probe_position_y_m', 'probe', 'object'):
            assert name in file
        assert file['object'].attrs['pixel_width_m'] == 5e-8
        assert file['probe'].attrs['pixel_height_m'] == 1.25e-7
        assert file['loss_values'].shape == file['loss_epochs'].shape == (0,)


def test_import_reads_hdf5_to_rawdata(tmp_path, raw):
    """EXCHANGE-04: scan_index is that of the scan, else the numbers of the positions unless some repeat."""
    path = tmp_path / 'product.h5'
    export_product_from_rawdata(raw, path)
    back = import_product_to_rawdata(path)
    np.testing.assert_allclose(back.xcoords, raw.xcoords, atol=1e-9)
    np.testing.assert_array_equal(back.probeGuess, raw.probeGuess)
    np.testing.assert_array_equal(back.objectGuess, raw.objectGuess)
    assert not back.has_patterns
    assert back.Y is None
    assert back.norm_Y_I is None
    np.testing.assert_array_equal(back.scan_index, np.arange(16))
    with h5py.File(path, 'r+') as file:
        file['probe_position_indexes'][...] = np.arange(16) + 100
    np.testing.assert_array_equal(import_product_to_rawdata(path).scan_index, np.arange(16) + 100)
    with h5py.File(path, 'r+') as file:
        file['probe_position_indexes'][3] = 100
    np.testing.assert_array_equal(import_product_to_rawdata(path).scan_index, np.zeros(16))
    export_product_from_rawdata(replace(raw, scan_index=np.arange(16) % 3), path)
    np.testing.assert_array_equal(import_product_to_rawdata(path).scan_index, np.arange(16) % 3)


def test_cli_convert_run1084_smoke(tmp_path, run1084):
    np.savez(tmp_path / 'run.npz', diffraction=np.ones((1087, 64, 64), np.float32), **run1084)
    words = ['--input-npz', str(tmp_path / 'run.npz'), '--output-product', str(tmp_path / 'p.h5')]
    more = ['--name', 'Run1084', '--detector-distance-m', '4.4', '--probe-energy-eV', '8800', '--quiet']
    assert main(['convert-product', *words, *more]) == 0
    back = import_product_to_rawdata(tmp_path / 'p.h5')
    assert len(back) == 1087
    assert back.metadata['probe_energy_eV'] == 8800
