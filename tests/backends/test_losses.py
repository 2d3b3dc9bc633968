"""Each loss of a step is that of an independent float64 computation, on each backend (LOSS-*).

The reference, ``tests/reference``, shares no code with the engine.
"""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from ptycho_engine.backends.base import create_backend
from ptycho_engine.config import ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho_engine.config.training import BACKENDS
from ptycho_engine.formats.packaged import load_model
from ptycho_engine.network.plan import build_plan, training_plan
from ptycho_engine.physics.scaling import measure_scale
from ptycho_engine.scan.scan import Scan
from ptycho_engine.training.physics_images import PhysicsImages
from ptycho_engine.training.sources import GroupedScan
from ptycho_engine.whole_scan.held_out import scan_patterns
from ptycho_engine.whole_scan.scan_model import ScanModel
from tests.backends.test_parity import scattered_weights
from tests.conftest import small_scan
from tests.reference import optics

pytestmark = pytest.mark.usefixtures('slim_cnn')

DOUBLE = PyTorchExecutionConfig(accelerator='cpu', precision='64-true')
MODEL = ModelConfig(N=32, n_filters_scale=1, architecture='cnn', gridsize=2)
GROUPS = np.array([[0, 1, 3, 4], [4, 5, 7, 8]], np.int32)
NOTHING = {'nll_weight': 0.0, 'mae_weight': 0.0, 'realspace_mae_weight': 0.0, 'realspace_weight': 0.0}
BAD = np.zeros((32, 32), bool)
BAD[5:8, 12] = BAD[16, 16] = True


def dim_scan(**changes):
    """A scan of about two counts per pixel and less, so that what is added to a rate counts."""
    raw = small_scan(points=3, size=32, modes=2, photons=2e3, bad_pixels=BAD)
    return replace(raw, **changes)


@cache
def backend_of(backend_name, model, losses):
    """Return a backend with one network and those weights of the losses."""
    config = TrainingConfig(model=model, **{**NOTHING, **dict(losses)})
    plan = training_plan(config, 2)
    backend = create_backend(backend_name, DOUBLE)
    backend.build(plan, scattered_weights(plan))
    backend.prepare_training(config)
    return backend


def computed(backend_name, model=MODEL, raw=None, **losses):
    """Return the losses of a batch by a backend, the patches it predicts, and the batch."""
    backend = backend_of(backend_name, model, tuple(losses.items()))
    prepared = ScanModel(Scan.from_raw(raw or dim_scan()), model, has_truth=True)
    batch = prepared.batch(GROUPS)
    return backend.evaluate(batch), backend.predict(batch).astype(complex), batch


def patterns_of(patches, batch):
    """Yield (amplitude, predicted counts, light) of each pattern by the reference."""
    probe = batch.illumination.probe.astype(complex)
    for index in np.ndindex(batch.amplitude.shape[:2]):
        moved = optics.moved(probe, *batch.subpixel_shift[index].astype(float))
        amplitude = batch.amplitude[index].astype(float)
        yield amplitude, optics.rate(patches[index], moved), optics.light(moved)


def lights_of(patches, batch):
    lights = [light for _, _, light in patterns_of(patches, batch)]
    return np.reshape(lights, patches.shape), optics.light(batch.illumination.probe.astype(complex)).max()


@pytest.mark.parametrize('backend_name', BACKENDS)
def test_fwd_02_and_loss_02_the_deviance_is_divided_in_training_and_logged_whole(backend_name):
    """0.01 counts are added to a rate, and 1 + mean counts per pixel divide the loss."""
    result, patches, batch = computed(backend_name, nll_weight=1.0)
    good = batch.illumination.valid
    each = [
        (optics.deviance(a**2, r, good), (a[good] ** 2).mean()) for a, r, _ in patterns_of(patches, batch)
    ]
    assert result.deviance == pytest.approx(np.mean([fit for fit, _ in each]), rel=1e-5)
    assert result.loss == pytest.approx(np.mean([fit / (1 + counts) for fit, counts in each]), rel=1e-5)


@pytest.mark.parametrize('backend_name', BACKENDS)
def test_loss_03_the_amplitude_error_is_relative_to_the_sum_of_amplitudes(backend_name):
    result, patches, batch = computed(backend_name, mae_weight=1.0)
    good = batch.illumination.valid
    each = [optics.amplitude_error(a, r, good) for a, r, _ in patterns_of(patches, batch)]
    assert result.loss == pytest.approx(np.mean(each), rel=1e-5)


@pytest.mark.parametrize('backend_name', BACKENDS)
@pytest.mark.parametrize('shared', [True, False])
def test_loss_04_and_07_the_label_error_is_that_of_patches_that_share_a_phase(backend_name, shared):
    """NET-05: without `object_big` each patch has a phase of its own."""
    model = replace(MODEL, object_big=shared)
    result, patches, batch = computed(backend_name, model, realspace_mae_weight=1.0)
    lights, brightest = lights_of(patches, batch)
    each = []
    for group in range(len(GROUPS)):
        parts = [slice(None)] if shared else [slice(k, k + 1) for k in range(4)]
        for part in parts:
            weight = optics.label_weights(lights[group, part], batch.corner[group, part], brightest)
            known = batch.labels[group, part].astype(complex)
            each.append(optics.label_error(patches[group, part], known, weight))
    assert result.loss == pytest.approx(np.mean(each), rel=1e-5)


@pytest.mark.parametrize('backend_name', BACKENDS)
def test_loss_04_small_differences_are_rounded_off_below_a_thousandth(backend_name):
    """Known patches that are those of the network: all that is left is what rounds the kink off."""
    _, patches, batch = computed(backend_name, realspace_mae_weight=1.0)
    backend = backend_of(backend_name, MODEL, (('realspace_mae_weight', 1.0),))
    known = replace(batch, labels=patches.astype(np.complex64))
    lights, brightest = lights_of(patches, batch)
    each = []
    for group, corner in enumerate(batch.corner):
        weight = optics.label_weights(lights[group], corner, brightest)
        each.append(optics.label_error(patches[group], patches[group], weight))
    assert 0.0025 < np.mean(each) < 0.0035
    assert backend.evaluate(known).loss == pytest.approx(np.mean(each), rel=1e-3)


@pytest.mark.parametrize('backend_name', BACKENDS)
def test_loss_07_the_labels_of_a_whole_canvas_count_where_there_is_light(backend_name):
    """Where 'prior' looks at a canvas of the scan, the weights are ``I / (I + 0.05 m)``."""
    model = ModelConfig(gridsize=2)
    config = TrainingConfig(model=model, **{**NOTHING, 'realspace_mae_weight': 1.0})
    plan, archive = build_plan(model), load_model()
    backend = create_backend(backend_name, DOUBLE)
    backend.build(plan, archive.weights)
    backend.prepare_training(config)
    prepared = ScanModel(Scan.from_raw(dim_scan()), model, has_truth=True)
    (item,) = PhysicsImages(backend, plan, lambda: False).validation([GroupedScan(prepared, GROUPS)])
    batch = item.batch(GROUPS)
    each = []
    for look in batch.looks.astype(float):
        for group, (real, imag, deviation, light) in enumerate(look):
            noisy = real + 1j * imag
            noise = backend.denoise(*(on_device(backend_name, a) for a in (noisy, deviation)))
            weight = light / (light + 0.05)
            found, known = (noisy - np.asarray(noise))[None], batch.truth[group].astype(complex)[None]
            each.append(optics.label_error(found, known, weight[None]))
    assert backend.evaluate(batch).loss == pytest.approx(np.mean(each), rel=1e-5)


def on_device(backend_name, array):
    if backend_name == 'pytorch':
        import torch

        return torch.from_numpy(array)
    return array


@pytest.mark.parametrize('backend_name', BACKENDS)
def test_loss_05_the_total_variation_is_weighted_by_the_light(backend_name):
    result, patches, batch = computed(backend_name, realspace_weight=1.0)
    flat = patches.reshape(-1, *patches.shape[-2:])
    lights = [light for _, _, light in patterns_of(patches, batch)]
    each = [optics.variation(patch, light) for patch, light in zip(flat, lights, strict=True)]
    # The root is rounded off at 1e-4.
    assert result.loss == pytest.approx(np.mean(each), rel=1e-3)


@pytest.mark.parametrize('likelihood', ['poisson', 'amplitude'])
@pytest.mark.parametrize('backend_name', BACKENDS)
def test_loss_06_bad_pixels_take_no_part_in_scale_and_steps(backend_name, likelihood):
    """Whatever the detector says there; that the losses do not look is seen by the tests above."""
    raw = dim_scan()
    spoiled = raw.diffraction.copy()
    spoiled[:, BAD] = 1e3
    scales = [measure_scale(a, raw.probeGuess, BAD) for a in (raw.diffraction, spoiled)]
    assert scales[0] == scales[1]
    patterns = scan_patterns(ScanModel(Scan.from_raw(raw)), 0)
    found = []
    for amplitude in (raw.diffraction, spoiled):
        of_these = replace(patterns, amplitude=lambda chosen, a=amplitude: a[chosen])
        physics = create_backend(backend_name, DOUBLE).scan_physics(of_these)
        flat = physics.to_device(np.ones(patterns.shape, np.complex64))
        step = physics.evaluate(flat, np.arange(len(patterns)), likelihood)
        found.append((physics.to_host(step.gradient), step.held_out))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]
