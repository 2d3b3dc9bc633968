"""JSON from anybody: bounded before it is parsed, and holding nothing that a number or a name cannot be.

A few bytes of text become hundreds of bytes in memory, and deep nesting ends the parser; so elements and
depth are counted in the text first.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import numpy as np

__all__ = ['parse_bounded']

DEEPEST = 16
LARGEST_INTEGER = 2**63
LONGEST_TEXT = 1000

_TEXTS = re.compile(rb'"(?:[^"\\]+|\\.)*+"?', re.DOTALL)
"""One that does not end matches too: it must not be tried again from every quotation mark in it."""


def parse_bounded(data: bytes, most: int) -> Any:
    """Return what JSON says.

    Parameters
    ----------
    data : bytes
        UTF-8; its length is for the caller to bound.
    most : int
        Elements that it may have in all: brackets, commas and colons outside of texts.

    Raises
    ------
    ValueError
        With the reason, if it is no JSON, has more elements, is nested more than 16 deep, names a key twice,
        or holds numbers that are not finite, integers of more than 64 bits or texts of over 1000 characters.
    """
    structure = np.frombuffer(_TEXTS.sub(b'', data), np.uint8)
    opening = (structure == ord('[')) | (structure == ord('{'))
    closing = (structure == ord(']')) | (structure == ord('}'))
    elements = int((opening | (structure == ord(',')) | (structure == ord(':'))).sum())
    if elements > most:
        raise ValueError(f'more than {most} elements')
    if closing.sum() > opening.sum():
        raise ValueError('more brackets are closed than opened')
    depth = np.cumsum(np.where(opening, 1, -1)[opening | closing], dtype=np.int32)
    if depth.size and depth.max() > DEEPEST:
        raise ValueError(f'nested more than {DEEPEST} deep')
    value = json.loads(
        data.decode(),
        parse_int=_integer,
        parse_float=_number,
        parse_constant=_constant,
        object_pairs_hook=_object,
    )
    _check_texts(value)
    return value


def _integer(text: str) -> int:
    if len(text) > 20 or not -LARGEST_INTEGER <= (number := int(text)) < LARGEST_INTEGER:
        raise ValueError(f'the number {text[:20]}… is too large')
    return number


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f'the number {text[:20]} is too large')
    return number


def _constant(text: str) -> float:
    raise ValueError(f'{text} is no number')


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError('a key is named twice')
    for key in found:
        _check_text(key)
    return found


def _check_texts(value: Any) -> None:
    """Check the texts among the values; the depth is bounded already."""
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, dict | list):
        for member in value.values() if isinstance(value, dict) else value:
            if not isinstance(member, int | float):
                _check_texts(member)


def _check_text(text: str) -> None:
    if len(text) > LONGEST_TEXT:
        raise ValueError(f'a text of more than {LONGEST_TEXT} characters')
