"""Scans simulated by the package from fixed seeds, every truth known, for several benchmarks.

Objects and probe are matched to what is known of the scans of earlier studies: ranges, scores of a flat
object, width and power of the probe, and what classical solvers reach (``EXPERIMENTS.md``, rows 44 and 69).
No network was looked at for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ptycho_engine.scan.scan import Scan
from ptycho_engine.simulate import defocused_probe, make_object, raster_positions, simulate_scan

SIZE = 64
SIDE = 220
POINTS = 23
STEP = 6.0
AMPLITUDE = 0.69, 1.02
PHASE = -0.67, 0.87

CUT = 0.003
"""Part of the pixels that is cut off at either end of an object's range, so that few do not set it."""

RUN1084_EDGE = 40
"""Pixels that Run1084's object is continued by, so that all patches lie on it."""


@dataclass(frozen=True)
class Texture:
    """What a test object is drawn from; weights are relative to the dead leaves'."""

    draw: int
    """Seed."""
    spokes: float
    lines: float


TEXTURES = {'a': Texture(1, 0.5, 0.7), 'b': Texture(11, 0.2, 0.25)}
"""The two test objects; training draws its own, with other generators and seeds."""


def benchmark_object(texture: Texture) -> npt.NDArray[np.complex64]:
    """Return an object (SIDE, SIDE) of dead leaves, spokes and lines, stretched to the given ranges."""
    rng = np.random.default_rng([11, texture.draw])
    leaves = make_object('dead-leaves', (SIDE, SIDE), rng, absorption=1, phase=1)
    spokes, lines = (
        -np.log(np.abs(make_object(family, (SIDE, SIDE), rng, absorption=1, phase=0)))
        for family in ('siemens', 'lines')
    )
    thickness = -np.log(np.abs(leaves)) + texture.spokes * spokes + texture.lines * lines
    signs = rng.choice([-1, 1]), rng.choice([-1, 1])
    angle = 0.5 * np.angle(leaves) + signs[0] * 0.2 * spokes + signs[1] * 0.4 * lines
    obj = _stretched(-thickness, *AMPLITUDE) * np.exp(1j * _stretched(angle, *PHASE))
    return np.asarray(obj, dtype=np.complex64)


def _stretched(values: npt.NDArray[np.floating], low: float, high: float) -> npt.NDArray[np.floating]:
    """Return values moved linearly to a range, their extremes cut."""
    bottom, top = np.quantile(values, (CUT, 1 - CUT))
    return low + (np.clip(values, bottom, top) - bottom) * ((high - low) / (top - bottom))


def benchmark_probe() -> npt.NDArray[np.complex64]:
    """Return a defocused annular pupil (1, SIZE, SIZE).

    19 px wide both as 2.355 standard deviations and where its intensity is above half of the largest; 99.9 %
    of its power falls on 58 px.
    """
    return defocused_probe(SIZE, np.random.default_rng(5), width_px=26.0, defocus_rad=10.0, roughness=0.05)


def raster_scan(texture: Texture, photons: float, every: int = 1) -> Scan:
    """Simulate 23×23 positions, 6 px apart with 1.5 px of jitter; of these every n-th row and column."""
    x, y = raster_positions(POINTS, POINTS, STEP, np.random.default_rng([7, texture.draw]))
    x, y = (axis.reshape(POINTS, POINTS)[::every, ::every].ravel() for axis in (x, y))
    rng = np.random.default_rng([texture.draw, every, round(10 * np.log10(photons))])
    middle = (SIDE - 1) / 2
    return Scan.from_raw(
        simulate_scan(
            benchmark_object(texture), benchmark_probe(), x + middle, y + middle, photons=photons, rng=rng
        )
    )


def run1084_scan(path: Path, photons: float, flip: bool) -> Scan:
    """Simulate Run1084 with its own probe, object and positions; `flip` gives a second object."""
    with np.load(path) as data:
        found = data['objectGuess']
        truth = np.pad(found[::-1, ::-1] if flip else found, RUN1084_EDGE, mode='edge')
        probe, x, y = data['probeGuess'], data['xcoords'] + RUN1084_EDGE, data['ycoords'] + RUN1084_EDGE
    rng = np.random.default_rng([1084, int(flip), round(10 * np.log10(photons))])
    return Scan.from_raw(simulate_scan(truth, probe, x, y, photons=photons, rng=rng))
