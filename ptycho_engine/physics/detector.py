"""Pixels of a detector that no model of an experiment explains (CAL-03), or that are stuck (CAL-15)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft
from scipy.ndimage import binary_propagation, median_filter
from scipy.special import gammainc

from .likelihood import Residuals

__all__ = ['stuck_pixels', 'unexplained_pixels']

MOSTLY = 0.5
"""Part of the patterns in which a pixel is far off, from which on it is at fault and not the image."""

OUTLIER = 8.0
"""Times the counts of its neighbours, and the prediction, that a hot pixel holds at least."""

DEAD, CERTAIN, LIKELY = 0.02, 30.0, 3.0
"""A dead pixel holds less than this part of what is predicted, where so many counts are, or so many beside
another one."""

NEIGHBOURS = 5
"""Side of the square whose median the neighbours of a pixel are."""

MOST_BAD = 0.15
"""Part of the pixels beyond which it is the model that is wrong."""

FEWEST_FRAMES, BRIGHT = 16, 5.0
"""Patterns from which on their scatter tells, and the mean counts of a pixel."""

IMPOSSIBLE, UNLIKELY = 1e-10, 1e-3
"""Probability that photons scatter as little: of a stuck pixel, and of one that should be rare."""

WAVERING = 0.1
"""Standard deviations of photons by which a pixel that is stuck at the largest value may fall below it."""

QUIET = 0.02
"""Part of the bright pixels that may scatter unlikely little beside the stuck ones: of photons a thousandth
does, of patterns without their noise most."""

AS_PHOTONS = 0.9
"""Of their mean, what all pixels that are not stuck must scatter together."""


def unexplained_pixels(found: Residuals, flat: Residuals) -> npt.NDArray[np.bool_]:
    """Return where (N, N), zero frequency at N//2, the detector is at fault.

    Hot pixels stand out from their neighbours and from the prediction in most patterns. Dead pixels, gaps and
    beam stops see nothing where a flat object predicts light; an image that was fitted to them may predict
    none.

    Parameters
    ----------
    found, flat : Residuals
        Of the image and of a flat object.
    """
    counts, rate, flat_rate = (fft.fftshift(a) for a in (found.counts, found.rate, flat.rate))
    fitted, misfits = fft.fftshift(found.fitted), fft.fftshift(found.misfits)
    around = np.maximum(median_filter(counts, NEIGHBOURS), 1.0)
    hot = (misfits > MOSTLY * fitted) & (counts > OUTLIER * around) & (counts > rate)
    dark = counts < DEAD * flat_rate
    dead = dark & (flat_rate > CERTAIN)
    # Where less light is expected, what lies beside them is dark for the same reason.
    dead = binary_propagation(dead, np.ones((3, 3)), mask=dark & (flat_rate > LIKELY))
    bad = (hot | dead) & (fitted > 0)
    return np.asarray(bad if bad.sum() <= MOST_BAD * (fitted > 0).sum() else np.zeros_like(bad))


def stuck_pixels(
    counts: npt.NDArray[np.floating[Any]], valid: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Return where (N, N) a pixel shows about the same number in all patterns, as no pixel that counts does.

    Photons scatter at least with the variance of their mean m, whatever the patterns: (n - 1) s²/m is not
    less than χ² of n - 1 degrees of freedom (R. A. Fisher's index of dispersion). Saturated pixels are not
    meant: those at the largest value of all, if others reach it in a part of the patterns only.

    Parameters
    ----------
    counts : (n, N, N) float
    valid : (N, N) bool
        Pixels that are taken for valid.
    """
    nothing = np.zeros(valid.shape, bool)
    if len(counts) < FEWEST_FRAMES or not valid.any():
        return nothing
    mean, scatter = counts.mean(axis=0, dtype=np.float64), counts.var(axis=0, dtype=np.float64)
    bright = valid & (mean >= BRIGHT)
    chance = np.ones(valid.shape)
    chance[bright] = gammainc((len(counts) - 1) / 2, len(counts) * scatter[bright] / (2 * mean[bright]))
    stuck = chance < IMPOSSIBLE
    largest, least = counts.max(axis=0), counts.min(axis=0)
    top = float(largest[valid].max())
    at_top = valid & (largest >= top * (1 - 1e-6))
    if (at_top & (least < top - WAVERING * np.sqrt(top))).any():
        stuck &= ~at_top
    others = valid & ~stuck & ~at_top
    photons = (
        np.count_nonzero(others & (chance < UNLIKELY)) <= QUIET * np.count_nonzero(others & bright)
        and scatter[others].sum() >= AS_PHOTONS * mean[others].sum()
        and stuck.sum() <= MOST_BAD * valid.sum()
    )
    return np.asarray(stuck if photons else nothing)
