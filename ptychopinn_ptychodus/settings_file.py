"""A settings file is followed to the letter, or refused with one sentence.

Ptychodus passes over what it does not understand in a settings file: all of it where one line is damaged,
else the names that it does not know. A run would then compute, for hours perhaps, something else than was
asked.
"""

from __future__ import annotations

import configparser
import contextlib
import io
import locale
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ptychodus.api.parameters import ParameterGroup
from ptychodus.api.settings import SettingsRegistry

from ptycho_engine.config.model import REMOVED as NETWORK_0_1
from ptycho_engine.errors import ConfigError
from ptycho_engine.printable import printable

from .setting import ENGINE_GROUP, OUR_GROUPS
from .setting_complaints import (
    ALGORITHM,
    SHOWN,
    Complaint,
    begins_like_ours,
    nearest,
    one_slip,
    quoted,
    sections_of_ours,
    spelled,
    swallowed,
    value_complaints,
)
from .settings_table import REMOVED

__all__ = ['SettingsFile', 'asked_algorithm', 'read_settings']

MOST_BYTES = 1 << 22
"""A file with every setting of Ptychodus has some 20 kB."""


def asked_algorithm(path: Path) -> str | None:
    """Return the algorithm that a settings file asks for, even if it is damaged; None where it names none."""
    try:
        with path.open('rb') as file:
            data = file.read(MOST_BYTES)
    except OSError:
        return None
    found = re.search(rb'^\s*algorithm\s*[=:](.*)$', data, re.IGNORECASE | re.MULTILINE)
    return None if found is None else found[1].decode('utf-8', 'replace').strip()


def read_settings(path: Path) -> SettingsFile:
    """Return what Ptychodus would read in a settings file.

    Raises
    ------
    ConfigError
        If it is no regular file, no text, or text that is not all sections and settings.
    """
    text = _read_text(path)
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text, str(path))
    except configparser.Error as error:
        raise _refusal(path, _what_is_damaged(error)) from error
    for number, line in enumerate(text.split('\n'), 1):
        rest = re.match(r'\s*\[.+\]\s*([^\s#;].*)', line)
        if rest:
            raise _refusal(
                path,
                f'line {number} has {quoted(rest[1])} behind its section, where nothing is read; '
                'put it on a line of its own',
            )
    spellings = re.findall(r'^\s*([^\s=:\[#;][^=:\n]*?)\s*[=:]', text, re.MULTILINE)
    return SettingsFile(path, parser, {key.casefold(): key for key in spellings})


def _refusal(path: Path, reason: str) -> ConfigError:
    return ConfigError(
        f'{printable(path)} cannot be followed: {reason}. Correct that, or '
        'delete the file to use the defaults.'
    )


def _read_text(path: Path) -> str:
    """Return the text with the encoding and line ends that Ptychodus takes."""
    if not path.is_file():
        raise _refusal(path, 'it is not a regular file')
    try:
        with path.open('rb') as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise _refusal(path, f'it cannot be read ({error.strerror or error})') from error
    if len(data) > MOST_BYTES:
        raise _refusal(path, f'it has more than {MOST_BYTES >> 20} MiB, which no settings file has')
    encoding = locale.getpreferredencoding(False)
    try:
        text = io.TextIOWrapper(io.BytesIO(data), encoding=encoding).read()
    except UnicodeDecodeError as error:
        number = data.count(b'\n', 0, error.start) + 1
        raise _refusal(
            path, f'line {number} is not text in the encoding {encoding}; save the file in it'
        ) from error
    if text.startswith('\ufeff'):
        raise _refusal(path, 'it begins with a byte order mark; save it as UTF-8 without one')
    for number, line in enumerate(text.split('\n'), 1):
        bad = next((c for c in line if unicodedata.category(c) in ('Cc', 'Cs') and c != '\t'), None)
        if bad is not None:
            raise _refusal(path, f'line {number} holds the control character {printable(bad)}')
    return text


def _what_is_damaged(error: configparser.Error) -> str:
    match error:
        case configparser.MissingSectionHeaderError():
            return f'line {error.lineno}, {quoted(error.line)}, comes before the first [section]'
        case configparser.ParsingError():
            number, line = error.errors[0]
            # What the parser keeps of a line is its repr, quotes and all.
            line = line[1:-1].removesuffix('\\n')
            if line.lstrip().startswith('[') and ']' not in line:
                return f'line {number}, {quoted(line)}, lacks the ] of a section'
            return f'line {number}, {quoted(line)}, is neither a [section] nor "name = value"'
        case configparser.DuplicateSectionError():
            return f'line {error.lineno} begins the section [{printable(error.section)}] a second time'
        case configparser.DuplicateOptionError():
            return (
                f'line {error.lineno} sets {printable(error.option)} of [{printable(error.section)}] '
                'a second time'
            )
    return printable(error)


@dataclass(frozen=True)
class SettingsFile:
    """A settings file that can be read."""

    path: Path
    parser: configparser.ConfigParser
    spellings: Mapping[str, str]
    """Keys as they are written, of which the parser keeps small letters only."""

    @property
    def is_empty(self) -> bool:
        """Whether it holds no setting."""
        return not self.parser.defaults() and not any(self.parser[name] for name in self.parser.sections())

    def complaints(self, registry: SettingsRegistry) -> Iterator[Complaint]:
        """Yield what Ptychodus would pass over or change without a word, in the order of the file."""
        groups = {name: registry[name] for name in registry}
        yield from self._common_settings(groups)
        for section in self.parser.sections():
            if section not in groups:
                yield self._unknown_section(section, groups)
                continue
            for key, text in self.parser[section].items():
                where = spelled(key, groups[section].parameters())
                if where is not None:
                    yield from value_complaints(
                        section, where, groups[section].parameters()[where], text or ''
                    )
                elif key not in self.parser.defaults():
                    yield self._unknown_key(section, key, text or '', groups)
                yield from swallowed(section, key, text or '', groups)

    def refuse(self, registry: SettingsRegistry) -> list[str]:
        """Check every name and value.

        Returns
        -------
        list of str
            Remarks on what other parts of Ptychodus will pass over.

        Raises
        ------
        ConfigError
            At the first that a run of ours would not follow.
        """
        remarks, unknown = [], []
        for complaint in self.complaints(registry):
            sentence = f'{printable(self.path)}: {complaint.sentence}'
            if complaint.serious:
                raise ConfigError(sentence)
            if complaint.unknown:
                unknown.append(complaint.unknown)
            else:
                remarks.append(sentence)
        if unknown:
            # A file of another release has many.
            names = ', '.join(unknown)
            remarks.append(f'{printable(self.path)}: this Ptychodus does not know, and passes over, {names}.')
        if self.is_empty:
            remarks.append(f'{printable(self.path)} holds no settings; all are at their defaults.')
        return remarks

    def apply(self, registry: SettingsRegistry) -> None:
        """Set what can be set, as Ptychodus does it, and leave out the values that cannot be read."""
        for section in set(registry) & set(self.parser.sections()):
            for name, parameter in registry[section].parameters().items():
                text = self.parser[section].get(name)
                if text is not None:
                    with contextlib.suppress(ValueError, OverflowError, TypeError):
                        parameter.set_value_from_string(text)
        registry.notify_observers()

    def _written(self, key: str) -> str:
        return printable(self.spellings.get(key.casefold(), key), SHOWN)

    def _common_settings(self, groups: Mapping[str, ParameterGroup]) -> Iterator[Complaint]:
        """Look at [DEFAULT], whose settings count in every section of the file and nowhere else."""
        for key, text in self.parser.defaults().items():
            owners = [name for name in groups if spelled(key, groups[name].parameters())]
            # Others may have settings of the same name.
            owners = [name for name in owners if name in OUR_GROUPS] or owners
            if any(owner in self.parser for owner in owners):
                continue
            found = f'Setting {self._written(key)} of [DEFAULT] (= {quoted(text)})'
            if owners:
                yield Complaint(f'{found} has no effect; put it into [{owners[0]}].', True)
            else:
                near = nearest(key, {name for group in OUR_GROUPS for name in groups[group].parameters()})
                hint = f'; the nearest is {near}' if near else ''
                yield Complaint(f'{found} is unknown{hint}.', bool(near), f'DEFAULT.{self._written(key)}')

    def _unknown_section(self, section: str, groups: Mapping[str, ParameterGroup]) -> Complaint:
        found = f'There is no section [{printable(section, SHOWN)}]'
        own = set(self.parser[section]) - set(self.parser.defaults())
        for key in self.parser[section]:
            for owner in OUR_GROUPS:
                name = spelled(key, groups[owner].parameters()) if key in own else None
                if name is not None:
                    return Complaint(
                        f'{found}; its setting {name} (= {quoted(self.parser[section][key])}) belongs '
                        f'to [{owner}].',
                        True,
                    )
        near = nearest(section, groups)
        hint = f'; the nearest is [{near}]' if near else ''
        if near in (*OUR_GROUPS, ALGORITHM[0]) or begins_like_ours(section):
            return Complaint(f'{found}{hint}; those of PtychoPINN are {sections_of_ours()}.', True)
        slip = near is not None and one_slip(section, near)
        return Complaint(f'{found} in this Ptychodus{hint}.', slip, f'[{printable(section, SHOWN)}]')

    def _of_version_0_1(self) -> Complaint:
        """Name all at once that is left of the network of version 0.1: its files hold all of it."""
        ours = self.parser[ENGINE_GROUP]
        names = [name for name in REMOVED if name in ours]
        if (ours.get('Architecture') or '').strip().casefold() == NETWORK_0_1:
            names.insert(0, 'Architecture')
        return Complaint(
            f'[{ENGINE_GROUP}] holds settings of the network of version 0.1, which is no more; delete the '
            f'lines of {", ".join(names)}, and the learned prior takes its place.',
            True,
        )

    def _unknown_key(
        self, section: str, key: str, text: str, groups: Mapping[str, ParameterGroup]
    ) -> Complaint:
        if section == ENGINE_GROUP and spelled(key, REMOVED):
            return self._of_version_0_1()
        known = groups[section].parameters()
        found = f'Setting {section}.{self._written(key)} (= {quoted(text)}) is unknown'
        owner, name = next(
            ((o, n) for o in OUR_GROUPS if (n := spelled(key, groups[o].parameters())) is not None),
            (None, None),
        )
        if owner is not None:
            return Complaint(f'{found}; {name} belongs to [{owner}].', True)
        near = nearest(key, known)
        if section in OUR_GROUPS or section == ALGORITHM[0]:
            hint = f'; the nearest is {near}' if near else f'; expected one of {", ".join(known)}'
            return Complaint(f'{found}{hint}.', True)
        hint = f'; the nearest is {near}' if near else ''
        slip = (near is not None and one_slip(key, near)) or key.startswith('[')
        return Complaint(f'{found} to this Ptychodus{hint}.', slip, f'{section}.{self._written(key)}')
