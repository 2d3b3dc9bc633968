"""A first probe from the mean pattern, where nobody has measured one."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ..errors import DataValueError

__all__ = ['estimate_probe', 'likely_curvatures', 'pupil_curvature']

LEAST_PHASE, TRIED = 0.4, 24
"""Smallest phase in radians at the root mean square radius of the pupil that is likely, and how many of
either sign."""


def pupil_curvature(defocus_m: float, wavelength_m: float, pixel_size_m: float) -> float:
    """Return the phase in radians, at the middle of the pattern's edge, that a distance from focus gives.

    ``pi lambda z q²`` at ``q = 1 / (2 dx)``: Fresnel propagation by `defocus_m` (Goodman, *Introduction to
    Fourier Optics*, section 4.2), for a probe sampled on pixels of `pixel_size_m`.
    """
    return float(np.pi * wavelength_m * defocus_m / (4 * pixel_size_m**2))


def estimate_probe(mean_counts: npt.ArrayLike, curvature_rad: float = 0.0) -> npt.NDArray[np.complex64]:
    """Estimate a probe (1, N, N) from the mean pattern of a scan.

    Averaged over many positions of a weak object the pattern is that of the probe alone. Its square root is
    the modulus of the pupil; the phase is taken as that of a spherical wave, and its curvature says how far
    the sample is out of focus, which no pattern tells by itself. The middle of the probe is at (N - 1)/2.

    Parameters
    ----------
    mean_counts : (N, N) float
        Mean counts, zero frequency at N//2, bad pixels filled.
    curvature_rad : float
        Phase at the middle of the pattern's edge, N/2 pixels from its middle (:func:`pupil_curvature`).

    Returns
    -------
    (1, N, N) complex64
        In the square root of counts: a flat object of amplitude 1 predicts the mean pattern.

    Raises
    ------
    DataValueError
        If the pattern is not square, negative or dark.
    """
    counts = np.asarray(mean_counts, dtype=np.float64)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or not np.any(counts > 0) or counts.min() < 0:
        raise DataValueError(
            f'A probe cannot be estimated from a mean pattern of shape {counts.shape} with counts from '
            f'{counts.min(initial=0):.3g} to {counts.max(initial=0):.3g}; expected (N, N), not negative, '
            'not dark.'
        )
    size = len(counts)
    place = np.arange(size) - size // 2
    square = (place[:, None] ** 2 + place**2) / (size / 2) ** 2
    # Zero frequency has the middle of the probe at pixel 0; move it to (N - 1)/2.
    ramp = np.exp(-2j * np.pi * place / size * (size - 1) / 2)
    pupil = np.sqrt(counts) * np.exp(1j * curvature_rad * square) * ramp[:, None] * ramp
    probe = np.fft.ifft2(np.fft.ifftshift(pupil), norm='ortho')
    return np.asarray(probe[np.newaxis], dtype=np.complex64)


def likely_curvatures(mean_counts: npt.NDArray[np.float64]) -> tuple[float, ...]:
    """Return phases in radians at the edge of a mean pattern (N, N) to try as those of its probe.

    0, and evenly spread logarithms of either sign, up to that with which the beam fills the field of view.
    """
    half = len(mean_counts) / 2
    place = np.arange(len(mean_counts)) - len(mean_counts) // 2
    square = place[:, None] ** 2 + place**2
    radius = math.sqrt(max(float((mean_counts * square).sum() / mean_counts.sum()), 1.0))
    # A spherical phase c (r / half)² moves what is at r by 2 c r / half² · N / 2π pixels: N/2 at 1.5 radii.
    most = math.pi * half**2 / (3 * radius)
    least = min(LEAST_PHASE * (half / radius) ** 2, most / 2)
    steps = np.geomspace(least, most, TRIED)
    return (0.0, *(float(sign * value) for value in steps for sign in (1, -1)))
