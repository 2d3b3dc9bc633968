from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ptycho_engine.backends.base import Batch, create_backend
from ptycho_engine.backends.pytorch import operations
from ptycho_engine.backends.pytorch.devices import one_device
from ptycho_engine.backends.pytorch.operations import TORCH
from ptycho_engine.config import ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho_engine.errors import BackendUnavailableError, ConfigError
from ptycho_engine.network.plan import build_plan, initial_weights
from ptycho_engine.physics import forward as ref
from ptycho_engine.physics.geometry import place_patches
from ptycho_engine.physics.groups import Canvas, merge_and_cut
from ptycho_engine.scan.scan import Scan
from ptycho_engine.whole_scan.held_out import scan_patterns
from ptycho_engine.whole_scan.scan_model import ScanModel
from tests.conftest import small_scan
from tests.reference import optics

SMALL = ModelConfig(N=64, n_filters_scale=1, architecture='cnn')


def prepared_scan(**options) -> ScanModel:
    return ScanModel(Scan.from_raw(small_scan(points=4, **options)), has_truth=True)


def backend_for(prepared, gridsize=1, weights=None, **training):
    model = replace(SMALL, N=prepared.scan.raw.N, gridsize=gridsize)
    plan = build_plan(model)
    backend = create_backend('pytorch')
    backend.build(plan, weights or initial_weights(plan, 0))
    backend.prepare_training(TrainingConfig(model=model, **training))
    return backend


def scattered_weights(gridsize=1, N=64):
    """Weights whose corrections are not zero, so that every path counts."""
    plan = build_plan(replace(SMALL, N=N, gridsize=gridsize))
    rng = np.random.default_rng(3)
    return {
        name: (0.05 * rng.standard_normal(shape)).astype(np.float32)
        for name, shape in plan.weight_shapes().items()
    }


@pytest.mark.parametrize('modes', [1, 3])
@pytest.mark.parametrize('size', [64, 128])
def test_fwd_04_torch_matches_the_reference_in_value_and_gradient(modes, size):
    raw = small_scan(points=2, size=size, modes=modes)
    placement = place_patches(raw.xcoords, raw.ycoords, size)
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((4, size, size)) + 1j * rng.standard_normal((4, size, size))
    patches = ref.cut_patches(raw.objectGuess, placement, size) * 0.95 + 0.03 * noise
    good = rng.random((size, size)) > 0.02
    counts = raw.diffraction.astype(float) ** 2
    probe = raw.probeGuess.astype(complex)

    probes = [optics.moved(probe, *subpixel_shift) for subpixel_shift in placement.subpixel_shift]
    expected_rate = np.array([optics.rate(*each) for each in zip(patches, probes, strict=True)])
    expected = [optics.deviance(k, rate, good) for k, rate in zip(counts, expected_rate, strict=True)]
    gradients = [optics.deviance_gradient(*each, good) for each in zip(patches, probes, counts, strict=True)]
    expected_gradient = np.array(gradients)

    tensor = torch.tensor(patches, dtype=torch.complex64, requires_grad=True)
    subpixel_shift = torch.tensor(placement.subpixel_shift, dtype=torch.float32)
    probes = ref.shift_probe(TORCH, torch.tensor(raw.probeGuess), subpixel_shift)
    rate = ref.total_intensity(TORCH, ref.far_field(TORCH, tensor, probes))
    measured = torch.fft.ifftshift(torch.tensor(counts, dtype=torch.float32), dim=(-2, -1))
    mask = torch.fft.ifftshift(torch.tensor(good))
    fit = ref.deviance_per_pixel(TORCH, measured, rate, mask)
    fit.sum().backward()

    shifted = torch.fft.fftshift(rate, dim=(-2, -1)).detach().numpy()
    np.testing.assert_allclose(shifted, expected_rate, atol=1e-4 * expected_rate.max())
    np.testing.assert_allclose(fit.detach().numpy(), expected, rtol=1e-4)
    scale = np.abs(expected_gradient).max()
    np.testing.assert_allclose(tensor.grad.numpy(), expected_gradient, atol=1e-4 * scale)


def test_loss_01_float32_deviance_is_right_at_a_billion_photons():
    """Counts of 1e7 per pixel: the logarithm must not cancel away the noise."""
    counts = np.random.default_rng(0).poisson(1e7, (1, 64, 64)).astype(float)
    good = np.ones((64, 64), bool)
    expected = optics.deviance(counts[0], np.full((64, 64), 1e7), good)
    rate = torch.full((1, 64, 64), 1e7)
    found = ref.deviance_per_pixel(TORCH, torch.tensor(counts, dtype=torch.float32), rate, torch.tensor(good))
    assert float(found[0]) == pytest.approx(expected, rel=1e-3)


def test_fwd_03_group_merge_matches_the_reference():
    prepared = prepared_scan()
    groups = np.array([[0, 1, 4, 5], [10, 11, 14, 9]], np.int32)
    rng = np.random.default_rng(0)
    patches = rng.standard_normal((2, 4, 64, 64)) + 1j * rng.standard_normal((2, 4, 64, 64))
    corner = prepared.placement.corner[groups]
    probe = prepared.illumination.probe.astype(complex)
    moved = [[optics.moved(probe, *r) for r in group] for group in prepared.placement.subpixel_shift[groups]]
    lights = np.array([[optics.light(p) for p in group] for group in moved])
    window = lights / optics.light(probe).max() + 1e-3
    expected = np.stack([optics.merged(*each) for each in zip(patches, window, corner, strict=True)])
    start = torch.tensor(corner - corner.min(axis=1, keepdims=True))
    found = merge_and_cut(
        TORCH,
        torch.tensor(patches, dtype=torch.complex64),
        torch.tensor(window, dtype=torch.float32),
        Canvas(TORCH, start, 64, int(start.max()) + 64),
    ).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize('groups_in_batch', [1, 4])
def test_each_group_has_its_own_output_whatever_the_batch(groups_in_batch):
    prepared = prepared_scan()
    backend = backend_for(prepared, gridsize=2, weights=scattered_weights(2))
    first = np.array([4 * row + column for row in range(3) for column in range(3)], np.int32)
    groups = first[:, None] + np.array([0, 1, 4, 5], np.int32)
    # One group is wider than the others, whose objects are of its size nevertheless.
    groups[0] = 0, 3, 12, 15
    whole = backend.predict(prepared.batch(groups))
    assert whole.shape == (9, 4, 64, 64)
    parts = np.concatenate([backend.predict(batch) for batch in prepared.batches(groups, groups_in_batch)])
    np.testing.assert_allclose(parts, whole, atol=2e-4)


def test_gau_03_ten_times_the_dose_gives_the_same_object():
    raw = small_scan(points=3, photons=1e6)
    placement = place_patches(raw.xcoords, raw.ycoords, raw.N)
    patches = ref.cut_patches(raw.objectGuess, placement, raw.N)
    rate = ref.predict_intensity(patches, raw.probeGuess.astype(complex), placement.subpixel_shift)
    raw = replace(raw, diffraction=np.sqrt(rate))
    louder = Scan.from_raw(
        replace(raw, diffraction=raw.diffraction * np.sqrt(10), probeGuess=raw.probeGuess * np.sqrt(10))
    )
    results = []
    for scan in (Scan.from_raw(raw), louder):
        prepared = ScanModel(scan)
        # The network is told the photon noise; before training it makes nothing of it.
        backend = backend_for(prepared)
        batch = prepared.batch(np.arange(9, dtype=np.int32)[:, None])
        results.append(backend.predict(batch) * prepared.scale.probe_scale)
    np.testing.assert_allclose(results[1], results[0], atol=1e-3)


@pytest.mark.parametrize(
    'weights',
    [
        {'nll_weight': 1.0},
        {'nll_weight': 0.0, 'mae_weight': 1.0},
        {'nll_weight': 0.0, 'realspace_mae_weight': 1.0},
        {'nll_weight': 0.1, 'realspace_weight': 0.1},
    ],
)
def test_every_loss_goes_down(weights):
    prepared = prepared_scan()
    backend = backend_for(prepared, **weights)
    batch = prepared.batch(np.arange(16, dtype=np.int32)[:, None])
    before = backend.evaluate(batch).loss
    for _ in range(6):
        backend.train_step([batch], 1e-3)
    assert backend.evaluate(batch).loss < before


def test_weights_round_trip_through_canonical_names():
    prepared = prepared_scan()
    weights = scattered_weights()
    backend = backend_for(prepared, weights=weights)
    found = backend.weights()
    assert list(found) == list(weights)
    for name, array in weights.items():
        np.testing.assert_array_equal(found[name], array)


def test_an_unknown_backend_is_refused():
    with pytest.raises(ConfigError, match="no backend 'jax'"):
        create_backend('jax')


def test_bfloat16_changes_little_and_only_the_network():
    prepared = prepared_scan()
    model = SMALL
    batch = prepared.batch(np.arange(4, dtype=np.int32)[:, None])
    results = []
    for precision in ('32-true', 'bf16-mixed'):
        backend = create_backend('pytorch', PyTorchExecutionConfig(precision=precision))
        backend.build(build_plan(model), scattered_weights())
        results.append(backend.predict(batch))
    difference = np.abs(results[0] - results[1]).max()
    # Eight bits of mantissa in the convolutions; the physics stays in float32.
    assert 0 < difference < 0.05


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
@pytest.mark.parametrize('accelerator', ['cuda', 'gpu'])
def test_a_device_that_is_not_there_is_a_sentence(accelerator):
    with pytest.raises(BackendUnavailableError, match=r'PyTorch backend selected .* not find'):
        create_backend('pytorch', PyTorchExecutionConfig(accelerator=accelerator))


def test_back_03_a_framework_that_is_not_there_is_a_sentence(monkeypatch):
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(RuntimeError, match=r'^PyTorch backend selected .* pip install torch'):
        create_backend('pytorch')


def test_batch_knows_its_length():
    prepared = prepared_scan()
    batch = prepared.batch(np.zeros((5, 1), np.int32))
    assert isinstance(batch, Batch)
    assert len(batch) == 5


def test_opt_06_a_step_that_overflows_is_left_out_and_the_factor_halved():
    prepared = prepared_scan()
    model = SMALL
    backend = create_backend('pytorch', PyTorchExecutionConfig(accelerator='cpu', precision='16-mixed'))
    backend.build(build_plan(model), scattered_weights())
    backend.prepare_training(TrainingConfig(model=model))
    batch = prepared.batch(np.arange(4, dtype=np.int32)[:, None])
    backend.train_step([batch], 1e-3)
    before, state = backend.weights(), backend.optimiser_state()
    factor = np.float32(2.0**60)
    backend.set_optimiser_state({**state, 'loss_scale': np.array([factor, 5], np.float32)})
    assert np.isfinite(backend.train_step([batch], 1e-3).loss)
    for name, value in backend.weights().items():
        np.testing.assert_array_equal(value, before[name])
    np.testing.assert_array_equal(backend.optimiser_state()['loss_scale'], [factor / 2, 0])


class RefusesFloat64(TorchDispatchMode):
    """Computes as an Apple GPU does: nothing in float64."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        # An array of the host may be handed over in any dtype.
        handed_over = func is torch.ops.aten.lift_fresh.default
        if not handed_over and getattr(result, 'dtype', None) in (torch.float64, torch.complex128):
            raise TypeError(f'{func} in float64')
        return result


def test_a_device_without_float64_refines_as_others_do(monkeypatch):
    prepared = prepared_scan()
    patterns, everything = scan_patterns(prepared, 0), np.arange(16)
    backend = backend_for(prepared)

    def found():
        physics = backend.scan_physics(patterns)
        flat = physics.to_device(np.ones(patterns.shape, np.complex64))
        evaluation = physics.evaluate(flat, everything, 'poisson')
        power = map(physics.to_host, physics.gradient_power(flat))
        physics.set_experiment(patterns)
        force = physics.experiment_gradient(flat, everything).force
        return [evaluation.held_out, physics.held_out(flat), *power, force]

    assert operations.widest(torch.device('mps')) is torch.float32
    wide = found()
    monkeypatch.setattr(operations, 'widest', lambda device: torch.float32)
    with RefusesFloat64():
        narrow = found()
    for one, other in zip(wide, narrow, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * np.abs(one).max())


@pytest.mark.parametrize(
    'variables',
    [
        {'SLURM_JOB_ID': '1', 'SLURM_JOB_NAME': 'recon', 'SLURM_NTASKS': '2', 'SLURM_PROCID': '0'},
        {'SLURM_JOB_ID': '1', 'SLURM_JOB_NAME': 'x', 'SLURM_NTASKS': '4', 'SLURM_NTASKS_PER_NODE': '4'},
        {'RANK': '1', 'WORLD_SIZE': '2', 'LOCAL_RANK': '1', 'TORCHELASTIC_RUN_ID': 'x', 'GROUP_RANK': '0'},
        {'OMPI_COMM_WORLD_SIZE': '2', 'OMPI_COMM_WORLD_RANK': '1'},
    ],
    ids=['slurm', 'slurm per node', 'torchrun', 'mpi'],
)
@pytest.mark.parametrize('accelerator', ['auto', 'cpu'])
def test_run_12_a_batch_system_chooses_no_device_for_a_single_process(monkeypatch, variables, accelerator):
    for name, value in {**variables, 'SLURM_LOCALID': '1', 'SLURM_NODELIST': 'node01'}.items():
        monkeypatch.setenv(name, value)
    device = one_device(accelerator)
    assert device == torch.device('cpu') or (accelerator, device) == ('auto', torch.device('cuda', 0))
