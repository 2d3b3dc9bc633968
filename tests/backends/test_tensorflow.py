"""What is TensorFlow's own: physics in its arithmetic, graphs, devices, precision and start."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('tensorflow')

import tensorflow as tf

from ptycho_engine.backends.base import create_backend
from ptycho_engine.backends.tensorflow import operations
from ptycho_engine.backends.tensorflow.operations import TENSORFLOW
from ptycho_engine.config import ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho_engine.errors import BackendUnavailableError
from ptycho_engine.network.plan import build_plan, initial_weights
from ptycho_engine.physics import forward as ref
from ptycho_engine.physics.geometry import place_patches
from ptycho_engine.physics.groups import Canvas, merge_and_cut
from ptycho_engine.physics.likelihood import draw_held_out
from ptycho_engine.scan.scan import Scan
from ptycho_engine.whole_scan.held_out import scan_patterns
from ptycho_engine.whole_scan.scan_model import ScanModel
from tests.conftest import small_scan
from tests.reference import optics

ROOT = Path(__file__).parents[2]
SMALL = ModelConfig(N=32, n_filters_scale=1, architecture='cnn')


def prepared_scan(size=32, **options) -> ScanModel:
    return ScanModel(Scan.from_raw(small_scan(points=4, size=size, **options)))


def backend_for(model=SMALL, **execution):
    backend = create_backend('tensorflow', PyTorchExecutionConfig(accelerator='cpu', **execution))
    plan = build_plan(model)
    rng = np.random.default_rng(3)
    weights = {
        name: value + (0.01 * rng.standard_normal(value.shape)).astype(np.float32)
        for name, value in initial_weights(plan, 0).items()
    }
    backend.build(plan, weights)
    backend.prepare_training(TrainingConfig(model=model, backend='tensorflow'))
    return backend


@pytest.mark.parametrize(('size', 'modes'), [(64, 1), (64, 3), (128, 3)])
def test_fwd_04_values_and_gradients_are_those_of_the_reference(size, modes):
    raw = small_scan(points=2, size=size, modes=modes)
    placement = place_patches(raw.xcoords, raw.ycoords, size)
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((4, size, size)) + 1j * rng.standard_normal((4, size, size))
    patches = ref.cut_patches(raw.objectGuess, placement, size) * 0.95 + 0.03 * noise
    good = rng.random((size, size)) > 0.02
    counts = raw.diffraction.astype(float) ** 2
    probe = raw.probeGuess.astype(complex)
    moved = [optics.moved(probe, *subpixel_shift) for subpixel_shift in placement.subpixel_shift]
    expected_rate = np.array([optics.rate(*each) for each in zip(patches, moved, strict=True)])
    expected = [optics.deviance(k, rate, good) for k, rate in zip(counts, expected_rate, strict=True)]
    gradients = [optics.deviance_gradient(*each, good) for each in zip(patches, moved, counts, strict=True)]
    expected_gradient = np.array(gradients)

    variable = tf.Variable(patches.astype(np.complex64))
    with tf.GradientTape() as tape:
        subpixel_shift = tf.constant(placement.subpixel_shift, tf.float32)
        probes = ref.shift_probe(TENSORFLOW, tf.constant(raw.probeGuess), subpixel_shift)
        rate = ref.total_intensity(TENSORFLOW, ref.far_field(TENSORFLOW, variable, probes))
        measured = tf.signal.ifftshift(tf.constant(counts, tf.float32), axes=(-2, -1))
        mask = tf.signal.ifftshift(tf.constant(good))
        fit = ref.deviance_per_pixel(TENSORFLOW, measured, rate, mask)
        total = tf.reduce_sum(fit)
    shifted = tf.signal.fftshift(rate, axes=(-2, -1)).numpy()
    np.testing.assert_allclose(shifted, expected_rate, atol=1e-4 * expected_rate.max())
    np.testing.assert_allclose(fit.numpy(), expected, rtol=1e-4)
    gradient = tape.gradient(total, variable).numpy()
    np.testing.assert_allclose(gradient, expected_gradient, atol=1e-4 * np.abs(expected_gradient).max())


def test_fwd_03_group_merge_is_that_of_the_reference():
    """On canvases sized from the groups: one far apart, one on a single spot."""
    rng = np.random.default_rng(0)
    patches = rng.standard_normal((2, 4, 16, 16)) + 1j * rng.standard_normal((2, 4, 16, 16))
    window = rng.random((2, 4, 16, 16)) + 0.01
    corner = np.array([[[3, 5], [40, 5], [9, 9], [4, -20]], [[7, 7]] * 4])
    expected = [optics.merged(*each) for each in zip(patches, window, corner, strict=True)]
    start = tf.constant(corner - corner.min(axis=1, keepdims=True), tf.int32)
    found = merge_and_cut(
        TENSORFLOW,
        tf.constant(patches, tf.complex64),
        tf.constant(window, tf.float32),
        Canvas(TENSORFLOW, start, 16, tf.reduce_max(start) + 16),
    )
    np.testing.assert_allclose(found.numpy(), np.stack(expected), atol=1e-4)


def test_loss_01_float32_deviance_is_right_at_a_billion_photons():
    counts = np.random.default_rng(0).poisson(1e7, (1, 64, 64)).astype(float)
    good = np.ones((64, 64), bool)
    expected = optics.deviance(counts[0], np.full((64, 64), 1e7), good)
    rate = tf.fill((1, 64, 64), 1e7)
    found = ref.deviance_per_pixel(TENSORFLOW, tf.constant(counts, tf.float32), rate, tf.constant(good))
    assert float(found[0]) == pytest.approx(expected, rel=1e-3)


def test_every_group_has_its_output_and_one_graph_serves_every_batch():
    """1, 3, 16 and 64 groups of 4 patterns: 4 to 256 images."""
    prepared = prepared_scan()
    backend = backend_for(ModelConfig(N=32, gridsize=2, n_filters_scale=1, architecture='cnn'))
    first = np.array([4 * row + column for row in range(3) for column in range(3)], np.int32)
    groups = np.resize(first[:, None] + np.array([0, 1, 4, 5], np.int32), (64, 4))
    # One group is wider than the others, whose objects are of its size nevertheless.
    groups[0] = 0, 3, 12, 15
    whole = backend.predict(prepared.batch(groups))
    assert whole.shape == (64, 4, 32, 32)
    for size in (1, 3, 16):
        parts = [backend.predict(batch) for batch in prepared.batches(groups[:16], size)]
        np.testing.assert_allclose(np.concatenate(parts), whole[:16], atol=2e-4)
    one = prepared.batch(groups[:1])
    for batch in (one, prepared.batch(groups[:3])):
        backend.train_step([batch], 1e-3)
        backend.evaluate(batch)
    assert {graph.experimental_get_tracing_count() for graph in backend._graphs.values()} == {1}


def test_any_number_of_patterns_of_a_scan_takes_one_graph():
    patterns = scan_patterns(prepared_scan(modes=2), 0)
    physics = backend_for().scan_physics(patterns)
    flat = physics.to_device(np.ones(patterns.shape, np.complex64))
    whole = physics.evaluate(flat, np.arange(16), 'poisson').gradient
    parts = [physics.evaluate(flat, part, 'poisson').gradient for part in (np.arange(5), np.arange(5, 16))]
    np.testing.assert_allclose(sum(parts), whole, atol=1e-4 * np.abs(whole).max())
    physics.held_out(flat)


def test_back_05_scans_share_their_graphs():
    backend = backend_for(ModelConfig(architecture='prior'))

    def use(points, fraction):
        scan = ScanModel(Scan.from_raw(small_scan(points=points, size=32)))
        patterns = scan_patterns(scan, 0, held_out=draw_held_out(scan.valid, fraction, 0))
        physics = backend.scan_physics(patterns)
        flat = physics.to_device(np.ones(patterns.shape, np.complex64))
        physics.held_out(flat)
        physics.evaluate(flat, np.arange(points**2), 'poisson')
        backend.denoise(np.ones((32 * points, 64), np.complex64), np.ones((32 * points, 64), np.float32))

    use(4, 0.02)
    made = operations._kept_graph.cache_info().misses
    kept = dict(backend._graphs)
    backend.prepare_training(TrainingConfig(model=SMALL, backend='tensorflow'))
    use(5, 0.05)
    assert operations._kept_graph.cache_info().misses == made
    assert backend._graphs == kept
    for graph in kept.values():
        assert graph.experimental_get_tracing_count() == 1


@pytest.mark.parametrize('size', [32, 96, 256])
def test_any_size_builds_and_runs(size):
    model = ModelConfig(N=size, n_filters_scale=1, architecture='cnn')
    batch = prepared_scan(size).batch(np.zeros((1, 1), np.int32))
    patches = backend_for(model).predict(batch)
    assert patches.shape == (1, 1, size, size)
    assert np.isfinite(patches).all()


def test_scans_of_different_modes_share_a_backend():
    backend = backend_for()
    groups = np.arange(4, dtype=np.int32)[:, None]
    for modes in (1, 2, 1):
        assert backend.predict(prepared_scan(modes=modes).batch(groups)).shape == (4, 1, 32, 32)


def test_half_precision_changes_little_and_only_the_network():
    batch = prepared_scan().batch(np.arange(4, dtype=np.int32)[:, None])
    whole, *halves = (
        backend_for(precision=precision).predict(batch) for precision in ('32-true', 'bf16-mixed', '16-mixed')
    )
    # Eight or eleven bits of mantissa in the convolutions; the physics stays in float32.
    for half, bound in zip(halves, (0.05, 0.006), strict=True):
        assert half.dtype == np.complex64
        assert 0 < np.abs(half - whole).max() < bound


def test_deterministic_training_repeats_to_the_bit():
    batch = prepared_scan().batch(np.arange(16, dtype=np.int32).reshape(4, 4))
    model = ModelConfig(N=32, gridsize=2, n_filters_scale=1, architecture='cnn')
    runs = []
    for _ in range(2):
        backend = backend_for(model)
        for _ in range(3):
            backend.train_step([batch], 1e-2)
        runs.append(backend.weights())
    for name, value in runs[0].items():
        np.testing.assert_array_equal(runs[1][name], value)


def test_determinism_can_be_left():
    from tensorflow.python.framework.config import is_op_determinism_enabled

    backend_for(deterministic=False)
    assert not is_op_determinism_enabled()
    backend_for()
    assert is_op_determinism_enabled()


@pytest.mark.skipif(bool(tf.config.list_physical_devices('GPU')), reason='there is a GPU')
@pytest.mark.parametrize('accelerator', ['cuda', 'gpu', 'mps'])
def test_a_device_that_is_not_there_is_a_sentence(accelerator):
    with pytest.raises(BackendUnavailableError, match=f'^TensorFlow .*{accelerator}.* choose'):
        create_backend('tensorflow', PyTorchExecutionConfig(accelerator=accelerator))


def test_more_devices_than_there_are_is_a_sentence():
    with pytest.raises(BackendUnavailableError, match='selected with 9 devices, but TensorFlow finds'):
        create_backend('tensorflow', PyTorchExecutionConfig(accelerator='cpu', devices=9))


def test_before_its_turn_training_is_refused():
    backend = create_backend('tensorflow', PyTorchExecutionConfig(accelerator='cpu'))
    with pytest.raises(RuntimeError, match='build'):
        backend.weights()
    backend.build(build_plan(SMALL), initial_weights(build_plan(SMALL), 0))
    with pytest.raises(RuntimeError, match='prepare_training'):
        backend.optimiser_state()


SHARED = """
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices('CPU')[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from tests.backends.test_tensorflow import backend_for, prepared_scan

prepared = prepared_scan()
one, two = (backend_for(devices=count) for count in (1, 2))
for groups in (5, 1):
    batch = prepared.batch(np.arange(groups, dtype=np.int32)[:, None])
    expected, found = one.predict(batch), two.predict(batch)
    assert found.shape == (groups, 1, 32, 32), found.shape
    np.testing.assert_allclose(found, expected, atol=1e-5)
    for _ in range(2):
        first, second = one.train_step([batch], 1e-3), two.train_step([batch], 1e-3)
        np.testing.assert_allclose(second.loss, first.loss, rtol=1e-4)
for name, value in one.weights().items():
    np.testing.assert_allclose(two.weights()[name], value, atol=1e-4, err_msg=name)
state = two.optimiser_state()
two.set_optimiser_state(state)
assert state['steps'] == 4
print('shared')
"""


def test_devices_share_a_batch_and_descend_together():
    """Two logical devices take what one takes in a step: five groups as 2 and 3, a single one as 0 and 1."""
    done = subprocess.run(
        [sys.executable, '-c', SHARED],
        cwd=ROOT,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.strip() == 'shared', done.stderr[-3000:]
