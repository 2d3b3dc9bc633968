"""Whether a trained prior gives better images than the one that it was trained from (STAGE-03).

The loss of an epoch is that of a single look at images which physics made. The solver looks again and again,
at its own images, and what fits the former better may spoil the latter.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

import numpy as np

from ..backends.base import Backend, Weights
from ..blocks import evenly_spread
from ..whole_scan.paired import paired_difference
from ..whole_scan.scan_model import ScanModel
from ..whole_scan.solver import UNDECIDED, held_out_with_each

__all__ = ['gives_better_images']

logger = logging.getLogger('ptychopinn.train')

MOST_SCANS = 4
"""Scans that are solved with either prior, spread evenly over those that judge."""

T = TypeVar('T')


def gives_better_images(
    backend: Backend, scans: Sequence[ScanModel], started: Weights, trained: Weights, stop: Callable[[], bool]
) -> bool:
    """Return whether images with `trained` weights predict pixels kept from them better than with `started`.

    Parameters
    ----------
    backend : Backend
        Built for 'prior'; it is left with `trained`.
    scans : sequence of ScanModel
        To be solved, from a flat object each.
    started, trained : mapping of str to ndarray
        Canonical weights.
    stop : callable
        Asked before each iteration.

    Raises
    ------
    Cancelled
        If `stop` turned true.
    """
    chosen = [scans[index] for index in evenly_spread(len(scans), MOST_SCANS)]
    left = [_value(held_out_with_each(scan, backend, (started, trained), stop)) for scan in chosen]
    before, after = (np.concatenate(deviances) for deviances in zip(*left, strict=True))
    better = paired_difference(before, after).score < -UNDECIDED
    logger.info(
        'Images of %d scan(s): held-out deviance %.4g before training, %.4g after it%s.',
        len(chosen),
        before.mean(),
        after.mean(),
        '' if better else '; what it started from is as good in the solver and is kept',
    )
    return better


def _value(generator: Generator[Any, None, T]) -> T:
    while True:
        try:
            next(generator)
        except StopIteration as done:
            value: T = done.value
            return value
