"""Preconditioner for the low spatial frequencies of the phase, which diffraction patterns hold weakly."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .probe import mode_intensity

__all__ = ['LARGEST_GAIN', 'illumination_variance', 'phase_preconditioner']

LARGEST_GAIN = 15.0
"""Largest extra gain of the low-frequency phase; more makes no difference within some twenty iterations."""


def illumination_variance(probe: npt.NDArray[Any]) -> float:
    """Return the variance of the illumination of a probe (P, N, N) about its centre, in square pixels.

    The mean of rows and columns; at least 1.
    """
    illumination = mode_intensity(probe).astype(np.float64)
    pixel = np.arange(len(illumination))
    variance = 0.0
    for axis in (0, 1):
        profile = illumination.sum(axis=1 - axis) / illumination.sum()
        variance += float((profile * (pixel - (profile * pixel).sum()) ** 2).sum()) / 2
    return max(variance, 1.0)


def phase_preconditioner(variance: float, shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Return by how much more a step should move the low-frequency phase, (H, W) over FFT frequencies
    (REF-03).

    A pattern does not see the phase of its patch but only how it varies over the probe, so that the
    curvature of the likelihood for a phase of frequency f is about ``(2 pi f)^2 variance`` of that for fine
    detail, the variance being :func:`illumination_variance`. The gain is the reciprocal, less the 1 that a
    step moves anyhow, at most ``LARGEST_GAIN``.
    """
    squared = np.fft.fftfreq(shape[0])[:, None] ** 2 + np.fft.fftfreq(shape[1])[None, :] ** 2
    squared[0, 0] = np.inf
    return np.asarray(np.clip(1 / ((2 * np.pi) ** 2 * squared * variance) - 1, 0, LARGEST_GAIN))
