"""Five levels, one rule, and a record of what it decided."""

import pytest

from ptycho_engine.config import InferenceConfig, PyTorchExecutionConfig, TrainingConfig, precedence
from ptycho_engine.config.execution import OVERRIDING
from ptycho_engine.config.precedence import Level, resolve_inference, resolve_training, with_execution

LEVELS = {
    'overrides': {'overrides': {'learning_rate': 1e-3}},
    'execution': {'execution': PyTorchExecutionConfig(learning_rate=2e-3)},
    'command_line': {'command_line': {'learning_rate': 3e-3}},
}


@pytest.fixture
def backend_default(monkeypatch):
    """A backend default of the field under test."""
    monkeypatch.setitem(precedence.BACKEND_DEFAULTS, 'pytorch', {'learning_rate': 5e-3})


@pytest.mark.usefixtures('backend_default')
def test_cfg_04_and_05_each_of_the_five_levels_wins_over_all_weaker_ones():
    canonical = TrainingConfig().learning_rate
    chain = [
        (Level.OVERRIDE, 1e-3),
        (Level.EXECUTION, 2e-3),
        (Level.COMMAND_LINE, 3e-3),
        (Level.BACKEND, 5e-3),
        (Level.CANONICAL, canonical),
    ]
    names = list(LEVELS)
    for start in range(4):
        stated = {k: v for name in names[start:] for k, v in LEVELS[name].items()}
        config, applied = resolve_training(**stated)
        level, value = chain[start]
        assert config.learning_rate == value
        assert applied['learning_rate'].value == value
        assert applied['learning_rate'].level is level
        assert applied['learning_rate'].replaced == tuple(chain[start + 1 :])


def test_cfg_04_the_canonical_default_holds_where_nothing_is_stated():
    config, applied = resolve_training()
    assert config == TrainingConfig()
    assert applied == {}


def test_cfg_04_defaults_are_those_of_the_backend_that_was_chosen(monkeypatch):
    monkeypatch.setitem(precedence.BACKEND_DEFAULTS, 'pytorch', {'batch_size': 5, 'n_filters_scale': 1})
    config, applied = resolve_training()
    assert (config.batch_size, config.model.n_filters_scale) == (5, 1)
    assert applied['batch_size'].level is Level.BACKEND
    assert resolve_inference()[0].batch_size == 5


def test_cfg_03_what_an_execution_configuration_states_takes_the_place_of_the_training_settings():
    values = {
        'learning_rate': 1e-4,
        'scheduler': 'Default',
        'accum_steps': 3,
        'gradient_clip_val': 0.7,
        'gradient_clip_algorithm': 'value',
        'early_stop_patience': 2,
    }
    assert set(values) == set(OVERRIDING)
    changed = with_execution(TrainingConfig(), PyTorchExecutionConfig(**values))
    assert {name: getattr(changed, name) for name in values} == values
    assert with_execution(TrainingConfig(), PyTorchExecutionConfig()) == TrainingConfig()
    assert with_execution(TrainingConfig(), None) == TrainingConfig()
    small = with_execution(InferenceConfig(), PyTorchExecutionConfig(inference_batch_size=2))
    assert small == InferenceConfig(batch_size=2)
