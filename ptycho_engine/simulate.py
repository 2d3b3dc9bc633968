"""Simulated scans: objects, probes, positions and counts, each from an explicit seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, zoom

from .data.raw_data import RawData
from .errors import ConfigError, DataValueError
from .physics.forward import cut_patches, predict_intensity
from .physics.geometry import place_patches
from .physics.probe import as_mode_stack, mode_intensity

__all__ = [
    'OBJECT_FAMILIES',
    'defocused_probe',
    'make_object',
    'raster_positions',
    'simulate_scan',
]

ComplexImage = npt.NDArray[np.complex64]
FloatImage = npt.NDArray[np.float64]


def _thickness_pair(rng: np.random.Generator, absorption: float, phase: float) -> tuple[float, float]:
    """Draw (-log amplitude, phase) of one material: both random, as materials differ in both."""
    return float(rng.uniform(0, absorption)), float(rng.uniform(-phase, phase))


def _dead_leaves(
    shape: tuple[int, int], rng: np.random.Generator, absorption: float, phase: float
) -> ComplexImage:
    """Overlapping discs and polygons of random size and material (a dead-leaves image)."""
    height, width = shape
    log_amplitude = np.zeros(shape)
    angle = np.zeros(shape)
    largest = 0.25 * min(shape)
    count = int(6 * height * width / largest**2) + 30
    # Large leaves first, so that small ones stay visible.
    radii = np.sort(largest * rng.uniform(0.05, 1.0, count) ** 2.0 + 2.5)[::-1]
    for radius in radii:
        cy, cx = rng.uniform(0, height), rng.uniform(0, width)
        top, bottom = max(int(cy - radius), 0), min(int(cy + radius) + 2, height)
        left, right = max(int(cx - radius), 0), min(int(cx + radius) + 2, width)
        y = np.arange(top, bottom)[:, None] - cy
        x = np.arange(left, right)[None, :] - cx
        if rng.random() < 0.5:
            inside = y**2 + x**2 <= radius**2
        else:
            sides = rng.integers(3, 7)
            turn = rng.uniform(0, 2 * np.pi)
            theta = np.arctan2(y, x) - turn
            sector = 2 * np.pi / sides
            edge = radius * np.cos(sector / 2)
            inside = np.hypot(y, x) * np.cos((theta % sector) - sector / 2) <= edge
        a, p = _thickness_pair(rng, absorption, phase)
        log_amplitude[top:bottom, left:right][inside] = a
        angle[top:bottom, left:right][inside] = p
    return _compose(log_amplitude, angle, blur=0.9)


def _lines(shape: tuple[int, int], rng: np.random.Generator, absorption: float, phase: float) -> ComplexImage:
    """Crossing straight lines of random width, blurred at several scales."""
    height, width = shape
    yy, xx = np.mgrid[:height, :width]
    sharp = np.zeros(shape)
    for _ in range(int(40 + 0.5 * (height + width))):
        theta = rng.uniform(0, np.pi)
        offset = rng.uniform(-0.7, 0.7) * np.hypot(height, width)
        distance = (xx - width / 2) * np.cos(theta) + (yy - height / 2) * np.sin(theta) - offset
        sharp += rng.uniform(0.2, 1) * (np.abs(distance) < rng.uniform(0.7, 3))
    texture = gaussian_filter(sharp, 1) + 2 * gaussian_filter(sharp, 5)
    texture /= texture.max()
    ratio = rng.uniform(-1, 1)
    return _compose(absorption * texture, 2 * phase * ratio * (texture - texture.mean()), blur=0)


def _siemens(
    shape: tuple[int, int], rng: np.random.Generator, absorption: float, phase: float
) -> ComplexImage:
    """A spoke target with rings, at a random centre and angle."""
    height, width = shape
    yy, xx = np.mgrid[:height, :width]
    cy, cx = height * rng.uniform(0.35, 0.65), width * rng.uniform(0.35, 0.65)
    radius = np.hypot(yy - cy, xx - cx)
    theta = np.arctan2(yy - cy, xx - cx) + rng.uniform(0, np.pi)
    spokes = np.sin(theta * int(rng.integers(12, 28))) > 0
    period = min(shape) / rng.uniform(5, 9)
    gap = (radius % period) < 0.12 * period
    metal = spokes & ~gap & (radius > 4) & (radius < 0.48 * min(shape))
    sign = 1 if rng.random() < 0.5 else -1
    return _compose(absorption * metal, sign * phase * metal, blur=0.9)


def _smooth(
    shape: tuple[int, int], rng: np.random.Generator, absorption: float, phase: float
) -> ComplexImage:
    """Random fields with a power-law spectrum, as of cells or polymers."""

    def random_field(low: float, high: float) -> FloatImage:
        frequency = np.hypot(*np.meshgrid(*(np.fft.fftfreq(s) for s in shape), indexing='ij'))
        spectrum = 1 / np.maximum(frequency, 1 / max(shape)) ** rng.uniform(1.4, 2.4)
        noise = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
        field = np.real(np.fft.ifft2(noise * spectrum))
        field -= field.min()
        return np.asarray(low + (high - low) * field / field.max())

    return _compose(random_field(0, absorption), random_field(-phase, phase), blur=0)


def _compose(log_amplitude: FloatImage, angle: FloatImage, blur: float) -> ComplexImage:
    """Return ``exp(-log_amplitude + i angle)``, its edges softened as an optic would."""
    field = np.exp(-log_amplitude + 1j * angle)
    if blur > 0:
        field = gaussian_filter(field, blur)
    return np.asarray(field, dtype=np.complex64)


_FAMILIES: dict[str, Callable[[tuple[int, int], np.random.Generator, float, float], ComplexImage]] = {
    'dead-leaves': _dead_leaves,
    'lines': _lines,
    'siemens': _siemens,
    'smooth': _smooth,
}
OBJECT_FAMILIES = tuple(_FAMILIES)
"""Names of the object families."""


def make_object(
    family: str,
    shape: tuple[int, int],
    rng: np.random.Generator,
    *,
    absorption: float = 0.4,
    phase: float = 0.8,
) -> ComplexImage:
    """Draw an object (H, W) complex64.

    Parameters
    ----------
    family : str
        One of ``OBJECT_FAMILIES``.
    shape : (H, W)
        Size in pixels.
    rng : numpy.random.Generator
        Source of all randomness.
    absorption : float
        Largest -log amplitude.
    phase : float
        Largest absolute phase in radians.

    Raises
    ------
    ConfigError
        If the family is unknown.
    """
    try:
        draw = _FAMILIES[family]
    except KeyError:
        raise ConfigError(
            f'There is no object family {family!r}; choose one of {", ".join(OBJECT_FAMILIES)}.'
        ) from None
    return draw(shape, rng, absorption, phase)


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
    equivalent width (square root of ``(sum I)^2 / sum I^2``) is about `width_px`.

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
    frequency = np.fft.fftshift(np.fft.fftfreq(size))
    fy, fx = np.meshgrid(frequency, frequency, indexing='ij')
    coarse = zoom(rng.standard_normal((5, 5)), size / 5, order=3)
    astigmatism, coma = rng.normal(0, 4 * roughness, 2)

    def at(pupil_radius: float) -> npt.NDArray[np.complex128]:
        r = np.hypot(fy, fx) / pupil_radius
        theta = np.arctan2(fy, fx)
        edge = 1 / (1 + np.exp((r - 1) / 0.04)) / (1 + np.exp((central_stop - r) / 0.04))
        aberration = (
            defocus_rad * r**2
            + astigmatism * r**2 * np.cos(2 * theta)
            + coma * (3 * r**3 - 2 * r) * np.cos(theta)
        )
        pupil = edge * (1 + roughness * coarse) * np.exp(1j * np.where(r < 1.3, aberration, 0))
        field = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(pupil)))
        # The optical axis is the middle of the patch, (size - 1) / 2, half a pixel off the FFT's origin.
        ramp = np.exp(2j * np.pi * 0.5 * (np.fft.fftfreq(size)))
        return np.asarray(np.fft.ifft2(np.fft.fft2(field) * ramp[:, None] * ramp[None, :]))

    def equivalent_width(field: npt.NDArray[np.complex128]) -> float:
        intensity = np.abs(field) ** 2
        return float(np.sqrt(intensity.sum() ** 2 / (intensity**2).sum()))

    # The width falls as the pupil opens; bisect for the radius that gives the wanted one.
    low, high = 0.02, 0.48
    for _ in range(30):
        middle = (low + high) / 2
        if equivalent_width(at(middle)) > width_px:
            low = middle
        else:
            high = middle
    probe = at((low + high) / 2)
    probe /= np.sqrt((np.abs(probe) ** 2).sum())
    return np.asarray(probe[np.newaxis], dtype=np.complex64)


def raster_positions(
    rows: int, columns: int, step: float, rng: np.random.Generator, *, jitter: float = 0.25
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return x and y in pixels, around 0, of a raster with uniform jitter of ``± jitter · step``."""
    y, x = np.meshgrid(
        (np.arange(rows) - (rows - 1) / 2) * step,
        (np.arange(columns) - (columns - 1) / 2) * step,
        indexing='ij',
    )
    wobble = rng.uniform(-jitter * step, jitter * step, (2, y.size))
    return x.ravel() + wobble[0], y.ravel() + wobble[1]


def simulate_scan(
    obj: npt.ArrayLike,
    probe: npt.ArrayLike,
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    photons: float,
    rng: np.random.Generator,
    bad_pixels: npt.NDArray[np.bool_] | None = None,
) -> RawData:
    """Simulate a scan with the exact forward model and Poisson counts.

    Parameters
    ----------
    obj : (H, W) complex
        The object.
    probe : (N, N) or (P, N, N) complex
        Incoherent modes; scaled here so that the mean pattern holds `photons` counts.
    x, y : (n,) float
        Patch centres in object pixels.
    photons : float
        Mean counts per pattern.
    rng : numpy.random.Generator
        Draws the counts.
    bad_pixels : (N, N) bool, optional
        Pixels that read zero and are marked bad.

    Returns
    -------
    RawData
        Amplitudes are square roots of counts, the probe is in the same units and `objectGuess` is the truth.

    Raises
    ------
    DataValueError
        If a patch reaches over the edge of the object or `photons` is not positive.
    """
    if not photons > 0:
        raise DataValueError(f'photons is {photons}; expected a positive mean count per pattern.')
    truth = np.asarray(obj, dtype=np.complex64)
    modes = as_mode_stack(probe).astype(np.complex128)
    size = modes.shape[-1]
    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    placement = place_patches(xs, ys, size)
    try:
        patches = cut_patches(truth, placement, size)
    except IndexError:
        raise DataValueError(
            f'Some of the {len(xs)} positions put the {size}-pixel probe over the edge of the object of '
            f'{truth.shape[1]}×{truth.shape[0]} pixels; move them inside or enlarge the object.'
        ) from None
    blocks = [slice(i, i + 64) for i in range(0, len(xs), 64)]
    intensity = np.concatenate([predict_intensity(patches[b], modes, placement.remainder[b]) for b in blocks])
    factor = photons / intensity.sum(axis=(1, 2)).mean()
    counts = rng.poisson(intensity * factor).astype(np.float64)
    if bad_pixels is not None:
        counts[:, bad_pixels] = 0
    return RawData(
        diffraction=np.sqrt(counts).astype(np.float32),
        probeGuess=(modes * np.sqrt(factor)).astype(np.complex64),
        xcoords=xs,
        ycoords=ys,
        objectGuess=truth,
        bad_pixels=bad_pixels,
        metadata={'simulated': True, 'photons': float(photons)},
        source='simulation',
    )


def without_truth(raw: RawData) -> RawData:
    """Return the scan with a flat object in place of the truth."""
    if raw.objectGuess is None:
        return raw
    return replace(raw, objectGuess=np.ones_like(raw.objectGuess), Y=None)


def illuminated_width(probe: npt.NDArray[np.complex64]) -> float:
    """Return the equivalent width in pixels of a probe's intensity."""
    intensity = mode_intensity(as_mode_stack(probe)).astype(np.float64)
    return float(np.sqrt(intensity.sum() ** 2 / (intensity**2).sum()))
