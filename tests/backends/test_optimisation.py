"""Each rule of specs/training.md about one step, on every backend, against the formula in NumPy."""

from functools import cache

import numpy as np
import pytest

from ptycho_engine.backends.base import create_backend
from ptycho_engine.config import ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho_engine.config.training import BACKENDS
from ptycho_engine.network.plan import build_plan
from ptycho_engine.scan.scan import Scan
from ptycho_engine.whole_scan.scan_model import ScanModel
from tests.conftest import small_scan

MODEL = ModelConfig(N=32, n_filters_scale=1, architecture='cnn')
PLAIN = {'optimizer': 'sgd', 'momentum': 0.0, 'weight_decay': 0.0, 'gradient_clip_val': None}

pytestmark = [pytest.mark.parametrize('name', BACKENDS), pytest.mark.usefixtures('slim_cnn')]


@pytest.fixture(scope='module')
def prepared() -> ScanModel:
    return ScanModel(Scan.from_raw(small_scan(points=4, size=32)))


@pytest.fixture(scope='module')
def batch(prepared):
    return prepared.batch(np.arange(8, dtype=np.int32)[:, None])


def start_weights():
    rng = np.random.default_rng(5)
    return {
        name: (0.7 / np.sqrt(np.prod(shape[:3])) * rng.standard_normal(shape)).astype(np.float32)
        if name.endswith('/kernel')
        else (0.02 * rng.standard_normal(shape)).astype(np.float32)
        for name, shape in build_plan(MODEL).weight_shapes().items()
    }


def make(name, precision='32-true', weights=None, **options):
    backend = create_backend(name, PyTorchExecutionConfig(accelerator='cpu', precision=precision))
    backend.build(build_plan(MODEL), weights or start_weights())
    backend.prepare_training(TrainingConfig(model=MODEL, backend=name, **options))
    return backend


@cache
def plain(name):
    """A backend whose steps are the gradient; one for all tests, since making one takes long."""
    return make(name, **PLAIN)


def gradient(name, batch, weights=None):
    """The gradient, read off a plain step so long that rounding does not matter."""
    backend, before, rate = plain(name), weights or start_weights(), 1e3
    backend.set_weights(before)
    backend.train_step([batch], rate)
    after = backend.weights()
    return {key: (before[key].astype(float) - after[key]) / rate for key in before}


def assert_moved(backend, before, expected):
    """Compare the change of every weight with the expected one."""
    after = backend.weights()
    for key, change in expected.items():
        found = after[key].astype(float) - before[key]
        # Weights are float32: their change is known to a rounding of the weight.
        np.testing.assert_allclose(found, change, rtol=2e-3, atol=2e-7 + 1e-3 * np.abs(change).max())


@pytest.mark.parametrize('algorithm', ['norm', 'value', 'agc'])
def test_opt_02_clipping(name, batch, algorithm):
    limit = {'norm': 0.01, 'value': 1e-3, 'agc': 0.02}[algorithm]
    weights = start_weights()
    # One unit without weights, one with small weights: their limit is that of the smallest norm.
    weights['autoencoder/encoder1a/kernel'][..., 0] = 0
    weights['autoencoder/encoder1a/bias'][:] = 1e-6
    slope = gradient(name, batch, weights)
    whole = np.sqrt(sum((g**2).sum() for g in slope.values()))
    clipped = {}
    for key, g in slope.items():
        if algorithm == 'norm':
            clipped[key] = g * min(1, limit / whole)
        elif algorithm == 'value':
            clipped[key] = np.clip(g, -limit, limit)
        else:
            axes = (0, 1, 2) if g.ndim == 4 else (0,)
            size = np.sqrt((weights[key].astype(float) ** 2).sum(axis=axes, keepdims=True))
            steep = np.sqrt((g**2).sum(axis=axes, keepdims=True))
            allowed = limit * np.maximum(size, 1e-3)
            clipped[key] = g * np.minimum(1, allowed / np.maximum(steep, 1e-30))
    assert any(not np.allclose(clipped[key], slope[key], rtol=0.01) for key in slope)
    options = {**PLAIN, 'gradient_clip_val': limit, 'gradient_clip_algorithm': algorithm}
    backend = make(name, weights=weights, **options)
    backend.train_step([batch], 10.0)
    assert_moved(backend, weights, {key: -10.0 * g for key, g in clipped.items()})


@pytest.mark.parametrize('optimizer', ['adam', 'adamw'])
def test_opt_03_and_04_adam(name, batch, optimizer):
    rate, decay, beta1, beta2 = 2e-3, 0.3, 0.8, 0.9
    backend = make(
        name,
        optimizer=optimizer,
        weight_decay=decay,
        adam_beta1=beta1,
        adam_beta2=beta2,
        gradient_clip_val=None,
    )
    mean = square = dict.fromkeys(backend.weights(), 0.0)
    for step in (1, 2, 3):
        before = backend.weights()
        slope = gradient(name, batch, before)
        if optimizer == 'adam':
            slope = {key: g + decay * before[key] for key, g in slope.items()}
        mean = {key: beta1 * mean[key] + (1 - beta1) * g for key, g in slope.items()}
        square = {key: beta2 * square[key] + (1 - beta2) * g**2 for key, g in slope.items()}
        backend.train_step([batch], rate)
        after = backend.weights()
        for key in before:
            root = np.sqrt(square[key] / (1 - beta2**step)) + 1e-8
            change = -rate * mean[key] / (1 - beta1**step) / root
            if optimizer == 'adamw':
                change = change - rate * decay * before[key]
            # Where a gradient is near its rounding, its sign and so the step are not determined.
            sure = np.abs(slope[key]) > 1e-3 * np.abs(slope[key]).max()
            found = after[key].astype(float) - before[key]
            np.testing.assert_allclose(found[sure], change[sure], rtol=0.02, atol=2e-2 * rate)


def test_opt_03_and_05_momentum(name, batch):
    rate, decay, momentum = 0.1, 0.05, 0.7
    backend = make(name, optimizer='sgd', momentum=momentum, weight_decay=decay, gradient_clip_val=None)
    velocity = dict.fromkeys(backend.weights(), 0.0)
    for _ in range(3):
        before = backend.weights()
        slope = gradient(name, batch, before)
        velocity = {key: momentum * velocity[key] + g + decay * before[key] for key, g in slope.items()}
        backend.train_step([batch], rate)
        assert_moved(backend, before, {key: -rate * u for key, u in velocity.items()})


@pytest.mark.parametrize(
    ('optimizer', 'precision'),
    [('adam', '32-true'), ('adamw', '64-true'), ('sgd', '32-true'), ('adamw', '16-mixed')],
)
def test_opt_07_the_state_is_put_back_exactly(name, batch, optimizer, precision):
    """On one backend; tests/training/test_resume.py goes on with a fresh one."""
    backend = make(name, precision, optimizer=optimizer)
    states = []
    for _ in range(2):
        backend.train_step([batch], 1e-2)
        states.append(backend.optimiser_state())
    early, state = states
    assert {key.rpartition('/')[0] for key in state} >= set(backend.weights())
    kind = np.float64 if precision == '64-true' else np.float32
    assert all(value.dtype == kind for value in state.values() if value.size > 2)
    weights = backend.weights()
    results = []
    for kept in (state, state, early):
        backend.set_weights(weights)
        backend.set_optimiser_state(kept)
        again = backend.optimiser_state()
        assert set(again) == set(kept)
        for key, value in kept.items():
            np.testing.assert_array_equal(again[key], value)
        backend.train_step([batch], 1e-2)
        results.append(backend.weights())
    expected, found, without = results
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value)
    assert any((without[key] != expected[key]).any() for key in expected)


def test_opt_01_accumulated_batches_are_one_large_batch(name, prepared):
    groups = np.arange(16, dtype=np.int32)[:, None]
    whole = [prepared.batch(groups)]
    parts = [prepared.batch(groups[:6]), prepared.batch(groups[6:])]
    backend, results = plain(name), []
    for batches in (whole, parts):
        backend.set_weights(start_weights())
        results.append((backend.train_step(batches, 10.0), backend.weights()))
    (one, expected), (two, found) = results
    assert two.loss == pytest.approx(one.loss, rel=1e-4)
    assert two.deviance == pytest.approx(one.deviance, rel=1e-4)
    start = start_weights()
    assert_moved(backend, start, {key: value.astype(float) - start[key] for key, value in expected.items()})
    assert any((found[key] != value).any() for key, value in start.items())


@cache
def losses_of_four_steps(name, precision):
    backend = make(name, precision)
    prepared = ScanModel(Scan.from_raw(small_scan(points=4, size=32)))
    batch = prepared.batch(np.arange(8, dtype=np.int32)[:, None])
    return [backend.train_step([batch], 1e-3).loss for _ in range(4)]


@pytest.mark.parametrize('precision', ['bf16-mixed', '16-mixed'])
def test_opt_06_half_precision_learns_about_the_same(name, precision):
    whole, half = losses_of_four_steps(name, '32-true'), losses_of_four_steps(name, precision)
    assert half != whole
    assert half[-1] < half[0]
    np.testing.assert_allclose(half, whole, rtol=0.05)


def test_opt_05_the_step_has_the_length_of_its_learning_rate(name, batch):
    """The rate of each step counts, not that of the configuration."""
    backend, before = plain(name), start_weights()
    lengths = []
    for rate in (1.0, 0.25, 4.0):
        backend.set_weights(before)
        backend.train_step([batch], rate)
        moved = (
            backend.weights()['autoencoder/encoder1a/kernel'].astype(float)
            - before['autoencoder/encoder1a/kernel']
        )
        lengths.append(np.sqrt((moved**2).sum()))
    np.testing.assert_allclose(np.array(lengths[1:]) / lengths[0], [0.25, 4.0], rtol=1e-3)


@pytest.mark.parametrize(('before', 'after'), [('16-mixed', '32-true'), ('32-true', '16-mixed')])
def test_opt_07_a_run_in_another_precision_scales_its_own_loss(name, batch, before, after):
    earlier = make(name, before, **PLAIN)
    earlier.train_step([batch], 1e-3)
    fresh, resumed = make(name, after, **PLAIN), make(name, after, **PLAIN)
    resumed.set_optimiser_state(earlier.optimiser_state())
    for backend in (fresh, resumed):
        backend.train_step([batch], 1e-3)
    for key, value in fresh.weights().items():
        np.testing.assert_array_equal(resumed.weights()[key], value)
