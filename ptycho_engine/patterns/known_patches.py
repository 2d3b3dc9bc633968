"""Known object patches (labels) that are read from their file block by block."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import numpy.typing as npt

from ..arrays import check_finite
from ..errors import DataValueError
from .frame_stack import StoredStack
from .stack import LazyFrames

__all__ = ['KnownPatches']


class KnownPatches(LazyFrames[np.complex64]):
    """The array ``Y`` (n, N, N) of a scan, complex64 where it is read, in a stack that stays in its file.

    Parameters
    ----------
    stack : StoredStack
        (n, N, N) patches as stored.
    source : str
        For messages.

    Raises
    ------
    DataValueError
        If the stack has not three axes; when patches are read that hold NaN or infinite values.
    """

    dtype = np.dtype(np.complex64)

    def __init__(self, stack: StoredStack, source: str) -> None:
        if stack.ndim != 3:
            raise DataValueError(f'{source}: Y has shape {stack.shape}; expected (n, N, N).')
        self._stack = stack
        self._source = source

    def _read(self, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.complex64]:
        patches: npt.NDArray[Any] = self._stack[rows].astype(self.dtype, copy=False)
        check_finite(patches, f'{self._source}: Y')
        return patches

    def window(self, rows: slice, columns: slice) -> KnownPatches:
        """Return the patches reduced to part of each; nothing is read."""
        inner = copy.copy(self)
        inner._stack = self._stack.window(rows, columns)
        return inner
