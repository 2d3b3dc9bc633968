"""More patterns than positions, or the reverse, and scans that ended early (NPZ-15, DIR-09)."""

import h5py
import numpy as np
import pytest

from ptycho_engine.errors import DataValueError
from ptycho_engine.scan.raw_data import RawData
from ptycho_engine.scan.scan import load_scan
from ptycho_engine.simulate.directory import write_scan
from ptycho_engine.upstream.memmap import MemmapDatasetBridge
from tests.conftest import small_scan


@pytest.fixture(scope='module')
def raw() -> RawData:
    return small_scan(5, 32, photons=1e4)


@pytest.fixture(scope='module')
def counts(raw) -> np.ndarray:
    return np.rint(np.square(raw.diffraction, dtype=np.float64)).astype(np.uint32)


def save(path, raw, patterns, positions, **more):
    columns = {name: getattr(raw, name)[positions] for name in ('xcoords', 'ycoords')}
    start = {f'{name}_start': values for name, values in columns.items()}
    np.savez(path, diffraction=patterns, probeGuess=raw.probeGuess, **columns, **start, **more)
    return path


def assert_pairs(found: RawData, raw: RawData, counts: np.ndarray, which) -> None:
    which = np.asarray(which)
    np.testing.assert_allclose(np.square(found.diffraction), counts[which], rtol=1e-5)
    for name in ('xcoords', 'ycoords'):
        np.testing.assert_array_equal(getattr(found, name), getattr(raw, name)[which])
        np.testing.assert_array_equal(getattr(found, f'{name}_start'), getattr(raw, name)[which])


@pytest.mark.parametrize('order', ['n,H,W', 'H,W,n'])
@pytest.mark.parametrize('start', [0, 1])
def test_npz_15_scan_index_names_the_frame_of_each_position(tmp_path, raw, counts, start, order, caplog):
    caplog.set_level('INFO')
    which = np.array([3, 0, 7, 24])
    patterns = counts if order == 'n,H,W' else counts.transpose(1, 2, 0)
    path = save(tmp_path / 'x.npz', raw, patterns, which, scan_index=which + start)
    found = RawData.from_file(path)
    assert_pairs(found, raw, counts, which)
    assert_pairs(MemmapDatasetBridge(path).raw_data, raw, counts, which)
    line = (
        f'there are 25 patterns and 4 positions; scan_index says which belong together, counted from {start}.'
    )
    assert line in caplog.text
    assert line in found.assumed


def test_npz_15_scan_index_names_the_position_of_each_frame(tmp_path, raw, counts):
    which = np.array([3, 0, 7, 24])
    labels = np.arange(25) // 13
    path = save(tmp_path / 'x.npz', raw, counts[which], np.arange(25), scan_index=which, dataset_index=labels)
    found = RawData.from_file(path)
    assert_pairs(found, raw, counts, which)
    np.testing.assert_array_equal(found.labels, labels[which])


@pytest.mark.parametrize('positions', [20, 25])
@pytest.mark.parametrize('kind', ['counts', 'floats', 'amplitude'])
def test_npz_15_dark_patterns_at_the_end_are_left_out(tmp_path, raw, counts, positions, kind):
    patterns = counts.copy()
    patterns[20:] = 0
    patterns[22, 3, 4] = 1
    patterns = {'counts': patterns, 'floats': patterns * 0.7, 'amplitude': np.sqrt(patterns)}[kind]
    path = save(tmp_path / 'x.npz', raw, patterns, np.arange(positions), Y=np.ones((25, 32, 32), complex))
    found = RawData.from_file(path)
    assert_pairs(found, raw, counts, np.arange(20))
    assert len(found.Y) == 20
    assert any('the last 5 patterns are dark' in line for line in found.assumed)


def test_npz_15_dark_patterns_elsewhere_and_few_photons_stay(tmp_path, raw, counts):
    dark = counts.copy()
    dark[[0, 7]] = 0
    assert len(RawData.from_file(save(tmp_path / 'x.npz', raw, dark, np.arange(25)))) == 25
    faint = np.zeros_like(counts)
    faint[:20, 3, 4] = 3
    assert len(RawData.from_file(save(tmp_path / 'x.npz', raw, faint, np.arange(25)))) == 25


@pytest.mark.parametrize(
    ('frames', 'positions', 'index'),
    [
        (25, 22, None),
        (22, 25, None),
        (25, 4, [0, 1, 2, 25]),
        (25, 4, [0, 1, 1, 2]),
        (25, 4, [-1, 1, 2, 3]),
        (25, 4, [0, 1, 2]),
    ],
)
def test_npz_15_what_is_not_clear_is_refused_with_both_numbers(
    tmp_path, raw, counts, frames, positions, index
):
    more = {} if index is None else {'scan_index': np.array(index)}
    path = save(tmp_path / 'x.npz', raw, counts[:frames], np.arange(positions), **more)
    with pytest.raises(DataValueError, match=f'x.npz: there are {frames} patterns but {positions} positions'):
        RawData.from_file(path)


@pytest.mark.parametrize('first', ['indexes', 'positions'])
def test_dir_09_frames_counted_from_1_belong_to_positions_from_0(tmp_path, raw, first):
    write_scan(tmp_path / 'scan', raw, name='scan', settings='')
    name, key = {
        'indexes': ('diffraction.h5', 'indexes'),
        'positions': ('product.h5', 'probe_position_indexes'),
    }[first]
    with h5py.File(tmp_path / 'scan' / name, 'r+') as file:
        file[key][...] = np.arange(25) + 1
    scan = load_scan(tmp_path / 'scan')
    np.testing.assert_allclose(scan.raw.diffraction, raw.diffraction, rtol=1e-5)
    np.testing.assert_allclose(scan.raw.xcoords, raw.xcoords, atol=1e-6)
    assert any('counted from 0 and from 1' in line for line in scan.raw.assumed)


def test_dir_09_a_directory_of_a_scan_that_ended_early(tmp_path, raw):
    write_scan(tmp_path / 'scan', raw, name='scan', settings='')
    with h5py.File(tmp_path / 'scan' / 'diffraction.h5', 'r+') as file:
        counts = file['patterns'][()]
        counts[21:] = 0
        del file['patterns']
        file['patterns'] = counts
    scan = load_scan(tmp_path / 'scan')
    assert len(scan.raw) == len(scan.product.position_x_m) == 21
    np.testing.assert_allclose(scan.raw.xcoords, raw.xcoords[:21], atol=1e-6)
    assert any('the last 4 patterns are dark' in line for line in scan.raw.assumed)
