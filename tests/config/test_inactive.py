"""A setting that others leave without effect is named, and only then (CFG-01)."""

import pytest

from ptycho_engine.config import InferenceConfig, ModelConfig, TrainingConfig
from ptycho_engine.config.inactive import IDLE_UNLESS, idle_settings
from ptycho_engine.training.train import train

SUPERVISED = ModelConfig(model_type='supervised')


@pytest.mark.parametrize(
    ('config', 'named'),
    [
        (TrainingConfig(optimizer='adamw', momentum=0.5), "momentum has no effect with optimizer 'adamw'"),
        (TrainingConfig(optimizer='sgd', momentum=0.5), None),
        (
            TrainingConfig(model=ModelConfig(n_filters_scale=1)),
            "n_filters_scale has no effect with architecture 'prior'",
        ),
        (TrainingConfig(model=ModelConfig(architecture='cnn', n_filters_scale=1)), None),
        (TrainingConfig(probe_trainable=True), "probe_trainable has no effect with architecture 'prior'"),
        (TrainingConfig(optimizer='sgd', adam_beta1=0.5), "adam_beta1 has no effect with optimizer 'sgd'"),
        (
            TrainingConfig(gradient_clip_val=None, gradient_clip_algorithm='agc'),
            'gradient_clip_algorithm has no effect with gradient_clip_val None',
        ),
        (
            TrainingConfig(model=ModelConfig(gridsize=2), enable_oversampling=False, neighbor_pool_size=9),
            'neighbor_pool_size has no effect with enable_oversampling False',
        ),
        (TrainingConfig(neighbor_pool_size=9), 'neighbor_pool_size has no effect with gridsize 1'),
        (TrainingConfig(neighbor_count=9), 'neighbor_count has no effect with gridsize 1'),
        (TrainingConfig(model=ModelConfig(gridsize=2), neighbor_count=9), None),
        (
            TrainingConfig(model=SUPERVISED, nll_weight=0.5),
            "nll_weight has no effect with model_type 'supervised'",
        ),
        (InferenceConfig(refine_method='rpie', refine_smoothing=0.3), 'refine_smoothing has no effect'),
        (InferenceConfig(refine_method='rpie', refine_iterations=0), 'refine_method has no effect'),
        (InferenceConfig(refine_iterations=0, refine_smoothing=0.3), None),
    ],
)
def test_idle_settings_are_named(config, named):
    phrases = list(idle_settings(config))
    assert len(phrases) == (named is not None)
    assert named is None or phrases[0].startswith(named)


@pytest.mark.parametrize('kind', IDLE_UNLESS)
def test_nothing_is_idle_by_default(kind):
    assert not list(idle_settings(kind()))


def test_a_run_says_so(scan, tmp_path, caplog):
    config = TrainingConfig(model=ModelConfig(n_filters_scale=1, architecture='cnn'), momentum=0.5)
    next(train([scan], config, tmp_path))
    warned = [record.getMessage() for record in caplog.records if record.levelname == 'WARNING']
    assert warned == ["momentum has no effect with optimizer 'adamw'."]
