"""The likelihood of all patterns of a scan on a device: what is kept there, blocks, and sums over them.

What a block of patterns says is in ``likelihood_terms``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Generic

import numpy as np
import numpy.typing as npt
from scipy import fft

from ..blocks import block_length, blocks
from .devices import Device, NumpyDevice, Obj
from .forward import modulus_floor, shift_probe
from .likelihood import (
    CoherentGradient,
    Evaluation,
    ExperimentGradient,
    IntArray,
    Likelihood,
    Residuals,
    ScanPatterns,
)
from .likelihood_terms import (
    Block,
    CoherentTerms,
    CurvedFields,
    ScanArrays,
    curvature_terms,
    curved_fields,
    experiment_terms,
    held_out_terms,
    object_terms,
    position_curvature,
    residual_terms,
)
from .operations import A, NumpyArray

__all__ = ['NumpyScanPhysics', 'ScanLikelihood']

CACHE_BYTES = 512 << 20
"""Patterns and shifted probes are kept on the device where they need less than this, else made each time.
Twice as much is needed while they are gathered, and where it suffices the fields of the object about which
the curvature is taken are kept too: conjugate gradients ask for many directions at one object."""


class ScanLikelihood(Generic[A, Obj]):
    """The likelihood of a scan's patterns and its gradients (:class:`~.likelihood.ScanPhysics`).

    Parameters
    ----------
    patterns : ScanPatterns
    device : Device
    """

    def __init__(self, patterns: ScanPatterns, device: Device[A, Obj]) -> None:
        self._device = device
        self._patterns = patterns
        self._step = max(block_length(patterns.size, len(patterns.probe)) // device.block_divisor, 1)
        valid = fft.ifftshift(patterns.valid).reshape(1, -1)
        fitted = np.repeat(valid, len(patterns.held_out), axis=0).astype(device.real)
        np.put_along_axis(fitted, patterns.held_out, 0, axis=1)
        # Repeated, so that those of neighbouring patterns are neighbours too.
        again = np.arange(self._step + len(fitted)) % len(fitted)
        self._fitted = device.send(fitted[again].reshape(-1, patterns.size, patterns.size))
        self._held_out = device.send(patterns.held_out[again])
        limited = math.isfinite(patterns.ceiling)
        self._ceiling = device.send(np.array(patterns.ceiling)) if limited else None
        needed = len(patterns) * patterns.size**2 * device.real.itemsize * (1 + 2 * len(patterns.probe))
        self._keeps = needed <= CACHE_BYTES
        self._kept = device.joined([self._loaded(c) for c in self._blocks()]) if self._keeps else None
        self._probes: A | None = None
        self._illumination: Obj | None = None
        self._keeps_fields = 2 * needed <= CACHE_BYTES
        self._curved_at: Obj | None = None
        self._curved: list[CurvedFields[A]] = []
        self._take_experiment(patterns)
        self._keep_probes()

    def to_device(self, obj: npt.NDArray[np.complex64]) -> Obj:
        """Return a copy of an object on the device."""
        return self._device.new_object(obj)

    def to_host(self, array: Obj) -> npt.NDArray[Any]:
        """Return a copy of an object for NumPy."""
        return self._device.host_object(array)

    def filtered(self, values: Obj, gain: Obj) -> Obj:
        """Return real values (H, W) whose Fourier transform was multiplied by `gain` (H, W)."""
        return self._device.filtered(values, gain)

    def evaluate(self, obj: Obj, indices: IntArray, likelihood: Likelihood) -> Evaluation:
        """Return gradient, weight and held-out deviance of the given patterns."""
        device, everything = self._device, len(indices) == len(self._patterns)
        gradient = device.zeros(obj, real=False)
        known = self._illumination if everything else None
        weight = device.zeros(obj, real=True) if known is None else known * 1
        held_out: Any = 0.0
        for place, block, scan in self._each(indices):
            patches = device.cut(obj, place, self._patterns.size)
            found = device.run(
                object_terms, patches, scan, block, likelihood=likelihood, illuminated=known is None
            )
            held_out = held_out + found.held_out
            light = [] if found.illumination is None else [(weight, found.illumination)]
            device.add(place, (gradient, found.updates), *light)
        if everything and known is None:
            self._illumination = weight * 1
        return Evaluation(gradient, weight, float(held_out))

    def curvature_along(self, obj: Obj, direction: Obj) -> Obj:
        """Return the Gauss-Newton curvature of the likelihood, applied to a direction (H, W)."""
        device, size = self._device, self._patterns.size
        result = device.zeros(obj, real=False)
        known = self._curved if self._curved_at is obj else None
        fresh = []
        for number, (place, block, scan) in enumerate(self._each()):
            if known is None:
                curved = device.run(curved_fields, device.cut(obj, place, size), scan, block)
            else:
                curved = known[number]
            if self._keeps_fields:
                fresh.append(curved)
            moved = device.cut(direction, place, size)
            device.add(place, (result, device.run(curvature_terms, curved, moved, scan, block)))
        if self._keeps_fields:
            self._curved_at, self._curved = obj, fresh
        return result

    def held_out(self, obj: Obj) -> float:
        """Return the Poisson deviance per held-out pixel of all patterns."""
        return float(self.held_out_each(obj).mean())

    def held_out_each(self, obj: Obj) -> npt.NDArray[np.float64]:
        """Return the Poisson deviance per held-out pixel of each pattern (n,)."""
        each = [
            self._device.run(held_out_terms, self._device.cut(obj, place, self._patterns.size), scan, block)
            for place, block, scan in self._each()
        ]
        return np.asarray(self._fetched(each) / self._patterns.held_out.shape[1])

    def residuals(self, obj: Obj) -> Residuals:
        """Return what the fitted pixels say about the detector."""
        total: Any = 0
        for place, block, scan in self._each():
            patches = self._device.cut(obj, place, self._patterns.size)
            total = total + self._device.run(residual_terms, patches, scan, block)
        return Residuals(*self._device.fetch(total).astype(np.float64))

    def gradient_power(self, obj: Obj) -> tuple[Obj, Obj]:
        """Return ``sum_j |g_j|^2`` and ``sum_j |P_j|^2`` over all patterns."""
        device = self._device
        power, weight = (device.zeros(obj, real=True) for _ in range(2))
        for place, block, scan in self._each():
            patches = device.cut(obj, place, self._patterns.size)
            found = device.run(object_terms, patches, scan, block, likelihood='poisson', illuminated=True)
            assert found.illumination is not None
            device.add(place, (power, device.ops.abs2(found.updates)), (weight, found.illumination))
        return power, weight

    def experiment_gradient(
        self, obj: Obj, indices: IntArray, *, unbiased: bool = False
    ) -> ExperimentGradient:
        """Return the Poisson gradient by the object and by the experiment of the given patterns."""
        device = self._device
        gradient, weight = (device.zeros(obj, real=real) for real in (False, True))
        bent = device.send(position_curvature(self._patterns.averaged_probe))
        each, curvature, varying = [], [], []
        probe: Any = 0
        probe_weight: Any = 0
        background: Any = 0
        held_out: Any = 0
        for place, block, scan in self._each(indices, moving=True):
            patches = device.cut(obj, place, self._patterns.size)
            found = device.run(experiment_terms, patches, bent, scan, block, unbiased=unbiased)
            device.add(place, (gradient, found.updates), (weight, found.illumination))
            each.append(found.each)
            curvature.append(found.curvature)
            if found.coherent is not None:
                varying.append(found.coherent)
            probe, probe_weight = probe + found.probe, probe_weight + found.probe_weight
            background, held_out = background + found.background, held_out + found.held_out
        rates_and_forces = self._fetched(each)
        force, bend = device.fetch(background)
        return ExperimentGradient(
            evaluation=Evaluation(gradient, weight, float(held_out)),
            intensity_force=rates_and_forces[:, 0],
            intensity_curvature=rates_and_forces[:, 1],
            background_force=force,
            background_curvature=bend,
            probe=device.fetch(device.ops.ifft2(probe)),
            probe_weight=device.fetch(probe_weight),
            force=rates_and_forces[:, 2:],
            curvature=self._fetched(curvature)[:, [[0, 1], [1, 2]]],
            coherent=self._coherent_gradient(varying) if varying else None,
        )

    def _coherent_gradient(self, parts: list[CoherentTerms[A]]) -> CoherentGradient:
        """Return the sums over blocks of patterns."""
        fetch, size = self._device.fetch, self._patterns.size
        weights = np.asarray(sum(fetch(part.modes_weight) for part in parts))
        real, imaginary = np.asarray(sum(fetch(part.modes) for part in parts))
        spectrum = (real + 1j * imaginary).reshape(len(weights), -1, size, size)[:, 0]
        return CoherentGradient(
            modes=fft.ifft2(spectrum, norm='ortho'),
            modes_weight=weights.reshape(-1, size, size),
            force=self._fetched([part.force for part in parts]),
            curvature=self._fetched([part.curvature for part in parts]).reshape(
                -1, len(weights), len(weights)
            ),
        )

    def set_experiment(self, patterns: ScanPatterns) -> None:
        """Take the probe, sub-pixel shifts, intensities and background of `patterns` from now on."""
        moved = not self._patterns.lit_as(patterns)
        self._patterns = patterns
        self._take_experiment(patterns)
        if moved:
            # Kept again once the patterns are looked at without being moved, or a second time.
            self._probes, self._seen = None, 0

    def _take_experiment(self, patterns: ScanPatterns) -> None:
        send = self._device.send
        self._experiment = (
            send(patterns.probe),
            send(patterns.placement.subpixel_shift),
            send(patterns.exposure),
            send(patterns.dark_rate),
            send(np.array(modulus_floor(patterns.probe))),
        )
        varying = patterns.coherent
        self._varying: tuple[A, A] | tuple[()] = ()
        if varying is not None:
            self._varying = send(varying.beside(patterns.probe)), send(varying.weights)
        self._illumination = self._curved_at = None
        self._curved = []

    def _keep_probes(self) -> None:
        """Shift the probe for each pattern once and for all."""
        self._seen = 0
        if self._keeps:
            probe, subpixel_shift, exposure, *_ = self._experiment
            changes, weights = self._varying or (None, None)
            take, select, run = self._device.ops.take, self._device.selection, self._device.run
            parts = [
                run(
                    shift_probe,
                    probe,
                    take(subpixel_shift, part),
                    take(exposure, part),
                    changes,
                    None if weights is None else take(weights, part),
                )
                for part in map(select, self._blocks())
            ]
            self._probes = self._device.joined(parts)

    def _blocks(self, indices: IntArray | None = None) -> Iterator[IntArray]:
        chosen = np.arange(len(self._patterns)) if indices is None else indices
        for part in blocks(len(chosen), self._step):
            yield chosen[part]

    def _loaded(self, chosen: IntArray) -> A:
        """Read amplitudes (b, N, N), zero frequency at index 0."""
        return self._device.send(fft.ifftshift(self._patterns.amplitude(chosen), axes=(-2, -1)))

    def _each(
        self, indices: IntArray | None = None, *, moving: bool = False
    ) -> Iterator[tuple[Any, Block[A], ScanArrays[A]]]:
        """Yield corners (b, 2), and what the terms need, block by block of the given patterns.

        `moving` tells that the experiment is likely to be another one next time.
        """
        count = len(self._patterns) if indices is None else len(indices)
        if self._probes is None:
            whole = count == len(self._patterns)
            if (whole and not moving) or self._seen + count > len(self._patterns):
                self._keep_probes()
        self._seen += count
        scan = ScanArrays(
            *(self._kept, self._probes, *self._experiment, self._fitted, self._held_out, self._ceiling),
            *self._varying,
        )
        device, sets = self._device, len(self._patterns.held_out)
        for chosen in self._blocks(indices):
            first, count = int(chosen[0]), len(chosen)
            run = int(chosen[-1]) - first == count - 1 and bool((np.diff(chosen) == 1).all())
            block = Block(
                device.selection(slice(first, first + count) if run else chosen),
                device.selection(slice(first % sets, first % sets + count) if run else chosen % sets),
                None if self._keeps else self._loaded(chosen),
            )
            yield device.place(self._patterns.placement.corner[chosen]), block, scan

    def _fetched(self, parts: list[A]) -> npt.NDArray[np.float64]:
        """Return arrays of the blocks end to end, for NumPy."""
        return np.concatenate([self._device.fetch(part) for part in parts]).astype(np.float64)


class NumpyScanPhysics(ScanLikelihood[NumpyArray, NumpyArray]):
    """The likelihood in NumPy, in the precision of the probe."""

    def __init__(self, patterns: ScanPatterns) -> None:
        super().__init__(patterns, NumpyDevice(patterns.probe.real.dtype))
