"""Runs say where their image is far from photon noise, and why, or its file surely wrong (DOUBT-03 to 05)."""

import math
from dataclasses import replace

import numpy as np
import pytest

from ptycho_engine.config import InferenceConfig, TrainingConfig
from ptycho_engine.diagnostics.trials import likely_reading, median_step
from ptycho_engine.formats.packaged import load_model
from ptycho_engine.reconstruction.reconstruct import _doubted, reconstruct
from ptycho_engine.reconstruction.report import QualityReport, is_far
from ptycho_engine.reconstruction.result import Reconstructed
from ptycho_engine.scan.raw_data import RawData
from ptycho_engine.scan.scan import Scan
from ptycho_engine.training.sources import MeasuredScans
from ptycho_engine.whole_scan.scan_model import ScanModel
from tests.conftest import small_scan
from tests.whole_scan.test_calibrate import with_stretched_axes
from tests.whole_scan.test_refine import dense_scan

NAN = math.nan


@pytest.fixture(scope='module')
def good() -> RawData:
    return small_scan(points=6, size=32, step=3.5)


@pytest.fixture(scope='module')
def turned(good: RawData) -> RawData:
    return replace(good, diffraction=good.diffraction[:, ::-1, :].copy(), source='run 7')


def run(raw: RawData) -> Reconstructed:
    *_, last = reconstruct(Scan.from_raw(raw), load_model('none'), InferenceConfig(calibrate='off'))
    assert isinstance(last, Reconstructed)
    return last


def test_a_reconstruction_says_that_it_is_far_from_noise(turned, caplog):
    result = run(turned).reconstruction
    assert result.quality.far
    assert result.quality.held_out > 2 * result.quality.noise
    assert 'far above photon noise' in result.comments
    (said,) = (
        line for line in caplog.messages if line.startswith('run 7: the image is far above photon noise')
    )
    assert 'Most likely the patterns are upside down: ptychopinn doctor with --fix, once' in said
    assert result.results['quality']['likely'] == 'the patterns are upside down'


@pytest.mark.parametrize('size', [32, 160])
def test_doubt_05_an_orientation_is_named_where_it_explains_a_scan(size):
    raw = small_scan(points=5, size=size, step=3.5 * size / 32)
    turned = replace(raw, diffraction=raw.diffraction.swapaxes(1, 2).copy())
    assert likely_reading(turned) == 'the patterns are transposed'
    back_to_front = replace(raw, xcoords=raw.xcoords[::-1].copy(), ycoords=raw.ycoords[::-1].copy())
    assert likely_reading(back_to_front) == 'the positions are in reversed order'
    assert likely_reading(raw) == ''


@pytest.mark.parametrize(('moved', 'told'), [(1.1, 'x of the positions has the wrong sign'), (0.9, '')])
def test_doubt_05_positions_that_were_moved_far_are_doubted(good, moved, told):
    """By parts of half a step; the object of a mirrored scan with other positions is near noise."""
    near = QualityReport(0.3, NAN, 1.0, NAN, '', noise=0.25)
    raw = replace(good, xcoords=-good.xcoords, objectGuess=None)
    mirrored = ScanModel(Scan.from_raw(raw))
    half = 0.5 * median_step(good)
    found = _doubted(
        mirrored, near, mirrored.calibrated(None, np.full((len(good), 2), moved * half / np.sqrt(2)))
    )
    assert found.likely == told
    assert ('only with positions far from those of the file' in found.doubt) == bool(told)


def one_after_another(raw):
    """Return moves [y, x] (n, 2) of root mean square 1 as after a slip: alike from the middle on."""
    return np.outer(np.arange(len(raw)) >= len(raw) // 2, [0.0, np.sqrt(2)])


def each_by_itself(raw):
    return np.random.default_rng(7).normal(0, np.sqrt(0.5), (len(raw), 2))


def by_one_map(raw):
    y = raw.ycoords - raw.ycoords.mean()
    return np.outer(y / y.std(), [0.0, 1.0])


@pytest.mark.parametrize(
    ('moves', 'size', 'missing', 'told'),
    [
        (one_after_another, 0.22, True, True),
        (one_after_another, 0.18, True, False),
        (one_after_another, 0.22, False, False),
        (each_by_itself, 0.4, True, False),
        (each_by_itself, 0.6, True, True),
        (by_one_map, 0.6, True, False),
    ],
)
def test_doubt_07_positions_may_make_up_for_a_pattern_that_is_missing(dense, moves, size, missing, told):
    """By a fifth of a step and more, the image near noise; nothing is said of a scan without it.

    Nor where moves are those of other axes, or of positions that are off by chance.
    """
    near = QualityReport(0.3, NAN, 1.0, NAN, '', noise=0.25)
    count = len(dense) - 1
    raw = replace(dense, objectGuess=None).select(np.arange(count))
    if missing:
        raw = replace(raw, diffraction=np.delete(dense.diffraction, count // 2, 0))
    slipped = ScanModel(Scan.from_raw(raw))
    found = _doubted(slipped, near, slipped.calibrated(None, size * median_step(raw) * moves(raw)))
    assert (f'from pattern {count // 2} on, counted from 0, patterns and positions' in found.doubt) == told
    assert bool(found.likely) == told
    if told:
        assert 'explained only with positions far from those of the file' in found.doubt


REVERSED = 'the positions are in reversed order'
TURNED = 'the patterns are turned by 180 degrees, or, which fits as well, the probe is conjugated'


def reversed_patterns(raw: RawData) -> RawData:
    return replace(raw, diffraction=raw.diffraction[::-1].copy())


def conjugated_probe(raw: RawData) -> RawData:
    return replace(raw, probeGuess=raw.probeGuess.conj())


@pytest.mark.parametrize(
    ('clause', 'spoil', 'told', 'only_with'),
    [
        ('DOUBT-05', conjugated_probe, TURNED, 'the probe of the file inverted and conjugated'),
        ('DOUBT-06', reversed_patterns, REVERSED, 'a probe far from that of the file'),
    ],
)
def test_doubt_05_doubt_06_another_probe_may_make_up_for_an_order(
    dense, clause, spoil, told, only_with, caplog
):
    """Its image is near noise and may be turned by 180°."""
    (*_, last) = reconstruct(Scan.from_raw(replace(spoil(dense), source=clause)), load_model('none'))
    assert isinstance(last, Reconstructed)
    quality = last.reconstruction.quality
    assert not quality.far
    assert (quality.likely, quality.only_with) == (told, only_with)
    (said,) = (line for line in caplog.messages if line.startswith(clause))
    assert said.startswith(
        f'{clause}: the patterns are explained only with {only_with}. Most likely {told}: '
    )
    assert said.removeprefix(f'{clause}: ') in last.reconstruction.comments


def test_doubt_06_a_probe_that_was_out_of_focus_is_no_doubt(dense, caplog):
    curvature = 14 * (2 * np.fft.fftfreq(dense.N)) ** 2
    moved = np.fft.fft2(dense.probeGuess) * np.exp(1j * (curvature[:, None] + curvature))
    wrong = replace(dense, probeGuess=np.fft.ifft2(moved).astype(np.complex64), source='run 11')
    (*_, last) = reconstruct(Scan.from_raw(wrong), load_model('none'))
    assert isinstance(last, Reconstructed)
    assert 'calibrated: the probe (overlap with that of the file 0.' in last.reconstruction.comments
    assert last.reconstruction.quality.only_with == ''
    assert not any(line.startswith('run 11') for line in caplog.messages)


def test_doubt_05_what_no_orientation_explains_is_left_to_doctor(good, caplog):
    order = np.random.default_rng(0).permutation(len(good))
    mixed = replace(good, xcoords=good.xcoords[order], ycoords=good.ycoords[order], source='run 9')
    assert run(mixed).reconstruction.quality.likely == ''
    assert any('do not agree; ptychopinn doctor looks for the cause' in line for line in caplog.messages)
    assert likely_reading(good.select(np.arange(4))) == ''
    assert likely_reading(replace(mixed, diffraction=0 * mixed.diffraction)) == ''


def test_nothing_is_said_of_a_good_one(good, caplog):
    result = run(good).reconstruction
    assert not result.quality.far
    assert result.quality.deviance == pytest.approx(result.quality.noise, rel=0.2)
    assert not any('photon noise' in line for line in caplog.messages)


@pytest.fixture(scope='module')
def dense() -> RawData:
    return replace(dense_scan(points=9).raw, objectGuess=None)


@pytest.fixture(scope='module')
def stretched(dense: RawData) -> RawData:
    """By 2 %, which the object follows: the image is near noise, and worse than it could be."""
    return replace(with_stretched_axes(dense), source='run 8')


def test_doubt_04_a_reconstruction_says_what_the_patterns_pull_at(dense, stretched, caplog):
    quality = run(stretched).reconstruction.quality
    assert not quality.far
    assert 'the axes of the scan' in quality.suspected
    assert quality.doubt in quality.sentence
    (said,) = (line for line in caplog.messages if line.startswith('run 8: the image is near photon noise'))
    assert 'pulls at ' in said
    assert 'the axes of the scan' in said
    right = run(dense).reconstruction
    assert right.quality.suspected == ''
    assert right.quality.doubt == ''
    # Calibration has nothing to say of what it has corrected.
    (*_, last) = reconstruct(Scan.from_raw(stretched), load_model('none'), InferenceConfig())
    assert isinstance(last, Reconstructed)
    assert 'the axes of the scan (' in last.reconstruction.comments
    assert last.reconstruction.quality.suspected == ''


def test_doubt_04_training_says_it_too(dense, stretched, caplog):
    MeasuredScans([Scan.from_raw(dense)], TrainingConfig())
    assert not caplog.messages
    MeasuredScans([Scan.from_raw(stretched)], TrainingConfig())
    (said,) = (line for line in caplog.messages if line.startswith('run 8: '))
    assert 'pulls at ' in said
    assert 'the axes of the scan' in said


def test_nothing_is_claimed_of_what_is_no_count(turned, stretched):
    quality = run(replace(turned, counted=False)).reconstruction.quality
    assert math.isnan(quality.noise)
    assert not quality.far
    assert run(replace(stretched, counted=False)).reconstruction.quality.suspected == ''


def test_training_says_it_before_it_begins(good, turned, caplog):
    MeasuredScans([Scan.from_raw(good)], TrainingConfig())
    assert not caplog.messages
    MeasuredScans([Scan.from_raw(turned)], TrainingConfig())
    (said,) = (line for line in caplog.messages if 'run 7: a quick reconstruction is far' in line)
    assert 'do not agree (most likely the patterns are upside down)' in said


@pytest.mark.parametrize(
    ('deviance', 'held_out', 'noise', 'counts', 'far'),
    [
        (0.5, 0.6, 0.5, 20, False),
        (0.9, 1.2, 0.5, 20, True),
        (0.9, 0.6, 0.5, 20, False),
        # A sparse scan predicts other pixels badly though nothing is wrong with it.
        (0.5, 9.0, 0.5, 20, False),
        # A hot pixel need not be among the held-out ones.
        (3.0, 0.6, 0.5, 20, True),
        (3.0, NAN, 0.5, 20, True),
        # To 2 % of 1e6 counts all is explained.
        (300.0, 310.0, 1.0, 1e6, False),
        (9.0, 9.0, NAN, 20, False),
    ],
)
def test_what_is_far(deviance, held_out, noise, counts, far):
    assert is_far(deviance, held_out, noise, counts) is far
