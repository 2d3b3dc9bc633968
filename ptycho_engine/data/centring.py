"""Whether the patterns are centred where the probe says the light goes."""

from __future__ import annotations

import logging

import numpy as np
import numpy.typing as npt

from ..blocks import first_to_last
from .raw_data import RawData

__all__ = ['centre_of_mass', 'mean_counts', 'warn_if_off_centre']

logger = logging.getLogger('ptychopinn.data')

LOOKED_AT = 32
"""Patterns that are averaged."""
TOLERANCE_PX = 3.0
"""Distance beyond which patterns are said to be off centre; objects shift single patterns, not their mean."""
ERRORS = 3.0
"""Standard errors from photon noise to be added to it."""


def mean_counts(raw: RawData, patterns: int = LOOKED_AT) -> npt.NDArray[np.float64]:
    """Return the mean (N, N) counts of an evenly spread part of a scan's patterns."""
    chosen = first_to_last(len(raw), patterns)
    total = np.zeros((raw.N, raw.N))
    for index in chosen:
        total += np.square(raw.diffraction[index], dtype=np.float64)
    return total / len(chosen)


def centre_of_mass(image: npt.NDArray[np.floating]) -> tuple[float, float]:
    """Return (row, column) of the centre of mass of a non-negative image."""
    total = max(float(image.sum()), 1e-300)
    rows, columns = np.indices(image.shape, dtype=np.float64)
    return float((rows * image).sum() / total), float((columns * image).sum() / total)


def _error(light: npt.NDArray[np.floating], centre: tuple[float, float]) -> float:
    """Return the standard error in pixels that photon noise leaves of the centre of an image of counts.

    Less than one of them is none, and of numbers that are no counts the noise is not known: 0 then.
    """
    total = float(light.sum())
    if total < 1:
        return 0.0
    rows, columns = np.indices(light.shape, dtype=np.float64)
    apart = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2
    return float(np.sqrt((apart * light).sum()) / total)


def warn_if_off_centre(raw: RawData) -> tuple[float, float]:
    """Return by how many pixels (row, column) the mean pattern is off its middle; log a warning if by many.

    Zero frequency belongs at index N//2. There is no warning where the far field of the probe is off in the
    same way, because then probe and patterns agree.
    """
    good = raw.good
    light = mean_counts(raw) * good
    if not light.any():
        return 0.0, 0.0
    found = centre_of_mass(light)
    middle = raw.N // 2
    off = found[0] - middle, found[1] - middle
    tolerance = TOLERANCE_PX + ERRORS * _error(light * min(len(raw), LOOKED_AT), found)
    if np.hypot(*off) > tolerance:
        far_field = np.fft.fftshift(np.fft.fft2(raw.probeGuess.astype(np.complex128)), axes=(-2, -1))
        expected = centre_of_mass((np.abs(far_field) ** 2).sum(axis=0) * good)
        if np.hypot(found[0] - expected[0], found[1] - expected[1]) > tolerance:
            logger.warning(
                '%s: the patterns are off centre: their light lies around row %.1f, column %.1f instead of '
                '%d, %d. Crop them around it: ptychopinn prepare --crop N --centre auto.',
                raw.source,
                *found,
                middle,
                middle,
            )
    return off
