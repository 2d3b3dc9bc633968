"""Settings of the original PtychoPINN as settings files of ours, with an account of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..config.files import SECTIONS, names_of
from ..config.model import ModelConfig
from ..errors import ConfigError
from .vocabulary import (
    ADJUSTED,
    DROPPED,
    FILES,
    NESTED,
    OF_STUDIES,
    ONLY_CNN,
    SECTIONS_OF_THEIRS,
    TRANSLATIONS,
    plain_name,
)

__all__ = ['SettingRow', 'TranslatedSettings', 'is_of_the_original', 'translate_settings']

TRAINING = ('model', 'training', 'execution')
"""Sections in which a field is looked up, in this order."""


@dataclass(frozen=True)
class SettingRow:
    """What became of one setting of the original."""

    name: str
    value: Any
    ours: Mapping[str, Any]
    """The fields that stand for it, as section.field, with their values; none where it is dropped."""
    why: str = ''
    """Why it is another, or dropped."""

    @property
    def verdict(self) -> str:
        """'kept', 'changed' or 'dropped'."""
        if not self.ours:
            return 'dropped'
        same = {name.partition('.')[2]: value for name, value in self.ours.items()} == {self.name: self.value}
        return 'kept' if same else 'changed'

    @property
    def became(self) -> str:
        """The fields and values that stand for it."""
        return ', '.join(f'{name} = {value}' for name, value in self.ours.items())


@dataclass(frozen=True)
class TranslatedSettings:
    """Settings by section and field, and how they came about."""

    sections: dict[str, dict[str, Any]]
    rows: tuple[SettingRow, ...]
    files: dict[str, Path] = field(default_factory=dict)
    """What is named of :data:`~.vocabulary.FILES`."""
    unknown: dict[str, Any] = field(default_factory=dict)
    """Names that neither knows, for the caller to refuse."""


def is_of_the_original(values: Mapping[str, Any]) -> bool:
    """Return whether a settings file has a name that only the original has."""
    if any(isinstance(values.get(name), Mapping) for name in SECTIONS_OF_THEIRS):
        return True
    its_own = {*DROPPED, *TRANSLATIONS, *FILES}.difference(*map(names_of, SECTIONS))
    return any(plain_name(name) in its_own for name in dict(_flat(values)))


def translate_settings(values: Mapping[str, Any], *, architecture: str | None = None) -> TranslatedSettings:
    """Return settings of the original as ours.

    Parameters
    ----------
    values : mapping
        Names and values; sections are read through.
    architecture : str, optional
        The network that is asked for elsewhere; settings that only 'cnn' has are dropped for others.

    Raises
    ------
    ConfigError
        If a value has no translation, or two names disagree.
    """
    flat = dict(_flat(values))
    network = architecture or ADJUSTED['architecture'](flat.get('architecture', 'prior'))[0]
    sections: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
    owners: dict[str, str] = {}
    rows, files, unknown = [], {}, {}
    for name, value in flat.items():
        if name in FILES:
            if value is not None:
                files[name] = Path(str(value))
            continue
        ours, why = _meaning(name, value, network)
        if any(_section_of(field_name) is None for field_name in ours):
            unknown[name] = value
            continue
        placed = {}
        for field_name, item in ours.items():
            section = _section_of(field_name) or ''
            earlier = sections[section].get(field_name, item)
            if earlier != item:
                raise ConfigError(
                    f'{owners[field_name]} and {name} contradict each other about {field_name}: '
                    f'{earlier!r} and {item!r}; give one of them.'
                )
            sections[section][field_name], owners[field_name] = item, name
            placed[f'{section}.{field_name}'] = item
        rows.append(SettingRow(name, value, placed, why))
    return _settled(TranslatedSettings(sections, tuple(rows), files, unknown))


def _flat(values: Mapping[str, Any], section: str = '') -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and name not in OF_STUDIES:
            yield from _flat(value, str(name))
        else:
            yield NESTED.get((section, str(name)), str(name)), value


def _section_of(name: str) -> str | None:
    return next((section for section in TRAINING if name in names_of(section)), None)


def _meaning(name: str, value: Any, network: str) -> tuple[dict[str, Any], str]:
    """Return the fields that stand for a setting, and a reason where there is one."""
    plain = plain_name(name)
    if plain in DROPPED:
        return {}, DROPPED[plain]
    ours = TRANSLATIONS[plain](name, value) if plain in TRANSLATIONS else {plain: value}
    if not ours:
        return {}, 'it always is so'
    whys = []
    for field_name, item in list(ours.items()):
        if field_name in ONLY_CNN and network != 'cnn':
            return {}, f"it is of the network 'cnn', and the one here is {network!r}"
        if field_name in ADJUSTED:
            ours[field_name], why = ADJUSTED[field_name](item)
            whys += [why] if why else []
    return ours, '; '.join(whys)


def _settled(found: TranslatedSettings) -> TranslatedSettings:
    """Return settings without those that others leave without effect, which are mistakes here."""
    model, training = found.sections['model'], found.sections['training']
    idle = {}
    if training.get('subsample_seed') is not None and training.get('n_subsample') is None:
        idle['subsample_seed'] = 'n_subsample is not given'
    pool, count = training.get('neighbor_pool_size'), training.get('neighbor_count', 0)
    if pool is not None and isinstance(pool, int) and isinstance(count, int) and pool < count:
        idle['neighbor_pool_size'] = 'it is smaller than neighbor_count'
    if not model.get('probe_mask', ModelConfig.probe_mask):
        idle |= dict.fromkeys(('probe_mask_diameter', 'probe_mask_sigma'), 'the mask of the probe is off')
    if model.get('pad_object') is False:
        idle['probe_big'] = 'without pad_object the whole patch is decoded'
    rows = tuple(
        SettingRow(row.name, row.value, {}, idle[row.name]) if row.name in idle and row.ours else row
        for row in found.rows
    )
    for section in (model, training):
        for name in idle:
            section.pop(name, None)
    return replace(found, rows=rows)
