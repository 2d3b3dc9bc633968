"""A solver of a whole scan in float64, written from REF-01 to REF-03, SOLVE-01 and SOLVE-03 alone.

It shares no code with the engine. What it takes are numbers: patterns, probe, positions, and which pixels are
fitted. One pattern is looked at after another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tests.reference.optics import DARK, from_detector, light, moved, to_detector

Prior = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Measured:
    """The patterns of a scan; arrays on the detector have zero frequency at N//2."""

    counts: np.ndarray
    """(n, N, N)."""
    probe: np.ndarray
    """(P, N, N) complex."""
    corner: np.ndarray
    """(n, 2) [row, column] of each patch on the canvas."""
    subpixel_shift: np.ndarray
    """(n, 2) by what the probe is moved inside each patch."""
    fitted: np.ndarray
    """(n, N, N) bool: neither bad nor held out."""
    shape: tuple[int, int]
    """Of the canvas."""

    def gradient(self, obj: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the direction (H, W) that the likelihood descends along, and the illumination W (REF-01)."""
        size = self.probe.shape[-1]
        direction, illumination = np.zeros(self.shape, complex), np.zeros(self.shape)
        for number, (row, column) in enumerate(self.corner):
            window = np.s_[row : row + size, column : column + size]
            probe = moved(self.probe, *self.subpixel_shift[number])
            field = to_detector(probe * obj[window])
            ratio = self.counts[number] / (light(field) + DARK)
            factor = (1 - np.minimum(ratio, 2 * np.sqrt(ratio))) / 2
            factor[~self.fitted[number]] = 0
            direction[window] += (np.conj(probe) * from_detector(factor * field)).sum(axis=0)
            illumination[window] += light(probe)
        return direction, illumination


def low_frequency_gain(probe: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return by how much more a step moves the phase of each frequency of the FFT (H, W) (REF-03)."""
    illumination = light(probe)
    index = np.arange(len(illumination))
    variance = 0.0
    for share in (illumination.sum(axis=0), illumination.sum(axis=1)):
        share = share / share.sum()
        variance += (share * (index - (share * index).sum()) ** 2).sum() / 2
    gain = np.zeros(shape)
    for row in range(shape[0]):
        for column in range(shape[1]):
            # Frequencies above one half are negative ones.
            f = [k / n - round(k / n) for k, n in zip((row, column), shape, strict=True)]
            squared = (2 * np.pi) ** 2 * (f[0] ** 2 + f[1] ** 2) * variance
            gain[row, column] = min(max(1 / squared - 1, 0), 15) if squared else 0
    return gain


def filtered(values: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """Return an image (H, W) whose Fourier transform was multiplied by a gain (H, W)."""
    return np.fft.ifft2(np.fft.fft2(values) * gain)


def gaussian(shape: tuple[int, int], width: float) -> np.ndarray:
    """Return the transform (H, W) of a Gaussian of that standard deviation in pixels."""
    rows, columns = (np.fft.fftfreq(n) for n in shape)
    return np.exp(-2 * np.pi**2 * width**2 * (rows[:, None] ** 2 + columns**2))


class Variation:
    """The proximal step of ``c Σ √W |∇O|``: four rounds of dual ascent, kept from step to step (REF-02)."""

    def __init__(self, illumination: np.ndarray, strength: float) -> None:
        self._limit = strength * np.sqrt(illumination)
        self._dual = np.zeros((2, *illumination.shape), complex)

    def __call__(self, obj: np.ndarray, curvature: np.ndarray) -> np.ndarray:
        """Return the object (H, W) for that after the step of the likelihood."""
        for _ in range(4):
            slope = self._slope(obj - self._back() / curvature)
            self._dual = self._dual + curvature / 8 * slope
            length = np.sqrt((np.abs(self._dual) ** 2).sum(axis=0))
            self._dual = self._dual * np.where(
                length > self._limit, self._limit / np.maximum(length, 1e-30), 1
            )
        return obj - self._back() / curvature

    @staticmethod
    def _slope(obj: np.ndarray) -> np.ndarray:
        """Differences to the next row and column (2, H, W), zero at the end."""
        found = np.zeros((2, *obj.shape), complex)
        found[0, :-1] = obj[1:] - obj[:-1]
        found[1, :, :-1] = obj[:, 1:] - obj[:, :-1]
        return found

    def _back(self) -> np.ndarray:
        """Apply the adjoint of the slope to the dual."""
        found = np.zeros(self._dual.shape[1:], complex)
        rows, columns = self._dual
        found[:-1] -= rows[:-1]
        found[1:] += rows[:-1]
        found[:, :-1] -= columns[:, :-1]
        found[:, 1:] += columns[:, :-1]
        return found


class Learned:
    """The mean of total variation of twice the strength and of a denoiser, phase held (SOLVE-03).

    `denoise` returns the noise (H, W) of an object (H, W) whose standard deviation it is told; `turned` says
    whether total variation may change the low-frequency phase.
    """

    def __init__(
        self, illumination: np.ndarray, smoothing: float, denoise: Prior, strength: float, *, turned: bool
    ) -> None:
        self._variation = Variation(illumination, 2 * smoothing)
        self._light = illumination / illumination.max()
        self._denoise, self._strength, self._turned = denoise, strength, turned

    def __call__(self, obj: np.ndarray, curvature: np.ndarray) -> np.ndarray:
        """Return the object (H, W) for that after the step of the likelihood."""
        told = np.clip(self._strength / np.sqrt(curvature), 0.005, 1)
        details = 1 - gaussian(obj.shape, 4)
        denoised = obj - filtered(self._denoise(obj, told), details)
        if self._turned:
            denoised = self._held(denoised, obj)
        mean = (self._variation(obj, curvature) + denoised) / 2
        return mean if self._turned else self._held(mean, obj)

    def _held(self, obj: np.ndarray, before: np.ndarray) -> np.ndarray:
        """Give an object the mean phase, over a Gaussian of 1.5 px, of the one before; not in the dark."""
        turn = np.exp(1j * np.angle(obj * np.conj(before)))
        mean = filtered(self._light * turn + 0.05, gaussian(obj.shape, 1.5))
        return obj * np.exp(-1j * np.angle(mean))


def solved(
    measured: Measured, start: np.ndarray, prior: Prior, iterations: int, full_gain_falls_over: int | None
) -> np.ndarray:
    """Return the object (H, W) after some iterations over all patterns (REF-03).

    Parameters
    ----------
    full_gain_falls_over : int, optional
        Iterations in which the gain of the low-frequency phase falls to nothing (SOLVE-01); None for no gain.
    """
    gain = low_frequency_gain(measured.probe, measured.shape)
    current = ahead = start.astype(complex)
    momentum = 1.0
    for number in range(1, iterations + 1):
        direction, illumination = measured.gradient(ahead)
        largest = illumination.max()
        curvature = 0.95 * illumination + 0.05 * largest
        step = direction / curvature
        following = ahead - step
        if full_gain_falls_over is not None and number < full_gain_falls_over:
            # The phase of the step where there is light and an object.
            seen = illumination / (illumination + 0.05 * largest)
            phase = seen * np.imag(np.conj(ahead) * step) / (np.abs(ahead) ** 2 + 0.05)
            more = (1 - number / full_gain_falls_over) * filtered(phase, gain).real
            following = following * np.exp(-2j * np.arctan(more / 2))
        following = prior(following, curvature)
        if np.real(np.vdot(ahead - following, following - current)) > 0:
            momentum = 1.0
        grown = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = following + (momentum - 1) / grown * (following - current)
        current, momentum = following, grown
    return current
