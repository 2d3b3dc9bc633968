"""Translation of the vocabularies that callers know into the canonical configurations.

Names: grid_size -> gridsize, epochs and max_epochs -> nepochs, K -> neighbor_count, mode -> model_type,
nll -> nll_weight, n_images -> n_groups (deprecated), torch_loss_mode and loss_function -> nll_weight and
mae_weight. Values: Unsupervised -> pinn, Supervised -> supervised, silu -> swish.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from ..config.model import ModelConfig
from ..config.setup import InferenceSetup, TrainingSetup
from ..errors import ConfigError
from .torch_configs import PTDataConfig, PTInferenceConfig, PTModelConfig, PTTrainingConfig

__all__ = ['to_inference_config', 'to_model_config', 'to_training_config', 'translate']

Values = dict[str, Any]
_MODES = {'unsupervised': 'pinn', 'supervised': 'supervised', 'pinn': 'pinn'}
_LOSSES = {'poisson': (1.0, 0.0), 'mae': (0.0, 1.0)}
_FILES = ('train_data_file', 'test_data_file', 'output_dir', 'model_path')


def _square(name: str, value: Any) -> Values:
    sides = tuple(value) if isinstance(value, list | tuple) else (value, value)
    if len(sides) != 2 or sides[0] != sides[1]:
        raise ConfigError(f'{name} is {value!r}; expected a square grid such as (2, 2).')
    return {'gridsize': sides[0]}


def _mode(name: str, value: Any) -> Values:
    try:
        return {'model_type': _MODES[str(value).casefold()]}
    except KeyError:
        raise ConfigError(f"{name} is {value!r}; expected 'Unsupervised' or 'Supervised'.") from None


def _loss(name: str, value: Any) -> Values:
    try:
        nll, mae = _LOSSES[str(value).casefold()]
    except KeyError:
        raise ConfigError(f"{name} is {value!r}; expected 'poisson' or 'mae'.") from None
    return {'nll_weight': nll, 'mae_weight': mae}


def _activation(name: str, value: Any) -> Values:
    return {name: 'swish' if str(value).casefold() == 'silu' else value}


def _weight(_name: str, value: Any) -> Values:
    return {'nll_weight': float(value)}


def _images(_name: str, value: Any) -> Values:
    warnings.warn('n_images is an old name; use n_groups.', DeprecationWarning, stacklevel=2)
    return {'n_groups': value}


def _positions(name: str, value: Any) -> Values:
    if value is not True:
        raise ConfigError(f'{name} is {value!r}; a scan always comes with its positions, so leave it True.')
    return {}


def _renamed(name: str) -> Callable[[str, Any], Values]:
    return lambda _, value: {name: value}


_TRANSLATIONS: dict[str, Callable[[str, Any], Values]] = {
    'grid_size': _square,
    'mode': _mode,
    'amp_activation': _activation,
    'epochs': _renamed('nepochs'),
    'max_epochs': _renamed('nepochs'),
    'K': _renamed('neighbor_count'),
    'nll': _weight,
    'torch_loss_mode': _loss,
    'loss_function': _loss,
    'n_images': _images,
    'positions_provided': _positions,
}
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
        if name in _TRANSLATIONS:
            translated = _TRANSLATIONS[name](name, value)
        elif name in legal:
            translated = {name: _as_path(value) if name in _FILES else value}
        else:
            near = difflib.get_close_matches(name, [*legal, *_TRANSLATIONS], n=1)
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
