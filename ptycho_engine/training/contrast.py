"""How strong the simulated objects are to be: they change the patterns as much as the scan's object does.

Patterns are compared with one another and not with the probe, which is seldom known well before a scan is
reconstructed (clause SIM-13).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..blocks import evenly_spread, most_patterns
from ..simulate import make_object, raster_positions, simulate_scan
from ..whole_scan.scan_model import ScanModel

__all__ = ['Contrast', 'measured_contrast']

HELD_OUT_PATTERNS, HELD_OUT_PIXELS = 64, 1 << 24
"""Patterns of the scan that are looked at, evenly spread, and at most so many pixels of them."""

OBJECTS, POINTS = 4, 4
"""Objects that are simulated, and rows and columns of patterns on each."""

SIDE, STEP = 3.0, 0.48
"""Side of these objects and distance of the patterns on them, in patterns: about as training draws them."""

ABSORPTIONS = np.geomspace(0.02, 1.5, 8)
PHASES = np.geomspace(0.05, 3.0, 8)
"""Contrasts that are tried; between them it is interpolated."""


@dataclass(frozen=True)
class Contrast:
    """How far the amplitude and the phase of an object reach."""

    absorption: float
    """Largest -log amplitude."""
    phase: float
    """Largest phase in radians, to either side."""

    def times(self, factor: float) -> Contrast:
        """Return a stronger or a weaker one."""
        return Contrast(factor * self.absorption, factor * self.phase)

    def within(self, low: Contrast, high: Contrast) -> Contrast:
        """Return the nearest one between two."""
        return Contrast(
            min(max(self.absorption, low.absorption), high.absorption),
            min(max(self.phase, low.phase), high.phase),
        )


def measured_contrast(template: ScanModel, photons: float) -> Contrast | None:
    """Return the contrast at which simulated objects change patterns as much as a scan's object does.

    Parameters
    ----------
    template : ScanModel
        The scan.
    photons : float
        Mean counts per pattern to simulate.

    Returns
    -------
    Contrast or None
        None where there are too few patterns, or the patterns are all alike, as those that stand for a scan
        that has none.
    """
    raw = template.scan.raw
    most = most_patterns(HELD_OUT_PATTERNS, HELD_OUT_PIXELS, raw.N, fewest=2)
    amplitude = template.amplitude(evenly_spread(len(raw), most))
    if len(amplitude) < 2 or (amplitude == amplitude[0]).all():
        return None
    valid = template.valid
    exponents = [_exponent(raw.N, seed) for seed in range(OBJECTS)]

    def simulated(absorption: float, phase: float) -> tuple[float, float]:
        found = []
        for seed, exponent in enumerate(exponents):
            obj = np.exp(absorption * exponent.real + 1j * phase * exponent.imag)
            rng = np.random.default_rng(seed)
            x, y = raster_positions(POINTS, POINTS, STEP * raw.N, rng)
            middle = (len(obj) - 1) / 2
            scan = simulate_scan(
                *(obj, template.probe, x - x.mean() + middle, y - y.mean() + middle),
                photons=photons,
                rng=rng,
                bad_pixels=raw.bad_pixels,
            )
            found.append(_differences(np.asarray(scan.diffraction[np.arange(POINTS**2)]), valid))
        brightness, pattern = np.sqrt(np.mean(np.square(found), axis=0))
        return float(brightness), float(pattern)

    brightness, pattern = _differences(amplitude, valid)
    # The phase does not change how bright a pattern is.
    absorption = _where(lambda value: simulated(value, 0.0)[0], ABSORPTIONS, brightness)
    phase = _where(lambda value: simulated(absorption, value)[1], PHASES, pattern)
    return Contrast(absorption, phase)


def _exponent(size: int, seed: int) -> npt.NDArray[np.complex64]:
    """Return the logarithm of an object of unit contrast for patterns of `size` pixels."""
    side = round(SIDE * size)
    rng = np.random.default_rng(seed)
    return np.asarray(np.log(make_object('composite', (side, side), rng, absorption=1.0, phase=1.0)))


def _differences(amplitude: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Return how much patterns (n, N, N) differ in brightness and in form.

    The relative standard deviation of their counts without that of photons, and one minus the mean
    correlation of the amplitudes of two patterns far apart.
    """
    values = amplitude[:, valid].astype(np.float64)
    counts = np.square(values).sum(axis=1)
    brightness = np.sqrt(max(counts.var() - counts.mean(), 0)) / max(counts.mean(), 1e-30)
    unit = values / np.sqrt(np.maximum(counts, 1e-30))[:, None]
    other = np.roll(unit, len(unit) // 2, axis=0)
    return float(brightness), float(1 - (unit * other).sum(axis=1).mean())


def _where(of: Callable[[float], float], tried: npt.NDArray[np.float64], wanted: float) -> float:
    """Return the argument at which a function that rises reaches a value, the first or last of those tried
    where it never does."""
    reached = np.maximum.accumulate([of(float(value)) for value in tried])
    return float(np.exp(np.interp(wanted, reached, np.log(tried))))
