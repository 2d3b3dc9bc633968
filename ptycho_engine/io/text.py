"""Text that came from somewhere else: decoded without loss, shown without harm.

File names, keys, names and comments are whatever somebody wrote. Bytes become text by :func:`decode` and the
same bytes again by :func:`encode`; on its way to a terminal, a log or a window text passes :func:`printable`,
so that it can neither move the cursor, nor colour, nor forge a line, nor turn the direction of writing.
"""

from __future__ import annotations

import unicodedata

__all__ = ['decode', 'encode', 'is_utf8', 'printable']

LONGEST = 6000
"""Characters shown of one text by default: a sentence with the longest path that there is."""

ESCAPED_BYTES = range(0xDC80, 0xDD00)
"""What Python's ``surrogateescape`` makes of the bytes 0x80 to 0xff where they are not UTF-8."""


def decode(data: bytes) -> str:
    """Return bytes as text: UTF-8, with the bytes that are not kept as lone surrogates.

    What UTF-16 or Latin-1 bytes mean is not guessed, but :func:`encode` gives back the very same bytes.
    """
    return data.decode('utf-8', 'surrogateescape')


def encode(text: str) -> bytes:
    """Return the bytes that :func:`decode` read; of other text its UTF-8.

    Surrogates that no bytes stand behind, as JSON may state them, are written as their escapes.
    """
    try:
        return text.encode('utf-8', 'surrogateescape')
    except UnicodeEncodeError:
        return ''.join(_escape(c) if _is_foreign_surrogate(c) else c for c in text).encode(
            'utf-8', 'surrogateescape'
        )


def is_utf8(text: str) -> bool:
    """Return whether text can be written as UTF-8: whether no byte in it had to be kept as it was."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(text: object, limit: int = LONGEST) -> str:
    r"""Return `text` as one line that is safe to show.

    Control and escape characters, line breaks, overrides of the direction of writing, invisible
    characters and bytes that are not UTF-8 become escapes, as ``\x1b``, ``\n`` or ``\u202e``. Of more
    than `limit` characters the middle is left out.

    Parameters
    ----------
    text : object
        A text, or what ``str`` makes one of.
    limit : int
        Characters at most, before escaping; at least 3.
    """
    shown = str(text)
    if len(shown) > limit:
        head = (limit - 1) // 2
        shown = f'{shown[:head]}…{shown[len(shown) - (limit - 1 - head) :]}'
    if shown.isprintable():
        return shown
    return ''.join(c if _is_harmless(c) else _escape(c) for c in shown)


def _is_harmless(character: str) -> bool:
    # Python counts spaces other than the plain one as not printable.
    return character.isprintable() or unicodedata.category(character) == 'Zs'


def _is_foreign_surrogate(character: str) -> bool:
    return unicodedata.category(character) == 'Cs' and ord(character) not in ESCAPED_BYTES


def _escape(character: str) -> str:
    code = ord(character)
    if code in ESCAPED_BYTES:
        return f'\\x{code & 0xFF:02x}'
    return character.encode('unicode_escape', 'surrogatepass').decode('ascii')
