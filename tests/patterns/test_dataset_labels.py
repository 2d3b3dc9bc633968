import h5py
import numpy as np
import pytest

from ptycho_engine.scan.product_exchange import export_product_from_rawdata, import_product_to_rawdata
from ptycho_engine.scan.raw_data import RawData
from ptycho_engine.upstream.memmap import MemmapDatasetBridge
from tests.conftest import small_scan


@pytest.fixture(scope='module')
def plain():
    return small_scan(points=5, size=32)


def read_from(way, tmp_path, raw, index):
    """Write a scan with that `scan_index`, as other programs do, and read it again."""
    if way == 'product':
        export_product_from_rawdata(raw, tmp_path / 'p.h5', include_diffraction=True)
        with h5py.File(tmp_path / 'p.h5', 'r+') as file:
            del file['raw_data/scan_index']
            file['raw_data/scan_index'] = index
        return import_product_to_rawdata(tmp_path / 'p.h5')
    arrays = {
        'diffraction': raw.diffraction,
        'probeGuess': raw.probeGuess,
        'xcoords': raw.xcoords,
        'ycoords': raw.ycoords,
        'scan_index': index,
    }
    np.savez(tmp_path / 'scan.npz', **arrays)
    if way == 'memmap':
        return MemmapDatasetBridge(tmp_path / 'scan.npz').raw_data
    return RawData.from_file(tmp_path / 'scan.npz')


WAYS = ['npz', 'memmap', 'product']


@pytest.mark.parametrize('way', WAYS)
@pytest.mark.parametrize('first', [0, 1, 700])
def test_npz_13_values_that_are_all_different_number_the_scan_points(tmp_path, plain, way, first, caplog):
    caplog.set_level('INFO')
    index = np.random.default_rng(0).permutation(len(plain)) + first
    read = read_from(way, tmp_path, plain, index)
    np.testing.assert_array_equal(read.scan_index, index)
    assert caplog.text.count('scan_index numbers the scan points; all patterns are one dataset.') == 1
    mine = read.generate_grouped_data(32, 6, 40, 2, seed=3, enable_oversampling=True, use_groups_cache=False)
    theirs = plain.generate_grouped_data(
        32, 6, 40, 2, seed=3, enable_oversampling=True, use_groups_cache=False
    )
    np.testing.assert_array_equal(mine['nn_indices'], theirs['nn_indices'])


@pytest.mark.parametrize('way', WAYS)
def test_npz_13_values_that_repeat_name_datasets(tmp_path, plain, way, caplog):
    caplog.set_level('INFO')
    index = np.arange(len(plain)) % 2 + 5
    read = read_from(way, tmp_path, plain, index)
    assert '2 datasets; groups hold patterns of one.' in caplog.text
    groups = read.generate_grouped_data(32, 6, 20, 2, use_groups_cache=False)['nn_indices']
    assert (index[groups] == index[groups][:, :1]).all()


def test_npz_13_a_selection_that_takes_patterns_twice_makes_no_datasets_of_scan_points(plain):
    numbered = RawData(
        plain.diffraction, plain.probeGuess, plain.xcoords, plain.ycoords, scan_index=np.arange(len(plain))
    )
    assert not numbered.select([0, 0, 1, 2]).labels.any()


@pytest.mark.parametrize('way', ['npz', 'product'])
def test_npz_13_datasets_are_written_as_dataset_index(tmp_path, plain, way):
    labels, index = np.arange(len(plain)) // 20, np.arange(len(plain))
    raw = RawData(
        plain.diffraction,
        plain.probeGuess,
        plain.xcoords,
        plain.ycoords,
        scan_index=index,
        dataset_index=labels,
    )
    if way == 'npz':
        raw.to_file(tmp_path / 'x.npz')
        read = RawData.from_file(tmp_path / 'x.npz')
    else:
        export_product_from_rawdata(raw, tmp_path / 'x.h5', include_diffraction=True)
        read = import_product_to_rawdata(tmp_path / 'x.h5')
    np.testing.assert_array_equal(read.labels, labels)
    np.testing.assert_array_equal(read.scan_index, index)
