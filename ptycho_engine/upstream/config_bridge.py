"""What callers say in the vocabularies of the original PtychoPINN as the canonical configurations."""

from __future__ import annotations

import difflib
import logging
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from ..config.model import ModelConfig
from ..config.setup import InferenceSetup, TrainingSetup
from ..errors import ConfigError
from .torch_configs import PTDataConfig, PTInferenceConfig, PTModelConfig, PTTrainingConfig
from .vocabulary import DROPPED, TRANSLATIONS, plain_name

__all__ = ['to_inference_config', 'to_model_config', 'to_training_config', 'translate']

logger = logging.getLogger('ptychopinn.config')

Values = dict[str, Any]
_FILES = ('train_data_file', 'test_data_file', 'output_dir', 'model_path')
_CHANNELS = ('C', 'C_model', 'C_forward')
_OF_NETWORK = ('N', 'grid_size', 'C')
"""What torch-side data configurations say about the network."""
_OF_TRAINING = ('intensity_scale_trainable', 'loss_function')
"""What torch-side model configurations say about training."""


def translate(values: Mapping[str, Any], known: Iterable[str], owner: str) -> Values:
    """Return `values` under canonical names.

    Parameters
    ----------
    values : mapping
        Names and values in either vocabulary.
    known : iterable of str
        The canonical names that are legal here.
    owner : str
        Whose names they are, for messages.

    Raises
    ------
    ConfigError
        If a name is unknown (with the nearest one), a value has no translation, or two names disagree.
    """
    legal = set(known)
    result: Values = {}
    told: dict[str, str] = {}
    for name, value in values.items():
        if name in _CHANNELS:
            continue
        if name in TRANSLATIONS:
            if name == 'n_images':
                warnings.warn('n_images is an old name; use n_groups.', DeprecationWarning, stacklevel=2)
            translated = TRANSLATIONS[name](name, value)
        elif name in legal:
            translated = {name: _as_path(value) if name in _FILES else value}
        elif plain_name(name) in DROPPED:
            logger.info('%s = %r is left out: %s.', name, value, DROPPED[plain_name(name)])
            continue
        else:
            near = difflib.get_close_matches(name, [*legal, *TRANSLATIONS], n=1)
            hint = f'; did you mean {near[0]!r}?' if near else '.'
            raise ConfigError(f'{owner} has no field {name!r}{hint}')
        for canonical, item in translated.items():
            if canonical not in legal:
                raise ConfigError(f'{owner} has no use for {name!r}; leave it out.')
            if canonical in result and result[canonical] != item:
                raise ConfigError(
                    f'{told[canonical]} and {name} contradict each other about {canonical}: '
                    f'{result[canonical]!r} and {item!r}; give one of them.'
                )
            result[canonical], told[canonical] = item, name
    _check_channels(values, result)
    return result


def _as_path(value: Any) -> Path | None:
    return None if value is None else Path(value)


def _check_channels(values: Mapping[str, Any], result: Values) -> None:
    expected = result.get('gridsize', 1) ** 2
    for name in _CHANNELS:
        if name in values and values[name] != expected:
            raise ConfigError(
                f'{name} is {values[name]!r}; expected {expected}, the patterns in a group of grid_size.'
            )


def _said(*configs: Any) -> Values:
    """Return what torch-side configurations say; None says nothing."""
    return {name: value for c in configs for name, value in asdict(c).items() if value is not None}


def _only(values: Values, names: tuple[str, ...]) -> Values:
    return {name: value for name, value in values.items() if name in names}


def _without(values: Values, names: tuple[str, ...]) -> Values:
    return {name: value for name, value in values.items() if name not in names}


def _names(cls: type) -> set[str]:
    return {field.name for field in fields(cls)}


def to_model_config(
    data: PTDataConfig, model: PTModelConfig, overrides: Mapping[str, Any] | None = None
) -> ModelConfig:
    """Return the canonical network of a torch-side description.

    Raises
    ------
    ConfigError
        If the grid is not square, the mode or an activation is unknown, or an override is.
    """
    of_data, of_model = _said(data), _said(model)
    relevant = _only(of_data, _OF_NETWORK) | _without(of_model, _OF_TRAINING)
    values = translate(relevant, _names(ModelConfig), 'ModelConfig')
    values |= translate(overrides or {}, _names(ModelConfig), 'ModelConfig')
    return ModelConfig(**values)


def to_training_config(
    model: ModelConfig,
    data: PTDataConfig,
    pt_model: PTModelConfig,
    training: PTTrainingConfig,
    overrides: Mapping[str, Any] | None = None,
) -> TrainingSetup:
    """Return the canonical training; `overrides` must give train_data_file and n_groups.

    Raises
    ------
    ConfigError
        If one of these is missing, or a name or a value is unknown.
    """
    said = _without(_said(data), _OF_NETWORK) | _only(_said(pt_model), _OF_TRAINING) | _said(training)
    required = ('train_data_file', 'n_groups')
    return TrainingSetup(
        model=model, **_run_values(TrainingSetup, 'TrainingConfig', said, overrides, required)
    )


def to_inference_config(
    model: ModelConfig,
    data: PTDataConfig,
    inference: PTInferenceConfig,
    overrides: Mapping[str, Any] | None = None,
) -> InferenceSetup:
    """Return the canonical reconstruction; `overrides` must give model_path and test_data_file.

    Raises
    ------
    ConfigError
        If one of these is missing, or a name or a value is unknown.
    """
    said = _without(_said(data), (*_OF_NETWORK, 'nphotons')) | _said(inference)
    required = ('model_path', 'test_data_file')
    return InferenceSetup(
        model=model, **_run_values(InferenceSetup, 'InferenceConfig', said, overrides, required)
    )


def _run_values(
    cls: type, owner: str, said: Values, overrides: Mapping[str, Any] | None, required: Iterable[str]
) -> Values:
    """Return what a run's configuration `cls` is to hold besides its network; overrides win over `said`."""
    known = _names(cls) - {'model'}
    stated = translate(overrides or {}, known, owner)
    for name in required:
        if name not in stated:
            raise ConfigError(f'{name} is missing; give it in the overrides.')
    return {**translate(said, known, owner), **stated}
