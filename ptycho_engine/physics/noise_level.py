"""How noisy patterns are that are no counts, told by what no object behind the probe can do."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft

__all__ = ['presumed_count']

EMPTY = 0.1
"""Part of the Fourier coefficients of a pattern that hold next to nothing but noise."""


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
