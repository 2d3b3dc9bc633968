"""What a detector's frames say of themselves: bad pixels, marks that are no counts, frames without light."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..arrays import as_numbers
from ..blocks import block_length, blocks
from ..errors import DataValueError
from .frame_stack import StoredStack

__all__ = ['Survey', 'survey', 'unread']

logger = logging.getLogger('ptychopinn.data')

TURNED_ROUND = 0.9
"""Part of the amplitude on the pixels that a mask calls bad, more than half of all, from which on it is the
other way round. Hot pixels are less of the amplitude than of the light, and marks do not vary."""

LARGEST = tuple(float(2**bits - 1) for bits in (15, 16, 31, 32))
"""Largest values of integer types, which stay marks when the counts are turned into another type."""

MOST_MARKED = 0.5
"""Part of a detector above which marks are no marks."""

SCATTERED = 0.1
"""Part of a detector with negative whole numbers from which on these are noise about a background of 0."""

DARK = 0.01
"""A frame with less than this part of the median light is dark."""

LIT = 500.0
"""Median counts of a frame from which on a dark one among them is no chance."""

MOST_NEGATIVE = 0.5
"""Part of the largest number that the least one may be below 0 for a background that was taken off."""


@dataclass(frozen=True)
class Survey:
    """What was found by looking at all frames of a stack once."""

    bad: npt.NDArray[np.bool_] | None
    """(h, w) True where a pixel is bad; None where there are none and no mask was given."""
    negative: bool
    """Whether valid pixels hold negative numbers, as left by a background that was taken off."""
    totals: npt.NDArray[np.float64]
    """(n,) sum over the valid pixels of each frame, and"""
    squares: npt.NDArray[np.float64]
    """(n,) that of their squares."""
    told: tuple[str, ...]
    """What was taken for granted, in sentences."""
    integers: bool = False
    """Whether the numbers are whole, so that they are counts."""

    @property
    def lit(self) -> npt.NDArray[np.bool_]:
        """(n,) False for the frames without light."""
        median = float(np.median(self.totals))
        told_apart = median >= LIT if self.integers else median > 0
        return np.asarray(self.totals > DARK * median) if told_apart else np.ones(len(self.totals), bool)

    @property
    def dark_end(self) -> int:
        """Frames without light after the last one with it."""
        lit = np.flatnonzero(self.lit)
        return len(self.totals) - 1 - int(lit[-1]) if len(lit) else 0

    def select(self, frames: npt.NDArray[np.int64]) -> Survey:
        """Return what is known of the given frames."""
        return replace(self, totals=self.totals[frames], squares=self.squares[frames])


def unread(mask: npt.NDArray[Any] | None, stack: StoredStack, source: str) -> Survey:
    """Return what is known of a stack of which a file says all that :func:`survey` would look for.

    Raises
    ------
    DataValueError
        If the mask is not of the size of the patterns, or not of numbers.
    """
    bad = None if mask is None else _single(mask, stack.shape[1:], f'{source}: bad_pixels')
    return Survey(bad, False, np.ones(len(stack)), np.ones(len(stack)), ())


class _Extremes:
    """Gathers what the pixels of a detector hold, block by block."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.least = np.full(shape, np.inf)
        self.most = np.full(shape, -np.inf)
        self.missing = np.zeros(shape, bool)
        self.largest = np.zeros(shape, bool)

    def add(self, values: npt.NDArray[Any]) -> None:
        """Look at frames (k, h, w)."""
        if values.dtype.kind == 'f':
            finite = np.isfinite(values)
            if not finite.all():
                # A frame of which most is missing was not measured, and says nothing of its pixels.
                measured = finite.mean(axis=(1, 2)) > 1 - MOST_MARKED
                self.missing |= (~finite[measured]).any(axis=0)
                values = np.where(finite, values, 0)
        elif values.dtype.kind in 'iu':
            largest = np.iinfo(values.dtype).max
            if values.max(initial=0) == largest:
                self.largest |= (values == largest).any(axis=0)
        np.minimum(self.least, values.min(axis=0), out=self.least)
        np.maximum(self.most, values.max(axis=0), out=self.most)

    def constant_marks(self, source_kind: str) -> npt.NDArray[np.bool_]:
        """Return the pixels that hold one number in all frames, which no counts are."""
        same = self.least == self.most
        marks = np.array([*LARGEST, *(np.float64(np.float32(value)) for value in LARGEST)])
        roots = np.sqrt(marks)
        kept = np.isin(self.most, marks)
        if source_kind == 'f':
            kept |= np.isclose(self.most[..., None], roots, rtol=1e-6, atol=0).any(axis=-1)
        return np.asarray(same & (kept | ((self.most < 0) & (self.most == np.rint(self.most)))))


def survey(mask: npt.NDArray[Any] | None, stack: StoredStack, source: str) -> Survey:
    """Look at all frames of a stack once, for what is no count.

    A pixel is bad where the mask says so in any frame; where it holds the largest value of its integer type,
    NaN or an infinite value in any frame; and where it holds a negative whole number, or the largest value of
    another integer type, in all of them.

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
        If the mask is not of the size of the patterns, or not of numbers, or says the opposite; or patterns
        cannot be read.
    """
    given = None if mask is None else _single(mask, stack.shape[1:], f'{source}: bad_pixels')
    valid = np.ones(stack.shape[1:], bool) if given is None else ~given
    extremes = _Extremes(stack.shape[1:])
    totals, squares = np.zeros(len(stack)), np.zeros(len(stack))
    # Only of such a mask is the light under it looked at.
    doubtful = given is not None and MOST_MARKED < given.mean() < 1
    light = np.zeros(stack.shape[1:])
    for part in blocks(len(stack), block_length(max(stack.shape[1:]))):
        values = stack[part]
        extremes.add(values)
        clean = _clean(values, valid)
        totals[part] = clean.sum(axis=1, dtype=np.float64)
        with np.errstate(over='ignore'):
            squares[part] = np.einsum('ij,ij->i', clean, clean, dtype=np.float64)
        if doubtful:
            light += _clean(values, np.ones_like(valid)).sum(axis=0).reshape(light.shape)
    if given is not None and doubtful:
        _require_right_way_round(given, np.where(extremes.least < extremes.most, light, 0), source)
    bad, told = _marked(extremes, valid, stack, source)
    for line in told:
        logger.info('%s: %s', source, line)
    least, most = (float(values[valid & ~bad].min(initial=0)) for values in (extremes.least, -extremes.most))
    integers = stack.dtype.kind in 'iu'
    negative = 0 < -least <= MOST_NEGATIVE * -most
    found = bad if given is None else bad | given
    return Survey(
        found if given is not None or bad.any() else None, negative, totals, squares, told, integers
    )


def _clean(values: npt.NDArray[Any], valid: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    """Return the valid pixels (k, m) of frames, 0 where they hold no count."""
    chosen = values[:, valid]
    if chosen.dtype.kind == 'f':
        return np.where(np.isfinite(chosen) & (chosen > 0), chosen, 0).astype(np.float64)
    whole = chosen.astype(np.float64)
    if chosen.dtype.kind in 'iu':
        whole[(chosen < 0) | (chosen == np.iinfo(chosen.dtype).max)] = 0
    return whole


def _marked(
    extremes: _Extremes, valid: npt.NDArray[np.bool_], stack: StoredStack, source: str
) -> tuple[npt.NDArray[np.bool_], tuple[str, ...]]:
    """Return the marked pixels (h, w) among the valid ones, and a sentence for each kind of mark."""
    kinds = {
        f'hold {np.iinfo(stack.dtype).max}, the largest value of {stack.dtype}, with which detectors mark '
        'what is no count'
        if stack.dtype.kind in 'iu'
        else '': extremes.largest,
        'hold NaN or infinite values': extremes.missing,
        'hold the same mark of a detector in all patterns': (
            extremes.constant_marks(stack.dtype.kind) if len(stack) > 1 else np.zeros(valid.shape, bool)
        ),
    }
    if stack.dtype.kind == 'i':
        negative = extremes.least < 0
        if negative.mean() <= SCATTERED:
            kinds['hold negative numbers, with which detectors mark what is no count'] = negative
    bad, told = np.zeros(valid.shape, bool), []
    for what, found in kinds.items():
        new = found & valid & ~bad
        count = np.count_nonzero(new)
        if count and (found is extremes.largest or found.mean() <= MOST_MARKED):
            bad |= new
            told.append(f'{count} pixels {what}; they are taken as bad.')
    return bad, tuple(told)


def _require_right_way_round(bad: npt.NDArray[np.bool_], light: npt.NDArray[np.float64], source: str) -> None:
    """Raise DataValueError where a mask (h, w) calls those pixels bad that the light (h, w) falls on."""
    amplitude = np.sqrt(light)
    if not amplitude[bad].sum() > TURNED_ROUND * amplitude.sum():
        return
    raise DataValueError(
        f'{source}: bad_pixels marks {100 * bad.mean():.3g} % of the pixels, on which '
        f'{100 * light[bad].sum() / light.sum():.3g} % of the light falls; it must be true where a pixel is '
        'bad, so turn it round (numpy.logical_not).'
    )


def _single(mask: npt.NDArray[Any], shape: tuple[int, ...], source: str) -> npt.NDArray[np.bool_]:
    """Reduce a mask of each pattern to one of the detector."""
    found = as_numbers(mask, bool, source)
    if found.ndim == 3:
        found = np.asarray(found.any(axis=0))
    if found.shape != tuple(shape):
        raise DataValueError(f'{source} has shape {found.shape}; expected {tuple(shape)}, that of a pattern.')
    return found
