"""Settings of Ptychodus -> configurations of the engine.

The groups ``PtychoPINNModel``, ``PtychoPINNTraining`` and ``PtychoPINNInference`` are Ptychodus' own and keep
their names and meaning. ``PtychoPINNEngine`` holds what they have no place for.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptychodus.api.parameters import Parameter, ParameterGroup
from ptychodus.api.settings import SettingsRegistry
from ptychodus.model.ptychopinn.settings import (
    PtychoPINNInferenceSettings,
    PtychoPINNModelSettings,
    PtychoPINNTrainingSettings,
)

from ptycho_engine.config import InferenceConfig, ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho_engine.errors import ConfigError

from .setting import ENGINE_GROUP, Setting
from .settings_table import SETTINGS, START_FROM, TRAIN_ON, setting_names, settings_of

__all__ = ['ADOPTABLE', 'TIP_WIDTH', 'EngineSettings', 'ReconstructorSettings']

TIP_WIDTH = 100
"""Characters of a line of a tool tip."""

ALL_GROUPS = 0
"""Value of ``NumGroups`` that means "every group"."""


class EngineSettings:
    """The settings group of our own."""

    def __init__(self, registry: SettingsRegistry) -> None:
        self.group = group = registry.create_group(ENGINE_GROUP)
        model, training = ModelConfig(), TrainingConfig()
        inference, execution = InferenceConfig(), PyTorchExecutionConfig()
        self.train_on = group.create_string_parameter('TrainOn', TRAIN_ON[0])
        self.more_training_data = group.create_string_parameter('MoreTrainingData', '')
        self.start_from = group.create_string_parameter('StartFrom', START_FROM[0])
        self.architecture = group.create_string_parameter('Architecture', model.architecture)
        self.n_groups = group.create_integer_parameter(
            'NumGroups', training.n_groups or ALL_GROUPS, minimum=ALL_GROUPS
        )
        self.learning_rate = group.create_real_parameter('LearningRate', training.learning_rate, minimum=0.0)
        self.validation_fraction = group.create_real_parameter(
            'ValidationFraction', training.validation_fraction, minimum=0.0, maximum=0.5
        )
        self.early_stop_patience = group.create_integer_parameter(
            'EarlyStopPatience', training.early_stop_patience, minimum=1
        )
        self.seed = group.create_integer_parameter('Seed', training.seed, minimum=0)
        self.inference_batch_size = group.create_integer_parameter(
            'InferenceBatchSize', inference.batch_size, minimum=1
        )
        self.backend = group.create_string_parameter('Backend', training.backend)
        self.refine_iterations = group.create_integer_parameter(
            'RefineIterations', inference.refine_iterations, minimum=0
        )
        self.refine_method = group.create_string_parameter('RefineMethod', inference.refine_method)
        self.refine_smoothing = group.create_real_parameter(
            'RefineSmoothing', inference.refine_smoothing, minimum=0.0, maximum=10.0
        )
        self.calibrate = group.create_string_parameter('Calibrate', inference.calibrate)
        self.refine_probe = group.create_boolean_parameter('RefineProbe', inference.refine_probe)
        self.refine_positions = group.create_boolean_parameter('RefinePositions', inference.refine_positions)
        self.accelerator = group.create_string_parameter('Accelerator', execution.accelerator)
        self.precision = group.create_string_parameter('Precision', execution.precision)


ADOPTABLE = frozenset(name for _, name in settings_of(ModelConfig))
"""The fields of ModelConfig that *Use its settings* sets."""


@dataclass(frozen=True)
class ReconstructorSettings:
    """All settings groups of PtychoPINN, and their translation."""

    model: PtychoPINNModelSettings
    training: PtychoPINNTrainingSettings
    inference: PtychoPINNInferenceSettings
    engine: EngineSettings

    @classmethod
    def of(cls, registry: SettingsRegistry) -> ReconstructorSettings:
        """Return the settings that a registry keeps, at their defaults until a file is opened."""
        settings = cls(
            PtychoPINNModelSettings(registry),
            PtychoPINNTrainingSettings(registry),
            PtychoPINNInferenceSettings(registry),
            EngineSettings(registry),
        )
        # Ptychodus' own default is that of another network.
        settings.training.batch_size.set_value(TrainingConfig.batch_size)
        return settings

    @classmethod
    def with_defaults(cls) -> ReconstructorSettings:
        """Return settings of their own, all at their defaults."""
        return cls.of(SettingsRegistry())

    def training_config(self, model_type: str) -> TrainingConfig:
        """Return how to train a 'pinn' or 'supervised' model.

        Raises
        ------
        ConfigError
            If a value is out of range; the sentence names the setting.
        """
        with setting_names():
            model = ModelConfig(model_type=model_type, **self._values(ModelConfig, cnn=self.is_cnn))
            return TrainingConfig(model=model, **self._values(TrainingConfig, cnn=self.is_cnn))

    def _values(self, configuration: type, *, cnn: bool) -> dict[str, Any]:
        """Return the fields of a configuration as set; what only 'cnn' has stays at its default elsewhere."""
        values: dict[str, Any] = {}
        for setting, name in settings_of(configuration):
            value = self.parameter(setting).get_value()
            if isinstance(value, str):
                value = value.strip().casefold()
            elif setting.name == 'NumGroups' and value == ALL_GROUPS:
                value = None
            if cnn or setting.architecture != 'cnn':
                values[name] = value
        return values

    def parameter(self, setting: Setting) -> Parameter[Any]:
        """Return the parameter that holds a setting."""
        parameter: Parameter[Any] = getattr(getattr(self, setting.owner), setting.attribute)
        return parameter

    @property
    def _architecture(self) -> str:
        return self.engine.architecture.get_value().strip().casefold()

    @property
    def is_cnn(self) -> bool:
        """Whether the network that is asked for is 'cnn', which is for patterns of one size."""
        return self._architecture == 'cnn'

    def inference_config(self, *, refines: bool = True) -> InferenceConfig:
        """Return how to reconstruct every position of a scan.

        Parameters
        ----------
        refines : bool
            Whether the image of a network is refined, that of 'cnn'; with a learned prior or by physics alone
            the settings of the refinement of such an image stay at their defaults.

        Raises
        ------
        ConfigError
            If a value is out of range; the sentence names the setting.
        """
        with setting_names():
            return InferenceConfig(**self._values(InferenceConfig, cnn=refines))

    def execution_config(self) -> PyTorchExecutionConfig:
        """Return where to compute, and with which precision.

        Raises
        ------
        ConfigError
            If a value is unknown; the sentence names the setting.
        """
        with setting_names():
            return PyTorchExecutionConfig(**self._values(PyTorchExecutionConfig, cnn=self.is_cnn))

    def check(self, model_type: str) -> None:
        """Check all values together, as a training and a reconstruction will use them.

        Raises
        ------
        ConfigError
            If one is out of range or unknown; the sentence names the setting.
        """
        self.training_config(model_type)
        self.inference_config()
        self.execution_config()
        self.train_on()
        self.start_from()

    def adopt_network(self, model: ModelConfig) -> None:
        """Set the fields of the network to those of a model."""
        self.engine.architecture.set_value(model.architecture)
        for setting, name in settings_of(ModelConfig):
            # What the architecture does not have stays as the user left it.
            if self.is_cnn or setting.architecture != 'cnn':
                self.parameter(setting).set_value(getattr(model, name))

    def groups(self) -> list[ParameterGroup]:
        """Return the groups as Ptychodus keeps them, which tell when a setting changes."""
        owners = (self.model, self.training, self.inference, self.engine)
        return [item for owner in owners for item in vars(owner).values() if isinstance(item, ParameterGroup)]

    def train_on(self) -> str:
        """Return which scans to train on: 'auto', 'product' or 'folder'; raise ConfigError for another."""
        return _one_of('TrainOn', self.engine.train_on.get_value(), TRAIN_ON)

    def start_from(self) -> str:
        """Return where a training starts: 'scratch', 'model', 'checkpoint'; raise ConfigError for another."""
        return _one_of('StartFrom', self.engine.start_from.get_value(), START_FROM)

    def more_training_data(self) -> list[Path]:
        """Return the files and folders to train on besides the first ones."""
        parts = self.engine.more_training_data.get_value().split(';')
        return [Path(part.strip()).expanduser() for part in parts if part.strip()]

    def remarks(self, model_type: str) -> Iterator[str]:
        """Yield sentences on settings that differ from their default and yet change nothing."""
        idle = self._changed(
            setting
            for setting in SETTINGS
            if setting.idle
            or setting.model_type not in ('', model_type)
            or (setting.architecture == 'cnn' and not self.is_cnn and setting.fills(InferenceConfig) is None)
        )
        if idle:
            yield f'These settings have no effect on this network: {", ".join(idle)}.'
        yield from self.moved()

    def remarks_without_cnn(self) -> Iterator[str]:
        """Yield sentences on settings that differ from their default and only count for a model 'cnn'."""
        idle = self._changed(
            setting
            for setting in SETTINGS
            if setting.architecture == 'cnn' and setting.fills(InferenceConfig) is not None
        )
        if idle:
            yield f'These settings only count for a model of the architecture cnn: {", ".join(idle)}.'

    def _changed(self, settings: Iterable[Setting]) -> list[str]:
        """Return the names, in settings files, of those that are not at their defaults."""
        defaults = self.with_defaults()
        return [
            setting.name
            for setting in settings
            if self.parameter(setting).get_value() != defaults.parameter(setting).get_value()
        ]

    def tool_tip(self, setting: Setting, defaults: ReconstructorSettings) -> str:
        """Return the tool tip of a setting that has a row: what it means, then its limits and default."""
        assert setting.row is not None
        text = f'{setting.row.tip}\n{self._range(setting, defaults)}'
        # Qt does not wrap a tool tip by itself.
        return '\n'.join(textwrap.fill(line, TIP_WIDTH) for line in text.splitlines())

    def _range(self, setting: Setting, defaults: ReconstructorSettings) -> str:
        parameter, default = self.parameter(setting), defaults.parameter(setting).get_value()
        if isinstance(default, bool):
            return f'Default: {"on" if default else "off"}.'
        if isinstance(default, str):
            return f'Default: {default or "none"}.'
        limits = [getattr(parameter, name)() for name in ('get_minimum', 'get_maximum')]
        low, high = (None if limit is None else f'{limit:g}' for limit in limits)
        if low is not None and high is not None:
            return f'From {low} to {high}; default {default:g}.'
        return f'Default: {default:g}.' if low is None else f'At least {low}; default {default:g}.'

    def moved(self) -> Iterator[str]:
        """Yield sentences on values of a settings file that Ptychodus silently moved inside their limits."""
        for group in self.groups():
            yield from _outside_limits(group)


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> str:
    chosen = value.strip().casefold()
    if chosen not in choices:
        raise ConfigError(f'Setting {ENGINE_GROUP}.{name} is {value!r}; choose one of {", ".join(choices)}.')
    return chosen


def _outside_limits(group: ParameterGroup) -> Iterator[str]:
    """Say so where a settings file asks for a value that Ptychodus silently moves inside its limits."""
    for name, parameter in group.parameters().items():
        asked, used = getattr(parameter, '_value', None), parameter.get_value()
        if isinstance(used, int | float) and asked != used:
            yield f'Setting {name} is {asked}, outside its limits; {used} is used.'
