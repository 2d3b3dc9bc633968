"""Forward model, likelihood and their gradients in float64 NumPy.

``I = sum_p |FFT2(P_p(. - remainder) O_patch)|^2 / N^2``, zero frequency in the middle, incoherent modes
added as intensities. Both backends are tested against this module.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import xlogy

from .geometry import PatchPlacement
from .probe import fourier_shift, mode_intensity

__all__ = [
    'BACKGROUND',
    'LABEL_LIGHT',
    'LABEL_SOFTNESS',
    'MODULUS_FLOOR',
    'WINDOW_FLOOR',
    'cut_patches',
    'deviance',
    'deviance_gradient',
    'epie_step',
    'exit_waves',
    'far_field',
    'group_window',
    'merge_group',
    'modulus_floor',
    'predict_intensity',
]

ComplexArray = npt.NDArray[np.complexfloating[Any, Any]]
FloatArray = npt.NDArray[np.floating[Any]]

WINDOW_FLOOR = 1e-3
"""Smallest weight of a pixel in a merge, relative to the brightest pixel of the probe."""

BACKGROUND = 0.01
"""Counts per pixel added to a predicted rate in the likelihood, as by a very dark detector: far below one
photon, it keeps the logarithm finite where no light is predicted."""

MODULUS_FLOOR = 1e-6
"""Intensity, relative to the probe's mean over the detector, below which a predicted field has no phase to
speak of; keeps the modulus constraint differentiable. Relative, so that the dose does not matter."""


LABEL_LIGHT = 0.05
"""Illumination, relative to the brightest of the probe, below which labels count less."""

LABEL_SOFTNESS = 1e-3
"""Difference from a label below which its absolute value is rounded off, so that it has a gradient at 0."""


def modulus_floor(probe: ComplexArray) -> float:
    """Return ``MODULUS_FLOOR`` in counts per pixel for a probe (P, N, N)."""
    return float(MODULUS_FLOOR * mode_intensity(probe).mean())


def far_field(waves: ComplexArray) -> ComplexArray:
    """Propagate exit waves to the detector: unitary FFT, zero frequency at N//2."""
    return np.asarray(np.fft.fftshift(np.fft.fft2(waves, norm='ortho'), axes=(-2, -1)))


def back_propagate(fields: ComplexArray) -> ComplexArray:
    """Inverse of :func:`far_field`."""
    return np.asarray(np.fft.ifft2(np.fft.ifftshift(fields, axes=(-2, -1)), norm='ortho'))


def exit_waves(patches: ComplexArray, probe: ComplexArray, remainder: FloatArray) -> ComplexArray:
    """Return exit waves (n, P, N, N) of patches (n, N, N) under probe modes (P, N, N)."""
    shifted = fourier_shift(probe[None], np.asarray(remainder)[:, None])
    return np.asarray(shifted * patches[:, None])


def predict_intensity(patches: ComplexArray, probe: ComplexArray, remainder: FloatArray) -> FloatArray:
    """Predict diffraction intensities in counts.

    Parameters
    ----------
    patches : (n, N, N) complex
        Object patches on whole object pixels.
    probe : (P, N, N) complex
        Incoherent modes, in units of the square root of counts.
    remainder : (n, 2) float
        Sub-pixel [dy, dx] of each position (:func:`~.geometry.place_patches`).

    Returns
    -------
    (n, N, N) float
    """
    return mode_intensity(far_field(exit_waves(patches, probe, remainder)))


def cut_patches(obj: ComplexArray, placement: PatchPlacement, size: int) -> ComplexArray:
    """Cut patches (n, N, N) from an object (H, W); positions must lie inside.

    Raises
    ------
    IndexError
        If a patch reaches over the edge of the object.
    """
    corner = placement.corner
    if len(corner) and (corner.min() < 0 or (corner.max(axis=0) + size > obj.shape).any()):
        raise IndexError('A patch reaches over the edge of the object.')
    windows = np.lib.stride_tricks.sliding_window_view(obj, (size, size))
    return np.asarray(windows[corner[:, 0], corner[:, 1]])


def deviance(counts: FloatArray, rate: FloatArray, good: npt.NDArray[np.bool_]) -> FloatArray:
    """Poisson deviance per good pixel of each pattern (n,).

    ``2 (k log(k / rate) - (k - rate))`` averaged over pixels: 0 for a perfect prediction, about 1 when the
    residual is photon noise at more than a few counts per pixel (McCullagh & Nelder, *Generalized Linear
    Models*, 1989, section 2.3).
    """
    k = np.asarray(counts, dtype=np.float64)
    lam = np.asarray(rate, dtype=np.float64) + BACKGROUND
    term = 2 * (xlogy(k, k / lam) - (k - lam))
    return np.asarray((term * good).sum(axis=(-2, -1)) / good.sum())


def deviance_gradient(
    patches: ComplexArray,
    probe: ComplexArray,
    remainder: FloatArray,
    counts: FloatArray,
    good: npt.NDArray[np.bool_],
) -> ComplexArray:
    """Gradient ``dD/dRe + i dD/dIm`` of each pattern's deviance with respect to its patch (n, N, N)."""
    waves = exit_waves(patches, probe, remainder)
    fields = far_field(waves)
    rate = mode_intensity(fields) + BACKGROUND
    residual = 2 * (1 - counts / rate) * good / good.sum()
    back = back_propagate(2 * residual[:, None] * fields)
    shifted = fourier_shift(probe[None], np.asarray(remainder)[:, None])
    return np.asarray((np.conj(shifted) * back).sum(axis=1))


def epie_step(
    patches: ComplexArray,
    probe: ComplexArray,
    remainder: FloatArray,
    amplitude: FloatArray,
    good: npt.NDArray[np.bool_],
) -> ComplexArray:
    """One ePIE object update of patches taken each by itself (n, N, N).

    The modulus constraint over incoherent modes, then the object update with step 1 (Maiden & Rodenburg,
    Ultramicroscopy 109, 1256, 2009; modes: Thibault & Menzel, Nature 494, 68, 2013). Bad pixels keep the
    predicted modulus.
    """
    waves = exit_waves(patches, probe, remainder)
    fields = far_field(waves)
    modulus = np.sqrt(mode_intensity(fields) + modulus_floor(probe))
    ratio = np.where(good, amplitude / modulus, 1.0)
    revised = back_propagate(fields * ratio[:, None])
    shifted = fourier_shift(probe[None], np.asarray(remainder)[:, None])
    brightest = mode_intensity(probe).max()
    return np.asarray(patches + (np.conj(shifted) * (revised - waves)).sum(axis=1) / brightest)


def group_window(probe: ComplexArray, remainder: FloatArray) -> FloatArray:
    """Smooth positive merge weights (n, N, N): the shifted illumination, at least ``WINDOW_FLOOR``."""
    shifted = fourier_shift(probe[None], np.asarray(remainder)[:, None])
    return np.asarray(mode_intensity(shifted) / mode_intensity(probe).max() + WINDOW_FLOOR)


def merge_group(patches: ComplexArray, window: FloatArray, corner: npt.NDArray[Any]) -> ComplexArray:
    """Merge the C patches of one group and cut them again, so that they agree where they overlap.

    Parameters
    ----------
    patches : (C, N, N) complex
    window : (C, N, N) float
        Positive weights, the same in numerator and denominator.
    corner : (C, 2) int
        [row, column] of each patch.
    """
    size = patches.shape[-1]
    start = corner - corner.min(axis=0)
    shape = tuple(int(v) + size for v in start.max(axis=0))
    canvas = np.zeros(shape, np.complex128)
    weight = np.zeros(shape)
    for patch, factor, (row, column) in zip(patches, window, start, strict=True):
        canvas[row : row + size, column : column + size] += patch * factor
        weight[row : row + size, column : column + size] += factor
    canvas /= np.where(weight > 0, weight, 1.0)
    return np.stack([canvas[r : r + size, c : c + size] for r, c in start])
