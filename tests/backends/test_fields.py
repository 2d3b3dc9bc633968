"""Every field of the network and of the losses has a visible effect, on every backend."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from ptycho_engine.backends.base import create_backend
from ptycho_engine.config import ModelConfig, TrainingConfig
from ptycho_engine.config.training import BACKENDS
from ptycho_engine.network.plan import (
    INTENSITY_SCALE,
    PROBE_CORRECTION,
    initial_weights,
    training_plan,
)
from ptycho_engine.scan.scan import Scan
from ptycho_engine.whole_scan.scan_model import ScanModel
from tests.conftest import small_scan

pytestmark = pytest.mark.usefixtures('slim_cnn')

CNN = ModelConfig(N=32, n_filters_scale=1, architecture='cnn')
GROUPED = replace(CNN, gridsize=2)
MASKED = replace(CNN, probe_mask=True)


def trained(backend_name, config, steps=2):
    """Train a few steps on a small scan; return the backend, a batch, and the patches it predicts."""
    prepared = ScanModel(Scan.from_raw(small_scan(points=4, size=32)), config.model, has_truth=True)
    plan = training_plan(config, len(prepared.probe))
    backend = create_backend(backend_name)
    backend.build(plan, initial_weights(plan, 0))
    backend.prepare_training(config)
    groups = np.array([[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]], np.int32)
    batch = prepared.batch(groups.reshape(-1, plan.channels))
    for _ in range(steps):
        backend.train_step([batch], 4e-3)
    return backend, batch, backend.predict(batch).reshape(16, 32, 32)


@cache
def patches_of(backend_name, config, steps=2):
    return trained(backend_name, config, steps)[2]


@pytest.mark.parametrize('backend_name', BACKENDS)
@pytest.mark.parametrize(
    ('model', 'changes'),
    [
        (CNN, {'model_type': 'supervised'}),
        (CNN, {'probe_mask': True}),
        (CNN, {'gaussian_smoothing_sigma': 1.0}),
        (MASKED, {'probe_mask_diameter': 10.0}),
        (MASKED, {'probe_mask_sigma': 0.0}),
        (GROUPED, {'object_big': False}),
        (CNN, {'gridsize': 2}),
        (CNN, {'amp_activation': 'softplus'}),
        (CNN, {'amp_activation': 'swish'}),
        (CNN, {'amp_activation': 'relu'}),
        (CNN, {'probe_scale': 2.0}),
        (CNN, {'probe_big': False}),
        (CNN, {'pad_object': False}),
        (CNN, {'n_filters_scale': 2}),
    ],
)
def test_every_field_of_the_network_shows_in_the_patches(backend_name, model, changes):
    before = patches_of(backend_name, TrainingConfig(model=model))
    after = patches_of(backend_name, TrainingConfig(model=replace(model, **changes)))
    assert np.isfinite(after).all()
    assert np.abs(after - before).max() > 1e-4


@pytest.mark.parametrize('backend_name', BACKENDS)
@pytest.mark.parametrize(
    'changes',
    [
        {'nll_weight': 0.0, 'mae_weight': 1.0},
        {'mae_weight': 1.0},
        {'realspace_mae_weight': 1.0},
        {'realspace_weight': 1.0},
        {'intensity_scale_trainable': True},
        {'probe_trainable': True},
    ],
)
def test_every_weight_of_the_loss_shows_in_the_patches(backend_name, changes):
    before = patches_of(backend_name, TrainingConfig(model=CNN))
    after = patches_of(backend_name, TrainingConfig(model=CNN, **changes))
    assert np.abs(after - before).max() > 1e-5


@pytest.mark.parametrize('backend_name', BACKENDS)
def test_net_07_an_untrained_cnn_gives_the_flat_object(backend_name):
    patches = patches_of(backend_name, TrainingConfig(model=CNN), steps=0)
    np.testing.assert_allclose(patches, 1, atol=1e-5)


@pytest.mark.parametrize('backend_name', BACKENDS)
def test_net_07_without_probe_big_the_outer_part_stays_flat(backend_name):
    patches = patches_of(backend_name, TrainingConfig(model=replace(CNN, probe_big=False)))
    assert np.abs(patches[:, 8:-8, 8:-8] - 1).max() > 1e-4
    outer = patches.copy()
    outer[:, 8:-8, 8:-8] = 1
    np.testing.assert_allclose(outer, 1, atol=1e-5)


@pytest.mark.parametrize('backend_name', BACKENDS)
def test_net_05_object_big_makes_the_patches_of_a_group_agree(backend_name):
    """Two patches of one group hold the same object where they overlap; by themselves they do not."""
    spread = {}
    for big in (True, False):
        _, batch, patches = trained(backend_name, TrainingConfig(model=replace(GROUPED, object_big=big)))
        first, second = patches[0], patches[1]
        (y0, x0), (y1, x1) = batch.corner[0, :2]
        dy, dx = int(y1 - y0), int(x1 - x0)
        height, width = 32 - abs(dy), 32 - abs(dx)
        a = first[max(dy, 0) :, max(dx, 0) :][:height, :width]
        b = second[max(-dy, 0) :, max(-dx, 0) :][:height, :width]
        spread[big] = np.abs(a - b).max()
    assert spread[True] < 1e-5 < 1e-3 < spread[False]


@pytest.mark.parametrize('backend_name', BACKENDS)
def test_a_trainable_probe_and_intensity_scale_learn(backend_name):
    config = TrainingConfig(model=CNN, probe_trainable=True, intensity_scale_trainable=True)
    backend, batch, _ = trained(backend_name, config, steps=0)
    before = backend.evaluate(batch).loss
    for _ in range(3):
        backend.train_step([batch], 1e-3)
    weights = backend.weights()
    assert np.abs(weights[PROBE_CORRECTION]).max() > 1e-4
    assert np.abs(weights[INTENSITY_SCALE]).max() > 1e-4
    assert backend.evaluate(batch).loss < before
