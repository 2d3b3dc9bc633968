"""What a model file states, checked before anything relies on it: numbers, names, records of epochs."""

from __future__ import annotations

import math
from typing import Any

from ..errors import ArchiveError
from ..printable import printable, shown

__all__ = ['LARGEST_COUNTS', 'MOST_EPOCHS', 'number', 'record', 'text', 'whole_number']

LONGEST_NAME = 300
LONGEST_KEY = 60
MOST_KEYS = 50
LARGEST = 1e30
LARGEST_COUNTS = 1e90
"""Squares of what single precision holds, summed over a pattern (GAU-05), are below it."""
MOST_EPOCHS = 10**9
"""Of any run."""


def number(value: Any, what: str, low: float = -LARGEST, high: float = LARGEST) -> float:
    """Return a finite number from `low` to `high`; True and False are none.

    Raises
    ------
    ArchiveError
        If `value` is something else.
    """
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    if not (plain and math.isfinite(value) and low <= value <= high):
        raise ArchiveError(
            f'{what} is {shown(value)}; expected a number from {low:g} to {high:g}. The file is damaged.'
        )
    return float(value)


def whole_number(value: Any, what: str, low: int, high: int = 2**53) -> int:
    """Return a whole number from `low` to `high`.

    Raises
    ------
    ArchiveError
        If `value` is something else.
    """
    if type(value) is not int or not low <= value <= high:
        raise ArchiveError(
            f'{what} is {shown(value)}; expected a whole number from {low} to {high}. The file is damaged.'
        )
    return value


def text(value: Any, what: str) -> str:
    """Return a name as one line that is safe to show.

    Raises
    ------
    ArchiveError
        If `value` is no text, or too long for a name.
    """
    if not isinstance(value, str) or len(value) > LONGEST_NAME:
        raise ArchiveError(
            f'{what} is {shown(value)}; expected a text of at most {LONGEST_NAME} characters. The file is '
            'damaged.'
        )
    return printable(value)


def record(value: Any, what: str) -> dict[str, float]:
    """Return the record of an epoch: numbers by name, and which epoch it was.

    Raises
    ------
    ArchiveError
        If `value` is something else.
    """
    if not isinstance(value, dict) or len(value) > MOST_KEYS:
        raise ArchiveError(f'{what} holds {shown(value)} in place of an epoch; the file is damaged.')
    found: dict[str, float] = {}
    for key, item in value.items():
        if len(key) > LONGEST_KEY or not key.isascii() or not key.isprintable():
            raise ArchiveError(f'{what} holds an entry named {shown(key)}; the file is damaged.')
        number(item, f'{what}, {key}')
        found[key] = item
    epoch = found.get('epoch')
    if epoch is None or epoch != int(epoch) or not 1 <= epoch <= MOST_EPOCHS:
        raise ArchiveError(
            f'{what} names an epoch {shown(epoch)}; expected a whole number from 1. The file is damaged.'
        )
    return found
