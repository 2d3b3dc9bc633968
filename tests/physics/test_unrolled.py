"""Steps of the unrolled network (clauses NET-02, NET-03 and NET-10)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptycho_engine.physics.unrolled import (
    CORRECTION_LIMIT,
    FASTEST_MOMENTUM,
    FEATURES,
    Surroundings,
    UnrolledState,
    advance,
    flat_state,
    look_ahead,
    network_features,
    physics_momentum,
    physics_step,
    uncertain_by,
)

SHAPE = 16, 24


def surroundings(light):
    return Surroundings(np.full(SHAPE, light, np.float32), light, np.zeros(SHAPE, np.float32))


def complex_noise(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    return (scale * (rng.standard_normal(SHAPE) + 1j * rng.standard_normal(SHAPE))).astype(np.complex64)


def test_net_03_the_unit_is_what_is_asked_for_and_photon_noise():
    light = np.full(SHAPE, 99.0, np.float32)
    light[:8] = 0
    asked = np.full(SHAPE, 0.3j, np.complex64)
    asked[:8] = 50
    unit = uncertain_by(asked, light)
    np.testing.assert_allclose(unit[8:], np.sqrt(0.09 + 0.01), rtol=1e-5)
    np.testing.assert_allclose(unit[:8], np.sqrt(0.09 + 1), rtol=1e-5)


@given(light=st.floats(1, 1e8), seed=st.integers(0, 99))
def test_net_03_an_object_that_explains_its_patterns_is_left_within_its_noise(light, seed):
    state = UnrolledState(1 + complex_noise(seed, 0.1), np.zeros(SHAPE, np.complex64))
    features = network_features(state, np.zeros(SHAPE, np.complex64), surroundings(light))
    correction = np.stack([complex_noise(seed, 1e3).real, complex_noise(seed, 1e3).imag])
    after = advance(state, features, correction, np.array([0.0, 0.5, 0.5]))
    noise = 1 / np.sqrt(1 + light)
    # What rounding to float32 leaves of an object of about 1.
    assert np.abs(after.obj - state.obj).max() <= np.sqrt(2) * CORRECTION_LIMIT * noise * 1.001 + 1e-6


def test_net_02_steps_are_seen_in_units_of_what_is_left_open():
    around = surroundings(1e9)
    gradient = complex_noise(3, 1e6)
    near, far = (
        network_features(flat_state(SHAPE), np.complex64(factor) * gradient, around) for factor in (1, 100)
    )
    seen = slice(FEATURES.index('step_real'), FEATURES.index('weak_step_modulus') + 1)
    np.testing.assert_allclose(near[seen], far[seen], rtol=0.01, atol=0.01)
    assert far[-1].mean() == pytest.approx(near[-1].mean() + np.log(100), abs=0.01)


def test_net_10_momentum_grows_to_its_ceiling():
    momenta = [physics_momentum(step) for step in range(64)]
    assert momenta[:4] == [0, 0, 1 / 4, 2 / 5]
    assert momenta == sorted(momenta)
    assert momenta[-1] == FASTEST_MOMENTUM


def test_net_10_a_step_follows_the_gradient_from_ahead():
    around = surroundings(50.0)
    state = UnrolledState(1 + complex_noise(0, 0.1), complex_noise(1, 0.1))
    ahead = look_ahead(state, 3)
    np.testing.assert_allclose(ahead, state.obj + 0.4 * state.change, rtol=1e-5)
    gradient = complex_noise(2)
    after = physics_step(state, ahead, gradient, around)
    np.testing.assert_allclose(after.obj, ahead + gradient / 51.0, rtol=1e-4)
    np.testing.assert_allclose(after.change, after.obj - state.obj, rtol=1e-4, atol=1e-6)


def test_net_10_only_steps_with_all_patterns_turn_the_slow_phase():
    light = np.full(SHAPE, 50.0, np.float32)
    around = Surroundings(light, 50.0, np.ones(SHAPE, np.float32))
    state, gradient = flat_state(SHAPE), np.full(SHAPE, 20j, np.complex64)
    turned, plain = (physics_step(state, state.obj, gradient, around, turn=turn) for turn in (True, False))
    assert np.angle(turned.obj).min() > np.angle(plain.obj).max() + 0.1
    np.testing.assert_allclose(np.abs(turned.obj), np.abs(plain.obj), rtol=1e-5)
