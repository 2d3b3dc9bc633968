"""The learned prior of objects as a step of a solver, beside total variation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from .descent import TotalVariation
from .likelihood import ScanPhysics

__all__ = ['LearnedPrior', 'detail_filters', 'high_pass_gain', 'low_pass_gain', 'noise_told']

LEAST_NOISE, MOST_NOISE = 0.005, 1.0
"""It has been trained on noise of this range, relative to an amplitude of 1."""

TINY = 1e-12
"""Keeps phases of nothing from a division by zero."""

VARIATION_FACTOR = 2.0
"""How much stronger total variation is where it is half of the prior."""

DETAIL_PX = 4.0
"""Standard deviation in pixels of a Gaussian: a change of the object that varies over more is left to the
patterns and to total variation."""

LOW_PASS_PX = 1.5
"""Standard deviation in pixels of a Gaussian: phase that varies over more is left to the patterns alone. They
hold it so weakly that a little of the error of a prior in each step adds up."""

DARK = 0.05
"""Light, relative to the brightest pixel, below which the phase is not averaged."""


def low_pass_gain(shape: tuple[int, int], width: float = LOW_PASS_PX) -> npt.NDArray[np.float64]:
    """Return the transfer of a Gaussian of a width in pixels, (H, W) over FFT frequencies."""
    squared = np.fft.fftfreq(shape[0])[:, None] ** 2 + np.fft.fftfreq(shape[1])[None, :] ** 2
    return np.asarray(np.exp(-2 * (np.pi * width) ** 2 * squared))


def high_pass_gain(shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Return what is taken of a change of the object, (H, W) over FFT frequencies: its details."""
    return 1 - low_pass_gain(shape, DETAIL_PX)


def detail_filters(
    physics: ScanPhysics, shape: tuple[int, int]
) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Return the filters of :class:`LearnedPrior`, high and low pass, for objects (H, W) on a device."""

    def through(gain: npt.NDArray[np.float64]) -> Callable[[Any], Any]:
        on_device = physics.to_device(gain.astype(np.complex64))
        return lambda values: (
            physics.filtered(values.real, on_device) + 1j * physics.filtered(values.imag, on_device)
        )

    return through(high_pass_gain(shape)), through(low_pass_gain(shape))


def noise_told(strength: float, curvature: Any) -> Any:
    """Return the noise (H, W) that the denoiser is told of, for the curvature (H, W) of a step."""
    return (strength / curvature**0.5).clip(min=LEAST_NOISE).clip(max=MOST_NOISE)


class LearnedPrior:
    """The mean of a total variation step and a denoiser step, neither of which changes low-frequency phase.

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
    high_pass, low_pass : callable
        Return values (H, W) filtered by :func:`high_pass_gain` and by :func:`low_pass_gain`.
    strength : float
        Noise that the denoiser is told of, in units of the photon noise ``1 / sqrt curvature`` of a pixel.
    phase_update : bool
        Whether total variation may change the low-frequency phase; the denoiser never does.
    """

    def __init__(
        self,
        weight: Any,
        smoothing: float,
        denoise: Callable[[Any, Any], Any],
        high_pass: Callable[[Any], Any],
        low_pass: Callable[[Any], Any],
        strength: float,
        *,
        phase_update: bool,
    ) -> None:
        self._variation = TotalVariation(weight, VARIATION_FACTOR * smoothing) if smoothing > 0 else None
        self._light = weight / weight.max()
        self._denoise = denoise
        self._high_pass = high_pass
        self._low_pass = low_pass
        self._strength = strength
        self._phase_update = phase_update

    def __call__(self, z: Any, curvature: Any) -> Any:
        """Return the object (H, W) for `z` (H, W) and the curvature (H, W) of the step that led there."""
        deviation = noise_told(self._strength, curvature)
        denoised = z - self._high_pass(self._denoise(z, deviation))
        if self._phase_update:
            denoised = self._with_phase_of(denoised, z)
        if self._variation is not None:
            denoised = 0.5 * (self._variation(z, curvature) + denoised)
        return denoised if self._phase_update else self._with_phase_of(denoised, z)

    def _with_phase_of(self, obj: Any, z: Any) -> Any:
        """Return an object (H, W) with the low-frequency phase of another, where there is light."""
        turn = obj * z.conj()
        turn = self._low_pass(self._light * turn / (abs(turn) + TINY) + DARK)
        return obj * (turn.conj() / (abs(turn) + TINY))
