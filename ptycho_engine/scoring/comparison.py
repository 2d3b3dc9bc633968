"""How far two results agree, without a truth (conventions in ``specs/physics.md``, QUALITY-*)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .scores import TAPER, align, fourier_ring_correlation, ring_numbers, score_aligned

__all__ = ['Comparison', 'compare', 'half_bit_line']

ComplexImage = npt.NDArray[np.complexfloating[Any, Any]]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """How far a result agrees with another one, inside the region that was scanned."""

    nrmse: float
    """Complex root mean square difference, relative to the first result's root mean square."""
    amplitude_ssim: float
    phase_ssim: float
    half_bit: float
    """Spatial frequency in cycles per pixel where the ring correlation falls below the half-bit line."""
    shift_x_px: float
    """Shift in pixels that registration removed."""
    shift_y_px: float
    frequency: FloatArray
    """(m,) cycles per pixel of the rings."""
    correlation: FloatArray
    """(m,) Fourier ring correlation."""
    line: FloatArray
    """(m,) half-bit line."""

    def to_row(self) -> dict[str, float]:
        """Return the numbers, without the curves."""
        return {name: value for name, value in asdict(self).items() if isinstance(value, float)}


def compare(first: ComplexImage, second: ComplexImage, box: tuple[slice, slice]) -> Comparison:
    """Compare two results (H, W) on one grid inside `box`; shift, complex factor and phase ramp are removed.

    Raises
    ------
    DataValueError
        If the shapes differ or the region is too small.
    """
    aligned = align(first, second, box)
    scores = score_aligned(aligned)
    a, b = aligned.truth, aligned.result
    frequency, correlation = fourier_ring_correlation(a, b)
    line = half_bit_line(a.shape)
    smooth = np.convolve(np.pad(correlation, 1, mode='edge'), [0.25, 0.5, 0.25], mode='valid')
    below = np.flatnonzero(smooth < line)
    return Comparison(
        nrmse=scores.nrmse,
        amplitude_ssim=scores.amplitude_ssim,
        phase_ssim=scores.phase_ssim,
        half_bit=float(frequency[below[0]]) if below.size else float(frequency[-1]),
        shift_x_px=scores.shift_x_px,
        shift_y_px=scores.shift_y_px,
        frequency=frequency,
        correlation=correlation,
        line=line,
    )


def half_bit_line(shape: tuple[int, ...]) -> FloatArray:
    """Return the half-bit threshold (m,) of the rings of images (H, W).

    ``(0.2071 + 1.9102 / √n) / (1.2071 + 0.9102 / √n)`` for n independent pixels of a ring (M. van Heel and
    M. Schatz, J. Struct. Biol. 151, 250, 2005, equation 17). Of a tapered image these are fewer.
    """
    from scipy.signal.windows import tukey

    height, width = shape
    tapered = float((np.outer(tukey(height, TAPER), tukey(width, TAPER)) ** 2).mean())
    root = np.sqrt(np.maximum(tapered * ring_numbers(shape), 1.0))
    return np.asarray((0.2071 + 1.9102 / root) / (1.2071 + 0.9102 / root))
