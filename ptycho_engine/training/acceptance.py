"""Whether a trained prior gives better images than the one that it was trained from (STAGE-03).

The loss of an epoch is that of a single look at images which physics made. The solver looks again and again,
at its own images, and what fits the former better may spoil the latter.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ..backends.base import Backend
from ..blocks import evenly_spread
from ..config import InferenceConfig
from ..whole_scan.paired import paired_difference
from ..whole_scan.scan_model import ScanModel
from ..whole_scan.solver import UNDECIDED, solve

__all__ = ['gives_better_images']

logger = logging.getLogger('ptychopinn.train')

MOST_SCANS = 4
"""Scans that are solved with either prior, spread evenly over those that judge."""

T = TypeVar('T')

Weights = Mapping[str, npt.NDArray[np.float32]]


def gives_better_images(
    backend: Backend, scans: Sequence[ScanModel], started: Weights, trained: Weights, stop: Callable[[], bool]
) -> bool:
    """Return whether images with `trained` weights predict pixels kept from them better than with `started`.

    Parameters
    ----------
    backend : Backend
        Built for 'prior'; it is left with one of the two.
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
    each = []
    for weights in (started, trained):
        backend.set_weights(weights)
        each.append(np.concatenate([_held_out(scan, backend, stop) for scan in chosen]))
    better = paired_difference(*each).score < -UNDECIDED
    logger.info(
        'Images of %d scan(s): held-out deviance %.4g before training, %.4g after it%s.',
        len(chosen),
        each[0].mean(),
        each[1].mean(),
        '' if better else '; what it started from is as good in the solver and is kept',
    )
    return better


def _held_out(scan: ScanModel, backend: Backend, stop: Callable[[], bool]) -> npt.NDArray[np.float64]:
    """Return the deviance (n,) per held-out pixel of each pattern that a solution leaves."""
    config = InferenceConfig(calibrate='off')
    return _value(solve(scan, backend, config, stop, learned=True)).held_out


def _value(generator: Generator[Any, None, T]) -> T:
    while True:
        try:
            next(generator)
        except StopIteration as done:
            value: T = done.value
            return value
