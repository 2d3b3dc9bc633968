"""Further simulated objects, of what people scan: circuits, powders, gratings, cells, grains and scenes.

With the families of :mod:`.objects` they are what the learned prior is trained on, which must have seen
structures of many kinds and at all scales.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

__all__ = ['STRUCTURES', 'draw_structure']

FloatImage = npt.NDArray[np.float64]
Structure = tuple[FloatImage, FloatImage]
"""Thickness in [0, 1] and phase in [-1, 1], each (H, W)."""


def _circuit(shape: tuple[int, int], rng: np.random.Generator) -> Structure:
    """Wires, pads and vias in a few layers of metal, all edges along the axes or at one angle."""
    height, width = shape
    thickness, angle = np.zeros(shape), np.zeros(shape)
    pitch = rng.uniform(3, 14)
    for layer in range(int(rng.integers(1, 4))):
        metal = np.zeros(shape, bool)
        for _ in range(int(0.6 * height * width / (pitch * 40))):
            across = rng.integers(0, max(int(height / pitch), 1)) * pitch
            start, length = rng.uniform(-0.3, 1) * width, rng.exponential(0.3) * width
            wire = max(pitch * rng.choice((0.3, 0.5, 0.5, 1.5)), 1.0)
            rows = slice(max(int(across), 0), int(across + wire) + 1)
            columns = slice(max(int(start), 0), max(int(start + length), 0))
            metal[rows, columns] = True
            if rng.random() < 0.4:
                metal[
                    slice(max(int(across - wire), 0), int(across + 2 * wire)), columns.stop - int(2 * wire) :
                ][:, : int(3 * wire)] = True
        if (layer + rng.integers(0, 2)) % 2:
            metal = np.ascontiguousarray(_fitted(metal.T, shape))
        thickness += metal * rng.uniform(0.2, 1)
        angle += metal * rng.uniform(-1, 1)
    return _bounded(thickness), _signed(angle)


def _powder(shape: tuple[int, int], rng: np.random.Generator) -> Structure:
    """Spheres, hollow ones among them, of one material: thick in the middle, thin at the rim."""
    height, width = shape
    thickness = np.zeros(shape)
    typical = rng.uniform(3, 0.15 * min(shape))
    spread, hollow = rng.uniform(0.05, 0.7), rng.random() < 0.3
    for _ in range(int(rng.uniform(0.2, 1.2) * height * width / (typical**2 * 3)) + 2):
        radius = typical * np.exp(spread * rng.standard_normal())
        radius = min(max(radius, 1.5), 0.4 * min(shape))
        cy, cx = rng.uniform(-radius, height + radius), rng.uniform(-radius, width + radius)
        rows, columns, inside = _around(shape, cy, cx, radius)
        chord = np.sqrt(np.clip(radius**2 - inside, 0, None))
        if hollow:
            chord -= np.sqrt(np.clip((0.8 * radius) ** 2 - inside, 0, None))
        thickness[rows, columns] += chord
    thickness = _bounded(thickness / max(np.quantile(thickness, 0.98), 1e-9))
    return thickness, rng.choice((-1.0, 1.0)) * (2 * thickness - 1)


def _grating(shape: tuple[int, int], rng: np.random.Generator) -> Structure:
    """Line gratings, checkerboards and zone plates, each in a field of its own."""
    yy, xx = np.mgrid[: shape[0], : shape[1]]
    thickness, angle = np.zeros(shape), np.zeros(shape)
    owner = _cells(shape, int(rng.integers(1, 7)), rng)
    for field in range(int(owner.max()) + 1):
        period, theta = np.exp(rng.uniform(np.log(3), np.log(40))), rng.uniform(0, np.pi)
        u, v = xx * np.cos(theta) + yy * np.sin(theta), yy * np.cos(theta) - xx * np.sin(theta)
        kind = rng.integers(0, 4)
        if kind == 0:
            wave = np.sin(2 * np.pi * u / period)
        elif kind == 1:
            wave = np.sin(2 * np.pi * u / period) * np.sin(2 * np.pi * v / period)
        elif kind == 2:
            wave = np.sin((np.square(u - u.mean()) + np.square(v - v.mean())) / (period * 6))
        else:
            wave = np.sin(2 * np.pi * u / (period * (1 + 0.5 * v / max(shape))))
        lines = wave > rng.uniform(-0.5, 0.5) if rng.random() < 0.7 else 0.5 + 0.5 * wave
        here = owner == field
        thickness[here] = (lines * rng.uniform(0.2, 1))[here]
        angle[here] = (lines * rng.uniform(-1, 1))[here]
    return _bounded(thickness), _signed(angle)


def _cell(shape: tuple[int, int], rng: np.random.Generator) -> Structure:
    """Smooth bodies with a membrane, organelles and fibres, on a bare support."""
    height, width = shape
    yy, xx = np.mgrid[:height, :width]
    thickness = np.zeros(shape)
    wobble = gaussian_filter(rng.standard_normal(shape), 0.06 * min(shape))
    wobble /= np.abs(wobble).max()
    for _ in range(int(rng.integers(1, 5))):
        a, b = rng.uniform(0.12, 0.45, 2) * min(shape)
        theta, cy, cx = rng.uniform(0, np.pi), rng.uniform(0, height), rng.uniform(0, width)
        u = ((xx - cx) * np.cos(theta) + (yy - cy) * np.sin(theta)) / a
        v = ((yy - cy) * np.cos(theta) - (xx - cx) * np.sin(theta)) / b
        radius = np.hypot(u, v) + 0.5 * wobble
        body = np.sqrt(np.clip(1 - np.square(radius), 0, None))
        thickness += 0.5 * body + 0.15 * np.exp(-np.square((radius - 0.97) * min(a, b) / 1.5))
        for _ in range(int(rng.integers(3, 25))):
            size = rng.uniform(1.5, 0.25 * min(a, b))
            turn, far = rng.uniform(0, 2 * np.pi), np.sqrt(rng.random()) * 0.8
            rows, columns, squared = _around(
                shape, cy + far * b * np.sin(turn), cx + far * a * np.cos(turn), 2 * size
            )
            thickness[rows, columns] += rng.uniform(-0.2, 0.5) * np.exp(-np.square(squared / size**2))
    for _ in range(int(rng.integers(0, 12))):
        theta, offset = rng.uniform(0, np.pi), rng.uniform(-0.5, 0.5) * max(shape)
        distance = (xx - width / 2) * np.cos(theta) + (yy - height / 2) * np.sin(theta) - offset
        distance += 12 * wobble
        thickness += 0.15 * np.exp(-np.square(distance / rng.uniform(0.8, 2.5)))
    thickness = _bounded(thickness / max(thickness.max(), 1e-9))
    return thickness, rng.choice((-1.0, 1.0)) * (2 * thickness - 1)


def _grains(shape: tuple[int, int], rng: np.random.Generator) -> Structure:
    """Polycrystals: flat or slightly bent grains with sharp boundaries, pores and precipitates."""
    owner = _cells(shape, int(np.exp(rng.uniform(np.log(6), np.log(200)))), rng)
    number = int(owner.max()) + 1
    thickness, angle = rng.uniform(0, 1, number)[owner], rng.uniform(-1, 1, number)[owner]
    if rng.random() < 0.5:
        yy, xx = np.mgrid[: shape[0], : shape[1]]
        tilt = rng.normal(0, 1 / max(shape), (2, number))
        angle = angle + tilt[0][owner] * (yy - shape[0] / 2) + tilt[1][owner] * (xx - shape[1] / 2)
    for _ in range(int(rng.integers(0, 40))):
        radius = rng.uniform(1, 6)
        rows, columns, squared = _around(shape, rng.uniform(0, shape[0]), rng.uniform(0, shape[1]), radius)
        value = rng.uniform(0, 1)
        thickness[rows, columns][squared < radius**2] = value
        angle[rows, columns][squared < radius**2] = 2 * value - 1
    return _bounded(thickness), _signed(angle)


def _scene(shape: tuple[int, int], rng: np.random.Generator) -> Structure:
    """What a photograph is like: things of all sizes before each other, each shaded and with a texture.

    Thickness and phase share their edges, or have nothing to do with each other.
    """
    planes = [_view(shape, rng) for _ in range(2)]
    if rng.random() < 0.5:
        planes[1] = planes[0] * rng.choice((-1, 1))
    thickness, angle = planes
    thickness = thickness - thickness.min()
    return thickness / max(thickness.max(), 1e-9), _signed(angle - angle.mean())


def _view(shape: tuple[int, int], rng: np.random.Generator) -> FloatImage:
    height, width = shape
    noise = rng.standard_normal(shape)
    textures = [noise, gaussian_filter(noise, 1.2) * 4, gaussian_filter(noise, 4) * 14]
    image = textures[2] * 0.3
    smallest, largest = rng.uniform(2, 8), 0.4 * min(shape)
    # Sizes with a density of r^-3: their image looks the same at all scales.
    radii = np.sort(smallest / np.sqrt(1 - rng.random(300) * (1 - (smallest / largest) ** 2)))[::-1]
    for radius in radii:
        cy, cx = rng.uniform(0, height), rng.uniform(0, width)
        stretch, theta = np.exp(rng.normal(0, 0.4)), rng.uniform(0, np.pi)
        reach = radius * max(stretch, 1 / stretch)
        rows, columns, _ = _around(shape, cy, cx, reach)
        y, x = np.arange(rows.start, rows.stop)[:, None] - cy, np.arange(columns.start, columns.stop) - cx
        u, v = x * np.cos(theta) + y * np.sin(theta), y * np.cos(theta) - x * np.sin(theta)
        if rng.random() < 0.5:
            inside = np.square(u / stretch) + np.square(v * stretch) < radius**2
        else:
            inside = (np.abs(u) < radius * stretch) & (np.abs(v) < radius / stretch)
        shade = rng.normal() + rng.normal() * 0.4 * u / radius
        texture = textures[rng.integers(0, 3)][rows, columns]
        image[rows, columns] = np.where(
            inside, shade + rng.choice((0, 0.1, 0.3)) * texture, image[rows, columns]
        )
    return np.asarray(gaussian_filter(image, rng.uniform(0.5, 1.0)), dtype=np.float64)


def _around(shape: tuple[int, int], cy: float, cx: float, radius: float) -> tuple[slice, slice, FloatImage]:
    """Return the part of an image around a point, and the squared distance of each of its pixels to it."""
    rows = slice(min(max(int(cy - radius), 0), shape[0]), min(max(int(cy + radius) + 2, 0), shape[0]))
    columns = slice(min(max(int(cx - radius), 0), shape[1]), min(max(int(cx + radius) + 2, 0), shape[1]))
    y, x = np.arange(rows.start, rows.stop)[:, None] - cy, np.arange(columns.start, columns.stop) - cx
    return rows, columns, np.asarray(y**2 + x**2, dtype=np.float64)


def _cells(shape: tuple[int, int], number: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return which of some random points is nearest to each pixel (H, W)."""
    points = rng.random((number, 2)) * shape
    pixels = np.indices(shape).reshape(2, -1).T
    return np.asarray(cKDTree(points).query(pixels)[1], dtype=np.int64).reshape(shape)


def _fitted(image: npt.NDArray[np.bool_], shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Return an image cut or repeated to a shape (H, W)."""
    repeats = [-(-wanted // side) for wanted, side in zip(shape, image.shape, strict=True)]
    return np.tile(image, repeats)[: shape[0], : shape[1]]


def _bounded(values: FloatImage) -> FloatImage:
    return np.clip(values, 0, 1)


def _signed(values: FloatImage) -> FloatImage:
    return np.asarray(values / max(np.abs(values).max(), 1e-9))


STRUCTURES: dict[str, Callable[[tuple[int, int], np.random.Generator], Structure]] = {
    'circuit': _circuit,
    'powder': _powder,
    'grating': _grating,
    'cell': _cell,
    'grains': _grains,
    'scene': _scene,
}
"""What draws each kind of structure: thickness in [0, 1] and phase in [-1, 1], each (H, W)."""


def draw_structure(
    kind: str, shape: tuple[int, int], rng: np.random.Generator, *, absorption: float, phase: float
) -> npt.NDArray[np.complex64]:
    """Draw an object (H, W) complex64 of a kind of ``STRUCTURES``.

    Parameters
    ----------
    absorption : float
        Largest -log amplitude.
    phase : float
        Largest absolute phase in radians.
    """
    thickness, angle = STRUCTURES[kind](shape, rng)
    field = np.exp(-absorption * thickness + 1j * phase * angle)
    return np.asarray(gaussian_filter(field, rng.uniform(0.4, 1.2)), dtype=np.complex64)
