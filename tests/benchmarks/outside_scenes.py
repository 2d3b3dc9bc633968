"""Simulated scans that share no code with the package: what the prior and the solver are measured on.

Objects of three generators, a probe, positions, the forward model and the photon noise are NumPy alone, from
fixed seeds. Nothing here imports ``ptycho_engine``, and no training, of whatever network, looks at it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

SIZE = 64
"""Side of the patterns."""

SIDE = 220
"""Side of the objects."""

JITTER_PX = 1.5
CENTRE_PX = 2.3, 1.8
"""Shift (y, x) that coma and the middle of the patch ask for."""

POINTS = {6: 17, 12: 12, 18: 8, 24: 6}
"""Scan points along a side by the step in pixels."""

ROWS = {
    f'{step}px-{photons}': (step, float(photons))
    for step, photons in ((6, '1e4'), (6, '1e5'), (6, '1e6'), (12, '1e5'), (18, '1e5'), (24, '1e5'))
}
"""Step in pixels and photons per pattern of each row of the table."""

SETS = {'table': range(6), 'tuning': range(100, 102), 'kept-back': range(200, 206)}
"""Numbers of the objects: those of the table; those that settings may be chosen by, pty-chi's or ours; and
those that are kept for a last look."""

Real = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scene:
    """A scan and its truth."""

    kind: str
    number: int | str
    row: str
    truth: npt.NDArray[np.complex64]
    """(SIDE, SIDE)."""
    probe: npt.NDArray[np.complex64]
    """(SIZE, SIZE), with which a pattern has the photons of the row in the mean."""
    x: Real
    """(n,) columns of the patch centres, whose index in a patch is (SIZE − 1) / 2."""
    y: Real
    """(n,) rows."""
    counts: npt.NDArray[np.int64]
    """(n, SIZE, SIZE), zero frequency at SIZE / 2."""

    @property
    def name(self) -> str:
        return f'{self.row} {self.kind}-{self.number}'

    def as_measured(self) -> dict[str, Any]:
        """Return what is known of the scan without its truth, by the names of the fields of `RawData`."""
        return {
            'diffraction': np.sqrt(self.counts).astype(np.float32),
            'probeGuess': self.probe,
            'xcoords': self.x,
            'ycoords': self.y,
            'objectGuess': np.ones_like(self.truth),
            'source': self.name,
        }


def make_scene(kind: str, number: int, row: str) -> Scene:
    """Simulate one object of a kind under the scan of a row."""
    step, photons = ROWS[row]
    seed = [sorted(KINDS).index(kind), number]
    truth = make_object(kind, number)
    rng = np.random.default_rng([4052, *seed, step, round(np.log10(photons))])
    axis = (np.arange(POINTS[step]) - (POINTS[step] - 1) / 2) * step + (SIDE - 1) / 2
    y, x = (
        (grid + rng.uniform(-JITTER_PX, JITTER_PX, grid.shape)).ravel()
        for grid in np.meshgrid(axis, axis, indexing='ij')
    )
    probe = outside_probe()
    expected = intensities(truth, probe, x, y)
    factor = photons / expected.sum(axis=(1, 2)).mean()
    return Scene(
        kind,
        number,
        row,
        truth.astype(np.complex64),
        (np.sqrt(factor) * probe).astype(np.complex64),
        x,
        y,
        rng.poisson(factor * expected),
    )


@cache
def make_object(kind: str, number: int) -> npt.NDArray[np.complex128]:
    return KINDS[kind](number, np.random.default_rng([2026, sorted(KINDS).index(kind), number]))


def intensities(
    truth: npt.NDArray[np.complexfloating], probe: npt.NDArray[np.complexfloating], x: Real, y: Real
) -> Real:
    """Return the expected counts (n, SIZE, SIZE): the probe is moved through the Fourier shift theorem."""
    frequency = np.fft.fftfreq(SIZE)
    spectrum = np.fft.fft2(probe)
    patterns = np.empty((len(x), SIZE, SIZE))
    for index, (column, row) in enumerate(zip(x, y, strict=True)):
        left, top = (int(np.floor(centre - (SIZE - 1) / 2 + 0.5)) for centre in (column, row))
        dx, dy = column - (SIZE - 1) / 2 - left, row - (SIZE - 1) / 2 - top
        ramp = np.exp(-2j * np.pi * (dy * frequency[:, None] + dx * frequency))
        exit_wave = np.fft.ifft2(spectrum * ramp) * truth[top : top + SIZE, left : left + SIZE]
        patterns[index] = np.fft.fftshift(np.abs(np.fft.fft2(exit_wave, norm='ortho')) ** 2)
    return patterns


@cache
def outside_probe() -> npt.NDArray[np.complex128]:
    """Return an annular pupil with some coma and trefoil out of focus (SIZE, SIZE), of power 1.

    2.355 standard deviations of its intensity along an axis are 19 px.
    """
    frequency = np.fft.fftfreq(SIZE)
    fy, fx = np.meshgrid(frequency, frequency, indexing='ij')
    radius, angle = np.hypot(fy, fx) / 0.17, np.arctan2(fy, fx)
    # Soft edges, as of a lens that is lit unevenly.
    pupil = 1 / (1 + np.exp((radius - 1) / 0.03)) - 1 / (1 + np.exp((radius - 0.4) / 0.03))
    pupil = pupil * (1 - 0.25 * radius * np.cos(angle - 0.6))
    aberration = 7.6 * radius**2 + 0.7 * radius**3 * np.cos(angle + 1.1) + 0.5 * radius**3 * np.cos(3 * angle)
    # In the middle of the patch, whose index is (SIZE − 1) / 2.
    aberration += 2 * np.pi * (CENTRE_PX[0] * fy + CENTRE_PX[1] * fx)
    field = np.fft.fftshift(np.fft.ifft2(pupil * np.exp(1j * aberration)))
    return np.asarray(field / np.sqrt((np.abs(field) ** 2).sum()))


def leaves(number: int, rng: np.random.Generator) -> npt.NDArray[np.complex128]:
    """Draw opaque discs, ellipses and bars before each other, a star of spokes and bundles of lines."""
    fine = 2 * SIDE
    y, x = np.mgrid[:fine, :fine].astype(float)
    absorption, phase = np.zeros((2, fine, fine))
    free = np.ones((fine, fine), bool)
    # From front to back; radii follow a power law.
    while free.mean() > 0.002:
        radius = min(6 / rng.random() ** 0.8, 110.0)
        cy, cx = rng.uniform(0, fine, 2)
        turn, oblong = rng.uniform(0, np.pi), rng.uniform(0.35, 1)
        reach = 1.5 * radius
        part = tuple(slice(max(int(c - reach), 0), int(c + reach) + 1) for c in (cy, cx))
        u, v = _turned(y[part] - cy, x[part] - cx, turn)
        v = v / oblong
        inside = np.hypot(u, v) < radius if rng.random() < 0.6 else np.maximum(abs(u), abs(v)) < radius
        inside &= free[part]
        absorption[part][inside], phase[part][inside] = rng.random(), rng.random()
        free[part] &= ~inside
    cy, cx = rng.uniform(0.3 * fine, 0.7 * fine, 2)
    angle, distance = np.arctan2(y - cy, x - cx), np.hypot(y - cy, x - cx)
    spokes = (np.sin(rng.integers(12, 30) * angle) > 0) & (distance < rng.uniform(70, 150)) & (distance > 12)
    lines = np.zeros((fine, fine), bool)
    for _ in range(4):
        turn, period = rng.uniform(0, np.pi), rng.uniform(10, 28)
        cy, cx = rng.uniform(0.2 * fine, 0.8 * fine, 2)
        u, v = _turned(y - cy, x - cx, turn)
        lines |= (np.mod(u, period) < period / 2) & (abs(u) < 60) & (abs(v) < 25)
    absorption += rng.uniform(0.2, 0.6) * spokes + rng.uniform(0.2, 0.6) * lines
    phase += rng.choice([-1, 1]) * rng.uniform(0.2, 0.7) * (spokes | lines)
    thickness, strength = rng.uniform(0.2, 0.6), rng.uniform(0.5, 1.6)
    field = np.exp(-thickness * absorption + 1j * strength * (phase - phase.mean()))
    # Pixels at edges are partly of either side.
    return np.asarray(field.reshape(SIDE, 2, SIDE, 2).mean(axis=(1, 3)))


def _turned(y: Real, x: Real, angle: float) -> tuple[Real, Real]:
    """Return the coordinates along and across a direction."""
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def grains(number: int, rng: np.random.Generator) -> npt.NDArray[np.complex128]:
    """Draw Voronoi grains, each facet tilted and with a texture of its own, under curved filaments."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(float)
    count = int(rng.integers(15, 90))
    sites = rng.uniform(-10, SIDE + 10, (count, 2))
    distance = np.hypot(y[..., None] - sites[:, 0], x[..., None] - sites[:, 1])
    owner = distance.argmin(axis=-1)
    nearest = np.partition(distance, 1, axis=-1)
    boundary = np.exp(-(((nearest[..., 1] - nearest[..., 0]) / rng.uniform(1.5, 3)) ** 2))
    tilt = rng.normal(0, 0.012, (2, count))
    facet = tilt[0][owner] * (y - sites[owner, 0]) + tilt[1][owner] * (x - sites[owner, 1])
    rough = rng.uniform(0.1, 1, count)[owner]
    phase = rng.uniform(-1, 1, count)[owner] + facet + 0.5 * rough * _texture(rng.uniform(1, 1.6), rng)
    absorption = rng.random(count)[owner] + 0.35 * rough * _texture(rng.uniform(1, 1.6), rng) + boundary
    for _ in range(int(rng.integers(4, 12))):
        profile = _filament(y, x, rng)
        phase += rng.uniform(-0.8, 0.8) * profile
        absorption += rng.uniform(0, 0.8) * profile
    absorption -= absorption.min()
    thickness, strength = rng.uniform(0.1, 0.35), rng.uniform(0.2, 0.8)
    return np.asarray(np.exp(-thickness * absorption + 1j * strength * (phase - phase.mean())))


def _texture(exponent: float, rng: np.random.Generator) -> Real:
    """Return noise whose amplitude falls with that power of the frequency, of variance 1."""
    frequency = np.fft.fftfreq(SIDE)
    radius = np.hypot(frequency[:, None], frequency)
    radius[0, 0] = np.inf
    noise = np.fft.ifft2(np.fft.fft2(rng.standard_normal((SIDE, SIDE))) * radius**-exponent).real
    return np.asarray(noise / noise.std())


def _filament(y: Real, x: Real, rng: np.random.Generator) -> Real:
    """Return the profile of a thread that wanders across the object, 1 along its middle."""
    width, length = rng.uniform(1, 3.5), 2 * SIDE
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.05, length))
    cy, cx = (
        rng.uniform(0, SIDE) + np.cumsum(part) - part.sum() / 2 for part in (np.sin(heading), np.cos(heading))
    )
    square = np.full(y.shape, np.inf)
    for row, column in zip(cy, cx, strict=True):
        top, left = (slice(max(int(c) - 12, 0), max(int(c) + 13, 0)) for c in (row, column))
        near = (y[top, left] - row) ** 2 + (x[top, left] - column) ** 2
        square[top, left] = np.minimum(square[top, left], near)
    return np.exp(-square / (2 * width**2))


PHOTOGRAPHS = (
    ('camera', 'moon'),
    ('coins', 'brick'),
    ('chelsea', 'gravel'),
    ('astronaut', 'grass'),
    ('coffee', 'rocket'),
    ('hubble_deep_field', 'clock'),
)
"""Of scikit-image's wheel: amplitude and phase of each object."""


def photographs(number: int, rng: np.random.Generator) -> npt.NDArray[np.complex128]:
    """Cut a photograph as amplitude and another one as phase."""
    amplitude, phase = (_photograph(name, rng) for name in PHOTOGRAPHS[number % len(PHOTOGRAPHS)])
    strength = rng.uniform(0.6, 1.8)
    return np.asarray((0.45 + 0.55 * amplitude) * np.exp(1j * strength * (phase - phase.mean())))


def _photograph(name: str, rng: np.random.Generator) -> Real:
    """Return a part of a photograph (SIDE, SIDE), grey, from 0 to 1, at half its size where it is large."""
    from skimage import data

    image = np.asarray(getattr(data, name)(), dtype=np.float64)
    image = image[..., :3].mean(axis=-1) if image.ndim == 3 else image
    if min(image.shape) >= 2 * SIDE:
        height, width = (side // 2 for side in image.shape)
        image = image[: 2 * height, : 2 * width].reshape(height, 2, width, 2).mean(axis=(1, 3))
    top, left = (int(rng.integers(side - SIDE + 1)) for side in image.shape)
    image = image[top : top + SIDE, left : left + SIDE]
    low, high = np.quantile(image, (0.002, 0.998))
    return np.asarray(np.clip((image - low) / (high - low), 0, 1))


KINDS: dict[str, Callable[[int, np.random.Generator], npt.NDArray[np.complex128]]] = {
    'leaves': leaves,
    'grains': grains,
    'photographs': photographs,
}
"""The generators."""
