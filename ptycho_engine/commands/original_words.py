"""Command lines and settings files of the original PtychoPINN, restated in ours.

The original writes flags with underscores, gives switches a value (``--probe_trainable True``) and names its
files by flags. Each is restated by one line of the log that names ours, or says why it has no place.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config.files import SECTIONS, checked_sections, names_of, read_values
from ..upstream.settings import SettingRow, TranslatedSettings, is_of_the_original, translate_settings
from ..upstream.vocabulary import ADJUSTED, DROPPED, FILES, ONLY_CNN, SWITCHES, TRANSLATIONS, plain_name

__all__ = ['Restated', 'flag_of', 'read_config', 'restate']

SHORT_NAMES = {'nepochs': 'epochs', 'n_groups': 'groups', 'n_filters_scale': 'filters-scale'}
"""Flags that are known by another name than their field's."""

TRUTHS = {'true': True, 'false': False}
INPUT, OUTPUT, MODEL = 'INPUT', '--output', '--model'
FILE_FLAGS = {
    'train': {'train_data_file': INPUT, 'ptycho_dir': INPUT, 'output_dir': OUTPUT},
    'reconstruct': {
        'test_data_file': INPUT,
        'test_data': INPUT,
        'output_dir': OUTPUT,
        'model_path': MODEL,
        'n_images': '--n-subsample',
    },
}
"""What names the files of a command."""
OTHER_COMMAND = {
    'test_data_file': '`ptychopinn reconstruct FILE --model DIR` makes the image when training is done',
    'test_data': '`ptychopinn reconstruct FILE --model DIR` makes the image when training is done',
    'model_path': '--start-from MODEL goes on training a model of this program',
    'train_data_file': 'the model has been trained',
    'ptycho_dir': 'the model has been trained',
}
"""Files that the command at hand has no use for, and why."""


def flag_of(field: str) -> str:
    """Return the flag of a field of the settings."""
    return '--' + SHORT_NAMES.get(field, field.replace('_', '-'))


@dataclass(frozen=True)
class Restated:
    """A command line in our words, and what is to be said of it."""

    words: list[str]
    told: list[str]


def restate(words: Sequence[str], parser: argparse.ArgumentParser, command: str) -> Restated:
    """Return a command line without the flags of the original; what is neither's stays for the parser.

    Parameters
    ----------
    words : sequence of str
        The whole command line.
    parser : ArgumentParser
        That of the sub-command.
    command : {'train', 'reconstruct'}

    Raises
    ------
    ConfigError
        If a value of the original has no meaning here, or two flags disagree.
    """
    known = parser._option_string_actions
    left: list[str] = []
    told: list[str] = []
    theirs: dict[str, Any] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        flag, equals, value = word.partition('=')
        name = plain_name(flag[2:].replace('-', '_'))
        hyphened = '--' + name.replace('_', '-')
        action = known.get(hyphened)
        switch = isinstance(action, argparse.BooleanOptionalAction)
        given = value if equals else (rest[0] if rest else '')
        if flag in known and (switch and given.casefold() in TRUTHS):
            pass
        elif not flag.startswith('--') or (flag in known and not _is_theirs(name, given)):
            left.append(word)
            continue
        where = FILE_FLAGS[command].get(name)
        if where is None and not (action or name in FILES or name in DROPPED or name in TRANSLATIONS):
            left.append(word)
            continue
        if name in SWITCHES and not equals and given.casefold() not in TRUTHS:
            given = 'True'
        elif not equals and rest and not rest[0].startswith('--'):
            given = rest.pop(0)
        elif not equals:
            # Nothing follows: the parser complains, in our name of it.
            left.append(hyphened if action else word)
            continue
        if where is not None:
            left += [given] if where == INPUT else [where, given]
            told.append(f'{flag} {given} is {where} here.')
        elif name in OTHER_COMMAND:
            told.append(f'{flag} {given} is left out: {OTHER_COMMAND[name]}.')
        elif action is not None and not _in_settings(name):
            left += [hyphened, given]
            told.append(f'{flag} is {hyphened} here.')
        else:
            theirs[flag[2:].replace('-', '_')] = _value(given)
            while name == 'recon_log_fixed_indices' and rest and rest[0].isdigit():
                rest.pop(0)
    if not theirs:
        return Restated(left, told)
    found = translate_settings(theirs, architecture=_stated(left, '--architecture'))
    told += [f'--{_as_flags(row)}' for row in found.rows]
    ours = [
        word
        for row in found.rows
        for field, item in row.ours.items()
        for word in _flag(field.partition('.')[2], item)
    ]
    # Ahead of ours, which win.
    return Restated([*ours, *left], told)


def _in_settings(name: str) -> bool:
    return name in DROPPED or name in TRANSLATIONS or any(name in names_of(section) for section in SECTIONS)


def _is_theirs(name: str, text: str) -> bool:
    """Return whether the original alone has such a value for a flag that both spell alike."""
    value = _value(text)
    return name in ADJUSTED and name not in ONLY_CNN and ADJUSTED[name](value)[0] != value


def _value(text: str) -> Any:
    """Return what a word of a command line stands for."""
    if text.casefold() in TRUTHS:
        return TRUTHS[text.casefold()]
    if text.casefold() == 'none':
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _flag(field: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [flag_of(field) if value else flag_of(field).replace('--', '--no-', 1)]
    return [flag_of(field), 'none' if value is None else str(value)]


def _stated(words: Sequence[str], flag: str) -> str | None:
    """Return the value of a flag on a command line."""
    for word, following in zip(words, [*words[1:], ''], strict=True):
        if word == flag:
            return following
        if word.startswith(f'{flag}='):
            return word.partition('=')[2]
    return None


def _as_flags(row: SettingRow) -> str:
    """Return a sentence on a setting of the original, in our flags."""
    head = f'{row.name} {row.value}'
    if not row.ours:
        return f'{head} is left out: {row.why}.'
    ours = ' '.join(word for name, value in row.ours.items() for word in _flag(name.partition('.')[2], value))
    return f'{head} is {ours} here{f": {row.why}" if row.why else ""}.'


def read_config(
    path: Path, used: Sequence[str], architecture: str | None = None
) -> tuple[dict[str, dict[str, Any]], Mapping[str, Path], list[str]]:
    """Read a settings file, of ours or of the original.

    Returns
    -------
    sections
        Values by section and field, as :func:`~..config.files.read_sections` returns them.
    files
        What a file of the original names of files.
    told
        Sentences on what is another than the file says.

    Raises
    ------
    ConfigError, DataFileNotFoundError
        As for :func:`~..config.files.read_sections`.
    """
    values = read_values(path)
    if not is_of_the_original(values):
        return checked_sections(values, str(path), used), {}, []
    found: TranslatedSettings = translate_settings(values, architecture=architecture)
    sections = checked_sections({**found.sections, **found.unknown}, str(path), used)
    told = [f'{path}: {_as_flags(row)}' for row in found.rows if row.verdict != 'kept']
    taken = FILE_FLAGS['train' if 'training' in used else 'reconstruct']
    told += [
        f'{path}: {name} {file} is left out: {OTHER_COMMAND[name]}.'
        for name, file in found.files.items()
        if name not in taken
    ]
    return sections, found.files, told
