"""What patterns can tell of the position of their probe: Fisher's information (CAL-10)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft

from .forward import cut_patches
from .geometry import PatchPlacement
from .likelihood import ScanPatterns
from .probe import fourier_shift

__all__ = ['position_information']


def position_information(
    patterns: ScanPatterns, obj: npt.NDArray[np.complexfloating[Any, Any]], indices: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Return the information (b, 2, 2) on [dy, dx] that photons in the valid pixels of b patterns hold.

    ``sum dλ/da dλ/db / λ``: the covariance of the derivatives of ``λ - k log λ`` where k are photons at the
    rate λ, which an object (H, W) predicts.
    """
    placement = PatchPlacement(patterns.placement.corner[indices], patterns.placement.subpixel_shift[indices])
    patches = patterns.exposure[indices, None, None] * cut_patches(obj, placement, patterns.size)
    frequency = -2j * np.pi * np.fft.fftfreq(patterns.size)
    probe = patterns.probe[None]
    if patterns.coherent is not None:
        varying = patterns.coherent.at(indices)
        probe = probe + np.tensordot(varying.weights, varying.beside(patterns.probe), 1)
    spectrum = fft.fft2(probe)
    sideways = fft.ifft2(spectrum * frequency[:, None]), fft.ifft2(spectrum * frequency)
    field, *moved = (
        fft.fft2(fourier_shift(wave, placement.subpixel_shift[:, None]) * patches[:, None], norm='ortho')
        for wave in (probe, *sideways)
    )
    rate = (np.abs(field) ** 2).sum(axis=1) + patterns.dark_rate
    valid = fft.ifftshift(patterns.valid)
    slope = np.stack([2 * (np.conj(field) * each).real.sum(axis=1) for each in moved], axis=1)
    return np.asarray(np.einsum('jayx,jbyx,jyx->jab', slope, slope, valid / rate), dtype=np.float64)
