"""What a block of patterns says about an object and an experiment: the likelihood and its gradients.

Functions over a table of operations, clauses REF-* of ``specs/physics.md``; a term of the model is written
here and nowhere else. Arrays on the detector keep zero frequency at index 0.
"""

from __future__ import annotations

from typing import Any, Generic, NamedTuple

import numpy as np
import numpy.typing as npt

from .forward import BACKGROUND, back_projection, far_field, probe_spectrum, shift_probe, total_intensity
from .likelihood import Likelihood
from .operations import NUMPY, A, Operations
from .probe import shift_ramp

__all__ = [
    'Block',
    'CoherentTerms',
    'CurvedFields',
    'ExperimentTerms',
    'ObjectTerms',
    'ScanArrays',
    'curvature_terms',
    'curved_fields',
    'experiment_terms',
    'held_out_terms',
    'object_terms',
    'position_curvature',
    'residual_factor',
    'residual_terms',
]

MISFIT = 5.0
"""Standard deviations of photon noise, with one count added to the variance, that no chance explains."""

IMAGE = (1, 2)
"""Axes of the pixels of patterns (b, N, N)."""


class ScanArrays(NamedTuple, Generic[A]):
    """What is on a device of the n patterns of a scan."""

    amplitude: A | None
    """(n, N, N) measured; None where each block brings its own."""
    probes: A | None
    """(n, P, N, N) shifted, of the exposures; None where they are made for each block."""
    probe: A
    """(P, N, N)."""
    subpixel_shift: A
    """(n, 2) sub-pixel shifts."""
    exposure: A
    """(n,) factors of the probe."""
    dark_rate: A
    """(N, N) counts without any light."""
    floor: A
    """() of the modulus."""
    fitted: A
    """(S, N, N) 1 where pixels are fitted, 0 at bad and at held-out ones."""
    held_out: A
    """(S, h) flat indices of the held-out pixels."""
    ceiling: A | None = None
    """() amplitude from which on pixels are saturated; None where none are."""
    changes: A | None = None
    """(K, P, N, N) by which the probe varies over the scan; None where it does not."""
    weights: A | None = None
    """(n, K) of the changes at each position."""


class Block(NamedTuple, Generic[A]):
    """Which b patterns are meant."""

    chosen: Any
    """(b,) indices, or a slice."""
    sets: Any
    """(b,) which of the S sets of held-out pixels each has, or a slice."""
    amplitude: A | None
    """(b, N, N) measured, where :class:`ScanArrays` has none."""


class ObjectTerms(NamedTuple, Generic[A]):
    """What b patterns say about the object."""

    held_out: A
    """() Poisson deviance, summed over the held-out pixels."""
    updates: A
    """(b, N, N) gradient of each pattern."""
    illumination: A | None
    """(b, N, N) in counts, where it was asked for."""


class CurvedFields(NamedTuple, Generic[A]):
    """An object as b patterns see it, about which their curvature is taken."""

    fields: A
    """(b, P, N, N) at the detector."""
    inverse: A
    """(b, N, N) one over the predicted rate at fitted pixels, 0 elsewhere."""


class CoherentTerms(NamedTuple, Generic[A]):
    """What b patterns say of how their probe varies."""

    modes: A
    """(2, K, P N N) real and imaginary part of the Fourier transform of the gradient by the changes."""
    modes_weight: A
    """(K, N N) what the object let through of each."""
    force: A
    """(b, K) by the weights."""
    curvature: A
    """(b, K K) by the weights."""


class ExperimentTerms(NamedTuple, Generic[A]):
    """What b patterns say about the object and the experiment."""

    updates: A
    """(b, N, N) gradient of each pattern by the object."""
    illumination: A
    """(b, N, N) in counts."""
    held_out: A
    """() Poisson deviance, summed over the held-out pixels."""
    background: A
    """(2, N, N) force and curvature of the background."""
    each: A
    """(b, 4) force and curvature of the intensity, force by dy and dx of the position."""
    curvature: A
    """(b, 3) of the position by yy, yx and xx."""
    probe: A
    """(P, N, N) Fourier transform of the gradient by the probe."""
    probe_weight: A
    """(N, N) what the object let through."""
    coherent: CoherentTerms[A] | None
    """None where the probe does not vary."""


def residual_factor(
    ops: Operations[A], amplitude: A, rate: A, dark_rate: A | float, floor: A | float, likelihood: Likelihood
) -> A:
    """Return f, so that ``f Ψ`` is the descent direction of the wave Ψ at the detector (REF-01).

    'poisson': half the gradient of ``λ - k log λ``, in which ``k/λ`` is replaced by ``2 sqrt(k/λ)`` where it
    is above 4, so that the step stays bounded in the dark. 'amplitude': that of ``(sqrt λ - sqrt k)^2``.
    """
    if likelihood == 'poisson':
        ratio = amplitude * ops.rsqrt(rate + dark_rate)
        return 0.5 - (0.5 * ratio) * ops.most(ratio, 2.0)
    return 1 - amplitude * ops.rsqrt(rate + (dark_rate - BACKGROUND) + floor)


def object_terms(
    ops: Operations[A],
    patches: A,
    scan: ScanArrays[A],
    block: Block[A],
    likelihood: Likelihood,
    illuminated: bool,
) -> ObjectTerms[A]:
    """Return the gradient by the object (b, N, N) under each pattern; the illumination if asked for."""
    probes, fields, amplitude = _predicted(ops, patches, scan, block)
    rate = total_intensity(ops, fields)
    held_out = ops.sum(_held_out_deviance(ops, rate, amplitude, scan, block), 0)
    factor = residual_factor(ops, amplitude, rate, scan.dark_rate, scan.floor, likelihood)
    changes = _at_the_object(ops, fields, factor * _fitted(ops, amplitude, rate, scan, block))
    illumination = total_intensity(ops, probes) if illuminated else None
    return ObjectTerms(held_out, back_projection(ops, changes, probes), illumination)


def curved_fields(ops: Operations[A], patches: A, scan: ScanArrays[A], block: Block[A]) -> CurvedFields[A]:
    """Return what :func:`curvature_terms` needs of an object, whatever the direction."""
    _, fields, amplitude = _predicted(ops, patches, scan, block)
    rate = total_intensity(ops, fields)
    fitted = _fitted(ops, amplitude, rate, scan, block)
    return CurvedFields(fields, fitted / (rate + scan.dark_rate))


def curvature_terms(
    ops: Operations[A], curved: CurvedFields[A], direction: A, scan: ScanArrays[A], block: Block[A]
) -> A:
    """Return the part (b, N, N) of each pattern in the curvature along a direction (b, N, N) (SOLVE-08)."""
    probes = _probes(ops, scan, block)
    moved = far_field(ops, direction, probes)
    product = ops.sum(ops.real_product(curved.fields, moved), 1)
    back = _at_the_object(ops, curved.fields, product * curved.inverse)
    return back_projection(ops, back, probes)


def held_out_terms(ops: Operations[A], patches: A, scan: ScanArrays[A], block: Block[A]) -> A:
    """Return the Poisson deviance (b,) summed over the held-out pixels of each pattern."""
    _, fields, amplitude = _predicted(ops, patches, scan, block)
    return _held_out_deviance(ops, total_intensity(ops, fields), amplitude, scan, block)


def residual_terms(ops: Operations[A], patches: A, scan: ScanArrays[A], block: Block[A]) -> A:
    """Return sums over the patterns (4, N, N) at fitted pixels: counts, rates, misfits, and how many fit."""
    _, fields, amplitude = _predicted(ops, patches, scan, block)
    counts, rate = amplitude * amplitude, total_intensity(ops, fields) + scan.dark_rate
    off = counts - rate
    misfit = ops.cast(off * off > MISFIT**2 * (rate + 1), rate)
    fitted = _fitted(ops, amplitude, rate - scan.dark_rate, scan, block)
    images = (fitted * counts, fitted * rate, fitted * misfit, fitted)
    return ops.wide(ops.stack([ops.sum(image, 0) for image in images], 0))


def experiment_terms(
    ops: Operations[A], patches: A, bent: A, scan: ScanArrays[A], block: Block[A], unbiased: bool = False
) -> ExperimentTerms[A]:
    """Return the Poisson gradients by object, probe, positions, intensities and background in one pass.

    `bent` (N * N, 3) is :func:`position_curvature` of the probe. If `unbiased`, those by object, probe and
    positions are of mean zero at the truth: bounded steps, and the dark rate of the likelihood, are not.
    """
    probes, fields, amplitude = _predicted(ops, patches, scan, block)
    own = total_intensity(ops, fields)
    rate = own + scan.dark_rate
    fitted = _fitted(ops, amplitude, own, scan, block)
    inverse = fitted / rate
    excess = fitted - amplitude * amplitude * inverse
    if unbiased:
        factor = 0.5 * (own + (scan.dark_rate - BACKGROUND) - amplitude * amplitude) / rate
    else:
        factor = residual_factor(ops, amplitude, own, scan.dark_rate, scan.floor, 'poisson')
    changes = _at_the_object(ops, fields, factor * fitted)
    held_out = _held_out_deviance(ops, own, amplitude, scan, block)
    exposure = ops.take(scan.exposure, block.chosen)[:, None, None]
    size = patches.shape[-1]
    ramp = shift_ramp(ops, (size, size), -ops.take(scan.subpixel_shift, block.chosen))
    waves = ops.fft2(ops.conj(patches)[:, None] * changes) * ops.scaled(ramp, exposure)[:, None]
    spectrum = probe_spectrum(ops, scan.probe, scan.changes, _weights(ops, scan, block))
    sideways = ops.sum(ops.imag(ops.conj(spectrum) * waves), 1)
    slope = (-2 * np.pi) * ops.frequencies(size, rate)
    seen = exposure * exposure * ops.abs2(patches)
    return ExperimentTerms(
        updates=back_projection(ops, changes, probes),
        illumination=total_intensity(ops, probes),
        held_out=ops.sum(held_out, 0),
        background=ops.wide(ops.stack([ops.sum(a, 0) for a in (excess, inverse)], 0)),
        each=ops.stack(
            [
                ops.sum(excess * own, IMAGE),
                ops.sum(inverse * own * own, IMAGE),
                ops.sum(ops.sum(sideways, 2) * slope, 1),
                ops.sum(ops.sum(sideways, 1) * slope, 1),
            ],
            1,
        ),
        curvature=ops.reshape(seen, (-1, size * size)) @ bent,
        probe=ops.sum(waves, 0),
        probe_weight=ops.sum(seen, 0),
        coherent=_coherent_terms(ops, waves, seen, scan, block),
    )


def _coherent_terms(
    ops: Operations[A], waves: A, seen: A, scan: ScanArrays[A], block: Block[A]
) -> CoherentTerms[A] | None:
    """Return the gradient by what varies of a probe, of `waves` (b, P, N, N), that by the probe."""
    weights = _weights(ops, scan, block)
    if scan.changes is None or weights is None:
        return None
    size = seen.shape[-1]
    gradient = ops.reshape(waves, (ops.length(waves), -1))
    changes = ops.reshape(ops.fft2(scan.changes), (ops.length(scan.changes), -1))
    parts = [(part(gradient), ops.transpose(part(changes))) for part in (ops.real, ops.imag)]
    light = ops.reshape(seen, (-1, size * size))
    products = ops.sum(ops.real_product(scan.changes[:, None], scan.changes[None]), 2)
    across = ops.transpose(weights)
    return CoherentTerms(
        modes=ops.stack([across @ part for part, _ in parts], 0),
        modes_weight=ops.transpose(weights * weights) @ light,
        force=parts[0][0] @ parts[0][1] + parts[1][0] @ parts[1][1],
        curvature=light @ ops.transpose(ops.reshape(products, (-1, size * size))),
    )


def position_curvature(probe: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return ``Re sum_p conj(dP) dP`` (N * N, 3) by yy, yx and xx of a probe (P, N, N).

    Times the square of the object under a pattern, and summed, it is the curvature of its position. The
    sub-pixel shift of the probe is left out: it changes the length of a step, and hardly.
    """
    frequency = 2j * np.pi * np.fft.fftfreq(probe.shape[-1])
    spectrum = NUMPY.fft2(probe)
    dy, dx = NUMPY.ifft2(spectrum * frequency[:, None]), NUMPY.ifft2(spectrum * frequency)
    products = [NUMPY.real_product(a, b).sum(axis=0) for a, b in ((dy, dy), (dy, dx), (dx, dx))]
    return np.stack([product.ravel() for product in products], axis=1)


def _probes(ops: Operations[A], scan: ScanArrays[A], block: Block[A]) -> A:
    """Return shifted probes (b, P, N, N)."""
    if scan.probes is not None:
        return ops.take(scan.probes, block.chosen)
    subpixel_shift, exposure = (ops.take(a, block.chosen) for a in (scan.subpixel_shift, scan.exposure))
    return shift_probe(ops, scan.probe, subpixel_shift, exposure, scan.changes, _weights(ops, scan, block))


def _weights(ops: Operations[A], scan: ScanArrays[A], block: Block[A]) -> A | None:
    """Return the weights (b, K) of the changes of the probe."""
    return None if scan.weights is None else ops.take(scan.weights, block.chosen)


def _predicted(ops: Operations[A], patches: A, scan: ScanArrays[A], block: Block[A]) -> tuple[A, A, A]:
    """Return shifted probes, fields at the detector (b, P, N, N) and measured amplitudes (b, N, N)."""
    probes = _probes(ops, scan, block)
    if block.amplitude is not None:
        amplitude = block.amplitude
    else:
        assert scan.amplitude is not None
        amplitude = ops.take(scan.amplitude, block.chosen)
    return probes, far_field(ops, patches, probes), amplitude


def _at_the_object(ops: Operations[A], fields: A, factor: A) -> A:
    """Return the change of the exit waves (b, P, N, N) for a real factor (b, N, N) of their fields."""
    return ops.ifft2(ops.scaled(fields, factor[:, None]))


def _fitted(ops: Operations[A], amplitude: A, rate: A, scan: ScanArrays[A], block: Block[A]) -> A:
    """Return 1 (b, N, N) where pixels are fitted, 0 where not: saturated ones need no more light (REF-17)."""
    fitted = ops.take(scan.fitted, block.sets)
    if scan.ceiling is None:
        return fitted
    enough = ops.both(amplitude > scan.ceiling, rate + scan.dark_rate > amplitude * amplitude)
    return ops.where(enough, 0 * fitted, fitted)


def _held_out_deviance(ops: Operations[A], rate: A, amplitude: A, scan: ScanArrays[A], block: Block[A]) -> A:
    """Return the Poisson deviance (b,) summed over the held-out pixels of each pattern."""
    pixels = ops.take(scan.held_out, block.sets)
    dark = ops.take(ops.reshape(scan.dark_rate, (-1,)), pixels)
    measured, own, dark = map(ops.wide, (ops.pick(amplitude, pixels), ops.pick(rate, pixels), dark))
    k, lam = measured * measured, own + dark
    if scan.ceiling is not None:
        k = ops.where(ops.both(measured > ops.wide(scan.ceiling), lam > k), lam, k)
    return 2 * ops.sum(ops.xlogy(k, k / lam) - (k - lam), 1)
