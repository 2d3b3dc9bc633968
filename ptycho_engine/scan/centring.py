"""Whether the patterns are centred where the probe says the light goes."""

from __future__ import annotations

import logging

import numpy as np
import numpy.typing as npt
from scipy.ndimage import median_filter

from ..blocks import first_to_last
from .fix_command import fix_command
from .raw_data import RawData

__all__ = ['centre_of_mass', 'mean_counts', 'off_probe', 'warn_if_off_centre']

logger = logging.getLogger('ptychopinn.data')

LOOKED_AT = 32
"""Patterns that are averaged."""
CORNERED = 0.6
"""Part of its agreement with the probe that a mean pattern keeps at most if its middle is in its corners."""
TOLERANCE_PX = 3.0
"""Distance beyond which patterns are said to be off centre; objects shift single patterns, not their mean."""
HOT = 5.0
"""Times the median of the pixels around it, beyond which more light in a pixel does not count."""
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


def off_probe(
    counts: npt.NDArray[np.floating],
    probe: npt.NDArray[np.complex64],
    valid: npt.NDArray[np.bool_] | None = None,
) -> tuple[tuple[int, int], float]:
    """Return by how many [rows, columns] patterns must be rolled to lie where the probe's far field does.

    And how well they fit where they are, relative to there: 1 where they do not have to be rolled.

    Parameters
    ----------
    counts : (N, N) float
        Mean pattern, 0 in bad pixels.
    probe : (P, N, N) complex
    valid : (N, N) bool, optional
        Pixels of the far field that are compared; None for all.
    """
    field = np.fft.fft2(probe.astype(np.complex128))
    expected = np.fft.fftshift((np.abs(field) ** 2).sum(axis=0))
    if valid is not None:
        expected = np.where(valid, expected, 0)
    found, wanted = (np.fft.fft2(np.sqrt(values)) for values in (counts, expected))
    correlation = np.fft.ifft2(wanted * found.conj()).real
    row, column = np.unravel_index(int(correlation.argmax()), correlation.shape)
    size = len(counts)
    half = size // 2
    shift = (int(row) + half) % size - half, (int(column) + half) % size - half
    return shift, float(correlation[0, 0] / correlation[row, column])


def _warn_if_cornered(raw: RawData, light: npt.NDArray[np.float64]) -> bool:
    """Log a warning where the middle of the mean pattern (N, N) is in its corners; return whether it is."""
    half = raw.N // 2
    shift, fit = off_probe(light, raw.probeGuess)
    if fit > CORNERED or not all(abs(abs(step) - half) <= 1 for step in shift):
        return False
    logger.warning(
        '%s: the middle of the patterns is in their corners; they want numpy.fft.fftshift over their two '
        'axes (%s does it).',
        raw.source,
        fix_command(raw),
    )
    return True


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
    valid = raw.valid
    light = mean_counts(raw) * valid
    if not light.any():
        return 0.0, 0.0
    # A hot pixel is no light: what lies around it tells.
    light = np.minimum(light, HOT * median_filter(light, 3) + 1)
    found = centre_of_mass(light)
    middle = raw.N // 2
    off = found[0] - middle, found[1] - middle
    tolerance = TOLERANCE_PX + ERRORS * _error(light * min(len(raw), LOOKED_AT), found)
    if not _warn_if_cornered(raw, light) and np.hypot(*off) > tolerance:
        far_field = np.fft.fftshift(np.fft.fft2(raw.probeGuess.astype(np.complex128)), axes=(-2, -1))
        expected = centre_of_mass((np.abs(far_field) ** 2).sum(axis=0) * valid)
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
