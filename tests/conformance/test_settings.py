"""Settings of Ptychodus -> configurations of the engine (API-1x)."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip('ptychodus.api.settings')

from ptychodus.api.settings import SettingsRegistry

from ptycho_engine.config import InferenceConfig, ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho_engine.errors import ConfigError
from ptychopinn_ptychodus.library import PtychoPINNLibrary
from ptychopinn_ptychodus.settings import ReconstructorSettings
from ptychopinn_ptychodus.settings_table import SETTINGS

pytestmark = pytest.mark.ptychodus


def configurations(settings: ReconstructorSettings, model_type: str = 'pinn') -> tuple[Any, ...]:
    return (
        settings.training_config(model_type),
        settings.inference_config(),
        settings.execution_config(),
    )


def test_defaults_are_the_engines_own() -> None:
    """API-12."""
    settings = ReconstructorSettings.with_defaults()
    assert settings.training_config('pinn') == TrainingConfig()
    assert settings.inference_config() == InferenceConfig()
    assert settings.execution_config() == PyTorchExecutionConfig()
    assert settings.training_config('supervised').model.model_type == 'supervised'


def test_what_belongs_to_the_cnn_is_left_out_without_one() -> None:
    """API-13, API-88: in one line."""
    settings = ReconstructorSettings.with_defaults()
    settings.engine.refine_iterations.set_value(0)
    settings.engine.refine_method.set_value('rpie')
    settings.engine.refine_probe.set_value(True)
    settings.engine.refine_smoothing.set_value(0.3)
    assert settings.inference_config(refines=False) == InferenceConfig(
        refine_probe=True, refine_smoothing=0.3
    )
    (line,) = settings.remarks_without_cnn()
    assert line.endswith(' for a model of the architecture cnn: RefineIterations, RefineMethod.')
    assert list(ReconstructorSettings.with_defaults().remarks_without_cnn()) == []


CHANGES = {
    ('model', 'gridsize'): 2,
    ('training', 'batch_size'): 32,
    ('training', 'nepochs'): 7,
    ('training', 'mae_weight'): 0.5,
    ('training', 'nll_weight'): 0.25,
    ('training', 'realspace_mae_weight'): 0.5,
    ('training', 'realspace_weight'): 0.5,
    ('inference', 'n_nearest_neighbors'): 9,
    ('model', 'object_big'): False,
    ('model', 'probe_mask'): True,
    ('model', 'gaussian_smoothing_sigma'): 0.5,
    ('engine', 'architecture'): 'cnn',
    ('engine', 'n_groups'): 0,
    ('engine', 'learning_rate'): 1e-4,
    ('engine', 'validation_fraction'): 0.2,
    ('engine', 'early_stop_patience'): 3,
    ('engine', 'seed'): 11,
    ('engine', 'inference_batch_size'): 8,
    ('engine', 'refine_iterations'): 7,
    ('engine', 'refine_method'): 'rpie',
    ('engine', 'refine_smoothing'): 0.3,
    ('engine', 'calibrate'): 'probe, positions',
    ('engine', 'refine_probe'): True,
    ('engine', 'refine_positions'): True,
    ('engine', 'backend'): 'tensorflow',
    ('engine', 'accelerator'): 'cpu',
    ('engine', 'precision'): 'bf16-mixed',
}


OF_A_RUN = {
    ('engine', 'train_on'),
    ('engine', 'more_training_data'),
    ('engine', 'start_from'),
    ('inference', 'model_path'),
}
"""Settings that say what a run works on; their effect is tested with the runs."""

CNN_CHANGES = {
    ('model', 'n_filters_scale'): 3,
    ('training', 'probe_trainable'): True,
    ('model', 'amp_activation'): 'softplus',
    ('model', 'probe_big'): False,
    ('model', 'pad_object'): False,
    ('model', 'probe_scale'): 3.0,
    ('training', 'intensity_scale_trainable'): False,
}


@pytest.mark.parametrize(('where', 'value'), CHANGES.items(), ids=lambda v: str(v))
def test_every_setting_has_an_effect(where: tuple[str, str], value: Any) -> None:
    """API-12."""
    settings = ReconstructorSettings.with_defaults()
    before = configurations(settings)
    getattr(getattr(settings, where[0]), where[1]).set_value(value)
    assert configurations(settings) != before
    assert not list(settings.remarks('pinn'))


@pytest.mark.parametrize(('where', 'value'), CNN_CHANGES.items(), ids=lambda v: str(v))
def test_every_setting_of_the_cnn_has_an_effect_there_and_a_remark_elsewhere(
    where: tuple[str, str], value: Any
) -> None:
    """API-12, API-13."""
    settings = ReconstructorSettings.with_defaults()
    getattr(getattr(settings, where[0]), where[1]).set_value(value)
    assert configurations(settings) == configurations(ReconstructorSettings.with_defaults())
    (line,) = settings.remarks('pinn')
    parameters = getattr(settings, where[0]).__dict__
    group = next(item for item in settings.groups() if parameters[where[1]] in item.parameters().values())
    name = next(n for n, p in group.parameters().items() if p is parameters[where[1]])
    assert line.endswith(f': {name}.'), 'not the name that the file has'
    settings.engine.architecture.set_value('cnn')
    plain = ReconstructorSettings.with_defaults()
    plain.engine.architecture.set_value('cnn')
    assert configurations(settings) != configurations(plain)
    assert not list(settings.remarks('pinn'))


def test_a_file_overrides_a_default_that_is_not_that_of_ptychodus(tmp_path: Path) -> None:
    """API-12."""
    registry = SettingsRegistry()
    settings = PtychoPINNLibrary(registry).session.settings
    assert settings.training_config('pinn').batch_size == TrainingConfig().batch_size
    (tmp_path / 'settings.ini').write_text('[PtychoPINNTraining]\nBatchSize = 16\n')
    registry.open_settings(tmp_path / 'settings.ini')
    assert settings.training_config('pinn').batch_size == 16


def test_all_settings_are_used_or_said_to_be_without_effect() -> None:
    """API-12, API-13."""
    registry = SettingsRegistry()
    library = PtychoPINNLibrary(registry)
    groups = {
        'model': library.model_settings,
        'training': library.training_settings,
        'inference': library.inference_settings,
        'engine': library.engine_settings,
    }
    parameters = {
        (name, attribute)
        for name, group in groups.items()
        for attribute, value in vars(group).items()
        if hasattr(value, 'get_value')
    }
    idle = {(setting.owner, setting.attribute) for setting in SETTINGS if setting.idle}
    assert parameters == {(setting.owner, setting.attribute) for setting in SETTINGS}
    used = set(CHANGES) | set(CNN_CHANGES) | OF_A_RUN
    assert parameters == used | idle
    assert not used & idle


def test_setting_without_effect_is_told_in_one_line() -> None:
    """API-13."""
    settings = ReconstructorSettings.with_defaults()
    settings.training.positions_provided.set_value(False)
    settings.inference.n_samples.set_value(4)
    (line,) = settings.remarks('pinn')
    assert 'PositionsProvided' in line
    assert 'NumSamples' in line
    settings.training.mae_weight.set_value(0.5)
    assert 'MAEWeight' not in next(settings.remarks('pinn'))
    assert 'MAEWeight' in next(settings.remarks('supervised'))


def test_value_outside_the_limits_is_told() -> None:
    """API-14: Ptychodus moves it inside without a word."""
    settings = ReconstructorSettings.with_defaults()
    settings.model.gridsize.set_value_from_string('9')
    (line,) = settings.remarks('pinn')
    assert 'GridSize is 9' in line
    assert settings.training_config('pinn').model.gridsize == 5


def test_error_names_the_setting() -> None:
    """API-56."""
    settings = ReconstructorSettings.with_defaults()
    settings.inference.n_nearest_neighbors.set_value(0)
    with pytest.raises(ConfigError, match=r'PtychoPINNInference\.NumNearestNeighbors is 0'):
        settings.inference_config()
    settings.inference.n_nearest_neighbors.set_value(7)
    settings.engine.learning_rate.set_value(0)
    with pytest.raises(ConfigError, match=r'PtychoPINNEngine\.LearningRate'):
        settings.training_config('pinn')


def test_names_of_settings_belong_to_fields_that_exist() -> None:
    known = {
        f'{config.__name__}.{field.name}'
        for config in (ModelConfig, TrainingConfig, InferenceConfig, PyTorchExecutionConfig)
        for field in fields(config)
    }
    assert {name for setting in SETTINGS for name in setting.fields} <= known


def test_settings_survive_a_file(tmp_path: Path) -> None:
    """API-11."""
    registry = SettingsRegistry()
    library = PtychoPINNLibrary(registry)
    library.engine_settings.learning_rate.set_value(3e-4)
    library.engine_settings.accelerator.set_value('cpu')
    registry.save_settings(tmp_path / 'settings.ini')
    again = SettingsRegistry()
    fresh = PtychoPINNLibrary(again)
    again.open_settings(tmp_path / 'settings.ini')
    assert fresh.engine_settings.learning_rate.get_value() == pytest.approx(3e-4)
    assert fresh.engine_settings.accelerator.get_value() == 'cpu'
