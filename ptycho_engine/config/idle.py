"""Settings that others leave without effect, so that a run can say so (CFG-01).

They are no errors: a file or a panel holds all settings at once, whichever are in use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from operator import attrgetter
from typing import Any

from .execution import PyTorchExecutionConfig
from .inference import InferenceConfig
from .training import TrainingConfig

__all__ = ['IDLE_UNLESS', 'idle_settings']

Config = TrainingConfig | InferenceConfig | PyTorchExecutionConfig


def _among(*values: object) -> Callable[[Any], bool]:
    return lambda value: value in values


def _above(limit: int) -> Callable[[Any], bool]:
    return lambda value: bool(value > limit)


IDLE_UNLESS: dict[type[Config], dict[str, tuple[str, Callable[[Any], bool]]]] = {
    TrainingConfig: {
        'simulated_epochs': ('model.model_type', _among('pinn')),
        'nll_weight': ('model.model_type', _among('pinn')),
        'mae_weight': ('model.model_type', _among('pinn')),
        'realspace_mae_weight': ('model.model_type', _among('pinn')),
        'realspace_weight': ('model.model_type', _among('pinn')),
        'neighbor_count': ('model.gridsize', _above(1)),
        'neighbor_pool_size': ('enable_oversampling', _among(True)),
        'momentum': ('optimizer', _among('sgd')),
        'adam_beta1': ('optimizer', _among('adam', 'adamw')),
        'adam_beta2': ('optimizer', _among('adam', 'adamw')),
        'gradient_clip_algorithm': ('gradient_clip_val', lambda value: value is not None),
        'lr_warmup_epochs': ('scheduler', _among('WarmupCosine')),
        'lr_min_ratio': ('scheduler', _among('Exponential', 'WarmupCosine')),
        'plateau_factor': ('scheduler', _among('ReduceLROnPlateau')),
        'plateau_patience': ('scheduler', _among('ReduceLROnPlateau')),
        'plateau_min_lr': ('scheduler', _among('ReduceLROnPlateau')),
        'plateau_threshold': ('scheduler', _among('ReduceLROnPlateau')),
    },
    InferenceConfig: {
        'refine_method': ('refine_iterations', _above(0)),
        'refine_smoothing': ('refine_method', _among('accelerated')),
    },
    PyTorchExecutionConfig: {
        'checkpoint_save_top_k': ('enable_checkpointing', _among(True)),
    },
}
"""For each setting the one that decides, and whether it lets it count."""


def idle_settings(config: Config) -> Iterator[str]:
    """Yield a phrase for each setting that is not at its default and has no effect."""
    defaults = {field.name: field.default for field in fields(config)}
    for kind, table in IDLE_UNLESS.items():
        for name, (decider, counts) in table.items() if isinstance(config, kind) else ():
            value = attrgetter(decider)(config)
            if getattr(config, name) != defaults[name] and not counts(value):
                yield f'{name} has no effect with {decider.removeprefix("model.")} {value!r}'
