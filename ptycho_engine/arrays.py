"""Arrays from files and callers as a scan needs them: numbers, and columns of one for each pattern."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .blocks import BLOCK_PIXELS, blocks
from .errors import DataValueError, DivergedError

__all__ = ['all_finite', 'as_column', 'as_index', 'as_numbers', 'check_finite', 'require_finite_result']


def as_numbers(values: npt.ArrayLike, dtype: npt.DTypeLike, name: str) -> npt.NDArray[Any]:
    """Return a contiguous array of type `dtype`; what is one already is not copied.

    Raises
    ------
    DataValueError
        If `values`, called `name` in the sentence, are text or the like, or complex where `dtype` is not.
    """
    array = np.asarray(values)
    wanted = np.dtype(dtype)
    if array.dtype.kind not in ('biufc' if wanted.kind == 'c' else 'biuf'):
        kind = 'numbers' if wanted.kind == 'c' else 'real numbers'
        raise DataValueError(f'{name} is of type {array.dtype}; expected {kind}.')
    with np.errstate(over='ignore', invalid='ignore'):
        # What does not fit in becomes infinite, which those who want it finite refuse.
        return np.ascontiguousarray(array, dtype=wanted)


def as_column(values: npt.ArrayLike, name: str) -> npt.NDArray[np.float64]:
    """Return (n,) float64, one for each pattern; (n, 1) and (1, n), as MATLAB writes them, are flattened.

    Raises
    ------
    DataValueError
        If `values` have more than one axis that is longer than 1, or are not real numbers.
    """
    array = as_numbers(values, np.float64, name)
    if sum(side != 1 for side in array.shape) > 1:
        raise DataValueError(f'{name} has shape {array.shape}; expected (n,), one number for each pattern.')
    return array.ravel()


def as_index(
    values: npt.ArrayLike, name: str, *, lowest: int = -(2**63), highest: int = 2**63 - 1
) -> npt.NDArray[np.int64]:
    """Return (n,) int64, one for each pattern or position; nothing is rounded, cut or wrapped around.

    Raises
    ------
    DataValueError
        If `values` do not make a column, or one is no whole number from `lowest` to `highest`.
    """
    column = as_column(values, name)
    if not (np.isfinite(column) & (column == np.rint(column))).all():
        raise DataValueError(f'{name} holds values that are no whole numbers; expected 0, 1, 2...')
    if column.size == 0:
        return np.empty(0, np.int64)
    # Not by way of float64, which rounds the largest integers.
    exact = np.asarray(values).ravel()
    least, largest = int(exact.min()), int(exact.max())
    if least < lowest or largest > highest:
        raise DataValueError(
            f'{name} reaches from {least} to {largest}; expected whole numbers from {lowest} to {highest}.'
        )
    return exact.astype(np.int64)


def all_finite(values: npt.NDArray[Any]) -> bool:
    """Return whether an array (n, ...) holds neither NaN nor infinite values; it is looked at in blocks."""
    length = max(BLOCK_PIXELS // max(values[:1].size, 1), 1)
    return all(np.isfinite(values[part]).all() for part in blocks(len(values), length))


def check_finite(values: npt.NDArray[Any], name: str) -> None:
    """Check that an array (n, ...) holds neither NaN nor infinite values.

    Raises
    ------
    DataValueError
        If it does.
    """
    if not all_finite(values):
        raise DataValueError(f'{name} holds NaN or infinite values; correct them, or leave the array out.')


def require_finite_result(
    object_array: npt.NDArray[Any],
    probe: npt.NDArray[Any] | None = None,
    position_shift: npt.NDArray[Any] | None = None,
) -> None:
    """Check that what a reconstruction came to holds neither NaN nor infinite values.

    Parameters
    ----------
    object_array : (..., H, W) complex
    probe : (P, N, N) complex, optional
    position_shift : (n, 2) float, optional
        None, as for the probe, where there is no new one.

    Raises
    ------
    DivergedError
        If one of them does.
    """
    for name, values in {'object': object_array, 'probe': probe, 'positions': position_shift}.items():
        if values is not None and not all_finite(values):
            raise DivergedError(
                f'The reconstruction came to NaN or infinite numbers in the {name}, so that there is no '
                'result; train the model again, or look at the patterns and the probe (ptychopinn doctor).'
            )
