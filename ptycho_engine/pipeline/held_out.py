"""The patterns of a scan with the pixels that judge a result and are not fitted (REF-04, REF-05)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import fft

from ..blocks import block_length, blocks, evenly_spread, most_patterns
from ..physics.forward import cut_patches, deviance, predict_intensity
from ..physics.geometry import PatchPlacement
from ..physics.noise import noise_deviance
from ..physics.refinement import ScanPatterns, draw_held_out
from .prepared import PreparedScan

__all__ = ['HELD_OUT_FRACTION', 'is_near', 'scan_patterns']

HELD_OUT_FRACTION = 0.02
"""Part of the good pixels that judges and is not fitted."""

LEAST_NOISE, MOST_NOISE, EXPLAINED = 0.8, 1.05, 0.01
"""A network's object is near the best there is, so that no other start is worth its time, if its held-out
deviance is at most so many times that of photon noise, or if beyond noise it predicts counts to within such a
part of them. If it is far less than noise, the numbers are not of photons, and noise is no measure."""

COMPARED_PATTERNS, COMPARED_PIXELS = 128, 128 * 128**2
"""Patterns, evenly spread, that this is judged by, and at most so many pixels of them."""


def scan_patterns(
    prepared: PreparedScan, seed: int | None, fraction: float = HELD_OUT_FRACTION, *, multiple: int = 1
) -> ScanPatterns:
    """Return the patterns of a scan on a canvas that holds every patch whole.

    Parameters
    ----------
    seed : int, optional
        Of the pixels that are held out; None to fit them all.
    fraction : float
        Part of the good pixels that is held out.
    multiple : int
        The sides of the canvas are multiples of this; it grows at its end.
    """
    good, margin = prepared.good, prepared.margin
    height, width = (-(-(side + 2 * margin) // multiple) * multiple for side in prepared.scan.grid.shape)

    def amplitude(chosen: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        return np.where(good, prepared.amplitude(chosen), np.float32(0))

    return ScanPatterns(
        probe=prepared.illumination.probe,
        good=good,
        placement=PatchPlacement(prepared.placement.corner + margin, prepared.placement.remainder),
        shape=(height, width),
        amplitude=amplitude,
        held_out=np.empty((1, 0), np.int64) if seed is None else draw_held_out(good, fraction, seed),
    )


def is_near(patterns: ScanPatterns, obj: npt.NDArray[np.complex64]) -> bool:
    """Return whether an object (H, W) predicts held-out pixels about as well as any could (REF-05)."""
    most = most_patterns(COMPARED_PATTERNS, COMPARED_PIXELS, patterns.size)
    chosen = evenly_spread(len(patterns), most)
    held_out = patterns.held_out[chosen % len(patterns.held_out)][:, None]
    rate, counts = (np.empty(held_out.shape) for _ in range(2))
    for part in blocks(len(chosen), block_length(patterns.size, len(patterns.probe))):
        members = chosen[part]
        placement = PatchPlacement(patterns.placement.corner[members], patterns.placement.remainder[members])
        patches = cut_patches(obj, placement, patterns.size)
        predicted = predict_intensity(patches, patterns.probe, placement.remainder)
        for images, values in ((predicted, rate), (np.square(patterns.amplitude(members)), counts)):
            ordered = fft.ifftshift(images, axes=(-2, -1)).reshape(len(members), 1, -1)
            values[part] = np.take_along_axis(ordered, held_out[part], axis=-1)
    found = deviance(counts, rate, np.ones(rate.shape[1:], bool)).mean()
    noise = noise_deviance(rate).mean()
    # A deviance beyond noise is about (k - r)^2 / r.
    limit = max(MOST_NOISE * noise, noise + EXPLAINED**2 * counts.mean())
    return bool(LEAST_NOISE * noise < found < limit)
