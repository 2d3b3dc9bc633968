"""The probe: shape rules, power and sub-pixel shift."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter
from scipy.special import ndtr

from ..arrays import as_numbers
from ..config.model import ModelConfig
from ..errors import DataValueError
from .operations import NUMPY, A, Operations

__all__ = [
    'as_mode_stack',
    'condition_probe',
    'correct_probe',
    'fourier_shift',
    'mode_intensity',
    'relative_intensity',
    'shift_ramp',
    'with_first_modes',
]

ComplexArray = npt.NDArray[np.complexfloating[Any, Any]]


def as_mode_stack(probe: npt.ArrayLike, name: str = 'probe') -> npt.NDArray[np.complex64]:
    """Return a probe as incoherent modes (P, N, N) complex64.

    Accepts (N, N), (P, N, N) and (1, P, N, N), the last being one coherent mode of a Ptychodus product.

    Raises
    ------
    DataValueError
        If the array is not of such a shape, not square, not of numbers, or not finite.
    """
    array = np.asarray(probe)
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    elif array.ndim == 2:
        array = array[np.newaxis]
    if array.ndim != 3 or array.shape[-1] != array.shape[-2] or array.shape[0] < 1:
        raise DataValueError(
            f'{name} has shape {np.shape(probe)}; expected (N, N), (modes, N, N) or '
            '(1, modes, N, N) with square modes.'
        )
    stack = as_numbers(array, np.complex64, name)
    if not np.isfinite(stack).all():
        raise DataValueError(
            f'{name} holds NaN or infinite values, or such beyond single precision (3.4e38); correct '
            'the probe first.'
        )
    if not np.any(stack):
        raise DataValueError(
            f'{name} is zero everywhere in single precision (below 1e-45); give a probe with some light.'
        )
    return stack


def condition_probe(probe: npt.NDArray[np.complex64], model: ModelConfig) -> npt.NDArray[np.complex64]:
    """Smooth and mask probe modes (P, N, N) as the model's configuration says; by default, not at all.

    The mask is a disk around (N-1)/2 whose edge is a normal distribution function.
    """
    result = probe
    if model.gaussian_smoothing_sigma > 0:
        sigma = (0, model.gaussian_smoothing_sigma, model.gaussian_smoothing_sigma)
        result = gaussian_filter(result, sigma, mode='constant')
    if model.probe_mask:
        size = probe.shape[-1]
        axis = np.arange(size) - (size - 1) / 2
        inside = (model.probe_mask_diameter or size / 2) / 2 - np.hypot(axis[:, None], axis)
        edge = ndtr(inside / model.probe_mask_sigma) if model.probe_mask_sigma > 0 else inside >= 0
        result = result * edge
    return np.asarray(result, dtype=np.complex64)


def correct_probe(
    probe: npt.NDArray[np.complex64], correction: npt.NDArray[np.float32]
) -> npt.NDArray[np.complex64]:
    """Add a trained correction (P, N, N, 2) to probe modes (P, N, N).

    The correction is relative to the square root of the brightest intensity, so it does not depend on the
    dose.

    Raises
    ------
    DataValueError
        If it is for another probe.
    """
    if correction.shape != (*probe.shape, 2):
        raise DataValueError(
            f'The model has learned a correction for a probe of shape {correction.shape[:-1]}, but the probe '
            f'of the scan has shape {probe.shape}; give a probe with as many modes, or a model without '
            'probe_trainable.'
        )
    unit = np.sqrt(mode_intensity(probe.astype(np.complex128)).max())
    return np.asarray(probe + unit * (correction[..., 0] + 1j * correction[..., 1]), dtype=np.complex64)


def with_first_modes(probes: ComplexArray, modes: ComplexArray) -> ComplexArray:
    """Return probes (coherent, P, N, N) with other incoherent modes (Q, N, N) of the first coherent one.

    Where Q is larger the others get empty modes, where it is smaller they lose the last ones.
    """
    result = np.zeros((len(probes), *modes.shape), probes.dtype)
    common = min(probes.shape[1], len(modes))
    result[:, :common] = probes[:, :common]
    result[0] = modes
    return result


def mode_intensity(probe: ComplexArray) -> npt.NDArray[Any]:
    """Return the illumination summed over incoherent modes: (..., P, N, N) -> (..., N, N)."""
    return np.asarray((np.abs(probe) ** 2).sum(axis=-3))


def relative_intensity(probe: ComplexArray) -> npt.NDArray[np.float64]:
    """Return the illumination (N, N) of modes (P, N, N) relative to its brightest pixel.

    Unlike :func:`mode_intensity` it fits in whatever the units of the probe.
    """
    intensity = mode_intensity(probe.astype(np.complex128))
    return np.asarray(intensity / intensity.max(), dtype=np.float64)


def fourier_shift(images: ComplexArray, shift: npt.ArrayLike) -> ComplexArray:
    """Shift images by a fraction of a pixel, periodically, through the Fourier shift theorem.

    Parameters
    ----------
    images : (..., M, N) complex
        Images to move.
    shift : (..., 2) float
        [dy, dx] in pixels, broadcast against the leading axes of `images`.
    """
    ramp = shift_ramp(NUMPY, images.shape[-2:], np.asarray(shift, np.float64))
    return NUMPY.ifft2(NUMPY.fft2(images) * ramp)


def shift_ramp(ops: Operations[A], shape: Sequence[int], shift: A) -> A:
    """Return the factor (..., M, N) of a Fourier transform that shifts images (M, N) by [dy, dx] (..., 2)."""
    angles = [
        (-2 * np.pi) * shift[..., axis, None] * ops.frequencies(side, shift)
        for axis, side in enumerate(shape)
    ]
    ramp_y, ramp_x = (ops.complex(ops.cos(angle), ops.sin(angle)) for angle in angles)
    return ramp_y[..., :, None] * ramp_x[..., None, :]
