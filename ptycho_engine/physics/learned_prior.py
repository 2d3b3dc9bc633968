"""The learned prior of objects as a step of a solver, beside total variation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from .descent import TotalVariation

__all__ = ['LearnedPrior', 'detail_gain']

LEAST_NOISE, MOST_NOISE = 0.005, 1.0
"""It has been trained on noise of this range, relative to an amplitude of 1."""

VARIATION_FACTOR = 2.0
"""How much stronger total variation is where it is half of the prior."""

DETAIL_PX = 4.0
"""Standard deviation in pixels of a Gaussian: what varies over more is left to the patterns and to total
variation. Patterns hold the slow phase weakly, so that the denoiser would carry it off."""


def detail_gain(shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Return what is taken of a change of the object, (H, W) over FFT frequencies: its details."""
    squared = np.fft.fftfreq(shape[0])[:, None] ** 2 + np.fft.fftfreq(shape[1])[None, :] ** 2
    return np.asarray(1 - np.exp(-2 * (np.pi * DETAIL_PX) ** 2 * squared))


class LearnedPrior:
    """The mean of two steps: that of total variation, and that of a denoiser of objects.

    A denoiser may stand for the proximal step of a prior (Venkatakrishnan, Bouman & Wohlberg, IEEE GlobalSIP
    2013); the mean of two such steps stands for the proximal average of both priors.

    Parameters
    ----------
    weight : (H, W) float
        Illumination of the whole scan, in counts.
    smoothing : float
        Strength of total variation alone (:class:`~.descent.TotalVariation`).
    denoise : callable
        Returns the noise (H, W) of an object (H, W), given its standard deviation (H, W).
    details : callable
        Returns the details (H, W) of a change (H, W) of the object (:func:`detail_gain`).
    strength : float
        Noise that the denoiser is told of, in units of the photon noise ``1 / sqrt curvature`` of a pixel.
    """

    def __init__(
        self,
        weight: Any,
        smoothing: float,
        denoise: Callable[[Any, Any], Any],
        details: Callable[[Any], Any],
        strength: float,
    ) -> None:
        self._variation = TotalVariation(weight, VARIATION_FACTOR * smoothing) if smoothing > 0 else None
        self._denoise = denoise
        self._details = details
        self._strength = strength

    def __call__(self, z: Any, curvature: Any) -> Any:
        """Return the object (H, W) for `z` (H, W) and the curvature (H, W) of the step that led there."""
        deviation = (self._strength / curvature**0.5).clip(min=LEAST_NOISE).clip(max=MOST_NOISE)
        denoised = z - self._details(self._denoise(z, deviation))
        return denoised if self._variation is None else 0.5 * (self._variation(z, curvature) + denoised)
