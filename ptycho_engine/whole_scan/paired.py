"""How surely one image or model predicts held-out pixels better than another (SOLVE-04, CAL-02)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ['PairedDifference', 'paired_difference']

SMALLEST_ERROR = 1e-12
"""Deviance per pixel; keeps the score of equal differences from a division by zero."""


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
    each = second - first
    error = float(each.std(ddof=1)) / math.sqrt(len(each)) if len(each) > 1 else math.inf
    return PairedDifference(float(each.mean()), error)
