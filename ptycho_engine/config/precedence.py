"""Which of several statements about a setting holds, decided in this one place.

Strongest first: explicit overrides, the execution configuration, the command line (a flag above a settings
file), the backend's defaults, the canonical defaults. Every setting that was stated above the canonical
defaults is recorded with its level and with what it replaced.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from .describe import describe
from .execution import OVERRIDING, PyTorchExecutionConfig
from .inference import InferenceConfig
from .model import ModelConfig
from .setup import InferenceSetup, TrainingSetup
from .training import TrainingConfig

__all__ = [
    'BACKEND_DEFAULTS',
    'Applied',
    'Level',
    'execution_values',
    'resolve',
    'resolve_inference',
    'resolve_training',
    'with_execution',
]

Values = Mapping[str, Any]
C = TypeVar('C', TrainingConfig, InferenceConfig)


class Level(StrEnum):
    """Where a value was stated, strongest first; what is found in the data contradicts nothing stated."""

    OVERRIDE = 'override'
    EXECUTION = 'execution config'
    COMMAND_LINE = 'command line'
    DATA = 'found in the data'
    BACKEND = 'backend default'
    CANONICAL = 'canonical default'


BACKEND_DEFAULTS: dict[str, dict[str, Any]] = {'pytorch': {}, 'tensorflow': {}}
"""Fields for which a backend has a better default than the canonical one. None is known: both backends train
alike, and the best batch size of either depends on the network more than on the backend."""


@dataclass(frozen=True, eq=False)
class Applied:
    """The value of a setting and how it came to hold; it equals that value, which callers may compare."""

    value: Any
    level: Level
    replaced: tuple[tuple[Level, Any], ...]
    """Level and value of every weaker statement, strongest first."""

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Applied):
            return dataclasses.astuple(self) == dataclasses.astuple(other)
        return bool(self.value == other)

    def __hash__(self) -> int:
        return hash(self.value)


def resolve(
    canonical: Values, stated: Sequence[tuple[Level, Values]]
) -> tuple[dict[str, Any], dict[str, Applied]]:
    """Return the values that hold and a record of those that were stated above the canonical level.

    Parameters
    ----------
    canonical : mapping
        Every setting at its canonical default.
    stated : sequence of (Level, mapping)
        What was stated, in any order.
    """
    ordered = sorted(stated, key=lambda item: list(Level).index(item[0]))
    values = dict(canonical)
    applied: dict[str, Applied] = {}
    for level, mapping in ordered:
        for name, value in mapping.items():
            if name in applied:
                record = applied[name]
                applied[name] = dataclasses.replace(record, replaced=(*record.replaced, (level, value)))
            else:
                values[name] = value
                applied[name] = Applied(value, level, ())
    for name, record in applied.items():
        if name in canonical:
            replaced = (*record.replaced, (Level.CANONICAL, canonical[name]))
            applied[name] = dataclasses.replace(record, replaced=replaced)
    return values, applied


def execution_values(execution: PyTorchExecutionConfig | None, cls: type) -> dict[str, Any]:
    """Return the fields of `cls` that an execution configuration states."""
    if execution is None:
        return {}
    if cls is InferenceConfig:
        size = execution.inference_batch_size
        return {} if size is None else {'batch_size': size}
    return {name: value for name in OVERRIDING if (value := getattr(execution, name)) is not None}


def with_execution(config: C, execution: PyTorchExecutionConfig | None) -> C:
    """Return a configuration with what the execution configuration states in its place.

    Of a configuration with files only the settings are returned, which is what a model keeps.
    """
    if isinstance(config, TrainingSetup | InferenceSetup):
        config = config.settings
    stated = execution_values(execution, type(config))
    return dataclasses.replace(config, **stated) if stated else config


def _defaults(*classes: type) -> dict[str, Any]:
    return {info.name: info.default for cls in classes for info in describe(cls)}


def _stated(
    overrides: Values | None,
    execution: PyTorchExecutionConfig | None,
    command_line: Values | None,
    canonical: Values,
    cls: type,
) -> list[tuple[Level, Values]]:
    """Return all statements; the backend itself may be stated by any level and then adds its defaults."""
    stated: list[tuple[Level, Values]] = [
        (Level.OVERRIDE, overrides or {}),
        (Level.EXECUTION, execution_values(execution, cls)),
        (Level.COMMAND_LINE, command_line or {}),
    ]
    backend = resolve(canonical, stated)[0]['backend']
    # What is no name of a backend is refused where the configuration is built.
    own = BACKEND_DEFAULTS.get(backend, {}) if isinstance(backend, str) else {}
    stated.append((Level.BACKEND, {name: value for name, value in own.items() if name in canonical}))
    return stated


def resolve_training(
    *,
    overrides: Values | None = None,
    execution: PyTorchExecutionConfig | None = None,
    command_line: Values | None = None,
) -> tuple[TrainingConfig, dict[str, Applied]]:
    """Return the training configuration that holds, and the record; names are those of the fields.

    Raises
    ------
    ConfigError
        If a value is out of range.
    """
    canonical = _defaults(ModelConfig, TrainingConfig)
    stated = _stated(overrides, execution, command_line, canonical, TrainingConfig)
    values, applied = resolve(canonical, stated)
    of_model = {info.name for info in describe(ModelConfig)}
    model = ModelConfig(**{name: value for name, value in values.items() if name in of_model})
    rest = {name: value for name, value in values.items() if name not in of_model}
    return TrainingConfig(model=model, **rest), applied


def resolve_inference(
    *,
    overrides: Values | None = None,
    execution: PyTorchExecutionConfig | None = None,
    command_line: Values | None = None,
) -> tuple[InferenceConfig, dict[str, Applied]]:
    """Return the inference configuration that holds, and the record.

    Raises
    ------
    ConfigError
        If a value is out of range.
    """
    canonical = _defaults(InferenceConfig)
    stated = _stated(overrides, execution, command_line, canonical, InferenceConfig)
    values, applied = resolve(canonical, stated)
    return InferenceConfig(**values), applied
