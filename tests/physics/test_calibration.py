"""The steps of an experiment for given gradients (REF-07, REF-08, CAL-01, CAL-16)."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from ptycho_engine.physics.calibration import ExperimentRefinement
from ptycho_engine.whole_scan.held_out import scan_patterns
from ptycho_engine.whole_scan.scan_model import ScanModel
from tests.whole_scan.test_refine import dense_scan


@pytest.fixture(scope='module')
def patterns():
    return scan_patterns(ScanModel(dense_scan(points=3)), 0)


class Told:
    """Stands for the physics of a scan: the same gradients at any object, and the last experiment it got."""

    def __init__(self, **found):
        self.found = SimpleNamespace(**found)
        self.patterns = None

    def experiment_gradient(self, obj, indices):
        return self.found

    def set_experiment(self, patterns):
        self.patterns = patterns


def test_ref_07_the_probe_moves_by_the_gradient_over_its_weight_with_momentum(patterns):
    rng = np.random.default_rng(0)
    gradient = 1e-2 * (rng.standard_normal((1, 32, 32)) + 1j * rng.standard_normal((1, 32, 32)))
    weight = rng.uniform(0, 5, (32, 32))
    physics = Told(probe=gradient, probe_weight=weight)
    refinement = ExperimentRefinement(physics, patterns, probe=True)
    step = gradient / (0.95 * weight + 0.05 * weight.max())
    expected, move = patterns.probe.astype(complex), 0
    power = np.linalg.norm(expected)
    for _ in range(3):
        refinement.step(None)
        move = 0.9 * move - step
        expected = expected + move
        expected *= power / np.linalg.norm(expected)
        np.testing.assert_allclose(physics.patterns.probe, expected, atol=1e-5 * np.abs(expected).max())


def test_ref_08_a_position_moves_by_8_times_the_step_at_most_0_8_px_and_not_far(patterns):
    count = len(patterns)
    force = np.zeros((count, 2))
    force[0], force[1] = (0.02, -0.01), (40.0, 30.0)
    physics = Told(force=force, curvature=np.broadcast_to(2 * np.eye(2), (count, 2, 2)))
    refinement = ExperimentRefinement(physics, patterns, positions=True)

    def moved():
        return physics.patterns.placement.subpixel_shift - patterns.placement.subpixel_shift

    refinement.step(None)
    # Of a mean that stays.
    steps = np.zeros((count, 2))
    steps[0], steps[1] = (-0.08, 0.04), (-0.8 * 0.8, -0.8 * 0.6)
    np.testing.assert_allclose(moved(), steps - steps.mean(axis=0), atol=1e-3)
    first = moved()
    refinement.step(None)
    np.testing.assert_allclose((moved() - first)[0] - (moved() - first)[2], 1.9 * steps[0], atol=2e-3)
    for _ in range(100):
        refinement.step(None)
    # An eighth of 32 pixels.
    assert 3 < np.abs(moved()).max() <= 4
    np.testing.assert_allclose(moved().mean(axis=0), 0, atol=1e-9)


def test_cal_01_intensities_change_at_most_twofold_and_their_mean_stays(patterns):
    count = len(patterns)
    force, curvature = np.zeros(count), np.full(count, 10.0)
    force[:3] = 2.0, 100.0, -100.0
    physics = Told(intensity_force=force, intensity_curvature=curvature)
    ExperimentRefinement(physics, patterns, intensities=True).step(None)
    factor = np.ones(count)
    factor[:3] = 1 - 0.2, 1 / 2, 2
    np.testing.assert_allclose(physics.patterns.intensity, factor / factor.mean(), rtol=1e-9)


@pytest.mark.parametrize(
    ('before', 'force', 'expected'), [(None, -6.0, 2.0), (3.0, 6.0, 1.0), (1.0, 6.0, 0.0)]
)
def test_cal_01_the_mean_of_a_background_is_free_and_not_negative(patterns, before, force, expected):
    start = patterns if before is None else replace(patterns, background=np.full((32, 32), before))
    physics = Told(background_force=np.full((32, 32), force), background_curvature=np.full((32, 32), 3.0))
    ExperimentRefinement(physics, start, background=True).step(None)
    np.testing.assert_allclose(physics.patterns.background, np.full((32, 32), expected), atol=1e-9)


@pytest.mark.parametrize(('y', 'x', 'follows'), [(0, 1, True), (2, 4, True), (0, 6, True), (3, 4, False)])
@pytest.mark.parametrize('bent', [1e-3, 1e3])
def test_cal_16_waves_of_a_background_are_as_strong_as_is_likely_beside_its_mean(
    patterns, y, x, follows, bent
):
    """A mean of 2 and a wave of 1.2, seen with an information of `bent` in each pixel."""
    at = np.pi * (np.arange(32) + 0.5) / 32
    wave = np.outer(np.cos(y * at), np.cos(x * at))
    physics = Told(
        # Zero frequency at index 0.
        background_force=np.fft.ifftshift(-bent * (2 + 1.2 * wave)),
        background_curvature=np.full((32, 32), bent),
    )
    ExperimentRefinement(physics, patterns, uneven=True).step(None)
    information = bent * np.square(wave).sum()
    likely = 0.5 * 2 / (y + x) ** 2
    strength = 1.2 * information / (information + 1 / likely**2) if follows else 0
    np.testing.assert_allclose(physics.patterns.background, 2 + strength * wave, atol=1e-6)


def test_cal_16_a_background_goes_on_from_where_it_is(patterns):
    """Without force, and with more light than its waves could be likely, nothing moves."""
    y, x = np.mgrid[:32, :32] / 32
    before = 1 + np.cos(np.pi * (x + 0.5 / 32)) * np.cos(np.pi * (y + 0.5 / 32))
    physics = Told(background_force=np.zeros((32, 32)), background_curvature=np.full((32, 32), 1e6))
    ExperimentRefinement(physics, replace(patterns, background=before), uneven=True).step(None)
    np.testing.assert_allclose(physics.patterns.background, before, atol=1e-5)
