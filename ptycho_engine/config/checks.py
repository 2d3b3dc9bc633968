"""Range checks that name the field, what was found and what was expected."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, TypeVar

from ..errors import ConfigError

__all__ = [
    'RangeError',
    'check_boolean',
    'check_choice',
    'check_integer',
    'check_number',
    'from_mapping',
    'nearest',
]

T = TypeVar('T')


class RangeError(ConfigError):
    """A value is not one that its field may have; `legal` says in words of JSON Schema what may be."""

    def __init__(self, sentence: str, legal: Mapping[str, Any]) -> None:
        super().__init__(sentence)
        self.legal = dict(legal)


def check_boolean(owner: str, name: str, value: object) -> None:
    """Raise :class:`ConfigError` unless `value` is True or False."""
    if not isinstance(value, bool):
        raise ConfigError(f'{owner}.{name} is {value!r}; expected True or False.')


def check_choice(owner: str, name: str, value: object, choices: Iterable[str]) -> None:
    """Raise :class:`ConfigError` unless `value` is one of `choices`."""
    allowed = tuple(choices)
    if value not in allowed:
        sentence = f'{owner}.{name} is {value!r}; expected one of {", ".join(map(repr, allowed))}.'
        raise RangeError(sentence, {'enum': list(dict.fromkeys(allowed))})


def check_integer(owner: str, name: str, value: object, low: int, high: int | None = None) -> None:
    """Raise :class:`ConfigError` unless `value` is an integer in [low, high]."""
    ok = isinstance(value, int) and not isinstance(value, bool)
    if not ok or value < low or (high is not None and value > high):  # type: ignore[operator]
        bound = f'at least {low}' if high is None else f'from {low} to {high}'
        sentence = f'{owner}.{name} is {value!r}; expected a whole number {bound}.'
        raise RangeError(sentence, {'minimum': low} | ({} if high is None else {'maximum': high}))


def check_number(
    owner: str,
    name: str,
    value: object,
    low: float,
    high: float = math.inf,
    *,
    exclusive: bool = False,
    exclusive_high: bool = False,
) -> None:
    """Raise :class:`ConfigError` unless `value` is a finite number from `low` to `high`.

    `exclusive` leaves out `low` itself, `exclusive_high` leaves out `high`.
    """
    ok = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if ok:
        above = value > low if exclusive else value >= low  # type: ignore[operator]
        below = value < high if exclusive_high else value <= high  # type: ignore[operator]
        ok = above and below
    if not ok:
        bound = f'above {low:g}' if exclusive else f'at least {low:g}'
        if high < math.inf:
            bound += f' and below {high:g}' if exclusive_high else f' and at most {high:g}'
        legal: dict[str, Any] = {'exclusiveMinimum' if exclusive else 'minimum': low}
        if high < math.inf:
            legal['exclusiveMaximum' if exclusive_high else 'maximum'] = high
        raise RangeError(f'{owner}.{name} is {value!r}; expected a number {bound}.', legal)


def from_mapping(cls: type[T], values: Mapping[str, Any]) -> T:
    """Build a configuration from named values; unknown names are refused with the nearest known one."""
    known = [f.name for f in fields(cls)]  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            raise nearest(cls.__name__, name, known)
    return cls(**values)


def nearest(owner: str, name: str, known: Iterable[str]) -> ConfigError:
    """Return the error that `owner` has no field `name`, with the nearest of the `known` ones."""
    near = difflib.get_close_matches(name, list(known), n=1)
    hint = f'; did you mean {near[0]!r}?' if near else '.'
    return ConfigError(f'{owner} has no field {name!r}{hint}')
