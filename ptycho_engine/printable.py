"""Text as it may be shown: one line without anything that steers a terminal or forges a line."""

from __future__ import annotations

import re
import reprlib
import unicodedata
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

__all__ = ['ESCAPED_BYTES', 'escape', 'plain_arguments', 'printable', 'shown']

LONGEST = 6000
"""Characters shown of one text by default: a sentence with the longest path that there is."""

LONG_WORD = re.compile(r'[^\s/\\]{257,}')
"""What is longer than a name in a path can be is a value that says no more in full."""

ESCAPED_BYTES = range(0xDC80, 0xDD00)
"""What Python's ``surrogateescape`` makes of the bytes 0x80 to 0xff where they are not UTF-8."""


def printable(text: object, limit: int = LONGEST) -> str:
    r"""Return `text` as one line that is safe to show.

    Control and escape characters, line breaks, overrides of the direction of writing, invisible
    characters and bytes that are not UTF-8 become escapes, as ``\x1b``, ``\n`` or ``\u202e``. Of more
    than `limit` characters the middle is left out, and of longer words than a path has names.

    Parameters
    ----------
    text : object
        A text, or what ``str`` makes one of.
    limit : int
        Characters at most, before escaping; at least 3.
    """
    short = LONG_WORD.sub(lambda word: f'{word[0][:40]}…{word[0][-20:]}', str(text))
    if len(short) > limit:
        head = (limit - 1) // 2
        short = f'{short[:head]}…{short[len(short) - (limit - 1 - head) :]}'
    if short.isprintable():
        return short
    return ''.join(c if _is_harmless(c) else escape(c) for c in short)


def shown(value: object) -> str:
    """Return a value from a file, whatever it is, as a sentence quotes it: short, texts in quotes."""
    return printable(reprlib.repr(value))


def _is_harmless(character: str) -> bool:
    # Python counts spaces other than the plain one as not printable.
    return character.isprintable() or unicodedata.category(character) == 'Zs'


def escape(character: str) -> str:
    r"""Return the escape of one character; of a byte that is not UTF-8, that of the byte, as ``\xb5``."""
    code = ord(character)
    if code in ESCAPED_BYTES:
        return f'\\x{code & 0xFF:02x}'
    return character.encode('unicode_escape', 'surrogatepass').decode('ascii')


def plain_arguments(arguments: Any) -> Any:
    """Return the arguments of a log record: texts, paths and exceptions as :func:`printable` shows them."""
    if isinstance(arguments, tuple):
        return tuple(_plain(argument) for argument in arguments)
    if isinstance(arguments, Mapping):
        return {name: _plain(argument) for name, argument in arguments.items()}
    return arguments


def _plain(argument: object) -> object:
    return printable(argument) if isinstance(argument, str | PurePath | BaseException) else argument
