"""Simulated objects: one function for each family, all random from an explicit generator."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from ..config.choices import OBJECT_FAMILIES
from ..errors import ConfigError

__all__ = ['make_object']

ComplexImage = npt.NDArray[np.complex64]
FloatImage = npt.NDArray[np.float64]

RAREST = 0.005
"""Part of the pixels at either end whose values do not count where a range is stretched."""


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


def _composite(
    shape: tuple[int, int], rng: np.random.Generator, absorption: float, phase: float
) -> ComplexImage:
    """Dead leaves with spokes and lines over them: structures of all sizes at one place.

    Mixed, each would be weak: their sum is stretched to all that absorption and phase allow.
    """
    thickness, angle = np.zeros(shape), np.zeros(shape)
    for draw, part in zip((_dead_leaves, _siemens, _lines), rng.dirichlet((4, 1.5, 1.5)), strict=True):
        obj = draw(shape, rng, 1.0, 1.0)
        thickness -= part * np.log(np.abs(obj))
        angle += part * rng.choice((-1, 1)) * np.angle(obj)
    return _compose(_stretched(thickness, 0, absorption), _stretched(angle, -phase, phase), blur=0)


def _stretched(values: FloatImage, low: float, high: float) -> FloatImage:
    """Return values moved linearly to a range, their rarest extremes cut."""
    bottom, top = np.quantile(values, (RAREST, 1 - RAREST))
    part = (values - bottom) / max(top - bottom, np.finfo(float).tiny)
    return np.asarray(low + (high - low) * np.clip(part, 0, 1))


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
    'composite': _composite,
}


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
