from dataclasses import replace

import pytest

from ptycho_engine.config import (
    InferenceConfig,
    ModelConfig,
    PyTorchExecutionConfig,
    TrainingConfig,
)
from ptycho_engine.config.checks import from_mapping
from ptycho_engine.errors import ConfigError
from ptycho_engine.network.plan import build_plan, initial_weights


@pytest.mark.parametrize(
    ('config', 'field', 'value'),
    [
        (ModelConfig(architecture='cnn'), 'N', 60),
        (ModelConfig(architecture='cnn'), 'N', 16),
        (ModelConfig(), 'N', -1),
        (ModelConfig(), 'N', 64.0),
        (ModelConfig(), 'gridsize', 0),
        (ModelConfig(), 'gridsize', 6),
        (ModelConfig(), 'n_filters_scale', 5),
        (ModelConfig(), 'model_type', 'magic'),
        (ModelConfig(), 'architecture', 'fno'),
        (TrainingConfig(), 'batch_size', 0),
        (TrainingConfig(), 'nepochs', True),
        (TrainingConfig(), 'n_groups', 0),
        (TrainingConfig(), 'nll_weight', 1.5),
        (TrainingConfig(), 'mae_weight', -0.1),
        (TrainingConfig(), 'realspace_weight', float('nan')),
        (TrainingConfig(), 'learning_rate', 0),
        (TrainingConfig(), 'scheduler', 'Cosine'),
        (TrainingConfig(), 'optimizer', 'lion'),
        (TrainingConfig(), 'gradient_clip_algorithm', 'magic'),
        (TrainingConfig(), 'gradient_clip_val', 0.0),
        (TrainingConfig(), 'accum_steps', 0),
        (TrainingConfig(), 'momentum', 1.0),
        (TrainingConfig(), 'adam_beta2', -0.1),
        (TrainingConfig(), 'lr_min_ratio', 0.0),
        (TrainingConfig(), 'lr_warmup_epochs', 51.0),
        (TrainingConfig(), 'plateau_factor', 1.0),
        (TrainingConfig(), 'probe_trainable', 1),
        (TrainingConfig(), 'n_subsample', 0),
        (TrainingConfig(), 'neighbor_pool_size', 3),
        (ModelConfig(), 'amp_activation', 'tanh'),
        (ModelConfig(), 'object_big', 'yes'),
        (ModelConfig(), 'probe_scale', 1.0),
        (ModelConfig(), 'probe_mask_sigma', -1.0),
        (ModelConfig(), 'gaussian_smoothing_sigma', -1.0),
        (TrainingConfig(), 'validation_fraction', 0.6),
        (TrainingConfig(), 'backend', 'jax'),
        (TrainingConfig(), 'seed', -1),
        (InferenceConfig(), 'batch_size', 0),
        (PyTorchExecutionConfig(), 'accelerator', 'tpu'),
        (PyTorchExecutionConfig(), 'precision', '8'),
    ],
)
def test_values_out_of_range_are_named(config, field, value):
    with pytest.raises(ConfigError, match=rf'{type(config).__name__}\.{field} is .*expected'):
        replace(config, **{field: value})


@pytest.mark.parametrize(
    ('changes', 'remedy'),
    [
        ({'amp_activation': 'relu'}, "choose 'cnn'"),
        ({'probe_scale': 3.0}, "choose 'cnn'"),
        ({'probe_mask_diameter': 20.0}, 'set probe_mask to True'),
        ({'architecture': 'cnn', 'pad_object': False, 'probe_big': False}, 'set pad_object to True'),
    ],
)
def test_a_changed_field_without_effect_is_refused(changes, remedy):
    with pytest.raises(ConfigError, match=remedy):
        ModelConfig(N=64, **changes)


def test_the_networks_of_version_0_1_are_refused_with_what_to_do():
    with pytest.raises(ConfigError, match=r"'unrolled', the network of version 0\.1.*leave it at 'prior'"):
        ModelConfig(architecture='unrolled')


def test_the_prior_takes_patterns_of_any_size():
    for size in (16, 65, 100):
        assert build_plan(ModelConfig(N=size)).n_weights == build_plan(ModelConfig()).n_weights


def test_a_seed_of_no_subsample_is_refused():
    with pytest.raises(ConfigError, match='without n_subsample'):
        TrainingConfig(subsample_seed=3)


def test_cfg_02_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="no field 'gridsise'; did you mean 'gridsize'"):
        from_mapping(ModelConfig, {'gridsise': 2})


def test_n_0_is_legal_until_the_network_is_built():
    with pytest.raises(ConfigError, match='N is 0'):
        build_plan(ModelConfig(architecture='cnn', N=0))


def test_the_plan_follows_the_configuration():
    small = build_plan(ModelConfig(architecture='cnn', N=64, n_filters_scale=1))
    wide = build_plan(ModelConfig(architecture='cnn', N=64, n_filters_scale=2))
    assert wide.n_weights > 2.5 * small.n_weights
    assert build_plan(ModelConfig(N=64, gridsize=3)).channels == 9


def test_net_04_initial_weights_come_from_the_seed():
    plan = build_plan(ModelConfig(architecture='prior'))
    a, b, c = (initial_weights(plan, seed) for seed in (0, 0, 1))
    assert all((a[name] == b[name]).all() for name in a)
    assert any((a[name] != c[name]).any() for name in a)
    assert not a['denoiser/noise/kernel'].any()
    assert a['denoiser/down1b/kernel'].std() == pytest.approx((2 / (9 * 40)) ** 0.5, rel=0.1)
