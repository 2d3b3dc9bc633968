"""Probes that are likely where the given one is wrong: another focus, a tilt, more modes (CAL-04, CAL-05)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ['MOST_MODES', 'defocused', 'shifted_on_detector', 'with_more_modes']

MOST_MODES = 3
"""Incoherent modes that are grown from fewer."""

NEW_POWER = 0.04
"""Part of the power that a new mode begins with."""

ComplexArray = npt.NDArray[np.complex64]


def defocused(probe: ComplexArray, phase: float) -> ComplexArray:
    """Return modes (P, N, N) propagated along the beam.

    `phase` in radians is what the propagation adds at the root mean square radius of the pupil.
    """
    spectrum = np.fft.fft2(probe)
    power = (np.abs(spectrum) ** 2).sum(axis=0)
    frequency = np.fft.fftfreq(probe.shape[-1])
    fy, fx = frequency[:, None], frequency
    centre_y, centre_x = ((power * f).sum() / power.sum() for f in (fy, fx))
    square = (fy - centre_y) ** 2 + (fx - centre_x) ** 2
    mean = float((power * square).sum() / power.sum())
    # A flat probe has no focus.
    square = square / mean if mean > 0 else np.zeros_like(square)
    return np.asarray(np.fft.ifft2(spectrum * np.exp(1j * phase * square)), dtype=probe.dtype)


def shifted_on_detector(probe: ComplexArray, shift: tuple[int, int]) -> ComplexArray:
    """Return modes (P, N, N) whose far field lies `shift` pixels [y, x] further: they are tilted."""
    spectrum = np.roll(np.fft.fft2(probe), shift, axis=(-2, -1))
    return np.asarray(np.fft.ifft2(spectrum), dtype=probe.dtype)


def with_more_modes(probe: ComplexArray) -> ComplexArray:
    """Return incoherent modes (3, N, N) of the same power: the given ones, and slopes of the first.

    A beam that moves a little, or whose source has some size, is so to first order.
    """
    frequency = np.fft.fftfreq(probe.shape[-1])
    spectrum = np.fft.fft2(probe[0].astype(np.complex128))
    modes = list(probe.astype(np.complex128))
    power = float((np.abs(probe) ** 2).sum())
    for slope in (frequency, frequency[:, None]):
        mode = np.fft.ifft2(2j * np.pi * slope * spectrum)
        for other in modes:
            mode = mode - other * (np.vdot(other, mode) / max(np.vdot(other, other).real, 1e-30))
        modes.append(mode * np.sqrt(NEW_POWER * power) / max(float(np.linalg.norm(mode)), 1e-30))
    stack = np.stack(modes[: max(MOST_MODES, len(probe))])
    return np.asarray(stack * np.sqrt(power / (np.abs(stack) ** 2).sum()), dtype=probe.dtype)
