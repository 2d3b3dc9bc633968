"""How surely one image or model predicts held-out pixels better than another (SOLVE-04, CAL-02)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ['PairedDifference', 'limited_difference', 'paired_difference']

SMALLEST_ERROR = 1e-12
"""Deviance per pixel; keeps the score of equal differences from a division by zero."""

OUTERMOST = 0.05
"""Part of the patterns at either end whose differences :func:`limited_difference` takes no larger than those
of the others."""


@dataclass(frozen=True)
class PairedDifference:
    """The difference of two held-out deviances of the same pixels, and its standard error over the patterns.

    Photon noise is the same in both and cancels, so that it tells far smaller differences than either error.
    """

    mean: float
    """Deviance per held-out pixel of the second less that of the first: negative where it is better."""
    error: float
    """Standard error of :attr:`mean`; infinite for a single pattern."""

    @property
    def score(self) -> float:
        """The difference in units of its error; 0 where there is none, infinite where it is no number."""
        if not math.isfinite(self.mean):
            return math.inf
        if not math.isfinite(self.error):
            return 0.0
        return self.mean / max(self.error, SMALLEST_ERROR)


def paired_difference(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> PairedDifference:
    """Compare the held-out deviances (n,) that two images or models leave in each pattern."""
    return _mean_of(second - first)


def limited_difference(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> PairedDifference:
    """Compare them without the outermost patterns, which may hide what is better in all others.

    Their differences are limited to the largest and the smallest of the rest (winsorised: Tukey, *Ann. Math.
    Stat.* 33, 1, 1962).
    """
    each = second - first
    least, most = np.quantile(each, (OUTERMOST, 1 - OUTERMOST), method='nearest')
    return _mean_of(np.clip(each, least, most))


def _mean_of(each: npt.NDArray[np.float64]) -> PairedDifference:
    error = float(each.std(ddof=1)) / math.sqrt(len(each)) if len(each) > 1 else math.inf
    return PairedDifference(float(each.mean()), error)
