"""What the settings of the original PtychoPINN are called here, and why some have no place.

One table for what callers, files and command lines of the original say. Names: grid_size -> gridsize, epochs
and max_epochs -> nepochs, K -> neighbor_count, mode -> model_type, nll -> nll_weight, n_images -> n_groups,
torch_loss_mode and loss_function -> nll_weight and mae_weight. Values: Unsupervised -> pinn, silu -> swish.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..config.model import ARCHITECTURES
from ..config.original_execution import EXECUTION_ADJUSTED, EXECUTION_DROPPED, EXECUTION_TRANSLATED, instead
from ..errors import ConfigError

__all__ = [
    'ADJUSTED',
    'DROPPED',
    'FILES',
    'NESTED',
    'OF_STUDIES',
    'ONLY_CNN',
    'SECTIONS_OF_THEIRS',
    'SWITCHES',
    'TRANSLATIONS',
    'plain_name',
]

Values = dict[str, Any]
_MODES = {'unsupervised': 'pinn', 'supervised': 'supervised', 'pinn': 'pinn'}
_LOSSES = {'poisson': (1.0, 0.0), 'mae': (0.0, 1.0)}
SMALLEST_SCALE = 2.0


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


def _lower_case(name: str, value: Any) -> Values:
    return {name: value.casefold() if isinstance(value, str) else value}


def _activation(name: str, value: Any) -> Values:
    return {name: 'swish' if str(value).casefold() == 'silu' else value}


def _weight(_name: str, value: Any) -> Values:
    return {'nll_weight': float(value)}


def _positions(name: str, value: Any) -> Values:
    if value is not True:
        raise ConfigError(f'{name} is {value!r}; a scan always comes with its positions, so leave it True.')
    return {}


def _not(field: str) -> Callable[[str, Any], Values]:
    return lambda _, value: {field: not value}


def _renamed(field: str) -> Callable[[str, Any], Values]:
    return lambda _, value: {field: value}


TRANSLATIONS: dict[str, Callable[[str, Any], Values]] = {
    'grid_size': _square,
    'mode': _mode,
    'model_type': _lower_case,
    'amp_activation': _activation,
    'epochs': _renamed('nepochs'),
    'max_epochs': _renamed('nepochs'),
    'K': _renamed('neighbor_count'),
    'nll': _weight,
    'torch_loss_mode': _loss,
    'loss_function': _loss,
    'n_images': _renamed('n_groups'),
    'positions_provided': _positions,
    'accumulate_grad_batches': _renamed('accum_steps'),
    'logger': _renamed('logger_backend'),
    'device': _renamed('accelerator'),
    'no_deterministic': _not('deterministic'),
    **EXECUTION_TRANSLATED,
}
"""Settings of another name, or with other words for their values: the fields here, of a name and a value."""

NESTED: dict[tuple[str, str], str] = {
    ('gradient_clip', 'val'): 'gradient_clip_val',
    ('gradient_clip', 'algorithm'): 'gradient_clip_algorithm',
    ('optimizer', 'algorithm'): 'optimizer',
    ('adam', 'beta1'): 'adam_beta1',
    ('adam', 'beta2'): 'adam_beta2',
    ('scheduler', 'kind'): 'scheduler',
}
"""Settings whose names tell what they are together with their section alone."""

SECTIONS_OF_THEIRS = ('data', 'sampling', 'loss', 'tf_loss', 'gradient_clip', 'optimizer', 'scheduler')
"""Sections of a settings file that only the original has."""

OF_STUDIES = ('study', 'hydra', 'simulation', 'workflow', 'defaults')
"""Sections of the files that its study scripts take."""

FILES = ('train_data_file', 'test_data_file', 'output_dir', 'model_path', 'ptycho_dir', 'test_data')
"""Settings that name files."""

ONLY_CNN = (
    *('amp_activation', 'probe_big', 'pad_object', 'probe_scale', 'n_filters_scale'),
    *('probe_trainable', 'intensity_scale_trainable'),
)
"""Settings of the network of the original, which is 'cnn' here."""

_SAID_BY_DATA = 'the values of the patterns tell what they are, and --domain and --nphotons overrule them'
_OF_PICTURES = 'pictures are scaled by what they show'

DROPPED: dict[str, str] = {
    'N': 'the size of the patterns is read from the data',
    'nphotons': _SAID_BY_DATA,
    'measurement_domain': _SAID_BY_DATA,
    'scale_contract_version': _SAID_BY_DATA,
    'stitch_crop_size': 'patches are weighted by their illumination, and none is cropped',
    'patch_weighting': 'patches are always weighted by their illumination',
    'varpro_scaling': 'the scale of the object always follows from the counts',
    'do_stitching': '`ptychopinn reconstruct` makes the image when training is done',
    'debug': 'nothing more is to be seen',
    'debug_dump': 'nothing more is to be seen',
    'quiet': '--quiet says it on every command',
    'verbose': 'the log always says all',
    'console_level': 'the log always says all, and --quiet only what is wrong',
    'profile': 'each setting is stated by itself',
    'object_layout': 'the patterns of a group always share one object',
    'training_canvas': 'the canvas is as large as the positions need',
    'training_patch_weighting': 'patches are always weighted by their illumination',
    **dict.fromkeys(OF_STUDIES, 'it is for the study scripts of the original'),
    'disable_mlflow': 'nothing goes to MLflow unless --logger-backend mlflow asks for it',
    'log_patch_stats': 'history.csv has the losses of every epoch',
    'patch_stats_limit': 'history.csv has the losses of every epoch',
    'comparison_plot': '`ptychopinn reconstruct --truth FILE` draws it',
    'phase_vmin': _OF_PICTURES,
    'phase_vmax': _OF_PICTURES,
    'checkpoint_monitor': 'the validation loss decides',
    'torch_mae_pred_l2_match_target': 'the scale of the prediction always follows from the counts',
    **dict.fromkeys(
        (
            *('fno_modes', 'fno_width', 'fno_blocks', 'fno_cnn_blocks', 'fno_input_transform'),
            *('learned_input_channels', 'max_hidden_channels', 'resnet_width', 'generator_output_mode'),
        ),
        'it belongs to networks of the original that are not here',
    ),
    **EXECUTION_DROPPED,
}
"""Settings that have no place here, and why."""

SWITCHES = frozenset(
    (
        *('do_stitching', 'debug', 'quiet', 'verbose', 'comparison_plot', 'disable_mlflow'),
        *('log_patch_stats', 'enable_checkpointing', 'disable_checkpointing', 'deterministic'),
        *('no_deterministic', 'recon_log_stitch', 'varpro_scaling', 'probe_mask'),
    )
)
"""Flags that the original may give without a value."""


def _probe_scale(value: Any) -> tuple[Any, str]:
    small = isinstance(value, int | float) and value < SMALLEST_SCALE
    return (SMALLEST_SCALE, 'an object of mean amplitude 1 needs room above it') if small else (value, '')


ADJUSTED: dict[str, Callable[[Any], tuple[Any, str]]] = {
    'architecture': instead(
        ('fno', 'ffno', 'fno_vanilla', 'neuralop_uno', 'hybrid_resnet', 'stable_hybrid'), ARCHITECTURES[0]
    ),
    'accelerator': instead(('tpu',), 'auto'),
    'model_type': lambda value: (str(value).casefold(), ''),
    'probe_scale': _probe_scale,
    **EXECUTION_ADJUSTED,
}
"""Fields whose values the original has more, or other, words for: the value here, and why it is another."""


def plain_name(name: str) -> str:
    """Return the name of a setting without what marks it as of one backend."""
    bare = name.removeprefix('torch_')
    return name if name in TRANSLATIONS or name in DROPPED else bare
