"""Settings that others leave without effect, so that a run can say so (CFG-01).

They are no errors: a file or a panel holds all settings at once, whichever are in use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any

from .inference import InferenceConfig
from .training import TrainingConfig

__all__ = ['IDLE_UNLESS', 'idle_settings']

Config = TrainingConfig | InferenceConfig


Rule = tuple[str, str, Callable[[Any], bool]]
"""A setting, the one that decides, and whether a configuration lets the first count."""


def _needs(decider: str, *values: object) -> tuple[str, Callable[[Any], bool]]:
    return decider, lambda config: attrgetter(decider)(config) in values


def _above(decider: str, limit: int) -> tuple[str, Callable[[Any], bool]]:
    return decider, lambda config: bool(attrgetter(decider)(config) > limit)


IDLE_UNLESS: dict[type[Config], tuple[Rule, ...]] = {
    TrainingConfig: (
        ('model.n_filters_scale', *_needs('model.architecture', 'cnn')),
        ('probe_trainable', *_needs('model.architecture', 'cnn')),
        ('intensity_scale_trainable', *_needs('model.architecture', 'cnn')),
        ('nll_weight', *_needs('model.model_type', 'pinn')),
        ('mae_weight', *_needs('model.model_type', 'pinn')),
        ('realspace_mae_weight', *_needs('model.model_type', 'pinn')),
        ('realspace_weight', *_needs('model.model_type', 'pinn')),
        ('neighbor_count', *_above('model.gridsize', 1)),
        ('neighbor_pool_size', *_above('model.gridsize', 1)),
        ('neighbor_pool_size', *_needs('enable_oversampling', True)),
        ('momentum', *_needs('optimizer', 'sgd')),
        ('adam_beta1', *_needs('optimizer', 'adam', 'adamw')),
        ('adam_beta2', *_needs('optimizer', 'adam', 'adamw')),
        ('gradient_clip_algorithm', 'gradient_clip_val', lambda c: c.gradient_clip_val is not None),
        ('lr_warmup_epochs', *_needs('scheduler', 'WarmupCosine')),
        ('lr_min_ratio', *_needs('scheduler', 'Exponential', 'WarmupCosine')),
        ('plateau_factor', *_needs('scheduler', 'ReduceLROnPlateau')),
        ('plateau_patience', *_needs('scheduler', 'ReduceLROnPlateau')),
        ('plateau_min_lr', *_needs('scheduler', 'ReduceLROnPlateau')),
        ('plateau_threshold', *_needs('scheduler', 'ReduceLROnPlateau')),
    ),
    InferenceConfig: (
        ('refine_method', *_above('refine_iterations', 0)),
        # Without refinement it says how far one would move the object, which is the uncertainty.
        (
            'refine_smoothing',
            'refine_method',
            lambda c: c.refine_method == 'accelerated' or c.refine_iterations == 0,
        ),
    ),
}


def idle_settings(config: Config) -> Iterator[str]:
    """Yield a phrase for each setting that is not at its default and has no effect."""
    defaults = type(config)()
    for kind, rules in IDLE_UNLESS.items():
        for name, decider, counts in rules if isinstance(config, kind) else ():
            setting = attrgetter(name)
            if setting(config) != setting(defaults) and not counts(config):
                value = attrgetter(decider)(config)
                told, by = (words.removeprefix('model.') for words in (name, decider))
                yield f'{told} has no effect with {by} {value!r}'
