"""How strong simulated objects are to be (clause SIM-13)."""

import logging
from dataclasses import replace

import numpy as np
import pytest

from ptycho_engine.config import TrainingConfig
from ptycho_engine.scan.product_exchange import export_product_from_rawdata
from ptycho_engine.scan.scan import Scan
from ptycho_engine.simulate import (
    defocused_probe,
    make_object,
    raster_positions,
    simulate_scan,
    vary_probe,
    without_truth,
)
from ptycho_engine.simulate.template import load_templates
from ptycho_engine.training.contrast import Contrast, measured_contrast
from ptycho_engine.training.simulated import UNKNOWN, ObjectVariety, SimulatedScans
from ptycho_engine.whole_scan.scan_model import ScanModel


def scan_of(absorption, phase, *, family='composite', photons=1e5, probe_error=0.0, bad=None):
    rng = np.random.default_rng(4)
    probe = defocused_probe(32, rng, width_px=10.0)
    obj = make_object(family, (96, 96), rng, absorption=absorption, phase=phase)
    x, y = raster_positions(12, 12, 5.0, rng)
    raw = simulate_scan(
        obj, probe, x - x.mean() + 47.5, y - y.mean() + 47.5, photons=photons, rng=rng, bad_pixels=bad
    )
    if probe_error:
        raw = replace(raw, probeGuess=vary_probe(raw.probeGuess, rng, probe_error))
    return Scan.from_raw(without_truth(raw))


def found(photons=1e5, **options):
    return measured_contrast(ScanModel(scan_of(photons=photons, **options)), photons)


@pytest.mark.parametrize(('absorption', 'phase'), [(0.1, 0.3), (0.4, 0.8), (0.2, 2.0)])
@pytest.mark.parametrize('photons', [3e3, 1e6])
def test_sim_13_and_18_the_contrast_of_objects_of_the_same_kind_is_found(absorption, phase, photons):
    contrast = found(photons=photons, absorption=absorption, phase=phase)
    # One object of this size is brighter or darker, smoother or finer than the mean of others by so much.
    assert 0.6 < contrast.absorption / absorption < 1.7
    assert 0.6 < contrast.phase / phase < 1.7


def test_sim_18_neither_bad_pixels_nor_a_wrong_probe_matter_much():
    bad = np.random.default_rng(0).random((32, 32)) < 0.1
    right = found(absorption=0.3, phase=1.0)
    for options in ({'bad': bad}, {'probe_error': 1.0}):
        other = found(absorption=0.3, phase=1.0, **options)
        assert other.absorption == pytest.approx(right.absorption, rel=0.3)
        assert other.phase == pytest.approx(right.phase, rel=0.4)


def largest(scan, **options):
    """Return the largest contrast of an object that training draws, of the family that reaches its range."""
    variety = ObjectVariety(families=('smooth',), weakest=1.0, **options)
    (drawn,) = SimulatedScans(scan, TrainingConfig(n_groups=40), variety=variety).training(1)
    obj = drawn.ready().prepared.scan.raw.objectGuess
    return Contrast(float(np.ptp(np.log(np.abs(obj)))), float(np.ptp(np.angle(obj))) / 2)


def test_sim_13_training_draws_objects_up_to_twice_as_strong(caplog):
    scan = scan_of(0.3, 0.8)
    seen = measured_contrast(ScanModel(scan), 1e5)
    with caplog.at_level(logging.INFO, 'ptychopinn.train'):
        drawn = largest(scan)
    assert drawn.absorption == pytest.approx(2 * seen.absorption, rel=0.1)
    assert drawn.phase == pytest.approx(2 * seen.phase, rel=0.1)
    assert 'as the patterns suggest' in caplog.text
    asked = largest(scan, absorption=1.2, phase=0.1)
    assert asked.absorption == pytest.approx(1.2, rel=0.1)
    assert asked.phase == pytest.approx(0.1, rel=0.1)


def test_sim_13_weak_objects_may_hide_in_patterns_that_hardly_differ():
    drawn = largest(scan_of(0.01, 0.02))
    assert drawn.absorption == pytest.approx(0.1, rel=0.1)
    assert drawn.phase == pytest.approx(0.5, rel=0.1)


def test_sim_13_without_patterns_it_is_what_most_samples_stay_below(tmp_path):
    one = scan_of(0.2, 0.5)
    export_product_from_rawdata(one.raw, tmp_path / 'product.h5')
    (flat,) = load_templates(tmp_path / 'product.h5')
    assert measured_contrast(ScanModel(flat), 1e5) is None
    drawn = largest(flat)
    assert drawn.absorption == pytest.approx(UNKNOWN.absorption, rel=0.1)
    assert drawn.phase == pytest.approx(UNKNOWN.phase, rel=0.1)
    alone = Scan.from_raw(one.raw.select(np.array([0])))
    assert measured_contrast(ScanModel(alone), 1e5) is None
