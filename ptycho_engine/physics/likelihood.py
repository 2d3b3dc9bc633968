"""What a whole scan says about an object: the likelihood and its gradient in NumPy, for every backend.

Clauses REF-* of ``specs/physics.md``. Arrays on the detector keep zero frequency at index 0 here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from scipy import fft
from scipy.special import xlogy

from ..blocks import block_length, blocks
from .forward import BACKGROUND, modulus_floor
from .geometry import PatchPlacement
from .probe import fourier_shift, mode_intensity, shift_ramp

__all__ = [
    'DescentPhysics',
    'Evaluation',
    'ExperimentGradient',
    'Likelihood',
    'NumpyScanPhysics',
    'Residuals',
    'ScanPatterns',
    'ScanPhysics',
    'draw_held_out',
    'position_curvature',
]

IntArray = npt.NDArray[np.int64]
Likelihood = Literal['poisson', 'amplitude']

MISFIT = 5.0
"""Standard deviations of photon noise, with one count added to the variance, that no chance explains."""

HELD_OUT_SETS = 8
"""Different choices of held-out pixels; pattern i takes number i modulo this."""


@dataclass(frozen=True, eq=False)
class ScanPatterns:
    """All patterns of a scan, as the refinement of an object sees them."""

    probe: npt.NDArray[np.complex64]
    """(P, N, N) incoherent modes in the engine's gauge."""
    good: npt.NDArray[np.bool_]
    """(N, N) True where the detector is to be trusted, zero frequency at N//2."""
    placement: PatchPlacement
    """Corners (n, 2) on the canvas, none negative, and remainders (n, 2)."""
    shape: tuple[int, int]
    """(H, W) of the canvas, which holds every patch whole."""
    amplitude: Callable[[IntArray], npt.NDArray[np.float32]]
    """Reads the amplitudes (b, N, N) of some patterns, zero frequency at N//2."""
    held_out: npt.NDArray[np.int64]
    """(K, h) flat indices, zero frequency at index 0, of the good pixels that are not fitted."""
    intensity: npt.NDArray[np.float64] | None = None
    """(n,) relative intensity of the beam in each exposure; None where it is 1 in all."""
    background: npt.NDArray[np.float64] | None = None
    """(N, N) counts per pixel beside the object's, zero frequency at N//2; None where there are none."""

    def __len__(self) -> int:
        return len(self.placement.corner)

    @property
    def size(self) -> int:
        """Side N of a pattern in pixels."""
        return int(self.probe.shape[-1])

    @cached_property
    def brightest(self) -> float:
        """Largest value of the illumination, in counts."""
        return float(mode_intensity(self.probe).max())

    def lit_as(self, other: ScanPatterns) -> bool:
        """Return whether probe, positions and intensities are the very arrays of another experiment."""
        return (
            self.probe is other.probe
            and self.placement is other.placement
            and self.intensity is other.intensity
        )

    @property
    def exposure(self) -> npt.NDArray[np.float64]:
        """(n,) factor of the probe in each exposure, the square root of :attr:`intensity`."""
        return np.ones(len(self)) if self.intensity is None else np.sqrt(self.intensity)

    @property
    def dark_rate(self) -> npt.NDArray[np.float64]:
        """(N, N) counts per pixel without any light, zero frequency at index 0."""
        if self.background is None:
            return np.full((self.size, self.size), BACKGROUND)
        return np.asarray(fft.ifftshift(self.background) + BACKGROUND)


def draw_held_out(good: npt.NDArray[np.bool_], fraction: float, seed: int) -> npt.NDArray[np.int64]:
    """Choose the pixels that judge a refinement: ``HELD_OUT_SETS`` sets of equally many good ones (REF-04).

    Parameters
    ----------
    good : (N, N) bool
        Trusted pixels, zero frequency at N//2.
    fraction : float
        Part of the good pixels in each set; at least one pixel is taken.
    seed : int

    Returns
    -------
    (K, h) int64
        Flat indices into a pattern with zero frequency at index 0.
    """
    pixels = np.flatnonzero(fft.ifftshift(good))
    count = max(round(fraction * len(pixels)), 1)
    rng = np.random.default_rng([seed, 4])
    return np.stack([rng.choice(pixels, count, replace=False) for _ in range(HELD_OUT_SETS)]).astype(np.int64)


@dataclass(frozen=True)
class Evaluation:
    """The likelihood of some patterns at an object. Arrays are those of the backend."""

    gradient: Any
    """(H, W) complex, descends the likelihood; the curvature is at most `weight` (REF-01)."""
    weight: Any
    """(H, W) illumination that these patterns put on each pixel, in counts."""
    held_out: float
    """Poisson deviance summed over the held-out pixels of these patterns."""


@dataclass(frozen=True)
class ExperimentGradient:
    """What b patterns say about the object and, in the same pass, about the experiment (CAL-01).

    Arrays beside those of :attr:`evaluation` are NumPy's. Forces on rates are derivatives of ``λ - k log λ``,
    their curvatures Fisher's information.
    """

    evaluation: Evaluation
    """The likelihood at the object."""
    intensity_force: npt.NDArray[np.float64]
    """(b,) by a factor of the intensity of each exposure."""
    intensity_curvature: npt.NDArray[np.float64]
    """(b,)."""
    background_force: float
    """By the counts of a background that is alike in all pixels."""
    background_curvature: float
    probe: npt.NDArray[np.complexfloating[Any, Any]]
    """(P, N, N) descends the likelihood; the curvature is at most `probe_weight` (REF-07)."""
    probe_weight: npt.NDArray[np.floating[Any]]
    """(N, N) what the object let through, summed over the patterns."""
    force: npt.NDArray[np.float64]
    """(b, 2) half the derivative of the likelihood by [dy, dx] of each position, per pixel (REF-08)."""
    curvature: npt.NDArray[np.float64]
    """(b, 2, 2) about half of the second derivative, at least."""


@dataclass(frozen=True)
class Residuals:
    """What the fitted pixels of all patterns say about the detector (CAL-03).

    Images (N, N) of NumPy have zero frequency at index 0 and are sums over the patterns.
    """

    counts: npt.NDArray[np.float64]
    """(N, N) measured."""
    rate: npt.NDArray[np.float64]
    """(N, N) predicted."""
    misfits: npt.NDArray[np.float64]
    """(N, N) patterns in which the counts are more than ``MISFIT`` standard deviations off."""
    fitted: npt.NDArray[np.float64]
    """(N, N) patterns in which the pixel is fitted."""


class DescentPhysics(Protocol):
    """What the steps of an object need of patterns."""

    def filtered(self, values: Any, gain: Any) -> Any:
        """Return real values (H, W) whose Fourier transform was multiplied by `gain` (H, W)."""

    def evaluate(self, obj: Any, indices: IntArray, likelihood: Likelihood) -> Evaluation:
        """Return gradient, weight and held-out deviance of the given patterns."""


class ScanPhysics(DescentPhysics, Protocol):
    """The patterns of one scan on a device. Objects are (H, W) complex arrays of that device's library."""

    def to_device(self, obj: npt.NDArray[np.complex64]) -> Any:
        """Return a copy of an object on the device."""

    def to_host(self, array: Any) -> npt.NDArray[Any]:
        """Return a copy of an array of the device for NumPy."""

    def curvature_along(self, obj: Any, direction: Any) -> Any:
        """Return what the curvature of the likelihood of all patterns makes of a direction (H, W) (SOLVE-08).

        In units of the gradient of :meth:`evaluate`: half of Fisher's information, at most its weight.
        """

    def held_out(self, obj: Any) -> float:
        """Return the Poisson deviance per held-out pixel of all patterns."""

    def held_out_each(self, obj: Any) -> npt.NDArray[np.float64]:
        """Return the Poisson deviance per held-out pixel of each pattern (n,)."""

    def residuals(self, obj: Any) -> Residuals:
        """Return what the fitted pixels say about the detector."""

    def gradient_power(self, obj: Any) -> tuple[Any, Any]:
        """Return ``sum_j |g_j|^2`` and ``sum_j |P_j|^2`` over all patterns, g_j the gradient of each."""

    def experiment_gradient(self, obj: Any, indices: IntArray) -> ExperimentGradient:
        """Return the Poisson gradient by the object and by the experiment of the given patterns."""

    def set_experiment(self, patterns: ScanPatterns) -> None:
        """Take the probe (as many modes), remainders, intensities and background of `patterns`."""


def residual_factor(
    amplitude: npt.NDArray[Any],
    rate: npt.NDArray[Any],
    dark_rate: npt.NDArray[Any] | float,
    floor: float,
    likelihood: Likelihood,
) -> npt.NDArray[Any]:
    """Return f, so that ``f Ψ`` is the descent direction of the wave Ψ at the detector (REF-01).

    'poisson': half the gradient of ``λ - k log λ``, in which ``k/λ`` is replaced by ``2 sqrt(k/λ)`` where it
    is above 4, so that the step stays bounded in the dark. 'amplitude': that of ``(sqrt λ - sqrt k)^2``.
    """
    if likelihood == 'poisson':
        ratio = np.square(amplitude) / (rate + dark_rate)
        return np.asarray((1 - np.minimum(ratio, 2 * np.sqrt(ratio))) / 2)
    return np.asarray(1 - amplitude / np.sqrt(rate + (dark_rate - BACKGROUND) + floor))


def position_curvature(probe: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return ``Re sum_p conj(dP) dP`` (3, N, N) by yy, yx and xx of a probe (P, N, N).

    Times the square of the object under a pattern, and summed, it is the curvature of its position. The
    sub-pixel shift of the probe is left out: it changes the length of a step, and hardly.
    """
    frequency = 2j * np.pi * np.fft.fftfreq(probe.shape[-1])
    spectrum = fft.fft2(probe)
    dy, dx = fft.ifft2(spectrum * frequency[:, None]), fft.ifft2(spectrum * frequency)
    return np.stack([(a.conj() * b).real.sum(axis=0) for a, b in ((dy, dy), (dy, dx), (dx, dx))])


class Jointly(NamedTuple):
    """What b patterns say in one pass, as arrays of NumPy or of a device."""

    probes: Any
    """(b, P, N, N) shifted, of the exposure."""
    changes: Any
    """(b, P, N, N) that each exit wave asks for."""
    rates: Any
    """(2, b) force and curvature of the intensity."""
    sums: Any
    """(3,) held-out deviance, force and curvature of the background."""


class NumpyScanPhysics:
    """The reference, in the precision of the probe."""

    def __init__(self, patterns: ScanPatterns) -> None:
        self._patterns = patterns
        self._measure()
        self._good = fft.ifftshift(patterns.good)
        self._step = block_length(patterns.size, len(patterns.probe))

    def _measure(self) -> None:
        """Derive what follows from the experiment."""
        self._floor = modulus_floor(self._patterns.probe)
        self._dark_rate = self._patterns.dark_rate.astype(self._patterns.probe.real.dtype)

    def to_device(self, obj: npt.NDArray[np.complex64]) -> npt.NDArray[Any]:
        """Return a copy of an object."""
        return np.array(obj, dtype=self._patterns.probe.dtype)

    def to_host(self, array: Any) -> npt.NDArray[Any]:
        """Return a copy of an array."""
        return np.array(array)

    def filtered(self, values: Any, gain: Any) -> Any:
        """Return real values (H, W) whose Fourier transform was multiplied by `gain` (H, W)."""
        return fft.ifft2(fft.fft2(values) * gain).real

    def evaluate(self, obj: Any, indices: IntArray, likelihood: Likelihood) -> Evaluation:
        """Return gradient, weight and held-out deviance of the given patterns."""
        gradient = np.zeros_like(obj)
        weight = np.zeros(obj.shape, obj.real.dtype)
        held_out = 0.0
        for chosen, probes, updates, fit in self._updates(obj, indices, likelihood):
            held_out += float(fit)
            self._add(gradient, updates, chosen)
            self._add(weight, mode_intensity(probes), chosen)
        return Evaluation(gradient, weight, held_out)

    def curvature_along(self, obj: Any, direction: Any) -> Any:
        """Return what the curvature of the likelihood of all patterns makes of a direction (H, W)."""
        result = np.zeros_like(obj)
        for part in blocks(len(self._patterns), self._step):
            chosen = np.arange(part.start, part.stop)
            self._add(result, self._curved(obj, direction, chosen), chosen)
        return result

    def _curved(self, obj: Any, direction: Any, chosen: IntArray) -> Any:
        """Return the part (b, N, N) of each of some patterns in :meth:`curvature_along`."""
        probes, fields, _ = self._predict(obj, chosen)
        moved = fft.fft2(probes * self._cut(direction, chosen)[:, None], norm='ortho')
        relative = (fields.conj() * moved).real.sum(axis=1) / (mode_intensity(fields) + self._dark_rate)
        back = fft.ifft2(fields * self._fitted_part(relative, chosen)[:, None], norm='ortho')
        return (probes.conj() * back).sum(axis=1)

    def held_out(self, obj: Any) -> float:
        """Return the Poisson deviance per held-out pixel of all patterns."""
        return float(self.held_out_each(obj).mean())

    def held_out_each(self, obj: Any) -> npt.NDArray[np.float64]:
        """Return the Poisson deviance per held-out pixel of each pattern (n,)."""
        each = np.empty(len(self._patterns))
        for part in blocks(len(self._patterns), self._step):
            each[part] = self._fit(obj, np.arange(part.start, part.stop))
        return np.asarray(each / self._patterns.held_out.shape[1])

    def _fit(self, obj: Any, chosen: IntArray) -> npt.NDArray[np.float64]:
        """Return the Poisson deviance (b,) summed over the held-out pixels of some patterns."""
        _, fields, amplitude = self._predict(obj, chosen)
        return self._deviance(mode_intensity(fields), amplitude, chosen)

    def residuals(self, obj: Any) -> Residuals:
        """Return what the fitted pixels say about the detector."""
        total = np.zeros((4, self._patterns.size, self._patterns.size))
        for part in blocks(len(self._patterns), self._step):
            total += self._residuals(obj, np.arange(part.start, part.stop))
        return Residuals(*total)

    def _residuals(self, obj: Any, chosen: IntArray) -> npt.NDArray[np.float64]:
        """Return the sums (4, N, N) over some patterns."""
        _, fields, amplitude = self._predict(obj, chosen)
        counts, rate = np.square(amplitude), mode_intensity(fields) + self._dark_rate
        misfit = np.square(counts - rate) > MISFIT**2 * (rate + 1)
        fitted = self._fitted_part(np.ones_like(rate), chosen)
        images = [(fitted * a).sum(axis=0) for a in (counts, rate, misfit)]
        return np.stack([*images, fitted.sum(axis=0)]).astype(np.float64)

    def gradient_power(self, obj: Any) -> tuple[Any, Any]:
        """Return ``sum_j |g_j|^2`` and ``sum_j |P_j|^2`` over all patterns."""
        power = np.zeros(obj.shape, obj.real.dtype)
        weight = np.zeros_like(power)
        for chosen, probes, updates, _ in self._updates(obj, np.arange(len(self._patterns)), 'poisson'):
            self._add(power, np.abs(updates) ** 2, chosen)
            self._add(weight, mode_intensity(probes), chosen)
        return power, weight

    def experiment_gradient(self, obj: Any, indices: IntArray) -> ExperimentGradient:
        """Return the Poisson gradient by the object and by the experiment of the given patterns."""
        patterns = self._patterns
        gradient, weight = np.zeros_like(obj), np.zeros(obj.shape, obj.real.dtype)
        total = np.zeros_like(patterns.probe)
        let_through = np.zeros(total.shape[-2:], weight.dtype)
        conjugate = np.conj(fft.fft2(patterns.probe))
        bent = position_curvature(patterns.probe).reshape(3, -1)
        slope = -2 * np.pi / patterns.size**2 * np.fft.fftfreq(patterns.size)
        sums = np.zeros(3)
        rates, forces, curvature = [], [], []
        for part in blocks(len(indices), self._step):
            chosen = indices[part]
            found = self._jointly(obj, chosen)
            sums += found.sums
            rates.append(found.rates)
            self._add(gradient, (np.conj(found.probes) * found.changes).sum(axis=1), chosen)
            self._add(weight, mode_intensity(found.probes), chosen)
            patches, exposure = self._cut(obj, chosen), patterns.exposure[chosen, None, None]
            ramp = shift_ramp(patches.shape[-2:], patterns.placement.remainder[chosen])
            back = (exposure * np.conj(ramp)).astype(total.dtype)[:, None]
            waves = back * fft.fft2(np.conj(patches)[:, None] * found.changes)
            total += waves.sum(axis=0)
            sideways = (conjugate * waves).sum(axis=1).imag
            forces.append(np.stack([sideways.sum(axis=axis) @ slope for axis in (2, 1)], axis=1))
            seen = np.square(exposure) * np.abs(patches) ** 2
            let_through += seen.sum(axis=0)
            curvature.append(seen.reshape(len(chosen), -1) @ bent.T)
        intensity = np.concatenate(rates, axis=1).astype(np.float64)
        return ExperimentGradient(
            evaluation=Evaluation(gradient, weight, float(sums[0])),
            intensity_force=intensity[0],
            intensity_curvature=intensity[1],
            background_force=float(sums[1]),
            background_curvature=float(sums[2]),
            probe=fft.ifft2(total),
            probe_weight=let_through,
            force=np.concatenate(forces).astype(np.float64),
            curvature=np.concatenate(curvature).astype(np.float64)[:, [[0, 1], [1, 2]]],
        )

    def _jointly(self, obj: Any, chosen: IntArray) -> Jointly:
        """Return what some patterns say about the exit waves and rates."""
        probes, fields, amplitude = self._predict(obj, chosen)
        own = mode_intensity(fields)
        rate = own + self._dark_rate
        excess = self._fitted_part(1 - np.square(amplitude) / rate, chosen)
        inverse = self._fitted_part(1 / rate, chosen)
        factor = residual_factor(amplitude, own, self._dark_rate, self._floor, 'poisson')
        changes = fft.ifft2(fields * self._fitted_part(factor, chosen)[:, None], norm='ortho')
        fit = self._deviance(own, amplitude, chosen).sum()
        return Jointly(
            probes=probes,
            changes=changes,
            rates=np.stack([(excess * own).sum(axis=(1, 2)), (inverse * own**2).sum(axis=(1, 2))]),
            sums=np.array([fit, excess.sum(), inverse.sum()]),
        )

    def set_experiment(self, patterns: ScanPatterns) -> None:
        """Take the probe, remainders, intensities and background of `patterns` from now on."""
        self._patterns = patterns
        self._measure()

    def _cut(self, obj: Any, chosen: IntArray) -> Any:
        """Cut the patches (b, N, N) of some patterns from the object."""
        size = self._patterns.size
        windows = np.lib.stride_tricks.sliding_window_view(obj, (size, size))
        corner = self._patterns.placement.corner[chosen]
        return windows[corner[:, 0], corner[:, 1]]

    def _predict(self, obj: Any, chosen: IntArray) -> tuple[Any, Any, Any]:
        """Return shifted probes, fields at the detector (b, P, N, N) and measured amplitudes (b, N, N)."""
        patterns = self._patterns
        remainder = patterns.placement.remainder[chosen]
        probes = fourier_shift(patterns.probe[None], remainder[:, None])
        probes = (patterns.exposure[chosen, None, None, None] * probes).astype(patterns.probe.dtype)
        fields = fft.fft2(probes * self._cut(obj, chosen)[:, None], norm='ortho')
        amplitude = fft.ifftshift(patterns.amplitude(chosen), axes=(-2, -1))
        return probes, fields, amplitude

    def _updates(self, obj: Any, indices: IntArray, likelihood: Likelihood) -> Any:
        """Yield (indices, probes, gradient of each pattern (b, N, N), held-out deviance) block by block."""
        for part in blocks(len(indices), self._step):
            chosen = indices[part]
            probes, fields, amplitude = self._predict(obj, chosen)
            rate = mode_intensity(fields)
            fit = self._deviance(rate, amplitude, chosen)
            factor = residual_factor(amplitude, rate, self._dark_rate, self._floor, likelihood)
            factor = self._fitted_part(factor, chosen)
            changes = fft.ifft2(fields * factor[:, None], norm='ortho')
            yield chosen, probes, (np.conj(probes) * changes).sum(axis=1), fit.sum()

    def _fitted_part(self, factor: Any, chosen: IntArray) -> Any:
        """Return a factor (b, N, N) with 0 at bad and at held-out pixels."""
        fitted = factor * self._good
        held = self._patterns.held_out
        np.put_along_axis(fitted.reshape(len(chosen), -1), held[chosen % len(held)], 0, axis=1)
        return fitted

    def _deviance(self, rate: Any, amplitude: Any, chosen: IntArray) -> npt.NDArray[np.float64]:
        """Return the Poisson deviance (b,) summed over the held-out pixels of some patterns."""
        held = self._patterns.held_out
        pixels = held[chosen % len(held)]
        k = np.take_along_axis(amplitude.reshape(len(chosen), -1), pixels, axis=1).astype(np.float64) ** 2
        expected = (rate + self._dark_rate).reshape(len(chosen), -1)
        lam = np.take_along_axis(expected, pixels, axis=1).astype(np.float64)
        return np.asarray(2 * (xlogy(k, k / lam) - (k - lam)).sum(axis=1))

    def _add(self, canvas: Any, patches: Any, chosen: IntArray) -> None:
        size = self._patterns.size
        for patch, (row, column) in zip(patches, self._patterns.placement.corner[chosen], strict=True):
            canvas[row : row + size, column : column + size] += patch
