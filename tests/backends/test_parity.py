"""NumPy, PyTorch and TensorFlow compute the same, for every option of the network and of the losses."""

from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from ptycho_engine.backends.base import create_backend
from ptycho_engine.config import InferenceConfig, ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho_engine.config.training import BACKENDS
from ptycho_engine.events import EpochDone
from ptycho_engine.formats.archive import load_archive
from ptycho_engine.network.plan import INTENSITY_SCALE, PROBE_CORRECTION, initial_weights, training_plan
from ptycho_engine.physics import forward as ref
from ptycho_engine.physics.probe import correct_probe
from ptycho_engine.reconstruction.reconstruct import reconstruct
from ptycho_engine.reconstruction.result import Reconstructed
from ptycho_engine.scan.scan import Scan
from ptycho_engine.scoring.scores import scan_box, score
from ptycho_engine.training.physics_images import PhysicsImages
from ptycho_engine.training.sources import GroupedScan
from ptycho_engine.training.train import train
from ptycho_engine.whole_scan.scan_model import ScanModel
from tests.conftest import small_scan

CPU = PyTorchExecutionConfig(accelerator='cpu')
ALL_LOSSES = {'mae_weight': 0.4, 'realspace_mae_weight': 0.3, 'realspace_weight': 0.2}


@dataclass(frozen=True)
class Case:
    """One network on one scan; together the cases hold every option with every grid size."""

    N: int = 64
    modes: int = 1
    bad_pixels: bool = False
    model: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=lambda: dict(ALL_LOSSES))

    def config(self, backend: str) -> TrainingConfig:
        model = {'architecture': 'cnn', 'N': self.N, 'n_filters_scale': 1, **self.model}
        return TrainingConfig(model=ModelConfig(**model), backend=backend, **self.training)


CASES = {
    'prior-all-losses': Case(model={'architecture': 'prior'}),
    'prior-g2-modes-mask': Case(modes=3, bad_pixels=True, model={'architecture': 'prior', 'gridsize': 2}),
    'prior-g3-apart': Case(
        N=32,
        model={'architecture': 'prior', 'gridsize': 3, 'object_big': False},
        training={'nll_weight': 0.5},
    ),
    'prior-100-disk': Case(
        N=100,
        model={
            'architecture': 'prior',
            'probe_mask': True,
            'probe_mask_diameter': 50.0,
            'gaussian_smoothing_sigma': 0.7,
        },
    ),
    'prior-g2-supervised': Case(
        N=32, model={'architecture': 'prior', 'gridsize': 2, 'model_type': 'supervised'}, training={}
    ),
    'cnn-sigmoid-learned': Case(
        model={'architecture': 'cnn'},
        training={'probe_trainable': True, 'intensity_scale_trainable': True},
    ),
    'cnn-g2-softplus-inner-modes': Case(
        modes=3,
        bad_pixels=True,
        model={'architecture': 'cnn', 'gridsize': 2, 'amp_activation': 'softplus', 'probe_big': False},
    ),
    'cnn-g3-swish-whole-apart': Case(
        N=32,
        model={
            'architecture': 'cnn',
            'gridsize': 3,
            'amp_activation': 'swish',
            'pad_object': False,
            'object_big': False,
        },
    ),
    'cnn-128-relu': Case(
        N=128, model={'architecture': 'cnn', 'gridsize': 2, 'amp_activation': 'relu', 'probe_scale': 2.5}
    ),
}


def prepared_scan(case: Case) -> ScanModel:
    bad = None
    if case.bad_pixels:
        bad = np.zeros((case.N, case.N), bool)
        bad[10:13, 20:30] = bad[case.N // 2, case.N // 2] = True
    raw = small_scan(points=3, size=case.N, modes=case.modes, bad_pixels=bad)
    return ScanModel(Scan.from_raw(raw), case.config('pytorch').model, has_truth=True)


def scattered_weights(plan):
    """Weights of which none is zero, so that every path counts, and whose object is not far from flat."""
    rng = np.random.default_rng(3)
    weights = {}
    for name, shape in plan.weight_shapes().items():
        deviation = 0.02
        if name.endswith('/kernel'):
            deviation = 0.7 / np.sqrt(np.prod(shape[:3]))
        weights[name] = (deviation * rng.standard_normal(shape)).astype(np.float32)
    return weights


def training_batches(prepared, plan, groups):
    """Return the batches that training makes of groups (b, C): of a prior with the images of physics."""
    backend = create_backend('pytorch', CPU)
    backend.build(plan, initial_weights(plan, 0))
    images = PhysicsImages(backend, plan, lambda: False)
    (item,) = images.validation([GroupedScan(prepared, np.concatenate(groups))])
    return [item.batch(part) for part in groups]


def patches_of_the_last_look(backend, batch):
    """Return what a prior makes of the common objects of a batch, cut into the patches of the groups."""
    corner = batch.corner - batch.corner.min(axis=1, keepdims=True)
    size = batch.amplitude.shape[-1]
    found = []
    for group, (real, imag, deviation, _) in enumerate(batch.looks[-1]):
        noisy = (real + 1j * imag).astype(np.complex64)
        as_given = (torch.from_numpy(a) if backend.name == 'pytorch' else a for a in (noisy, deviation))
        obj = noisy - np.asarray(backend.denoise(*as_given))
        found.append([obj[row : row + size, column : column + size] for row, column in corner[group]])
    return np.array(found)


@cache
def computed(name: str, backend_name: str):
    """Patches, losses and gradient of one case by one backend."""
    case = CASES[name]
    prepared = prepared_scan(case)
    # The gradient is read off a plain step so long that rounding of the weights does not matter.
    config = replace(
        case.config(backend_name),
        optimizer='sgd',
        momentum=0.0,
        weight_decay=0.0,
        gradient_clip_val=None,
    )
    plan = training_plan(config, case.modes)
    weights = scattered_weights(plan)
    backend = create_backend(backend_name, CPU)
    backend.build(plan, weights)
    backend.prepare_training(config)
    groups = np.resize(np.arange(9, dtype=np.int32), 2 * plan.channels).reshape(2, plan.channels)
    rate = 1e3
    (batch,) = training_batches(prepared, plan, [groups])
    assert (batch.looks is None) == (config.model.architecture == 'cnn')
    patches = backend.predict(batch) if batch.looks is None else patches_of_the_last_look(backend, batch)
    losses = backend.evaluate(batch)
    stepped = backend.train_step([batch], rate)
    assert stepped.loss == pytest.approx(losses.loss, rel=1e-4)
    gradient = {key: (weights[key].astype(float) - value) / rate for key, value in backend.weights().items()}
    return patches, losses, gradient, batch, weights


@pytest.mark.parametrize('name', CASES)
def test_back_01_equal_weights_give_equal_patches_losses_and_gradients(name):
    patches, losses, gradient, *_ = computed(name, 'pytorch')
    found_patches, found_losses, found_gradient, *_ = computed(name, 'tensorflow')
    assert np.abs(patches - 1).max() > 0.01
    assert found_patches.shape == patches.shape
    np.testing.assert_allclose(found_patches, patches, atol=1e-4 * np.abs(patches).max())
    assert found_losses.loss == pytest.approx(losses.loss, rel=1e-4)
    assert found_losses.deviance == pytest.approx(losses.deviance, rel=1e-4)
    assert list(found_gradient) == list(gradient)
    largest = max(np.abs(slope).max() for slope in gradient.values())
    for key, slope in gradient.items():
        scale = np.abs(slope).max()
        supervised = CASES[name].config('pytorch').model.model_type == 'supervised'
        assert scale > 0 or supervised, f'{key} takes no part'
        # A pattern does not fix its patch's phase, so some gradients are nothing but rounding; and absolute
        # errors have a kink, past which one pixel of thousands may round on one backend alone.
        tolerance = 1e-3 * scale + 1e-5 * largest
        np.testing.assert_allclose(found_gradient[key], slope, atol=tolerance, err_msg=key)


@pytest.mark.parametrize('backend_name', BACKENDS)
@pytest.mark.parametrize('name', CASES)
def test_fwd_04_predicted_intensities_and_deviance_are_those_of_the_reference(name, backend_name):
    """The deviance that a backend reports is the reference's for the patches that it returns."""
    patches, losses, _, batch, weights = computed(name, backend_name)
    probe = batch.illumination.probe
    if PROBE_CORRECTION in weights:
        probe = correct_probe(probe, weights[PROBE_CORRECTION])
    flat = patches.reshape(-1, *patches.shape[-2:]).astype(complex)
    rate = ref.predict_intensity(
        flat, probe.astype(complex), batch.subpixel_shift.reshape(-1, 2).astype(float)
    )
    if INTENSITY_SCALE in weights:
        rate = rate * np.exp(2 * float(weights[INTENSITY_SCALE][0]))
    counts = batch.amplitude.reshape(flat.shape).astype(float) ** 2
    good = np.broadcast_to(batch.illumination.valid, counts.shape)
    if batch.judged is not None:
        good = good & batch.judged.reshape(counts.shape)
    expected = np.mean([ref.deviance(*each) for each in zip(counts, rate, good, strict=True)])
    assert losses.deviance == pytest.approx(expected, rel=1e-3)


DOUBLE = {
    'prior': Case(N=32, modes=2, bad_pixels=True, model={'architecture': 'prior', 'gridsize': 2}),
    'cnn': Case(N=32, model={'architecture': 'cnn'}, training={'probe_trainable': True}),
}


@pytest.mark.parametrize('name', DOUBLE)
def test_opt_08_in_double_precision_the_backends_take_the_same_steps(name):
    """Nothing but rounding tells them apart: no cast, no epsilon, no convention of one alone."""
    prepared = prepared_scan(DOUBLE[name])
    steps = np.random.default_rng(0).integers(0, 9, (10, 2, prepared.model.gridsize**2), np.int32)
    batches = training_batches(
        prepared, training_plan(DOUBLE[name].config('pytorch'), len(prepared.probe)), list(steps)
    )
    losses, weights = {}, {}
    for backend_name in BACKENDS:
        config = DOUBLE[name].config(backend_name)
        plan = training_plan(config, len(prepared.probe))
        backend = create_backend(backend_name, PyTorchExecutionConfig(accelerator='cpu', precision='64-true'))
        backend.build(plan, initial_weights(plan, 0))
        backend.prepare_training(config)
        losses[backend_name] = [backend.train_step([batch], 2e-3).loss for batch in batches]
        weights[backend_name] = backend.weights()
    np.testing.assert_allclose(losses['tensorflow'], losses['pytorch'], rtol=1e-12)
    assert losses['pytorch'][-1] != losses['pytorch'][0]
    for key, value in weights['pytorch'].items():
        assert value.dtype == np.float64
        np.testing.assert_allclose(weights['tensorflow'][key], value, atol=1e-9, err_msg=key)


TRAININGS = {
    'prior': TrainingConfig(nepochs=3, n_groups=16, batch_size=8, learning_rate=2e-2),
    'cnn': TrainingConfig(
        model=ModelConfig(n_filters_scale=1, architecture='cnn'),
        nepochs=5,
        n_groups=64,
        batch_size=8,
        validation_fraction=0.2,
    ),
}


@pytest.fixture(scope='module', params=TRAININGS)
def config(request):
    return TRAININGS[request.param]


@pytest.fixture(scope='module')
def scan():
    return Scan.from_raw(small_scan(size=32))


@pytest.fixture(scope='module')
def models(scan, config, tmp_path_factory):
    """The same training, on the same batches from the same weights, on each backend."""
    trained = {}
    for name in BACKENDS:
        folder = tmp_path_factory.mktemp(name)
        events = list(train([scan], replace(config, backend=name), folder, execution=CPU))
        trained[name] = [e for e in events if isinstance(e, EpochDone)], load_archive(folder)
    return trained


def reconstructed(scan, archive, backend_name):
    """By the network alone: a refinement would end in one image from any."""
    config = InferenceConfig(backend=backend_name, refine_iterations=0)
    *_, last = reconstruct(scan, archive, config, execution=CPU)
    assert isinstance(last, Reconstructed)
    return last.reconstruction


def test_back_02_training_takes_the_same_course_on_each_backend(models, config):
    curves = {}
    for name, (epochs, archive) in models.items():
        assert archive.backend == name
        curves[name] = np.array(
            [[e.training_loss, e.validation_loss, e.training_deviance, e.validation_deviance] for e in epochs]
        )
    assert curves['pytorch'].shape == (config.nepochs, 4)
    if config.model.architecture == 'cnn':
        assert curves['pytorch'][-1, 0] < 0.9 * curves['pytorch'][0, 0]
    np.testing.assert_allclose(curves['tensorflow'], curves['pytorch'], rtol=0.01)


def test_back_02_both_trainings_end_in_the_same_image(models, scan):
    truth = scan.raw.objectGuess
    box = scan_box(scan.raw.xcoords, scan.raw.ycoords, truth.shape)
    scores = {
        name: score(truth, reconstructed(scan, archive, name).object_array, box)
        for name, (_, archive) in models.items()
    }
    first, second = scores['pytorch'], scores['tensorflow']
    assert abs(first.amplitude_psnr - second.amplitude_psnr) < 0.3
    assert abs(first.phase_psnr - second.phase_psnr) < 0.3


@pytest.mark.parametrize('trained_by', BACKENDS)
def test_back_02_and_03_an_archive_runs_on_the_other_backend(models, scan, trained_by):
    archive = models[trained_by][1]
    results = {name: reconstructed(scan, archive, name) for name in BACKENDS}
    for name, result in results.items():
        assert result.backend == name
        if not archive.config.model.of_objects:
            assert f'trained by {trained_by}, run by {name}' in result.comments
    expected = results['pytorch'].object_array
    np.testing.assert_allclose(
        results['tensorflow'].object_array, expected, atol=1e-3 * np.abs(expected).max()
    )
