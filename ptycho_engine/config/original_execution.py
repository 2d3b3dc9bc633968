"""Execution settings of the original PtychoPINN that have other values, or no place, here."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, TypeVar

from .checks import check_boolean, nearest

__all__ = [
    'EXECUTION_ADJUSTED',
    'EXECUTION_DROPPED',
    'EXECUTION_TRANSLATED',
    'instead',
    'with_original_names',
]

logger = logging.getLogger('ptychopinn.config')

T = TypeVar('T')
Adjustment = Callable[[Any], tuple[Any, str]]
"""From a value to the one here, and why it is another."""

EXECUTION_DROPPED: dict[str, str] = {
    'checkpoint_monitor_metric': 'the validation loss decides',
    'checkpoint_mode': 'the validation loss decides, and the lower is the better',
    'pin_memory': 'patterns go to the device without it',
    'persistent_workers': 'the threads of num_workers live as long as the run',
    'prefetch_factor': 'the threads of num_workers prepare the next batches',
    'strategy': 'several devices share each batch, and one computes all',
    'middle_trim': 'patches are weighted by their illumination, and none is cropped',
    'pad_eval': 'objects are always reconstructed as a whole',
    **dict.fromkeys(
        (
            *('recon_log_every_n_epochs', 'recon_log_num_patches', 'recon_log_fixed_indices'),
            *('recon_log_stitch', 'recon_log_max_stitch_samples'),
        ),
        'images of the epochs are not logged; the window shows one while it trains',
    ),
    **dict.fromkeys(
        (
            *('ffno_encoder_blocks', 'ffno_encoder_modes', 'ffno_encoder_share_weights'),
            *('ffno_encoder_gate_init', 'ffno_encoder_norm', 'ffno_encoder_mlp_ratio'),
            *('spectral_bottleneck_blocks', 'spectral_bottleneck_modes'),
            *('spectral_bottleneck_share_weights', 'spectral_bottleneck_gate_init'),
            'spectral_bottleneck_gate_mode',
        ),
        'it belongs to networks of the original that are not here',
    ),
}
"""Settings without a place, and why."""


def instead(theirs: tuple[str, ...], ours: str) -> Adjustment:
    """Return what turns some words into one of ours."""
    return lambda value: (ours, f'{value!r} is not here') if value in theirs else (value, '')


EXECUTION_ADJUSTED: dict[str, Adjustment] = {
    'devices': lambda value: (1, 'devices are counted') if value == 'auto' else (value, ''),
    'deterministic': lambda value: (True, '') if value == 'warn' else (value, ''),
    'logger_backend': lambda value: ('none', '') if value is None else (value, ''),
    'scheduler': lambda value: (
        ('WarmupCosine', '')
        if value == 'CosineAnnealing'
        else instead(('MultiStage', 'Adaptive'), 'Default')(value)
    ),
}
"""Settings for whose values the original has more, or other, words."""


def _checkpoints(name: str, value: Any) -> dict[str, Any]:
    check_boolean('PyTorchExecutionConfig', name, value)
    return {} if value == (name == 'enable_checkpointing') else {'checkpoint_save_top_k': 0}


EXECUTION_TRANSLATED: dict[str, Callable[[str, Any], dict[str, Any]]] = {
    'enable_checkpointing': _checkpoints,
    'disable_checkpointing': _checkpoints,
}
"""Settings that another says here: its value, of a name and a value."""


def with_original_names(cls: type[T]) -> type[T]:
    """Let a configuration be made with the names of the original too.

    What has no place here is left out, and a line of the log says why. Any other name is a
    :class:`ConfigError` with the nearest one.
    """
    plain = cls.__init__

    @functools.wraps(plain)
    def made(self: T, *args: Any, **values: Any) -> None:
        plain(self, *args, **_in_our_words(cls, values))

    cls.__init__ = made  # type: ignore[method-assign,assignment]
    return cls


def _in_our_words(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    known = [field.name for field in fields(cls)]
    ours: dict[str, Any] = {}
    said_otherwise: dict[str, Any] = {}
    for name, value in values.items():
        if name in EXECUTION_TRANSLATED:
            said_otherwise |= EXECUTION_TRANSLATED[name](name, value)
            continue
        if name in EXECUTION_DROPPED:
            logger.info('%s.%s = %r is left out: %s.', cls.__name__, name, value, EXECUTION_DROPPED[name])
            continue
        if name not in known:
            raise nearest(cls.__name__, name, known)
        ours[name], why = EXECUTION_ADJUSTED.get(name, lambda value: (value, ''))(value)
        if why:
            logger.info('%s.%s is %r: %s.', cls.__name__, name, ours[name], why)
    return ours | said_otherwise
