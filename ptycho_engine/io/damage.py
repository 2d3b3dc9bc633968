"""Damaged files told in one sentence."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from tokenize import TokenError

from ..errors import DataValueError, EngineError

__all__ = ['reading']

DAMAGE = (
    *(OSError, EOFError, ValueError, RuntimeError, KeyError, TypeError, OverflowError, MemoryError),
    *(SyntaxError, TokenError, zipfile.BadZipFile, zlib.error),
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
        raise DataValueError(f'{complaint} ({error}).') from error
