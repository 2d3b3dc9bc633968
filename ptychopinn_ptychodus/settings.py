"""Settings of Ptychodus -> configurations of the engine.

The groups ``PtychoPINNModel``, ``PtychoPINNTraining`` and ``PtychoPINNInference`` are Ptychodus' own and keep
their names and meaning. ``PtychoPINNEngine`` holds what they have no place for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, cast

from ptychodus.api.parameters import Parameter, ParameterGroup
from ptychodus.api.settings import SettingsRegistry
from ptychodus.model.ptychopinn.settings import (
    PtychoPINNInferenceSettings,
    PtychoPINNModelSettings,
    PtychoPINNTrainingSettings,
)

from ptycho_engine.config import InferenceConfig, ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho_engine.errors import ConfigError

from .setting_names import ENGINE_GROUP, setting_names

__all__ = ['ADOPTABLE', 'START_FROM', 'TRAIN_ON', 'EngineSettings', 'ReconstructorSettings']

START_FROM = ('scratch', 'model', 'checkpoint')
TRAIN_ON = ('auto', 'product', 'folder', 'simulation')
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


_Names = tuple[tuple[str, str, str], ...]
"""Object, attribute, name in a settings file."""

_WITHOUT_EFFECT: _Names = (
    ('training', 'nphotons', 'NumPhotons'),
    ('training', 'positions_provided', 'PositionsProvided'),
    ('inference', 'n_samples', 'NumSamples'),
)
_WITHOUT_EFFECT_SUPERVISED: _Names = (
    ('training', 'mae_weight', 'MAEWeight'),
    ('training', 'nll_weight', 'NLLWeight'),
    ('training', 'realspace_mae_weight', 'RealspaceMAEWeight'),
    ('training', 'realspace_weight', 'RealspaceWeight'),
)
_ONLY_CNN: _Names = (
    ('model', 'amp_activation', 'AmpActivation'),
    ('model', 'probe_big', 'ProbeBig'),
    ('model', 'pad_object', 'PadObject'),
    ('model', 'probe_scale', 'ProbeScale'),
    ('model', 'n_filters_scale', 'NumFiltersScale'),
    # The prior works on the object; probe and scale are the solver's.
    ('training', 'probe_trainable', 'ProbeTrainable'),
    ('training', 'intensity_scale_trainable', 'IntensityScaleTrainable'),
)

_ONLY_WITH_CNN: _Names = (
    ('engine', 'refine_iterations', 'RefineIterations'),
    ('engine', 'refine_method', 'RefineMethod'),
    ('engine', 'inference_batch_size', 'InferenceBatchSize'),
)

_NETWORK_FIELDS = {
    'model': (
        *('gridsize', 'n_filters_scale', 'object_big', 'probe_mask', 'gaussian_smoothing_sigma'),
        *('amp_activation', 'probe_big', 'pad_object', 'probe_scale'),
    ),
}
"""Settings that are fields of ModelConfig, besides the architecture."""

ADOPTABLE = frozenset({'architecture', *chain.from_iterable(_NETWORK_FIELDS.values())})
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
        n_groups = self.engine.n_groups.get_value()
        with setting_names():
            return TrainingConfig(
                model=self._model_config(model_type),
                backend=self._backend(),
                batch_size=self.training.batch_size.get_value(),
                nepochs=self.training.nepochs.get_value(),
                n_groups=None if n_groups == ALL_GROUPS else n_groups,
                neighbor_count=self.inference.n_nearest_neighbors.get_value(),
                nll_weight=self.training.nll_weight.get_value(),
                mae_weight=self.training.mae_weight.get_value(),
                realspace_mae_weight=self.training.realspace_mae_weight.get_value(),
                realspace_weight=self.training.realspace_weight.get_value(),
                probe_trainable=self.is_cnn and self.training.probe_trainable.get_value(),
                intensity_scale_trainable=self.is_cnn and self.training.intensity_scale_trainable.get_value(),
                learning_rate=self.engine.learning_rate.get_value(),
                validation_fraction=self.engine.validation_fraction.get_value(),
                early_stop_patience=self.engine.early_stop_patience.get_value(),
                seed=self.engine.seed.get_value(),
            )

    def _model_config(self, model_type: str) -> ModelConfig:
        shared: dict[str, Any] = {
            'gridsize': self.model.gridsize.get_value(),
            'model_type': model_type,
            'architecture': self._architecture,
            'object_big': self.model.object_big.get_value(),
            'probe_mask': self.model.probe_mask.get_value(),
            'gaussian_smoothing_sigma': self.model.gaussian_smoothing_sigma.get_value(),
        }
        if not self.is_cnn:
            return ModelConfig(**shared)
        return ModelConfig(
            **shared,
            n_filters_scale=self.model.n_filters_scale.get_value(),
            amp_activation=self.model.amp_activation.get_value().strip().casefold(),
            probe_big=self.model.probe_big.get_value(),
            pad_object=self.model.pad_object.get_value(),
            probe_scale=self.model.probe_scale.get_value(),
        )

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
        refinement: dict[str, Any] = {}
        if refines:
            refinement = {
                'refine_iterations': self.engine.refine_iterations.get_value(),
                'refine_method': self.engine.refine_method.get_value().strip().casefold(),
            }
        with setting_names():
            return InferenceConfig(
                backend=self._backend(),
                batch_size=self.engine.inference_batch_size.get_value(),
                neighbor_count=self.inference.n_nearest_neighbors.get_value(),
                seed=self.engine.seed.get_value(),
                **refinement,
                refine_smoothing=self.engine.refine_smoothing.get_value(),
                calibrate=self.engine.calibrate.get_value().strip().casefold(),
                refine_probe=self.engine.refine_probe.get_value(),
                refine_positions=self.engine.refine_positions.get_value(),
            )

    def execution_config(self) -> PyTorchExecutionConfig:
        """Return where to compute, and with which precision.

        Raises
        ------
        ConfigError
            If a value is unknown; the sentence names the setting.
        """
        with setting_names():
            return PyTorchExecutionConfig(
                accelerator=self.engine.accelerator.get_value().strip().casefold(),
                # Checked by the configuration itself.
                precision=cast(Any, self.engine.precision.get_value().strip().casefold()),
            )

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
        idle = {(owner, name) for owner, name, _ in (() if self.is_cnn else _ONLY_CNN)}
        for owner, names in _NETWORK_FIELDS.items():
            for name in names:
                # What the architecture does not have stays as the user left it.
                if (owner, name) not in idle:
                    getattr(getattr(self, owner), name).set_value(getattr(model, name))

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

    def _backend(self) -> str:
        return self.engine.backend.get_value().strip().casefold()

    def remarks(self, model_type: str) -> Iterator[str]:
        """Yield sentences on settings that differ from their default and yet change nothing."""
        names = _WITHOUT_EFFECT + (() if self.is_cnn else _ONLY_CNN)
        if model_type == 'supervised':
            names += _WITHOUT_EFFECT_SUPERVISED
        idle = self._changed(names)
        if idle:
            yield f'These settings have no effect on this network: {", ".join(idle)}.'
        yield from self.moved()

    def remarks_without_cnn(self) -> Iterator[str]:
        """Yield sentences on settings that differ from their default and only count for a model 'cnn'."""
        idle = self._changed(_ONLY_WITH_CNN)
        if idle:
            yield f'These settings only count for a model of the architecture cnn: {", ".join(idle)}.'

    def _changed(self, names: _Names) -> list[str]:
        """Return the names, in settings files, of those that are not at their defaults."""
        defaults = self.with_defaults()
        return [
            name
            for group, attribute, name in names
            if _value(self, group, attribute) != _value(defaults, group, attribute)
        ]

    def moved(self) -> Iterator[str]:
        """Yield sentences on values of a settings file that Ptychodus silently moved inside their limits."""
        for group in self.groups():
            yield from _outside_limits(group)


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> str:
    chosen = value.strip().casefold()
    if chosen not in choices:
        raise ConfigError(f'Setting {ENGINE_GROUP}.{name} is {value!r}; choose one of {", ".join(choices)}.')
    return chosen


def _value(settings: ReconstructorSettings, group: str, attribute: str) -> Any:
    parameter: Parameter[Any] = getattr(getattr(settings, group), attribute)
    return parameter.get_value()


def _outside_limits(group: ParameterGroup) -> Iterator[str]:
    """Say so where a settings file asks for a value that Ptychodus silently moves inside its limits."""
    for name, parameter in group.parameters().items():
        asked, used = getattr(parameter, '_value', None), parameter.get_value()
        if isinstance(used, int | float) and asked != used:
            yield f'Setting {name} is {asked}, outside its limits; {used} is used.'
