"""The forward model over a table of operations, and its exact form in NumPy.

``I = sum_p |FFT2(P_p(. - shift) O_patch)|^2 / N^2``, incoherent modes added as intensities; where there are
coherent modes, the probe is that of the position. Functions that take a table
(:class:`~.operations.Operations`) keep zero frequency at index 0 of the detector: measured patterns are
shifted once on entry, fields never. Those of NumPy alone have it in the middle, as patterns are stored.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .coherent import CoherentModes
from .geometry import PatchPlacement
from .operations import NUMPY, A, Operations
from .probe import mode_intensity, shift_ramp

__all__ = [
    'BACKGROUND',
    'MODULUS_FLOOR',
    'PIXELS',
    'back_projection',
    'cut_patches',
    'deviance',
    'deviance_per_pixel',
    'far_field',
    'informative',
    'modulus_floor',
    'predict_intensity',
    'probe_spectrum',
    'shift_probe',
    'total_intensity',
]

ComplexArray = npt.NDArray[np.complexfloating[Any, Any]]
FloatArray = npt.NDArray[np.floating[Any]]

PIXELS = (-2, -1)

BACKGROUND = 0.01
"""Counts per pixel added to a predicted rate in the likelihood, as by a very dark detector: far below one
photon, it keeps the logarithm finite where no light is predicted."""

MODULUS_FLOOR = 1e-6
"""Intensity, relative to the probe's mean over the detector, below which a predicted field has no phase to
speak of; keeps the modulus constraint differentiable. Relative, so that the dose does not matter."""


def probe_spectrum(ops: Operations[A], probe: A, changes: A | None = None, weights: A | None = None) -> A:
    """Return the Fourier transform (n, P, N, N) of the probe of each position.

    To modes (P, N, N) changes (K, P, N, N) are added by `weights` (n, K); without them n is 1.
    """
    spectrum = ops.fft2(probe)[None]
    if changes is None or weights is None:
        return spectrum
    # Weights are real: a product of complex matrices would cost twice as much.
    flat = ops.reshape(ops.fft2(changes), (ops.length(changes), -1))
    added = ops.complex(weights @ ops.real(flat), weights @ ops.imag(flat))
    return spectrum + ops.reshape(added, (-1, ops.length(probe), *probe.shape[-2:]))


def shift_probe(
    ops: Operations[A],
    probe: A,
    subpixel_shift: A,
    exposure: A | None = None,
    changes: A | None = None,
    weights: A | None = None,
) -> A:
    """Return modes (P, N, N) at each sub-pixel shift [dy, dx] (n, 2): (n, P, N, N).

    `exposure` (n,) multiplies them, the square root of the intensity of each exposure. `changes` and
    `weights` are as for :func:`probe_spectrum`.
    """
    ramp = shift_ramp(ops, probe.shape[-2:], subpixel_shift)
    if exposure is not None:
        ramp = ops.scaled(ramp, exposure[:, None, None])
    return ops.ifft2(probe_spectrum(ops, probe, changes, weights) * ramp[:, None])


def far_field(ops: Operations[A], patches: A, probes: A) -> A:
    """Propagate patches (n, N, N) under shifted probes (n, P, N, N) to the detector."""
    return ops.fft2(probes * patches[:, None])


def total_intensity(ops: Operations[A], fields: A) -> A:
    """Add incoherent modes up: (n, P, N, N) -> (n, N, N)."""
    return ops.sum(ops.abs2(fields), 1)


def back_projection(ops: Operations[A], changes: A, probes: A) -> A:
    """Return what changes of the exit waves (n, P, N, N) mean for the object: (n, N, N)."""
    return ops.sum(ops.conj(probes) * changes, 1)


def deviance_per_pixel(ops: Operations[A], counts: A, rate: A, valid: A) -> A:
    """Return the Poisson deviance of each pattern (n,) per valid pixel; `valid` is (N, N) or (n, N, N).

    ``2 (k log(k / rate) - (k - rate))`` averaged over pixels: 0 for a perfect prediction, about 1 when the
    residual is photon noise at more than a few counts per pixel (McCullagh & Nelder, *Generalized Linear
    Models*, 1989, section 2.3).
    """
    rate = rate + BACKGROUND
    # It cancels badly in float32 where k is near rate; with u = (rate - k) / k it is k (u - log(1 + u)),
    # which in turn is bad where the rate is small.
    k = ops.least(counts, BACKGROUND)
    u = (rate - k) / k
    near = k * (u - ops.log1p(ops.least(u, -0.5)))
    apart = k * ops.log(k / rate) - (k - rate)
    term = 2 * ops.where(counts > 0, ops.where(u > -0.5, near, apart), rate)
    mask = ops.cast(valid, term)
    return ops.sum(term * mask, PIXELS) / ops.sum(mask, PIXELS)


def informative(counts: FloatArray, rate: FloatArray, ceiling: float) -> npt.NDArray[np.bool_]:
    """Return where counts speak for or against a rate: not where they are saturated and it is larger.

    `ceiling` is the square root of the counts from which on a pixel is saturated.
    """
    return (counts < ceiling**2) | (rate <= counts)


def modulus_floor(probe: ComplexArray) -> float:
    """Return ``MODULUS_FLOOR`` in counts per pixel for a probe (P, N, N)."""
    return float(MODULUS_FLOOR * mode_intensity(probe).mean())


def predict_intensity(
    patches: ComplexArray,
    probe: ComplexArray,
    subpixel_shift: FloatArray,
    coherent: CoherentModes | None = None,
) -> FloatArray:
    """Predict diffraction intensities in counts.

    Parameters
    ----------
    patches : (n, N, N) complex
        Object patches on whole object pixels.
    probe : (P, N, N) complex
        Incoherent modes, in units of the square root of counts.
    subpixel_shift : (n, 2) float
        Sub-pixel [dy, dx] of each position (:func:`~.geometry.place_patches`).
    coherent : CoherentModes, optional
        Those of these n positions.

    Returns
    -------
    (n, N, N) float
        Zero frequency at N//2.
    """
    varying = () if coherent is None else (coherent.beside(probe), coherent.weights)
    probes = shift_probe(NUMPY, probe, np.asarray(subpixel_shift, np.float64), None, *varying)
    return NUMPY.to_middle(total_intensity(NUMPY, far_field(NUMPY, patches, probes)))


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


def deviance(counts: FloatArray, rate: FloatArray, valid: npt.NDArray[np.bool_]) -> FloatArray:
    """Return :func:`deviance_per_pixel` of patterns (n, N, N) in float64: (n,)."""
    return deviance_per_pixel(NUMPY, np.asarray(counts, np.float64), np.asarray(rate, np.float64), valid)
