"""Which pixels of a detector are bad: those that a file names, and those that hold a detector's mark."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import numpy.typing as npt

from ..arrays import as_numbers
from ..blocks import block_length, blocks
from ..errors import DataValueError
from .stored import StoredStack

__all__ = ['detector_mask']

logger = logging.getLogger('ptychopinn.data')


def detector_mask(
    mask: npt.NDArray[Any] | None, stack: StoredStack, source: str
) -> npt.NDArray[np.bool_] | None:
    """Return the bad pixels (h, w) of patterns, or None where there are none and no mask was given.

    A pixel bad anywhere is bad. Patterns of an integer type are all read once, to find the largest value of
    that type: no count, but the mark of a gap between modules, a masked or an overflowing pixel.

    Parameters
    ----------
    mask : (h, w) or (n, h, w), optional
        Where not 0, a pixel is known to be bad.
    stack : StoredStack
        (n, h, w) the patterns.
    source : str
        Of the patterns, for messages.

    Raises
    ------
    DataValueError
        If the mask is not of the size of the patterns, or not of numbers; or patterns cannot be read.
    """
    bad = None if mask is None else _single(mask, stack.shape[1:], f'{source}: bad_pixels')
    if stack.dtype.kind not in 'iu':
        return bad
    largest = np.iinfo(stack.dtype).max
    marked = np.zeros(stack.shape[1:], bool)
    for part in blocks(len(stack), block_length(max(stack.shape[1:]))):
        values = stack[part]
        # Most blocks hold none; their largest value needs no array of flags.
        if values.max(initial=0) == largest:
            marked |= (values == largest).any(axis=0)
    if not marked.any():
        return bad
    logger.info(
        '%s: %d pixels hold %d, the largest value of %s, with which detectors mark what is no count; they '
        'are taken as bad.',
        source,
        np.count_nonzero(marked),
        largest,
        stack.dtype,
    )
    return marked if bad is None else marked | bad


def _single(mask: npt.NDArray[Any], shape: tuple[int, ...], source: str) -> npt.NDArray[np.bool_]:
    """Reduce a mask of each pattern to one of the detector."""
    found = as_numbers(mask, bool, source)
    if found.ndim == 3:
        found = np.asarray(found.any(axis=0))
    if found.shape != tuple(shape):
        raise DataValueError(f'{source} has shape {found.shape}; expected {tuple(shape)}, that of a pattern.')
    return found
