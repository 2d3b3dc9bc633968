"""Simulated scan positions, around 0, in pixels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..config.choices import SCAN_PATTERNS
from ..errors import ConfigError, DataValueError

__all__ = ['make_positions', 'random_positions', 'raster_positions', 'spiral_positions']

Positions = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]

GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))


def raster_positions(
    rows: int, columns: int, step: float, rng: np.random.Generator, *, jitter: float = 0.25
) -> Positions:
    """Return x and y (rows · columns,) of a raster with uniform jitter of ``± jitter · step``."""
    y, x = np.meshgrid(
        (np.arange(rows) - (rows - 1) / 2) * step,
        (np.arange(columns) - (columns - 1) / 2) * step,
        indexing='ij',
    )
    wobble = rng.uniform(-jitter * step, jitter * step, (2, y.size))
    return x.ravel() + wobble[0], y.ravel() + wobble[1]


def spiral_positions(count: int, step: float) -> Positions:
    """Return x and y (count,) of a Fermat spiral with one position for each ``step²`` of its area.

    (Huang et al., Opt. Express 22, 12634, 2014.)
    """
    k = np.arange(count)
    radius = step * np.sqrt((k + 0.5) / np.pi)
    return radius * np.cos(k * GOLDEN_ANGLE), radius * np.sin(k * GOLDEN_ANGLE)


def random_positions(count: int, step: float, rng: np.random.Generator) -> Positions:
    """Return x and y (count,) drawn uniformly from a square with one position for each ``step²``."""
    half = step * np.sqrt(count) / 2
    x, y = rng.uniform(-half, half, (2, count))
    return x, y


def make_positions(
    pattern: str, rows: int, columns: int, step: float, rng: np.random.Generator, *, jitter: float = 0.25
) -> Positions:
    """Return x and y of rows · columns positions around 0.

    Parameters
    ----------
    pattern : str
        One of ``SCAN_PATTERNS``.
    rows, columns : int
        Shape of a raster; of the others only the product matters.
    step : float
        Pixels between neighbours.
    rng : numpy.random.Generator
        Draws jitter and random positions.
    jitter : float
        Of a raster, relative to the step.

    Raises
    ------
    ConfigError
        If there is no such pattern.
    DataValueError
        If a number is out of range.
    """
    if rows < 1 or columns < 1:
        raise DataValueError(f'A scan of {rows}×{columns} points was asked for; expected at least 1×1.')
    if not step > 0:
        raise DataValueError(f'The scan step is {step} pixels; expected a positive number.')
    if not jitter >= 0:
        raise DataValueError(f'The jitter is {jitter}; expected 0 or more steps.')
    if pattern == 'raster':
        return raster_positions(rows, columns, step, rng, jitter=jitter)
    if pattern == 'spiral':
        return spiral_positions(rows * columns, step)
    if pattern == 'random':
        return random_positions(rows * columns, step, rng)
    raise ConfigError(f'There is no scan pattern {pattern!r}; choose one of {", ".join(SCAN_PATTERNS)}.')
