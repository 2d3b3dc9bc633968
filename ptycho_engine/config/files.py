"""Configurations as JSON, YAML and TOML files, each of which gives back what was written.

A settings file has a section for each configuration: ``model``, ``training``, ``inference``, ``execution``.
Fields outside a section are taken for the first configuration that has a field of that name, those that the
reader uses before the others. TOML cannot say None; there, and in the other formats too, the word "none"
stands for it.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

from ..errors import ConfigError, DataFileNotFoundError
from ..io.atomic import atomic_path
from .checks import from_mapping
from .describe import FieldInfo, describe, parse_text
from .execution import PyTorchExecutionConfig
from .inference import InferenceConfig
from .model import ModelConfig
from .training import TrainingConfig

__all__ = [
    'SECTIONS',
    'checked_sections',
    'load_config',
    'names_of',
    'read_sections',
    'read_values',
    'save_config',
    'to_values',
    'toml_of',
    'write_sections',
    'write_values',
]

T = TypeVar('T')
Section = dict[str, Any]

SECTIONS: dict[str, type] = {
    'model': ModelConfig,
    'training': TrainingConfig,
    'inference': InferenceConfig,
    'execution': PyTorchExecutionConfig,
}
"""Sections of a settings file, in the order in which a field outside a section is looked up."""

_SUFFIXES = ('.toml', '.yaml', '.yml', '.json')


def to_values(config: Any) -> Section:
    """Return a configuration as plain values; a nested one becomes a nested dictionary."""
    return dataclasses.asdict(config)


def save_config(path: Path | str, config: Any) -> None:
    """Write one configuration; the suffix of `path` chooses JSON, YAML or TOML.

    Raises
    ------
    ConfigError
        If the suffix is none of them.
    """
    write_values(path, to_values(config))


def load_config(path: Path | str, cls: type[T]) -> T:
    """Read one configuration that :func:`save_config` wrote; fields that are not there keep their defaults.

    Raises
    ------
    ConfigError
        If the file cannot be read, or has an unknown field or an illegal value; the sentence names them.
    """
    path = Path(path)
    values = read_values(path)
    nested = {}
    if cls is TrainingConfig and isinstance(values.get('model'), dict):
        nested['model'] = _build(ModelConfig, values.pop('model'), f'{path}, section model')
    return _build(cls, values, str(path), nested)


def write_sections(path: Path | str, configs: Iterable[Any], remark: str = '') -> None:
    """Write several configurations, each as its section; `remark` goes on top where comments are possible."""
    write_values(path, _as_sections(configs), remark)


def toml_of(configs: Iterable[Any], remark: str = '') -> str:
    """Return what :func:`write_sections` writes into a TOML file."""
    return _text_of('.toml', _as_sections(configs), remark)


def _as_sections(configs: Iterable[Any]) -> dict[str, Section]:
    sections: dict[str, Section] = {}
    for config in configs:
        values = to_values(config)
        if isinstance(config, TrainingConfig):
            sections['model'] = values.pop('model')
        name = next(name for name, cls in SECTIONS.items() if isinstance(config, cls))
        sections[name] = values
    return sections


def read_sections(path: Path | str, used: Iterable[str] = ()) -> dict[str, Section]:
    """Read a settings file into values by section, checked for names and kinds but not yet for ranges.

    Parameters
    ----------
    path : Path
        The settings file.
    used : iterable of str
        Sections in which a field outside a section is looked up before the others.

    Raises
    ------
    ConfigError
        If the file cannot be read, or has an unknown section or field, or a value of the wrong kind.
    """
    return checked_sections(read_values(path), str(path), used)


def checked_sections(values: Section, path: str, used: Iterable[str] = ()) -> dict[str, Section]:
    """Return the values of a settings file by section; `path` names it, the rest is as for the file itself.

    Raises
    ------
    ConfigError
        If there is an unknown section or field, or a value of the wrong kind.
    """
    sections: dict[str, Section] = {name: {} for name in SECTIONS}
    for name, value in values.items():
        if name in SECTIONS:
            if not isinstance(value, dict):
                raise ConfigError(f'{path}: {name} is {value!r}; expected a section of settings.')
            inner = dict(value)
            if name == 'training' and isinstance(inner.get('model'), dict):
                sections['model'] |= _checked(ModelConfig, inner.pop('model'), f'{path}, section model')
            sections[name] |= _checked(SECTIONS[name], inner, f'{path}, section {name}')
            continue
        owner = next((s for s in (*used, *SECTIONS) if name in _fields(SECTIONS[s])), None)
        if owner is None:
            known = [*SECTIONS, *(field for cls in SECTIONS.values() for field in _fields(cls))]
            raise ConfigError(f'{path}: there is no setting {name!r}{_nearest(name, known)}')
        sections[owner] |= _checked(SECTIONS[owner], {name: value}, path)
    return sections


@cache
def names_of(section: str) -> frozenset[str]:
    """Return the names of the settings of a section of :data:`SECTIONS`; a nested section is none."""
    return frozenset(_fields(SECTIONS[section]))


def _fields(cls: type) -> dict[str, FieldInfo]:
    return {info.name: info for info in describe(cls)}


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f'; did you mean {near[0]!r}?' if near else '.'


def _checked(cls: type, values: Mapping[str, Any], source: str) -> Section:
    """Return values of known names and of the right kind."""
    infos = _fields(cls)
    checked = {}
    for name, value in values.items():
        if name not in infos:
            raise ConfigError(f'{source}: {cls.__name__} has no field {name!r}{_nearest(name, infos)}')
        try:
            # A word may be None, or a number: YAML takes 1e-3 for text.
            checked[name] = parse_text(infos[name], value) if isinstance(value, str) else value
        except ConfigError as error:
            raise ConfigError(f'{source}: {error}') from None
    return checked


def _build(
    cls: type[T], values: Mapping[str, Any], source: str, nested: Mapping[str, Any] | None = None
) -> T:
    checked = _checked(cls, values, source)
    try:
        return from_mapping(cls, {**checked, **(nested or {})})
    except ConfigError as error:
        raise ConfigError(f'{source}: {error}') from None


def _require_suffix(path: Path) -> str:
    suffix = path.suffix.casefold()
    if suffix not in _SUFFIXES:
        raise ConfigError(
            f'{path}: a settings file ends in .toml, .yaml or .json, but this one ends in {suffix!r}.'
        )
    return suffix


def read_values(path: Path | str) -> Section:
    """Read what a settings file holds, unchecked.

    Raises
    ------
    ConfigError, DataFileNotFoundError
        If it cannot be read.
    """
    path = Path(path)
    suffix = _require_suffix(path)
    if not path.is_file():
        raise DataFileNotFoundError(f'{path}: there is no such settings file; give the path of one.')
    try:
        text = path.read_text(encoding='utf-8')
        values = _parse(suffix, text)
    except (ValueError, OSError, RecursionError) as error:
        raise ConfigError(f'{path} is not a readable settings file ({_one_line(error)}).') from error
    if not isinstance(values, dict):
        raise ConfigError(f'{path} holds {type(values).__name__}; expected named settings.')
    return {str(name): value for name, value in values.items()}


def _parse(suffix: str, text: str) -> Any:
    if suffix == '.toml':
        return tomllib.loads(text)
    if suffix == '.json':
        return json.loads(text)
    import yaml

    try:
        return yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ValueError(error) from error


def _one_line(error: Exception) -> str:
    return ' '.join(str(error).split())


def write_values(path: Path | str, values: Mapping[str, Any], remark: str = '') -> None:
    """Write named values, or sections of them, in the format of the suffix, atomically.

    Raises
    ------
    ConfigError
        If the suffix is of no settings file.
    """
    path = Path(path)
    text = _text_of(_require_suffix(path), values, remark)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding='utf-8')


def _text_of(suffix: str, values: Mapping[str, Any], remark: str) -> str:
    """Return what a settings file of that suffix holds."""
    if suffix == '.json':
        return json.dumps(values, indent=2) + '\n'
    if suffix == '.toml':
        import tomlkit

        return _comment(remark) + tomlkit.dumps(cast(Mapping[str, Any], _without_none(values)))
    import yaml

    return _comment(remark) + str(yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True))


def _comment(remark: str) -> str:
    return ''.join(f'# {line}\n' for line in remark.splitlines())


def _without_none(value: Any) -> Any:
    """Return values for TOML: None becomes the word, and plain fields come before sections."""
    if isinstance(value, Mapping):
        items = sorted(value.items(), key=lambda item: isinstance(item[1], Mapping))
        return {name: _without_none(inner) for name, inner in items}
    return 'none' if value is None else value
