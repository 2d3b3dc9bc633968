"""Simulated probes: pupils brought to a place near their focus, and partly coherent ones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import zoom

from ..errors import DataValueError
from ..physics.probe import as_mode_stack, mode_intensity, relative_intensity

__all__ = [
    'defocused_probe',
    'illuminated_width',
    'vary_probe',
    'with_incoherent_modes',
    'zone_plate_probe',
]

ComplexImage = npt.NDArray[np.complex64]
Complex128 = npt.NDArray[np.complex128]
FloatImage = npt.NDArray[np.float64]

EDGE = 0.04
"""Softness of the edges of a pupil, relative to its radius."""


def defocused_probe(
    size: int,
    rng: np.random.Generator,
    *,
    width_px: float = 19.0,
    defocus_rad: float = 9.0,
    central_stop: float = 0.35,
    roughness: float = 0.15,
) -> ComplexImage:
    """Return a probe (1, size, size) as a zone plate gives it a little out of focus.

    An annular pupil with weak aberrations and an uneven illumination, defocused so that the intensity's
    equivalent width (square root of ``(sum I)^2 / sum I^2``) is about `width_px`. Its power is 1.

    Parameters
    ----------
    size : int
        Side in pixels.
    rng : numpy.random.Generator
        Draws aberrations and illumination.
    width_px : float
        Wanted equivalent width in pixels.
    defocus_rad : float
        Defocus phase at the edge of the pupil, in radians.
    central_stop : float
        Radius of the central stop relative to the pupil's.
    roughness : float
        Scale of the other aberrations, in radians, and of the unevenness.
    """
    fy, fx = _frequencies(size)
    coarse = zoom(rng.standard_normal((5, 5)), size / 5, order=3)
    astigmatism, coma = rng.normal(0, 4 * roughness, 2)

    def at(pupil_radius: float) -> Complex128:
        r = np.hypot(fy, fx) / pupil_radius
        theta = np.arctan2(fy, fx)
        aberration = (
            defocus_rad * r**2
            + astigmatism * r**2 * np.cos(2 * theta)
            + coma * (3 * r**3 - 2 * r) * np.cos(theta)
        )
        pupil = _annulus(r, central_stop) * (1 + roughness * coarse)
        return _focus(pupil * np.exp(1j * np.where(r < 1.3, aberration, 0)))

    # The width falls as the pupil opens; bisect for the radius that gives the wanted one.
    low, high = 0.02, 0.48
    for _ in range(30):
        middle = (low + high) / 2
        if illuminated_width(at(middle)) > width_px:
            low = middle
        else:
            high = middle
    return _of_unit_power(at((low + high) / 2))


def zone_plate_probe(
    size: int,
    pixel_size_m: float,
    wavelength_m: float,
    *,
    zone_width_m: float,
    defocus_m: float,
    central_stop: float = 0.35,
) -> ComplexImage:
    """Return the first order of a Fresnel zone plate, `defocus_m` behind its focus: (1, size, size), power 1.

    The numerical aperture is ``wavelength / (2 zone_width)``, so that the pupil ends at the spatial frequency
    ``1 / (2 zone_width)``; free space adds ``-pi wavelength defocus f²`` to its phase. (Attwood, *Soft X-Rays
    and Extreme Ultraviolet Radiation*, 1999, chapter 9; Goodman, *Introduction to Fourier Optics*, section
    4.2.) An order-sorting aperture is taken to hold back all other orders.

    Parameters
    ----------
    size : int
        Side in pixels.
    pixel_size_m : float
        Side of an object pixel.
    wavelength_m : float
        Wavelength.
    zone_width_m : float
        Width of the outermost zone: about the resolution at the focus.
    defocus_m : float
        Distance of the sample behind the focus; negative before it.
    central_stop : float
        Diameter of the central stop relative to the zone plate's, from 0 to below 1.

    Raises
    ------
    DataValueError
        If a length is not positive, the focus is finer than the pixels, or the beam wider than the probe
        array.
    """
    for name, value in (
        ('pixel_size_m', pixel_size_m),
        ('wavelength_m', wavelength_m),
        ('zone_width_m', zone_width_m),
    ):
        if not value > 0:
            raise DataValueError(f'{name} is {value}; expected a positive length in metres.')
    if not 0 <= central_stop < 1:
        raise DataValueError(f'central_stop is {central_stop}; expected a number from 0 to below 1.')
    if zone_width_m < 1.1 * pixel_size_m:
        raise DataValueError(
            f'An outermost zone of {zone_width_m:.3g} m focuses finer than pixels of {pixel_size_m:.3g} m '
            'can show; widen the zone or make the pixels smaller.'
        )
    width_m = abs(defocus_m) * wavelength_m / zone_width_m
    if width_m > 0.9 * size * pixel_size_m:
        raise DataValueError(
            f'At a defocus of {defocus_m:.3g} m the beam is {width_m:.3g} m wide but the probe array '
            f'{size * pixel_size_m:.3g} m; take less defocus or more pixels.'
        )
    frequency = np.hypot(*_frequencies(size)) / pixel_size_m
    pupil = _annulus(frequency * 2 * zone_width_m, central_stop)
    return _of_unit_power(_focus(pupil * np.exp(-1j * np.pi * wavelength_m * defocus_m * frequency**2)))


def with_incoherent_modes(probe: npt.ArrayLike, count: int, decay: float = 0.25) -> ComplexImage:
    """Return a partly coherent probe: `count` orthogonal modes (count, N, N) of the power of the first.

    The main mode times Hermite polynomials of rising order across the beam, made orthogonal to one another;
    each next mode has `decay` times the power of the one before. (Gaussian Schell-model beams have such modes
    with such powers: Starikov & Wolf, J. Opt. Soc. Am. 72, 923, 1982.)

    Raises
    ------
    DataValueError
        If `count` is below 1, or `decay` not above 0 and up to 1.
    """
    if count < 1:
        raise DataValueError(f'{count} probe modes were asked for; expected at least 1.')
    if not 0 < decay <= 1:
        raise DataValueError(f'The decay of the mode powers is {decay}; expected above 0 and up to 1.')
    main = as_mode_stack(probe)[0].astype(np.complex128)
    intensity = np.abs(main) ** 2
    across = [_standardised(np.arange(main.shape[-1]), intensity.sum(axis=axis)) for axis in (1, 0)]
    orders = sorted(
        ((a, b) for a in range(count) for b in range(count) if a + b < count), key=lambda o: (sum(o), o)
    )
    shapes = [
        main
        * np.polynomial.hermite_e.hermeval(across[0], _unit(a))[:, None]
        * np.polynomial.hermite_e.hermeval(across[1], _unit(b))[None, :]
        for a, b in orders[:count]
    ]
    basis, _ = np.linalg.qr(np.stack([shape.ravel() / np.linalg.norm(shape) for shape in shapes], axis=1))
    power = decay ** np.arange(count, dtype=np.float64)
    modes = (basis * np.sqrt(intensity.sum() * power / power.sum())).T.reshape(count, *main.shape)
    # The decomposition leaves the sign of each mode open; the main one keeps its own.
    modes *= np.exp(1j * np.angle(np.vdot(modes[0], main)))
    return np.asarray(modes, dtype=np.complex64)


def vary_probe(probe: npt.ArrayLike, rng: np.random.Generator, strength: float) -> ComplexImage:
    """Return modes (P, N, N) as other optics of the kind would give them.

    All modes get the same aberrations and another width: standard deviations are `strength` times 1 rad of
    defocus, 0.5 rad of astigmatism and coma at the edge of the pupil (where its power falls to 10 % of that
    inside), and 10 % of the width. Light that leaves the frame is lost.

    Parameters
    ----------
    probe : (N, N) or (P, N, N) complex
        The probe.
    rng : numpy.random.Generator
        Draws the change.
    strength : float
        How far the probe may go from the given one.
    """
    modes = as_mode_stack(probe).astype(np.complex128)
    size = modes.shape[-1]
    pupil = np.fft.fftshift(np.fft.fft2(modes), axes=(-2, -1))
    fy, fx = _frequencies(size)
    power = mode_intensity(pupil)
    middle = [float((f * power).sum() / power.sum()) for f in (fy, fx)]
    distance = np.hypot(fy - middle[0], fx - middle[1])
    order = np.argsort(distance.ravel())
    inside = np.searchsorted(np.cumsum(power.ravel()[order]), 0.9 * power.sum())
    r = distance / distance.ravel()[order][inside]
    theta = np.arctan2(fy - middle[0], fx - middle[1])
    turn = rng.uniform(0, 2 * np.pi, 2)
    defocus, astigmatism, coma = strength * rng.standard_normal(3) * (1.0, 0.5, 0.5)
    aberration = (
        defocus * r**2
        + astigmatism * r**2 * np.cos(2 * (theta - turn[0]))
        + coma * (3 * r**3 - 2 * r) * np.cos(theta - turn[1])
    )
    pupil = pupil * np.exp(1j * np.where(r < 1.5, aberration, 0))
    zoom_by = np.exp(0.1 * strength * rng.standard_normal())
    # The band-limited field at the pixels of a narrower or wider frame; dark where there is no pixel of it.
    index = (np.arange(size) - (size - 1) / 2) / zoom_by + (size - 1) / 2
    wave = np.exp(2j * np.pi * np.outer(index, np.fft.fftshift(np.fft.fftfreq(size)))) / size
    wave[(index < 0) | (index > size - 1)] = 0
    return np.asarray(wave @ pupil @ wave.T, dtype=np.complex64)


def illuminated_width(probe: npt.ArrayLike) -> float:
    """Return the equivalent width in pixels of a probe's intensity, ``sqrt((sum I)² / sum I²)``."""
    array = np.asarray(probe)
    intensity = relative_intensity(array if array.ndim == 3 else array[np.newaxis])
    return float(np.sqrt(intensity.sum() ** 2 / (intensity**2).sum()))


def _frequencies(size: int) -> tuple[FloatImage, FloatImage]:
    """Return frequencies (fy, fx) in cycles per pixel, zero at index size // 2."""
    frequency = np.fft.fftshift(np.fft.fftfreq(size))
    fy, fx = np.meshgrid(frequency, frequency, indexing='ij')
    return fy, fx


def _annulus(r: FloatImage, central_stop: float) -> FloatImage:
    """Return a pupil with soft edges at radius 1 and at the central stop."""
    disc = 1 / (1 + np.exp(np.minimum((r - 1) / EDGE, 700)))
    stop = 1 / (1 + np.exp((central_stop - r) / EDGE)) if central_stop > 0 else 1.0
    return np.asarray(disc * stop)


def _focus(pupil: Complex128) -> Complex128:
    """Return the field of a pupil, its axis in the middle of the patch."""
    field = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(pupil)))
    # The middle of the patch is at (size - 1) / 2, half a pixel off the FFT's origin.
    ramp = np.exp(2j * np.pi * 0.5 * np.fft.fftfreq(len(pupil)))
    return np.asarray(np.fft.ifft2(np.fft.fft2(field) * ramp[:, None] * ramp[None, :]))


def _of_unit_power(field: Complex128) -> ComplexImage:
    return np.asarray(field[np.newaxis] / np.linalg.norm(field), dtype=np.complex64)


def _standardised(index: npt.NDArray[np.int64], weight: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return coordinates about the mean in units of the standard deviation."""
    mean = np.average(index, weights=weight)
    return np.asarray((index - mean) / np.sqrt(np.average((index - mean) ** 2, weights=weight)))


def _unit(order: int) -> list[float]:
    """Return the coefficients that pick one polynomial."""
    return [0.0] * order + [1.0]
