"""A settings file is followed to the letter, or refused with one sentence.

Ptychodus passes over what it does not understand in a settings file: all of it where one line is damaged,
else the names that it does not know. A run would then compute, for hours perhaps, something else than was
asked.
"""

from __future__ import annotations

import configparser
import contextlib
import difflib
import io
import locale
import math
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptychodus.api.parameters import (
    BooleanParameter,
    IntegerParameter,
    Parameter,
    ParameterGroup,
    PathParameter,
    RealParameter,
)
from ptychodus.api.settings import SettingsRegistry

from ptycho_engine.errors import ConfigError
from ptycho_engine.printable import printable

from .setting_names import OUR_GROUPS

__all__ = ['Complaint', 'SettingsFile', 'asked_algorithm', 'read_settings']

ALGORITHM = ('Processing', 'Algorithm')
MOST_BYTES = 1 << 22
"""A file with every setting of Ptychodus has some 20 kB."""
SHOWN = 60
"""Characters shown of a line or a value."""
FALSE_VALUES = ('0', 'false', 'f', 'no', 'n')
LARGEST_INTEGER = (1 << 63) - 1


@dataclass(frozen=True)
class Complaint:
    """What is wrong with a setting, as a sentence without the file."""

    sentence: str
    serious: bool
    """Whether a run of ours ends with it; else it is a remark on settings of other parts of Ptychodus."""
    unknown: str = ''
    """The section or setting, where this Ptychodus does not know it."""


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
                f'line {number} has {_quoted(rest[1])} behind its section, where nothing is read; '
                'put it on a line of its own',
            )
    spellings = re.findall(r'^\s*([^\s=:\[#;][^=:\n]*?)\s*[=:]', text, re.MULTILINE)
    return SettingsFile(path, parser, {key.casefold(): key for key in spellings})


def _refusal(path: Path, reason: str) -> ConfigError:
    return ConfigError(
        f'{printable(path)} cannot be followed: {reason}. Mend that, or delete the file to use the defaults.'
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
            return f'line {error.lineno}, {_quoted(error.line)}, comes before the first [section]'
        case configparser.ParsingError():
            number, line = error.errors[0]
            # What the parser keeps of a line is its repr, quotes and all.
            line = line[1:-1].removesuffix('\\n')
            if line.lstrip().startswith('[') and ']' not in line:
                return f'line {number}, {_quoted(line)}, lacks the ] of a section'
            return f'line {number}, {_quoted(line)}, is neither a [section] nor "name = value"'
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
                where = _spelled(key, groups[section].parameters())
                if where is not None:
                    yield from _value_complaints(
                        section, where, groups[section].parameters()[where], text or ''
                    )
                elif key not in self.parser.defaults():
                    yield self._unknown_key(section, key, text or '', groups)
                yield from _swallowed(section, key, text or '', groups)

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
            owners = [name for name in groups if _spelled(key, groups[name].parameters())]
            # Others may have settings of the same name.
            owners = [name for name in owners if name in OUR_GROUPS] or owners
            if any(owner in self.parser for owner in owners):
                continue
            found = f'Setting {self._written(key)} of [DEFAULT] (= {_quoted(text)})'
            if owners:
                yield Complaint(f'{found} has no effect; put it into [{owners[0]}].', True)
            else:
                near = _nearest(key, {name for group in OUR_GROUPS for name in groups[group].parameters()})
                hint = f'; the nearest is {near}' if near else ''
                yield Complaint(f'{found} is unknown{hint}.', bool(near), f'DEFAULT.{self._written(key)}')

    def _unknown_section(self, section: str, groups: Mapping[str, ParameterGroup]) -> Complaint:
        found = f'There is no section [{printable(section, SHOWN)}]'
        own = set(self.parser[section]) - set(self.parser.defaults())
        for key in self.parser[section]:
            for owner in OUR_GROUPS:
                name = _spelled(key, groups[owner].parameters()) if key in own else None
                if name is not None:
                    return Complaint(
                        f'{found}; its setting {name} (= {_quoted(self.parser[section][key])}) belongs '
                        f'to [{owner}].',
                        True,
                    )
        near = _nearest(section, groups)
        hint = f'; the nearest is [{near}]' if near else ''
        if near in (*OUR_GROUPS, ALGORITHM[0]) or _begins_like_ours(section):
            return Complaint(f'{found}{hint}; those of PtychoPINN are {_sections_of_ours()}.', True)
        slip = near is not None and _one_slip(section, near)
        return Complaint(f'{found} in this Ptychodus{hint}.', slip, f'[{printable(section, SHOWN)}]')

    def _unknown_key(
        self, section: str, key: str, text: str, groups: Mapping[str, ParameterGroup]
    ) -> Complaint:
        known = groups[section].parameters()
        found = f'Setting {section}.{self._written(key)} (= {_quoted(text)}) is unknown'
        owner, name = next(
            ((o, n) for o in OUR_GROUPS if (n := _spelled(key, groups[o].parameters())) is not None),
            (None, None),
        )
        if owner is not None:
            return Complaint(f'{found}; {name} belongs to [{owner}].', True)
        near = _nearest(key, known)
        if section in OUR_GROUPS or section == ALGORITHM[0]:
            hint = f'; the nearest is {near}' if near else f'; expected one of {", ".join(known)}'
            return Complaint(f'{found}{hint}.', True)
        hint = f'; the nearest is {near}' if near else ''
        slip = (near is not None and _one_slip(key, near)) or key.startswith('[')
        return Complaint(f'{found} to this Ptychodus{hint}.', slip, f'{section}.{self._written(key)}')


def _value_complaints(section: str, key: str, parameter: Parameter[Any], text: str) -> Iterator[Complaint]:
    """Look at one value; one that Ptychodus cannot read would end the run in a traceback, whoever's it is."""
    ours = section in OUR_GROUPS
    found = f'Setting {section}.{key} is {_quoted(text)}'
    if '\n' in text and (ours or section == ALGORITHM[0]):
        yield Complaint(
            f'{found}, on several lines; a line that begins with a space goes on with the one before it.',
            True,
        )
        return
    if isinstance(parameter, BooleanParameter):
        if text.casefold() not in (*parameter.TRUE_VALUES, *FALSE_VALUES):
            yield Complaint(f'{found}; expected true or false.', True)
        return
    trial = parameter.copy()
    try:
        trial.set_value_from_string(text)
    except (ValueError, OverflowError, TypeError):
        yield Complaint(f'{found}; expected {_expected(parameter)}.', True)
        return
    if (section, key) == ALGORITHM and not text.strip():
        yield Complaint(f'{found}; expected an algorithm, such as PtychoPINN_PINN.', True)
    if isinstance(parameter, IntegerParameter | RealParameter):
        asked = getattr(trial, '_value', trial.get_value())
        if not math.isfinite(asked) or trial.get_value() != asked or abs(asked) > _largest(parameter):
            yield Complaint(f'{found}; expected {_expected(parameter)}.', ours)


def _largest(parameter: IntegerParameter | RealParameter) -> float:
    return LARGEST_INTEGER if isinstance(parameter, IntegerParameter) else math.inf


def _expected(parameter: Parameter[Any]) -> str:
    if not isinstance(parameter, IntegerParameter | RealParameter):
        return 'a path' if isinstance(parameter, PathParameter) else 'a value of its kind'
    kind = 'a whole number' if isinstance(parameter, IntegerParameter) else 'a number'
    least, most = parameter.get_minimum(), parameter.get_maximum()
    if most is None:
        return kind if least is None else f'{kind} from {_number(least)} up'
    return (
        f'{kind} up to {_number(most)}'
        if least is None
        else f'{kind} from {_number(least)} to {_number(most)}'
    )


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f'{value:g}'


def _swallowed(
    section: str, key: str, text: str, groups: Mapping[str, ParameterGroup]
) -> Iterator[Complaint]:
    """Say so where a value has taken in the sections or settings of ours that follow it."""
    names = {name.casefold() for group in OUR_GROUPS for name in groups[group].parameters()}
    for line in text.split('\n')[1:]:
        if line.lstrip().startswith('[') or re.split('[=:]', line)[0].strip().casefold() in names:
            yield Complaint(
                f'Setting {section}.{printable(key, SHOWN)} goes on with {_quoted(line)}, because that line '
                'begins with a space.',
                True,
            )
            return


def _begins_like_ours(section: str) -> bool:
    plain = re.sub('[^a-z0-9]', '', section.casefold())
    # Those of another library of Ptychodus, which not every release has.
    return plain.startswith('ptychopinn') and not plain.startswith('ptychopinntorch')


def _sections_of_ours() -> str:
    return ', '.join(f'[{name}]' for name in OUR_GROUPS)


def _spelled(key: str, known: Collection[str]) -> str | None:
    """Return a name as it is spelled by Ptychodus, which does not look at capitals."""
    return next((name for name in known if name.casefold() == key.casefold()), None)


def _nearest(name: str, known: Collection[str]) -> str | None:
    plain = {item.casefold(): item for item in known}
    found = difflib.get_close_matches(name.casefold(), list(plain), n=1, cutoff=0.7)
    return plain[found[0]] if found else None


def _one_slip(name: str, meant: str) -> bool:
    """Return whether two names differ by capitals, or by one letter that is wrong, missing or too many."""
    short, long = sorted((name.casefold(), meant.casefold()), key=len)
    if len(long) - len(short) > 1:
        return False
    same = next((i for i, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), len(short))
    return short[same:] == long[same + 1 :] or short[same + 1 :] == long[same + 1 :]


def _quoted(text: str) -> str:
    return f"'{printable(text.strip(), SHOWN)}'"
