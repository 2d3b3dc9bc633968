"""The doctor names what is wrong with a scan, and finds nothing wrong with a good one."""

from dataclasses import replace

import numpy as np
import pytest

from ptycho_engine.diagnostics.diagnosis import _Search
from ptycho_engine.diagnostics.findings import Grade
from ptycho_engine.diagnostics.scan_checks import examine_path, examine_scan
from ptycho_engine.scan.raw_data import RawData
from ptycho_engine.scan.scan import Scan
from tests.conftest import small_scan

SEARCHED = 'test_nothing_is_wrong_with_a_good_scan', 'test_transposed_patterns'


@pytest.fixture(autouse=True)
def short(request, monkeypatch):
    """Look for no cause of a scan that does not agree: `test_diagnosis` does."""
    if request.function.__name__ not in SEARCHED:
        monkeypatch.setattr(_Search, '_steps', lambda self, ratio, limit: ())


@pytest.fixture(scope='module')
def good() -> RawData:
    return small_scan(points=7, size=32, photons=1e6)


def troubles(raw: RawData) -> dict[str, str]:
    return {f.topic: f.text for f in examine_scan(Scan.from_raw(raw)) if f.grade is not Grade.FINE}


def in_file(path, raw: RawData, **changes) -> dict[str, tuple[Grade, str]]:
    raw.to_file(path)
    with np.load(path) as file:
        arrays = {**dict(file), **changes}
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
    return {f.topic: (f.grade, f.text) for _, f in examine_path(path) if f.grade is not Grade.FINE}


def test_nothing_is_wrong_with_a_good_scan(good):
    assert troubles(good) == {}
    assert troubles(small_scan(points=6, size=32, modes=3)) == {}


def test_npz_14_counts_that_are_floats_are_known_by_their_values(good, tmp_path):
    counts = np.rint(good.diffraction**2).astype(np.float32)
    assert 'units' not in in_file(tmp_path / 'x.npz', good, diffraction=counts, _metadata=None)


def test_counts_are_not_called_amplitudes(good):
    def units(raw: RawData) -> str:
        return next(f.text for f in examine_scan(Scan.from_raw(raw)) if f.topic == 'units')

    whole = np.sqrt(np.rint(good.diffraction**2))
    assert 'are counts, whole numbers' in units(replace(good, diffraction=whole))
    assert 'look like amplitudes' in units(replace(good, diffraction=whole * np.float32(0.3)))


def test_transposed_patterns(good):
    found = troubles(replace(good, diffraction=good.diffraction.swapaxes(1, 2)))
    assert 'patterns are transposed' in found['agreement']


def test_positions_off_the_object(good):
    found = troubles(replace(good, xcoords=good.xcoords + 60))
    assert 'lie off the object' in found['positions']
    assert 'check the unit' in found['positions']
    wide = replace(good, objectGuess=good.objectGuess[:50], xcoords=good.ycoords, ycoords=good.xcoords)
    moved = replace(wide, xcoords=wide.xcoords * 0 + 40, ycoords=np.linspace(10, 70, len(wide)))
    assert 'with x and y swapped all would lie on it' in troubles(moved)['positions']


def test_patches_over_the_edge(good):
    edge = good.xcoords - good.xcoords.min() + 4
    assert 'reach over the edge' in troubles(replace(good, xcoords=edge))['positions']


def test_probe_of_another_size(good, tmp_path):
    found = in_file(tmp_path / 'x.npz', good, probeGuess=np.ones((16, 16), np.complex64))
    grade, text = found['file']
    assert grade is Grade.STOP
    assert 'probeGuess is 16 pixels wide but the patterns are 32' in text


def test_probe_in_the_wrong_place(good):
    moved = np.roll(good.probeGuess, 10, axis=-1)
    assert 'off the middle of its frame' in troubles(replace(good, probeGuess=moved))['probe']
    broad = np.ones_like(good.probeGuess)
    assert 'its frame is too small' in troubles(replace(good, probeGuess=broad))['probe']


def test_no_overlap(good):
    found = troubles(replace(good, xcoords=good.xcoords * 20, ycoords=good.ycoords * 20, objectGuess=None))
    assert 'there is no overlap' in found['overlap']


def test_positions_that_are_all_the_same(good):
    found = troubles(replace(good, xcoords=np.full(49, 40.0), ycoords=np.full(49, 40.0)))
    assert '49 of 49 positions are where another one is' in found['overlap']


def test_empty_patterns(good):
    amplitude = good.diffraction.copy()
    amplitude[3:6] = 0
    assert (
        '3 of 49 patterns looked at are empty'
        in troubles(replace(good, diffraction=amplitude))['empty patterns']
    )


def test_saturated_patterns(good):
    limit = np.percentile(good.diffraction, 99.5)
    found = troubles(replace(good, diffraction=np.minimum(good.diffraction, limit)))
    assert 'saturated detector' in found['saturation']


def test_one_pattern(good):
    assert 'one pattern only' in troubles(good.select([24]))['places']


def test_missing_and_broken_files(tmp_path, good):
    ((_, finding),) = examine_path(tmp_path / 'none.npz')
    assert finding.grade is Grade.STOP
    assert 'is not there' in finding.text
    ((_, finding),) = examine_path(tmp_path)
    assert 'holds no scan' in finding.text
    found = in_file(tmp_path / 'x.npz', good, xcoords=None)
    assert "lacks 'xcoords'" in found['file'][1]
    found = in_file(tmp_path / 'x.npz', good, diffraction=-good.diffraction)
    assert 'negative' in found['file'][1]
