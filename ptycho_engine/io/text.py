"""Text of files, decoded without loss and stored without harm.

File names, keys, names and comments are whatever somebody wrote. Bytes become text by :func:`decode` and the
same bytes again by :func:`encode`; how text is shown safely is in :mod:`~..printable`.
"""

from __future__ import annotations

from ..printable import ESCAPED_BYTES, escape

__all__ = ['decode', 'encode', 'is_utf8', 'storable']

SURROGATES = range(0xD800, 0xE000)


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
        known = ''.join(
            escape(c) if ord(c) in SURROGATES and ord(c) not in ESCAPED_BYTES else c for c in text
        )
        return known.encode('utf-8', 'surrogateescape')


def is_utf8(text: str) -> bool:
    """Return whether text can be written as UTF-8: whether no byte in it had to be kept as it was."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def storable(text: str) -> str:
    """Return text that every program can store: bytes that are not UTF-8, and NUL, as escapes; lines stay."""
    if is_utf8(text) and '\0' not in text:
        return text
    return ''.join(escape(c) if ord(c) in SURROGATES or c == '\0' else c for c in text)
