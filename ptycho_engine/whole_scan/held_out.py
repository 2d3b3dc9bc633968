"""The patterns of a scan with the pixels that judge a result and are not fitted (REF-04, REF-15)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft
from scipy.special import xlogy

from ..blocks import block_length, blocks, evenly_spread, most_patterns
from ..physics.forward import BACKGROUND, cut_patches, informative, predict_intensity
from ..physics.geometry import PatchPlacement
from ..physics.likelihood import ScanPatterns, ScanPhysics, draw_held_out
from ..physics.noise import noise_deviance
from .scan_model import ScanModel

__all__ = ['HELD_OUT_FRACTION', 'Fit', 'fit_and_noise', 'fit_on_device', 'is_near', 'scan_patterns']

HELD_OUT_FRACTION = 0.02
"""Part of the valid pixels that judges and is not fitted."""

LEAST_NOISE, MOST_NOISE, EXPLAINED = 0.8, 1.05, 0.01
"""A network's object is near the best there is, so that no other start is worth its time, if its held-out
deviance is at most so many times that of photon noise, or if beyond noise it predicts counts to within such a
part of them. If it is far less than noise, the numbers are not of photons, and noise is no measure."""

TINY = 1e-9
"""Counts; keeps no rate from a division by zero."""

COMPARED_PATTERNS, COMPARED_PIXELS = 128, 128 * 128**2
"""Patterns, evenly spread, that this is judged by, and at most so many pixels of them."""


def scan_patterns(
    prepared: ScanModel,
    seed: int | None,
    *,
    multiple: int = 1,
    held_out: npt.NDArray[np.int64] | None = None,
) -> ScanPatterns:
    """Return the patterns of a scan on a canvas that holds every patch whole.

    Parameters
    ----------
    seed : int, optional
        Of the pixels that are held out; None to fit them all.
    multiple : int
        The sides of the canvas are multiples of this; it grows at its end.
    held_out : (K, h) int, optional
        Flat indices of the pixels that are held out, zero frequency at index 0; None to draw them.
    """
    valid, margin = prepared.valid, prepared.margin
    height, width = (-(-(side + 2 * margin) // multiple) * multiple for side in prepared.scan.grid.shape)

    def amplitude(chosen: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        return np.where(valid, prepared.amplitude(chosen), np.float32(0))

    if held_out is None:
        held_out = (
            np.empty((1, 0), np.int64) if seed is None else draw_held_out(valid, HELD_OUT_FRACTION, seed)
        )
    return ScanPatterns(
        probe=prepared.illumination.probe,
        coherent=prepared.coherent,
        valid=valid,
        placement=PatchPlacement(prepared.placement.corner + margin, prepared.placement.subpixel_shift),
        shape=(height, width),
        amplitude=amplitude,
        held_out=np.empty((1, 0), np.int64) if held_out is None else held_out,
        intensity=prepared.intensity,
        background=prepared.background,
        ceiling=prepared.scan.raw.ceiling / prepared.scale.unit,
    )


def is_near(patterns: ScanPatterns, obj: npt.NDArray[np.complex64]) -> bool:
    """Return whether an object (H, W) predicts held-out pixels about as well as any could (REF-15)."""
    fit = fit_and_noise(patterns, obj)
    # A deviance beyond noise is about (k - r)^2 / r.
    limit = max(MOST_NOISE * fit.noise, fit.noise + EXPLAINED**2 * fit.counts)
    return bool(LEAST_NOISE * fit.noise < fit.deviance < limit)


@dataclass(frozen=True)
class Fit:
    """How well an object predicts pixels, held out and fitted."""

    deviance: float
    """Poisson deviance per held-out pixel."""
    noise: float
    """What of it photon noise alone would leave at the predicted rates."""
    counts: float
    """Mean counts of a held-out pixel."""
    fitted: float
    """Poisson deviance per fitted pixel."""
    fitted_noise: float
    """What of that photon noise alone would leave."""

    @property
    def unexplained(self) -> float:
        """The deviance in units of photon noise, mean of held-out and of fitted pixels.

        About 1 for a right model: what an object follows of the noise lowers the one as it raises the other.
        """
        return (self.deviance / self.noise + self.fitted / self.fitted_noise) / 2


def fit_and_noise(patterns: ScanPatterns, obj: npt.NDArray[np.complex64]) -> Fit:
    """Compare what an object (H, W) predicts of evenly spread patterns with photon noise (REF-15, CAL-02)."""
    most = most_patterns(COMPARED_PATTERNS, COMPARED_PIXELS, patterns.size)
    chosen = evenly_spread(len(patterns), most)
    dark = fft.fftshift(patterns.dark_rate - BACKGROUND)
    sums = np.zeros((2, 4))
    for part in blocks(len(chosen), block_length(patterns.size, len(patterns.probe))):
        members = chosen[part]
        placement = PatchPlacement(
            patterns.placement.corner[members], patterns.placement.subpixel_shift[members]
        )
        patches = patterns.exposure[members, None, None] * cut_patches(obj, placement, patterns.size)
        varying = None if patterns.coherent is None else patterns.coherent.at(members)
        rate = predict_intensity(patches, patterns.probe, placement.subpixel_shift, varying) + dark
        counts = np.square(patterns.amplitude(members), dtype=np.float64)
        held = np.zeros((len(members), patterns.size**2), bool)
        np.put_along_axis(held, patterns.held_out[members % len(patterns.held_out)], True, axis=1)
        held = fft.fftshift(held.reshape(rate.shape), axes=(-2, -1))
        expected = rate + BACKGROUND
        each = 2 * (xlogy(counts, counts / expected) - (counts - expected))
        # The likelihood's own background is in what is predicted, not in the counts.
        noise = noise_deviance(rate) + 2 * (BACKGROUND - rate * np.log1p(BACKGROUND / np.maximum(rate, TINY)))
        seen = patterns.valid & informative(counts, expected, patterns.ceiling)
        for row, where in zip(sums, (held & seen, ~held & seen), strict=True):
            row += [where.sum(), each[where].sum(), noise[where].sum(), counts[where].sum()]
    (held_mean, fitted_mean) = sums[:, 1:] / np.maximum(sums[:, :1], 1)
    return Fit(*map(float, (*held_mean, *fitted_mean[:2])))


def fit_on_device(patterns: ScanPatterns, physics: ScanPhysics, obj: Any) -> Fit:
    """Compare the same of an object (H, W) on the device of `physics` with photon noise."""
    return fit_and_noise(patterns, physics.to_host(obj).astype(np.complex64))
