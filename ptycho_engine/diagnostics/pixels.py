"""Detector pixels that no model of the sample explains: hot, dead, and saturated ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import xlogy

from ..physics.forward import BACKGROUND
from ..physics.noise import noise_deviance

__all__ = ['dead_pixels', 'suspects', 'tied_pixels']

FloatArray = npt.NDArray[np.floating[Any]]
Mask = npt.NDArray[np.bool_]

CERTAIN = 20.0
"""Counts summed over the patterns that cannot be missing by chance."""
SIGMAS = 6.0
"""Standard deviations of the deviance of a pixel, summed over the patterns, beyond which it is no chance."""
STANDS_OUT = 8.0
"""How many times as far off as other pixels a suspect is, relative to its counts."""
MOST = 0.15
"""Part of the valid pixels that may be suspects."""
FEW = 0.01
"""Part of the valid pixels that may spoil all others so that most look wrong."""


def dead_pixels(total: FloatArray, predicted: FloatArray, valid: Mask) -> Mask:
    """Return the pixels (N, N) that are dark in all patterns though there is light.

    Parameters
    ----------
    total : (N, N) float
        Counts summed over patterns.
    predicted : (N, N) float
        What a fit predicts for them.
    valid : (N, N) bool
        Pixels that are taken for valid.
    """
    return np.asarray(valid & (total == 0) & (predicted > CERTAIN))


def suspects(counts: FloatArray, predicted: FloatArray, valid: Mask) -> Mask:
    """Return the pixels (N, N) that are far off in all patterns, for what others are.

    Parameters
    ----------
    counts, predicted : (n, N, N) float
        Of the same patterns.
    valid : (N, N) bool
    """
    lam = predicted.astype(np.float64) + BACKGROUND
    k = counts.astype(np.float64)
    excess = (2 * (xlogy(k, k / lam) - (k - lam)) - noise_deviance(predicted)).sum(axis=0)
    relative = np.where(valid, excess / (k.sum(axis=0) + lam.sum(axis=0)), 0)
    # Relative to its counts the deviance of a pixel is the square of its relative error.
    lit = valid & (k.sum(axis=0) > CERTAIN)
    usual = float(np.median(np.maximum(relative[lit], 0))) if lit.any() else 0.0
    found = valid & (excess > SIGMAS * np.sqrt(2 * len(k))) & (relative > STANDS_OUT * usual + 0.1)
    found |= dead_pixels(k.sum(axis=0), lam.sum(axis=0), valid)
    few = int(FEW * valid.sum())
    if found.sum() > few:
        worst = _worst(np.where(valid, excess, 0), few)
        if worst.any() or found.sum() > MOST * valid.sum():
            return worst
    return np.asarray(found)


def _worst(excess: FloatArray, most: int) -> Mask:
    """Return the pixels that hold half of the excess, or none where these are more than `most`."""
    order = np.argsort(-excess, axis=None)
    part = np.cumsum(np.maximum(excess.ravel()[order], 0))
    count = int(np.searchsorted(part, part[-1] / 2)) + 1
    mask = np.zeros(excess.size, bool)
    if count <= most:
        mask[order[:count]] = True
    return mask.reshape(excess.shape)


def tied_pixels(counts: FloatArray, valid: Mask, tied: int) -> Mask:
    """Return the pixels (n, N, N) at the largest value of all, in patterns in which `tied` and more are."""
    largest = float(counts[:, valid].max())
    at = (counts >= largest * (1 - 1e-6)) & valid
    several = at.sum(axis=(1, 2)) >= tied
    return np.asarray(at & several[:, None, None])
