"""Pixels of a detector that no model of an experiment explains (CAL-03)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import fft
from scipy.ndimage import binary_propagation, median_filter

from .likelihood import Residuals

__all__ = ['unexplained_pixels']

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
