"""The learned prior as a step (clauses SOLVE-03 and SOLVE-09 of specs/physics.md)."""

import numpy as np
import pytest

from ptycho_engine.physics.learned_prior import LearnedPrior, high_pass_gain, low_pass_gain, noise_told

SHAPE = (48, 96)


def filtered(gain):
    return lambda values: np.fft.ifft2(np.fft.fft2(values) * gain)


def step(noise, z, *, phase_update=False, smoothing=0.0, light=None):
    """Return what the prior makes of z if the denoiser sees that noise."""
    weight = np.full(SHAPE, 1e4) if light is None else light
    prior = LearnedPrior(
        weight,
        smoothing,
        lambda obj, deviation: noise,
        filtered(high_pass_gain(SHAPE)),
        filtered(low_pass_gain(SHAPE)),
        0.25,
        phase_update=phase_update,
    )
    return prior(z, weight)


def wave(period):
    return np.cos(2 * np.pi * np.arange(SHAPE[1]) / period) * np.ones(SHAPE)


def test_solve_03_the_noise_that_is_told_is_that_of_photons_within_what_was_trained_on():
    curvature = np.array([1e-2, 1e2, 2.5e3, 1e8])
    np.testing.assert_allclose(noise_told(0.25, curvature), [1, 0.025, 0.005, 0.005])
    np.testing.assert_allclose(noise_told(0.4, curvature), [1, 0.04, 0.008, 0.005])


@pytest.mark.parametrize(('period', 'kept'), [(4, 0.938), (6, 0.709), (12, 0.265), (24, 0.074)])
def test_phase_that_varies_slowly_is_left_to_the_patterns(period, kept):
    """A Gaussian of 1.5 px, and one of 4 px for all of the change: 1 - exp(-2 (pi px / period)^2)."""
    z = np.ones(SHAPE, complex)
    found = step(-0.01j * wave(period), z)
    expected = kept * (1 - np.exp(-2 * (np.pi * 4 / period) ** 2))
    amplitude = 2 * np.mean(np.angle(found) * wave(period))
    # The light of DARK beside that of the scan holds back a twentieth of what is averaged.
    assert amplitude / 0.01 == pytest.approx(expected, abs=0.05)
    assert amplitude / 0.01 > expected - 0.002
    assert np.abs(np.abs(found) - 1).max() < 1e-4


@pytest.mark.parametrize(('period', 'kept'), [(8, 0.993), (16, 0.709), (32, 0.265)])
def test_details_of_the_amplitude_are_taken(period, kept):
    found = step(-0.01 * wave(period), np.ones(SHAPE, complex))
    assert 2 * np.mean((np.abs(found) - 1) * wave(period)) / 0.01 == pytest.approx(kept, abs=0.002)


def test_total_variation_turns_the_slow_phase_only_where_it_may():
    steep = np.exp(0.5j * wave(24))
    held, free = (
        step(np.zeros(SHAPE), steep, phase_update=turned, smoothing=30.0) for turned in (False, True)
    )
    change = [np.abs(np.angle(found * steep.conj())).max() for found in (held, free)]
    assert change[0] < 0.5 * change[1]
    assert change[1] > 0.005


def test_without_light_no_phase_is_averaged():
    """There it is anything, and momentum would carry what the average makes of it away."""
    weight = np.full(SHAPE, 1e4)
    weight[:, 48:] = 1.0
    phase = np.random.default_rng(1).uniform(-np.pi, np.pi, SHAPE)
    z = np.where(weight > 1, 1, np.exp(1j * phase))
    noise = z - z * np.exp(0.3j)
    denoised = z - filtered(high_pass_gain(SHAPE))(noise)
    turn = np.angle(step(noise, z, light=weight) * denoised.conj())
    assert np.abs(turn[:, 60:84]).max() < 0.01
