"""Damaged files told in one sentence, and how much an array may unpack to."""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from tokenize import TokenError

from ..errors import DataValueError, EngineError
from ..printable import printable

__all__ = ['DAMAGE', 'first_line', 'most_unpacked', 'reading']

DAMAGE = (
    *(OSError, EOFError, ValueError, RuntimeError, KeyError, TypeError, OverflowError, MemoryError),
    *(AttributeError, SyntaxError, TokenError, zipfile.BadZipFile, zlib.error, struct.error, lzma.LZMAError),
)
"""What h5py, NumPy and zipfile raise on damaged, encrypted or foreign files."""

FLOOR_BYTES = 128 << 20
"""Any array may declare so much: the mask of a large detector shrinks to next to nothing."""
RATIO = 1100
"""Beyond that, an array may be so many times the bytes stored of it; deflate shrinks zeros by 1032."""


@contextmanager
def reading(complaint: str) -> Iterator[None]:
    """Turn what damage makes the readers raise inside the block into ``complaint (reason).``

    Raises
    ------
    DataValueError
        In place of any such error; the engine's own pass.
    """
    try:
        yield
    except EngineError:
        raise
    except DAMAGE as error:
        raise DataValueError(f'{complaint} ({first_line(error)}).') from error


MOST_SAID = 300
"""Characters of what a library says; some quote what they found whole."""


def first_line(error: BaseException) -> str:
    """Return the first line of what an exception says: those after it are advice to programmers."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else ' '.join(map(str, error.args))
    return printable(text.strip().partition('\n')[0].rstrip('.'), MOST_SAID) or type(error).__name__


def most_unpacked(stored: int) -> int:
    """Return how many bytes an array may declare of which so many are stored, packed or not."""
    return max(FLOOR_BYTES, RATIO * stored)
