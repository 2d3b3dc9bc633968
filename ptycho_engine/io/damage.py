"""Damaged files told in one sentence."""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from tokenize import TokenError

from ..errors import DataValueError, EngineError

__all__ = ['DAMAGE', 'first_line', 'reading']

DAMAGE = (
    *(OSError, EOFError, ValueError, RuntimeError, KeyError, TypeError, OverflowError, MemoryError),
    *(AttributeError, SyntaxError, TokenError, zipfile.BadZipFile, zlib.error, struct.error, lzma.LZMAError),
)
"""What h5py, NumPy and zipfile raise on damaged, encrypted or foreign files."""


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


def first_line(error: BaseException) -> str:
    """Return the first line of what an exception says: those after it are advice to programmers."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else ' '.join(map(str, error.args))
    return text.strip().partition('\n')[0].rstrip('.') or type(error).__name__
