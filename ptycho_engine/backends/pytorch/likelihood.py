"""The likelihood of a whole scan in torch; ``physics/likelihood.py`` is the reference."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...blocks import block_length, blocks
from ...physics.forward import BACKGROUND, modulus_floor
from ...physics.likelihood import (
    MISFIT,
    Evaluation,
    ExperimentGradient,
    Likelihood,
    Residuals,
    ScanPatterns,
    position_curvature,
)
from . import physics

__all__ = ['TorchScanPhysics']

CACHE_BYTES = 512 << 20
"""Patterns and shifted probes are kept on the device where they need less than this, else made each time.
Twice as much is needed while they are gathered."""

BLOCK_DIVISOR = 4
"""Blocks are smaller than elsewhere: what a sweep touches between two transforms stays in the cache."""


def widest(device: torch.device) -> torch.dtype:
    """Return the dtype of sums over a scan: float64, which Apple GPUs do not have."""
    return torch.float32 if device.type == 'mps' else torch.float64


class TorchScanPhysics:
    """Gradients of the likelihood of a scan's patterns with respect to one object, on a device."""

    def __init__(self, patterns: ScanPatterns, device: torch.device, real: torch.dtype) -> None:
        self._device = device
        self._real = real
        self._wide = widest(device)
        # Illumination of the whole scan, once it is known.
        self._light: Tensor | None = None
        self._take_experiment(patterns)
        good = torch.from_numpy(patterns.good).to(device, real)
        self._good = torch.fft.ifftshift(good, dim=(-2, -1))
        self._corner = torch.from_numpy(patterns.placement.corner).to(device)
        self._held = torch.from_numpy(patterns.held_out).to(device)
        pixels = torch.arange(patterns.size, device=device)
        self._window = pixels[:, None] * patterns.shape[1] + pixels[None, :]
        step = block_length(patterns.size, len(patterns.probe))
        self._step = max(step if device.type != 'cpu' else step // BLOCK_DIVISOR, 1)
        self._cached: tuple[Tensor, Tensor] | None = None
        needed = len(patterns) * patterns.size**2 * real.itemsize * (1 + 2 * len(patterns.probe))
        if needed <= CACHE_BYTES:
            parts = [self._load(torch.arange(p.start, p.stop)) for p in blocks(len(patterns), self._step)]
            self._cached = torch.cat([a for a, _ in parts]), torch.cat([p for _, p in parts])
        # Patterns whose kept probe is that of an earlier experiment.
        self._stale = torch.zeros(len(patterns), dtype=torch.bool)

    def to_device(self, obj: npt.NDArray[np.complex64]) -> Tensor:
        """Return a copy of an object on the device."""
        return torch.tensor(obj, dtype=self._real.to_complex(), device=self._device)

    def to_host(self, array: Tensor) -> npt.NDArray[Any]:
        """Return a copy of a tensor for NumPy."""
        return np.array(array.cpu().numpy())

    def filtered(self, values: Tensor, gain: Tensor) -> Tensor:
        """Return real values (H, W) whose Fourier transform was multiplied by `gain` (H, W)."""
        result: Tensor = torch.fft.ifft2(torch.fft.fft2(values) * gain).real
        return result

    def evaluate(self, obj: Tensor, indices: npt.NDArray[np.int64], likelihood: Likelihood) -> Evaluation:
        """Return gradient, weight and held-out deviance of the given patterns."""
        gradient = torch.zeros_like(obj)
        held_out = obj.new_zeros((), dtype=self._wide)
        everything = len(indices) == len(self._patterns)
        known = self._light if everything else None
        weight = torch.zeros_like(obj.real) if known is None else known.clone()
        for chosen, probes, updates, fit in self._updates(obj, indices, likelihood):
            held_out += fit
            where = self._where(chosen)
            gradient.view(-1).index_add_(0, where, updates.reshape(-1))
            if known is None:
                weight.view(-1).index_add_(0, where, physics.mode_intensity(probes).reshape(-1))
        if everything and known is None:
            self._light = weight.clone()
        return Evaluation(gradient, weight, float(held_out))

    def curvature_along(self, obj: Tensor, direction: Tensor) -> Tensor:
        """Return what the curvature of the likelihood of all patterns makes of a direction (H, W)."""
        result = torch.zeros_like(obj)
        for chosen in self._blocks(np.arange(len(self._patterns))):
            _, probes = self._take(chosen)
            fields = physics.far_field(self._cut(obj, chosen), probes)
            moved = physics.far_field(self._cut(direction, chosen), probes)
            product = torch.addcmul(fields.real * moved.real, fields.imag, moved.imag).sum(dim=1)
            relative = product / (physics.mode_intensity(fields) + self._dark_rate)
            self._leave_out(relative, chosen)
            back = torch.fft.ifft2(fields * relative[:, None], norm='ortho')
            updates = physics.back_projection(back, probes)
            result.view(-1).index_add_(0, self._where(chosen), updates.reshape(-1))
        return result

    def held_out(self, obj: Tensor) -> float:
        """Return the Poisson deviance per held-out pixel of all patterns."""
        return float(self.held_out_each(obj).mean())

    def held_out_each(self, obj: Tensor) -> npt.NDArray[np.float64]:
        """Return the Poisson deviance per held-out pixel of each pattern (n,)."""
        each = []
        for chosen in self._blocks(np.arange(len(self._patterns))):
            amplitude, probes = self._take(chosen)
            rate = physics.mode_intensity(physics.far_field(self._cut(obj, chosen), probes))
            each.append(self._deviance(rate, amplitude, chosen))
        return self.to_host(torch.cat(each)).astype(np.float64) / self._held.shape[1]

    def residuals(self, obj: Tensor) -> Residuals:
        """Return what the fitted pixels say about the detector."""
        size = self._patterns.size
        total = obj.real.new_zeros((4, size, size), dtype=self._wide)
        for chosen in self._blocks(np.arange(len(self._patterns))):
            amplitude, probes = self._take(chosen)
            rate = physics.mode_intensity(physics.far_field(self._cut(obj, chosen), probes)) + self._dark_rate
            counts = amplitude.square()
            misfit = ((counts - rate).square() > MISFIT**2 * (rate + 1)).to(rate)
            fitted = torch.ones_like(rate)
            self._leave_out(fitted, chosen)
            for index, values in enumerate((counts, rate, misfit, torch.ones_like(rate))):
                total[index] += (fitted * values).sum(dim=0)
        return Residuals(*self.to_host(total).astype(np.float64))

    def gradient_power(self, obj: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``sum_j |g_j|^2`` and ``sum_j |P_j|^2`` over all patterns."""
        power = torch.zeros_like(obj.real)
        weight = torch.zeros_like(power)
        indices = np.arange(len(self._patterns))
        for chosen, probes, updates, _ in self._updates(obj, indices, 'poisson'):
            where = self._where(chosen)
            power.view(-1).index_add_(0, where, physics.mode_intensity(updates[:, None]).reshape(-1))
            weight.view(-1).index_add_(0, where, physics.mode_intensity(probes).reshape(-1))
        return power, weight

    def experiment_gradient(self, obj: Tensor, indices: npt.NDArray[np.int64]) -> ExperimentGradient:
        """Return the Poisson gradient by the object and by the experiment of the given patterns."""
        gradient, weight = torch.zeros_like(obj), torch.zeros_like(obj.real)
        spectrum = torch.zeros_like(self._probe)
        let_through = torch.zeros_like(spectrum[0].real)
        conjugate = torch.fft.fft2(self._probe).conj()
        bent = torch.from_numpy(position_curvature(self._patterns.probe)).to(let_through).reshape(3, -1)
        frequency = torch.fft.fftfreq(len(let_through), device=self._device, dtype=self._real)
        slope = -2 * torch.pi / let_through.numel() * frequency
        sums = obj.real.new_zeros(3, dtype=self._wide)
        each, curvature = [], []
        for chosen in self._blocks(indices):
            amplitude, probes = self._take(chosen)
            place, where = chosen.to(self._device), self._where(chosen)
            patches = self._cut(obj, chosen)
            fields = physics.far_field(patches, probes)
            own = physics.mode_intensity(fields)
            inverse = (own + self._dark_rate).reciprocal()
            ratio = amplitude.square() * inverse
            excess = 1 - ratio
            self._leave_out(excess, chosen)
            self._leave_out(inverse, chosen)
            # Beyond 4 the ratio is replaced by twice its root (REF-01).
            factor = 0.5 * torch.where(ratio > 4, 1 - 2 * ratio.sqrt(), excess)
            self._leave_out(factor, chosen)
            changes = torch.fft.ifft2(fields * factor[:, None], norm='ortho')
            gradient.view(-1).index_add_(0, where, physics.back_projection(changes, probes).reshape(-1))
            weight.view(-1).index_add_(0, where, physics.mode_intensity(probes).reshape(-1))
            waves = torch.fft.fft2(patches.conj()[:, None] * changes)
            exposure = self._exposure[place, None, None]
            waves *= (exposure * physics.shift_ramp(-self._remainder[place], self._patterns.size))[:, None]
            spectrum += waves.sum(dim=0)
            sideways = (conjugate * waves).sum(dim=1).imag
            forces = [sideways.sum(dim=dim) @ slope for dim in (2, 1)]
            rates = [(excess * own).sum(dim=(1, 2)), (inverse * own.square()).sum(dim=(1, 2))]
            each.append(torch.stack([*rates, *forces]))
            fit = self._deviance(own, amplitude, chosen).sum()
            sums += torch.stack([fit, excess.sum().to(fit), inverse.sum().to(fit)])
            seen = exposure.square() * physics.mode_intensity(patches[:, None])
            let_through += seen.sum(dim=0)
            curvature.append(seen.reshape(len(chosen), -1) @ bent.T)
        found = self.to_host(torch.cat(each, dim=1)).astype(np.float64)
        return ExperimentGradient(
            evaluation=Evaluation(gradient, weight, float(sums[0])),
            intensity_force=found[0],
            intensity_curvature=found[1],
            background_force=float(sums[1]),
            background_curvature=float(sums[2]),
            probe=self.to_host(torch.fft.ifft2(spectrum)),
            probe_weight=self.to_host(let_through),
            force=found[2:].T,
            curvature=self.to_host(torch.cat(curvature)).astype(np.float64)[:, [[0, 1], [1, 2]]],
        )

    def set_experiment(self, patterns: ScanPatterns) -> None:
        """Take the probe, remainders, intensities and background of `patterns` from now on."""
        if not self._patterns.lit_as(patterns):
            self._stale[:] = True
        self._take_experiment(patterns)

    def _take_experiment(self, patterns: ScanPatterns) -> None:
        def on_device(values: npt.NDArray[np.float64]) -> Tensor:
            return torch.from_numpy(values).to(self._real).to(self._device)

        self._patterns = patterns
        self._probe = torch.from_numpy(patterns.probe).to(self._device, self._real.to_complex())
        self._remainder = on_device(patterns.placement.remainder)
        self._exposure = on_device(patterns.exposure)
        self._dark_rate = on_device(patterns.dark_rate)
        self._floor = modulus_floor(patterns.probe)
        self._light = None

    def _shifted(self, chosen: Tensor) -> Tensor:
        """Return the probe (b, P, N, N) of some patterns."""
        where = chosen.to(self._device)
        shifted = physics.shift_probe(self._probe, self._remainder[where])
        return (
            shifted if self._patterns.intensity is None else shifted * self._exposure[where, None, None, None]
        )

    def _blocks(self, indices: npt.NDArray[np.int64]) -> Iterator[Tensor]:
        for part in blocks(len(indices), self._step):
            yield torch.from_numpy(np.ascontiguousarray(indices[part]))

    def _load(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Read amplitudes (b, N, N), zero frequency at index 0, and shift the probe (b, P, N, N)."""
        amplitude = torch.from_numpy(self._patterns.amplitude(chosen.numpy())).to(self._device, self._real)
        return torch.fft.ifftshift(amplitude, dim=(-2, -1)), self._shifted(chosen)

    def _take(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        if self._cached is None:
            return self._load(chosen)
        amplitude, probes = self._cached
        if bool(self._stale[chosen].any()):
            probes[chosen.to(self._device)] = self._shifted(chosen)
            self._stale[chosen] = False
        first, last = int(chosen[0]), int(chosen[-1])
        if last - first + 1 == len(chosen) and bool((chosen.diff() == 1).all()):
            # Neighbours need no copy.
            return amplitude[first : last + 1], probes[first : last + 1]
        where = chosen.to(self._device)
        return amplitude[where], probes[where]

    def _where(self, chosen: Tensor) -> Tensor:
        """Return the flat canvas indices of the pixels of some patches."""
        corner = self._corner[chosen.to(self._device)]
        first = corner[:, 0] * self._patterns.shape[1] + corner[:, 1]
        return (first[:, None, None] + self._window).reshape(-1)

    def _cut(self, obj: Tensor, chosen: Tensor) -> Tensor:
        """Cut the patches (b, N, N) of some patterns from the object."""
        size = self._patterns.size
        corner = self._corner[chosen.to(self._device)]
        windows = obj.unfold(0, size, 1).unfold(1, size, 1)
        patches: Tensor = windows[corner[:, 0], corner[:, 1]]
        return patches

    def _updates(
        self, obj: Tensor, indices: npt.NDArray[np.int64], likelihood: Likelihood
    ) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Yield (indices, probes, gradient of each pattern (b, N, N), held-out deviance) block by block."""
        for chosen in self._blocks(indices):
            amplitude, probes = self._take(chosen)
            fields = physics.far_field(self._cut(obj, chosen), probes)
            rate = physics.mode_intensity(fields)
            fit = self._deviance(rate, amplitude, chosen)
            if likelihood == 'poisson':
                ratio = amplitude * torch.rsqrt(rate + self._dark_rate)
                factor = 0.5 - 0.5 * ratio * ratio.clamp(max=2)
            else:
                factor = 1 - amplitude * torch.rsqrt(rate + (self._dark_rate - BACKGROUND) + self._floor)
            self._leave_out(factor, chosen)
            changes = torch.fft.ifft2(fields * factor[:, None], norm='ortho')
            yield chosen, probes, physics.back_projection(changes, probes), fit.sum()

    def _leave_out(self, factor: Tensor, chosen: Tensor) -> None:
        """Set a factor (b, N, N) to 0 at bad and at held-out pixels."""
        factor *= self._good
        factor.view(len(chosen), -1).scatter_(1, self._pixels(chosen), 0.0)

    def _pixels(self, chosen: Tensor) -> Tensor:
        return self._held[(chosen % len(self._held)).to(self._device)]

    def _deviance(self, rate: Tensor, amplitude: Tensor, chosen: Tensor) -> Tensor:
        """Return the Poisson deviance (b,) summed over the held-out pixels of some patterns."""
        pixels = self._pixels(chosen)
        k = amplitude.reshape(len(chosen), -1).gather(1, pixels).to(self._wide).square()
        expected = rate + self._dark_rate
        lam = expected.reshape(len(chosen), -1).gather(1, pixels).to(self._wide)
        total: Tensor = 2 * (torch.special.xlogy(k, k / lam) - (k - lam)).sum(dim=1)
        return total
