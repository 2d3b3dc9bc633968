"""Photon noise: what it alone leaves of a deviance, and how strong it is in patterns that are no counts."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft
from scipy.special import gammaln, xlogy

from .forward import BACKGROUND

__all__ = ['noise_deviance', 'presumed_count']

FloatArray = npt.NDArray[np.floating[Any]]

FAINTEST, BRIGHTEST = 1e-6, 60.0
"""Counts per pixel between which the sum over all outcomes is tabulated."""

EMPTY = 0.1
"""Part of the Fourier coefficients of a pattern that hold next to nothing but noise."""


def noise_deviance(rate: FloatArray) -> FloatArray:
    """Return the expected Poisson deviance of pixels whose true rates (...) are known (REF-15).

    ``E 2 (k log(k / r) - (k - r))`` for k photons drawn at the true rate and r this rate with ``BACKGROUND``
    added, as the likelihood has it: ``1 + 1 / (6 r)`` for many photons (McCullagh & Nelder, *Generalized
    Linear Models*, 1989, section 2.3), less than 1 for few.
    """
    true = np.asarray(rate, dtype=np.float64)
    logarithm, values = _table()
    few = np.interp(np.log(np.clip(true, FAINTEST, BRIGHTEST)), logarithm, values)
    own = np.where(true < BRIGHTEST, few, 1 + 1 / (6 * np.maximum(true, 1)))
    return np.asarray(own + 2 * (xlogy(true, true / (true + BACKGROUND)) + BACKGROUND))


def presumed_count(intensity: npt.NDArray[np.floating[Any]]) -> float:
    """Return the intensity that one photon would have for noise as strong as in patterns (n, N, N).

    The Fourier transform of a pattern is the autocorrelation of the wave behind the object, which ends at
    twice the width of the probe, while noise goes on. Photon noise has there the power ``s * sum(I)``, where
    s is the intensity of a photon. Light that reaches so far counts as noise, so that s is rather too large
    than too small.
    """
    power = np.zeros(intensity.shape[1:])
    for pattern in intensity:
        power += np.square(np.abs(fft.fft2(pattern.astype(np.float64))))
    total = float(intensity.sum(dtype=np.float64))
    return float(np.quantile(power, EMPTY)) / total if total > 0 else 0.0


@cache
def _table() -> tuple[FloatArray, FloatArray]:
    """Return logarithms of rates, and the expected deviance without the background."""
    rate = np.geomspace(FAINTEST, BRIGHTEST, 400)
    # Beyond ten standard deviations above the largest rate nothing is left of the sum.
    k = np.arange(int(BRIGHTEST + 10 * np.sqrt(BRIGHTEST)))
    # As scipy.stats has it, which takes longer to import than most commands to run.
    probability = np.exp(xlogy(k, rate[:, None]) - gammaln(k + 1) - rate[:, None])
    return np.log(rate), 2 * (probability * xlogy(k, k / rate[:, None])).sum(axis=1)
