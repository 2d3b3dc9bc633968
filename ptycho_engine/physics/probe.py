"""The probe: shape rules, power and sub-pixel shift."""

from __future__ import annotations

import logging
import math
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
    'REMEDY',
    'as_mode_stack',
    'condition_probe',
    'correct_probe',
    'fourier_shift',
    'mode_intensity',
    'relative_intensity',
    'shift_ramp',
    'with_first_modes',
]

logger = logging.getLogger('ptychopinn.data')

ComplexArray = npt.NDArray[np.complexfloating[Any, Any]]

EXPECTED_SHAPES = '(N, N), (modes, N, N), (1, modes, N, N) or (N, N, modes) of complex numbers'
REMEDY = 'let it be made from the patterns (--probe estimate)'
LEAST_OTHER_SIGN = 0.1
"""Part of the largest modulus that real numbers of either sign must reach to be a real or imaginary part."""


def as_mode_stack(probe: npt.ArrayLike, name: str = 'probe') -> npt.NDArray[np.complex64]:
    """Return a probe as incoherent modes (P, N, N) complex64 (NPZ-26).

    Accepts (N, N), (P, N, N) and (1, P, N, N), the last being one coherent mode of a Ptychodus product. Axes
    of length 1 more, modes as the last axis, and real and imaginary parts as a first or last axis of 2 are
    told by one log line.

    Raises
    ------
    DataValueError
        If the array is not of such a shape, not square, not of numbers, or not finite.
    """
    array = np.asarray(probe)
    found, told = _laid_out(array)
    if found is None:
        raise DataValueError(f'{name} has shape {array.shape}; expected {EXPECTED_SHAPES}. {told}')
    if told:
        logger.info('%s has shape %s; %s.', name, array.shape, told)
    stack = as_numbers(found, np.complex64, name)
    if not np.isfinite(stack).all():
        raise DataValueError(
            f'{name} holds NaN or infinite values, or such beyond single precision (3.4e38); correct '
            f'the probe first, or {REMEDY}.'
        )
    if not np.any(stack):
        raise DataValueError(
            f'{name} is zero everywhere in single precision (below 1e-45); give a probe with some light, or '
            f'{REMEDY}.'
        )
    return stack


def _laid_out(array: npt.NDArray[Any]) -> tuple[npt.NDArray[Any] | None, str]:
    """Return modes (P, N, N) and what was taken for granted of their axes; without any, what to do."""
    shape = array.shape
    while array.ndim > 3 and array.shape[0] == 1:
        array = array[0]
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim == 2:
        array = array[np.newaxis]
    if array.ndim > 3 and shape[-1] == shape[-2]:
        return None, f'Its first axis is one of coherent modes: give the first (probe[0]), or {REMEDY}.'
    last = array.ndim == 3 and array.shape[0] == array.shape[1] != array.shape[2]
    modes = np.moveaxis(array, -1, 0) if last else array
    if modes.ndim != 3 or modes.shape[1] != modes.shape[2] or not modes.size:
        return None, _remedy(shape)
    axis = 'last' if last else 'first'
    if len(modes) == 2 and modes.dtype.kind in 'biuf':
        if not all(map(_of_either_sign, modes)):
            return None, (
                f'Its {axis} axis may be real and imaginary part, amplitude and phase, or two modes: save it '
                'as complex numbers.'
            )
        parts = (modes[0] + 1j * modes[1])[np.newaxis]
        return parts, f'its {axis} axis is taken for real and imaginary part'
    if last:
        return modes, 'its last axis is taken for the modes'
    usual = len(shape) < 4 or (len(shape) == 4 and shape[0] == 1 and shape[2] == shape[3])
    return modes, '' if usual else 'its axes of length 1 are left out'


def _of_either_sign(values: npt.NDArray[Any]) -> bool:
    """Return whether real numbers are no amplitudes: a good part of them is of either sign."""
    return bool(min(values.max(), -values.min()) > LEAST_OTHER_SIGN * np.abs(values).max() > 0)


def _remedy(shape: tuple[int, ...]) -> str:
    """Return what to do about an array that is no probe."""
    side = math.isqrt(math.prod(shape))
    if len(shape) == 1 and side > 1 and side**2 == shape[0]:
        return f'Save it as probe.reshape({side}, {side}), or {REMEDY}.'
    return f'Cut or pad it to square modes, or {REMEDY}.'


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
