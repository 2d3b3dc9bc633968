"""Which pixels of a detector are bad: those of the file, and those that hold its mark (NPZ-09, NPZ-11)."""

import logging
from dataclasses import replace

import h5py
import numpy as np
import pytest

from ptycho_engine.diagnostics.findings import Grade
from ptycho_engine.diagnostics.scan_checks import examine_path
from ptycho_engine.errors import DataValueError
from ptycho_engine.formats.diffraction_file import (
    AssembledPatterns,
    read_diffraction_file,
    write_diffraction_file,
)
from ptycho_engine.scan.frames import scan_from_frames
from ptycho_engine.scan.raw_data import RawData
from ptycho_engine.scan.scan import load_scan
from ptycho_engine.simulate.directory import write_scan
from ptycho_engine.upstream.memmap import MemmapDatasetBridge
from tests.conftest import small_scan

INTEGERS = [np.dtype(f'{sign}{width}') for width in (1, 2, 4, 8) for sign in 'ui']


def arrays_of(raw: RawData) -> dict[str, np.ndarray]:
    return {name: getattr(raw, name) for name in ('probeGuess', 'xcoords', 'ycoords')}


@pytest.fixture(scope='module')
def raw() -> RawData:
    return small_scan(4, 32, photons=1e3)


@pytest.fixture(scope='module')
def counts(raw: RawData) -> np.ndarray:
    return np.minimum(np.rint(np.square(raw.diffraction, dtype=np.float64)), 100)


@pytest.mark.parametrize('memory_limit', [2**20, 0])
@pytest.mark.parametrize('dtype', INTEGERS, ids=str)
def test_npz_11_the_largest_value_of_an_integer_type_is_a_bad_pixel(
    tmp_path, caplog, raw, counts, dtype, memory_limit
):
    marked = counts.astype(dtype)
    largest = np.iinfo(dtype).max
    marked[:, 3, 4:7] = largest
    # A pixel bad anywhere is bad.
    marked[11, 20, 9] = largest
    given = np.zeros((32, 32), bool)
    given[0, 0] = True
    np.savez(tmp_path / 'x.npz', diffraction=marked, bad_pixels=given, **arrays_of(raw))
    with caplog.at_level(logging.INFO, 'ptychopinn.data'):
        found = RawData.from_file(tmp_path / 'x.npz', memory_limit=memory_limit)
    assert np.argwhere(found.bad_pixels).tolist() == [[0, 0], [3, 4], [3, 5], [3, 6], [20, 9]]
    patterns = np.asarray(found.diffraction)
    assert not patterns[:, found.bad_pixels].any()
    np.testing.assert_allclose(patterns[:, found.valid] ** 2, counts[:, found.valid], rtol=1e-6)
    (line,) = (text for text in caplog.messages if 'largest value' in text)
    assert line.startswith(f'{tmp_path / "x.npz"}: 4 pixels hold {largest}, the largest value of {dtype}')


def test_npz_11_other_values_and_other_types_are_no_marks(tmp_path, raw, counts):
    for name, values in {
        'one-less': np.where(counts == counts.max(), 2**16 - 2, counts).astype(np.uint16),
        'float': np.where(counts == counts.max(), 2**16 - 1, counts).astype(np.float32),
    }.items():
        np.savez(tmp_path / f'{name}.npz', diffraction=values, **arrays_of(raw))
        assert RawData.from_file(tmp_path / f'{name}.npz', domain='counts').bad_pixels is None


@pytest.mark.parametrize('dtype', [np.uint16, np.uint64])
def test_npz_11_marks_are_found_on_every_way_in(tmp_path, raw, counts, dtype):
    marked = counts.astype(dtype)
    marked[:, 3, 4] = np.iinfo(dtype).max
    expected = np.zeros((32, 32), bool)
    expected[3, 4] = True
    write_scan(tmp_path / 'scan', raw, name='scan', settings='')
    stored = read_diffraction_file(tmp_path / 'scan' / 'diffraction.h5')
    write_diffraction_file(
        tmp_path / 'scan' / 'diffraction.h5',
        AssembledPatterns(marked, stored.indexes, stored.bad_pixels, 1e-4, 1e-4),
    )
    for scan in (
        load_scan(tmp_path / 'scan'),
        scan_from_frames(
            marked,
            raw.xcoords * 1e-8,
            raw.ycoords * 1e-8,
            pixel_size_m=1e-8,
            photon_energy_eV=8800,
            detector_distance_m=2,
        ),
    ):
        np.testing.assert_array_equal(scan.raw.bad_pixels, expected)
        assert np.asarray(scan.raw.diffraction).max() ** 2 < 101


def test_npz_11_doctor_judges_the_other_pixels(tmp_path, raw, counts):
    marked = counts.astype(np.uint64)
    marked[:, 3, :] = np.iinfo(np.uint64).max
    np.savez(tmp_path / 'x.npz', diffraction=marked, **arrays_of(raw))
    said = [finding.text for _, finding in examine_path(tmp_path / 'x.npz')]
    assert any(f'{counts.max():.3g} in the brightest pixel' in text for text in said)
    assert any('bad_pixels (32, 32)' in text for text in said)


def test_npz_11_a_simulated_count_is_never_written_as_a_mark(tmp_path, raw):
    amplitude = raw.diffraction.copy()
    amplitude[5, 5:9, 5:9] = np.sqrt(65535)
    write_scan(tmp_path / 'scan', replace(raw, diffraction=amplitude), name='scan', settings='')
    scan = load_scan(tmp_path / 'scan')
    assert scan.raw.valid.all()
    assert scan.raw.diffraction[5, 6, 7] ** 2 == pytest.approx(65535)


@pytest.mark.parametrize(
    'mark',
    [-1, -2, np.nan, np.inf, 2**16 - 1, 2**32 - 1, 2**31 - 1, np.sqrt(2.0**32 - 1)],
    ids=str,
)
def test_npz_11_a_mark_in_all_patterns_is_a_bad_pixel_of_floats_too(tmp_path, caplog, raw, counts, mark):
    for name, values in {'amplitude': np.sqrt(counts), 'counts': counts}.items():
        marked = values.astype(np.float32)
        marked[:, 3, 4:7] = mark
        np.savez(tmp_path / f'{name}.npz', diffraction=marked, **arrays_of(raw))
        with caplog.at_level(logging.INFO, 'ptychopinn.data'):
            found = RawData.from_file(tmp_path / f'{name}.npz')
        assert np.argwhere(found.bad_pixels).tolist() == [[3, 4], [3, 5], [3, 6]]
        assert found.counted
        np.testing.assert_allclose(found.diffraction[:, found.valid] ** 2, counts[:, found.valid], rtol=1e-4)
        assert any('3 pixels hold' in line and 'taken as bad' in line for line in found.assumed)
    assert caplog.text.count('3 pixels hold') == 2


def test_npz_11_negative_integers_in_some_patterns_are_marks(tmp_path, raw, counts):
    marked = counts.astype(np.int32)
    marked[::2, 3, 4], marked[1::2, 5, 6] = -1, -2
    np.savez(tmp_path / 'x.npz', diffraction=marked, **arrays_of(raw))
    assert np.argwhere(RawData.from_file(tmp_path / 'x.npz').bad_pixels).tolist() == [[3, 4], [5, 6]]


def test_npz_19_integers_below_zero_all_over_are_left_of_a_background(tmp_path, raw, counts):
    subtracted = counts.astype(np.int32) - np.random.default_rng(0).integers(0, 3, counts.shape)
    np.savez(tmp_path / 'x.npz', diffraction=subtracted, **arrays_of(raw))
    found = RawData.from_file(tmp_path / 'x.npz')
    assert found.bad_pixels is None
    np.testing.assert_allclose(found.diffraction**2, subtracted.clip(0), rtol=1e-5)


@pytest.mark.parametrize('where', ['pixel_mask', 'entry/instrument/detector/detectorSpecific/pixel_mask'])
def test_npz_16_the_pixel_mask_of_an_eiger_detector(tmp_path, raw, counts, where):
    mask = np.zeros((32, 32), np.uint32)
    # A gap, a dead and a hot pixel, as its numbers have them.
    mask[3], mask[5, 6], mask[7, 8] = 1, 2, 8
    np.savez(tmp_path / 'x.npz', diffraction=counts.astype(np.uint16), pixel_mask=mask, **arrays_of(raw))
    np.savez(tmp_path / 'positions.npz', **arrays_of(raw))
    with h5py.File(tmp_path / 'master.h5', 'w') as file:
        file['diffraction'], file[where] = counts.astype(np.uint16), mask
    for found in (
        RawData.from_file(tmp_path / 'x.npz'),
        MemmapDatasetBridge(tmp_path / 'positions.npz', patterns_path=tmp_path / 'master.h5').raw_data,
    ):
        np.testing.assert_array_equal(found.bad_pixels, mask > 0)
        assert not found.diffraction[:][:, mask > 0].any()


def test_npz_22_a_mask_that_says_the_opposite_is_refused(tmp_path, raw, counts):
    bad = np.zeros((32, 32), bool)
    bad[3, 4:9] = bad[20:23, 20] = True
    np.savez(tmp_path / 'x.npz', diffraction=counts, bad_pixels=~bad, **arrays_of(raw))
    with pytest.raises(DataValueError, match=r'bad_pixels marks 99.2 % of the pixels, .* turn it round'):
        RawData.from_file(tmp_path / 'x.npz')
    ((_, finding),) = examine_path(tmp_path / 'x.npz')
    assert finding.grade is Grade.STOP
    assert 'turn it round' in finding.text


def test_npz_22_a_mask_may_leave_the_middle_alone(tmp_path, raw, counts):
    """With marks and a hot pixel under it, which outshine all light."""
    y, x = np.mgrid[:32, :32] - 16
    bad = np.hypot(y, x) > 12
    values = counts.copy()
    values[:, :3] = 65535
    values[:, 30, 30] = np.random.default_rng(0).integers(50_000, 60_000, len(values))
    np.savez(tmp_path / 'x.npz', diffraction=values, bad_pixels=bad, **arrays_of(raw))
    assert bad.mean() > 0.5
    np.testing.assert_array_equal(RawData.from_file(tmp_path / 'x.npz').bad_pixels, bad)


@pytest.mark.parametrize('name', ['mask', 'valid_mask', 'Detector_Mask', 'badpix', 'goodPixels'])
def test_npz_27_a_mask_of_another_name_is_told(name, raw, counts, tmp_path, caplog):
    path = tmp_path / 'x.npz'
    others = {'mask_radius': np.ones(3, int), 'soft_mask': np.ones((32, 32)), 'scale': np.ones((32, 32), int)}
    mask = {name: np.ones((32, 32), np.uint8)}
    np.savez(path, diffraction=counts.astype(int), **arrays_of(raw), **others, **mask)
    with caplog.at_level(logging.WARNING):
        assert RawData.from_file(path).bad_pixels is None
    (line,) = (line for line in caplog.messages if 'is not read' in line)
    assert line.startswith(
        f"{path}: '{name}' (32, 32) is not read; if it says which pixels are bad, save it as"
    )
