"""Settings that belong together, under one word: how much time for how good an image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ptychodus.api.parameters import Parameter

    from .settings import ReconstructorSettings

__all__ = ['CUSTOM', 'PRESETS', 'apply_preset', 'preset_parameters', 'preset_shown']

CUSTOM = 'custom'
"""What is shown where the settings are those of no preset."""

_Values = Mapping[tuple[str, str], int | float]

PRESETS: Mapping[str, _Values] = {
    'fast': {
        ('training', 'nepochs'): 10,
        ('engine', 'n_groups'): 256,
        ('model', 'n_filters_scale'): 1,
        # Ten would save seconds and cost most of the image.
        ('engine', 'refine_iterations'): 25,
    },
    'balanced': {
        ('training', 'nepochs'): 50,
        ('engine', 'n_groups'): 512,
        ('model', 'n_filters_scale'): 2,
        ('engine', 'refine_iterations'): 25,
    },
    'best': {
        ('training', 'nepochs'): 100,
        ('engine', 'n_groups'): 1024,
        ('model', 'n_filters_scale'): 2,
        ('engine', 'refine_iterations'): 100,
    },
}
"""Values of each preset by settings group and attribute. 'balanced' is what the settings are by default."""

_ONLY_CNN = frozenset({('model', 'n_filters_scale'), ('engine', 'refine_iterations')})
"""What the learned prior does not have: its width is given, and it ends when nothing moves any more."""


def preset_parameters(settings: ReconstructorSettings) -> dict[tuple[str, str], Parameter[Any]]:
    """Return the parameters that presets set with the architecture as it is."""
    names = [name for name in next(iter(PRESETS.values())) if settings.is_cnn or name not in _ONLY_CNN]
    return {name: getattr(getattr(settings, name[0]), name[1]) for name in names}


def apply_preset(settings: ReconstructorSettings, name: str) -> None:
    """Set the values of a preset; all other settings stay."""
    for where, parameter in preset_parameters(settings).items():
        parameter.set_value(PRESETS[name][where])


def preset_shown(settings: ReconstructorSettings) -> str:
    """Return the preset that the settings are at, or 'custom'."""
    now = {where: parameter.get_value() for where, parameter in preset_parameters(settings).items()}
    return next((name for name, values in PRESETS.items() if now.items() <= values.items()), CUSTOM)
