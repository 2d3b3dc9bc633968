"""What can be wrong with one setting of a file: its name, its value, or how it is written."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ptychodus.api.parameters import (
    BooleanParameter,
    IntegerParameter,
    Parameter,
    ParameterGroup,
    PathParameter,
    RealParameter,
)

from ptycho_engine.printable import printable

from .setting import OUR_GROUPS

__all__ = [
    'ALGORITHM',
    'SHOWN',
    'Complaint',
    'begins_like_ours',
    'nearest',
    'one_slip',
    'quoted',
    'sections_of_ours',
    'spelled',
    'swallowed',
    'value_complaints',
]

ALGORITHM = ('Processing', 'Algorithm')
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


def value_complaints(section: str, key: str, parameter: Parameter[Any], text: str) -> Iterator[Complaint]:
    """Look at one value; one that Ptychodus cannot read would end the run in a traceback, whoever's it is."""
    ours = section in OUR_GROUPS
    found = f'Setting {section}.{key} is {quoted(text)}'
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


def swallowed(section: str, key: str, text: str, groups: Mapping[str, ParameterGroup]) -> Iterator[Complaint]:
    """Say so where a value has taken in the sections or settings of ours that follow it."""
    names = {name.casefold() for group in OUR_GROUPS for name in groups[group].parameters()}
    for line in text.split('\n')[1:]:
        if line.lstrip().startswith('[') or re.split('[=:]', line)[0].strip().casefold() in names:
            yield Complaint(
                f'Setting {section}.{printable(key, SHOWN)} goes on with {quoted(line)}, because that line '
                'begins with a space.',
                True,
            )
            return


def begins_like_ours(section: str) -> bool:
    """Return whether a section is one of PtychoPINN's by the beginning of its name."""
    plain = re.sub('[^a-z0-9]', '', section.casefold())
    # Those of another library of Ptychodus, which not every release has.
    return plain.startswith('ptychopinn') and not plain.startswith('ptychopinntorch')


def sections_of_ours() -> str:
    """Return the names of PtychoPINN's sections, for a sentence."""
    return ', '.join(f'[{name}]' for name in OUR_GROUPS)


def spelled(key: str, known: Collection[str]) -> str | None:
    """Return a name as it is spelled by Ptychodus, which does not look at capitals."""
    return next((name for name in known if name.casefold() == key.casefold()), None)


def nearest(name: str, known: Collection[str]) -> str | None:
    """Return the known name that is most like `name`, or None where none is."""
    plain = {item.casefold(): item for item in known}
    found = difflib.get_close_matches(name.casefold(), list(plain), n=1, cutoff=0.7)
    return plain[found[0]] if found else None


def one_slip(name: str, meant: str) -> bool:
    """Return whether two names differ by capitals, or by one letter that is wrong, missing or too many."""
    short, long = sorted((name.casefold(), meant.casefold()), key=len)
    if len(long) - len(short) > 1:
        return False
    same = next((i for i, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), len(short))
    return short[same:] == long[same + 1 :] or short[same + 1 :] == long[same + 1 :]


def quoted(text: str) -> str:
    """Return a value or a line as sentences show it."""
    return f"'{printable(text.strip(), SHOWN)}'"
