"""Filling the flat dictionary of older PtychoPINN code from the configurations, one way (CONFIG-001)."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from ..config.inference import InferenceConfig
from ..config.model import ModelConfig
from ..config.setup import InferenceSetup, TrainingSetup
from ..config.training import TrainingConfig
from ..errors import ConfigTypeError
from . import params

__all__ = ['KEY_MAPPINGS', 'params', 'populate_legacy_params', 'update_legacy_dict']

logger = logging.getLogger('ptychopinn.config')

KEY_MAPPINGS = {
    'object_big': 'object.big',
    'probe_big': 'probe.big',
    'probe_mask': 'probe.mask',
    'probe_trainable': 'probe.trainable',
    'intensity_scale_trainable': 'intensity_scale.trainable',
    'positions_provided': 'positions.provided',
    'output_dir': 'output_prefix',
    'train_data_file': 'train_data_file_path',
    'test_data_file': 'test_data_file_path',
}
"""Legacy names of the fields that have another one there."""

_NAMES = {
    KEY_MAPPINGS.get(field.name, field.name)
    for cls in (ModelConfig, TrainingSetup, InferenceSetup)
    for field in fields(cls)
    if field.name != 'model'
}
"""Every legacy name that a configuration fills."""


def update_legacy_dict(cfg: MutableMapping[str, Any], config: Any) -> None:
    """Write a configuration, with the nested model, into a flat dictionary under the legacy names.

    Paths become text. None is written too, so that no value of an earlier configuration survives.
    """
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            update_legacy_dict(cfg, value)
        else:
            name = KEY_MAPPINGS.get(field.name, field.name)
            cfg[name] = str(value) if isinstance(value, Path) else value


def populate_legacy_params(tf_config: TrainingConfig | InferenceConfig, force: bool = False) -> None:
    """Fill ``params.cfg`` from a configuration.

    Settings that this one does not have, a training's in an inference, are taken out; names that no
    configuration has are the caller's, and stay.

    Parameters
    ----------
    tf_config : TrainingConfig or InferenceConfig
    force : bool
        Replace without a word what an earlier call wrote; otherwise a warning names what changes.

    Raises
    ------
    ConfigTypeError
        If it is anything else; it is a ``TypeError``, and ``params.cfg`` stays as it is.
    """
    if not isinstance(tf_config, TrainingConfig | InferenceConfig):
        raise ConfigTypeError(
            f'populate_legacy_params was given {type(tf_config).__name__}; expected a TrainingConfig or an '
            'InferenceConfig.'
        )
    fresh: dict[str, Any] = {}
    update_legacy_dict(fresh, tf_config)
    stale = _NAMES & (set(params.cfg) - set(fresh))
    changed = sorted(
        {*stale, *(name for name, value in fresh.items() if params.cfg.get(name, value) != value)}
    )
    if changed and not force:
        logger.warning('params.cfg held other values of %s; they are replaced or gone.', ', '.join(changed))
    for name in stale:
        del params.cfg[name]
    params.cfg.update(fresh)
