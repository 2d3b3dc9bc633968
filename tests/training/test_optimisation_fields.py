"""Every field of TrainingConfig that steers the optimisation has a visible effect, on every backend."""

from dataclasses import fields, replace
from functools import cache

import numpy as np
import pytest

from ptycho_engine.config import ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho_engine.config.training import BACKENDS
from ptycho_engine.events import EpochDone
from ptycho_engine.formats.archive import load_archive
from ptycho_engine.scan.scan import Scan
from ptycho_engine.training.train import train
from tests.conftest import small_scan

pytestmark = pytest.mark.usefixtures('slim_cnn')

BASE = TrainingConfig(
    model=ModelConfig(N=32, n_filters_scale=1, architecture='cnn'),
    nepochs=3,
    batch_size=8,
    n_groups=25,
    # Judged by the loss of training, which falls: the weights are those of the last epoch.
    validation_fraction=0.0,
    weight_decay=0.0,
)
SGD = {'optimizer': 'sgd', 'learning_rate': 0.05}
PLATEAU = {'scheduler': 'ReduceLROnPlateau', 'plateau_patience': 1, 'plateau_threshold': 0.99}

CHANGES = [
    # (settings both runs have, the change, whether the learning rates of the epochs change)
    ({}, {'batch_size': 4}, True),
    ({}, {'nepochs': 2}, True),
    ({}, {'seed': 1}, False),
    ({}, {'accum_steps': 2}, True),
    ({}, {'learning_rate': 1e-3}, True),
    ({}, {'optimizer': 'adam', 'weight_decay': 0.1}, False),
    ({}, {'optimizer': 'sgd'}, False),
    ({}, {'weight_decay': 0.5}, False),
    (SGD, {'momentum': 0.0}, False),
    ({}, {'adam_beta1': 0.5}, False),
    ({}, {'adam_beta2': 0.9}, False),
    ({**SGD, 'gradient_clip_val': 1e-4}, {'gradient_clip_val': None}, False),
    ({**SGD, 'gradient_clip_val': 1e-4}, {'gradient_clip_algorithm': 'value'}, False),
    ({**SGD, 'gradient_clip_val': 1e-4}, {'gradient_clip_algorithm': 'agc'}, False),
    ({}, {'scheduler': 'Exponential'}, True),
    ({}, {'validation_fraction': 0.4}, False),
]
SCHEDULE_CHANGES = [
    ({}, {'scheduler': 'Default'}),
    ({}, PLATEAU),
    ({}, {'lr_warmup_epochs': 2.0}),
    ({}, {'lr_min_ratio': 0.5}),
    ({'scheduler': 'Exponential'}, {'lr_min_ratio': 0.5}),
    (PLATEAU, {'plateau_factor': 0.1}),
    (PLATEAU, {'plateau_patience': 2}),
    (PLATEAU, {'plateau_min_lr': 3e-3}),
    (PLATEAU, {'plateau_threshold': 0.0}),
]
TESTED_ELSEWHERE = {
    # tests/backends/test_fields.py
    *('model', 'backend', 'nll_weight', 'mae_weight', 'realspace_mae_weight', 'realspace_weight'),
    *('probe_trainable', 'intensity_scale_trainable'),
    # tests/training/test_selection.py and tests/scan/test_groups_cache.py
    *('n_groups', 'neighbor_count', 'n_subsample', 'subsample_seed', 'sequential_sampling'),
    *('enable_oversampling', 'neighbor_pool_size', 'use_groups_cache'),
    # below
    'early_stop_patience',
}


@pytest.fixture(scope='module')
def outcome(tmp_path_factory):
    """Train once for each configuration; return its weights and the learning rate of each epoch."""
    scan = Scan.from_raw(small_scan(points=5, size=32))

    @cache
    def run(config: TrainingConfig):
        folder = tmp_path_factory.mktemp('run')
        execution = PyTorchExecutionConfig(accelerator='cpu', checkpoint_save_top_k=0)
        events = list(train([scan], config, folder, execution=execution))
        rates = [event.learning_rate for event in events if isinstance(event, EpochDone)]
        archive = load_archive(folder)
        assert [record['learning_rate'] for record in archive.history] == rates
        return archive.weights, rates

    return run


def assert_effect(outcome, base, change, other_rates):
    weights, rates = outcome(base)
    changed_weights, changed_rates = outcome(replace(base, **change))
    assert (rates != changed_rates) == other_rates
    apart = [np.abs(changed_weights[key] - value).max() for key, value in weights.items()]
    assert max(apart) > 1e-5
    assert all(np.isfinite(value).all() for value in changed_weights.values())


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize(('common', 'change', 'other_rates'), CHANGES)
def test_a_changed_field_changes_the_training(outcome, backend, common, change, other_rates):
    assert_effect(outcome, replace(BASE, backend=backend, **common), change, other_rates)


@pytest.mark.parametrize(('common', 'change'), SCHEDULE_CHANGES)
def test_a_changed_schedule_changes_the_training(outcome, common, change):
    """On one backend: a backend knows no schedule, but takes the rate of each step (OPT-05)."""
    assert_effect(outcome, replace(BASE, **common), change, other_rates=True)


def test_early_stop_patience_ends_the_run(outcome):
    """A rate so small that nothing is learned: no epoch is better than the first."""
    lost = replace(BASE, nepochs=12, **SGD, scheduler='Default')
    lost = replace(lost, learning_rate=1e-30, validation_fraction=0.2)
    short, long = (len(outcome(replace(lost, early_stop_patience=patience))[1]) for patience in (2, 5))
    assert (short, long) == (3, 6)


@pytest.mark.parametrize('backend', BACKENDS)
def test_equal_seeds_give_equal_weights_bit_for_bit(outcome, backend, tmp_path):
    """RUN-07."""
    config = replace(BASE, backend=backend)
    scan = Scan.from_raw(small_scan(points=5, size=32))
    list(train([scan], config, tmp_path, execution=PyTorchExecutionConfig(accelerator='cpu')))
    again = load_archive(tmp_path).weights
    for key, value in outcome(config)[0].items():
        np.testing.assert_array_equal(again[key], value)


@pytest.mark.parametrize('backend', BACKENDS)
def test_opt_01_the_driver_accumulates_to_the_same_training(outcome, backend):
    large = replace(BASE, backend=backend, batch_size=8, scheduler='Default', **SGD)
    small = replace(large, batch_size=4, accum_steps=2)
    expected, found = outcome(large)[0], outcome(small)[0]
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, atol=1e-4)


def test_every_field_is_tested():
    tested = {name for _, change, *_ in [*CHANGES, *SCHEDULE_CHANGES] for name in change}
    assert tested | TESTED_ELSEWHERE == {f.name for f in fields(TrainingConfig)}
