"""A quick reconstruction of a small part of a scan in NumPy, to see how well it can be explained.

The object starts flat. Beside it a fit may find what a scan does not say: the intensity of each exposure,
a uniform background, an affine map of the positions, single positions, or the probe. Pixels that were not
fitted judge (REF-04). Arrays on the detector keep zero frequency at index 0 here.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import fft
from scipy.special import xlogy

from ..physics.descent import AcceleratedDescent, smoothing_prior, step_curvature
from ..physics.forward import BACKGROUND, informative
from ..physics.geometry import ObjectGrid, place_patches
from ..physics.likelihood import Evaluation, Likelihood, draw_held_out
from ..physics.likelihood_terms import residual_factor
from ..physics.noise import noise_deviance
from ..physics.operations import NUMPY
from ..physics.preconditioner import illumination_variance, phase_preconditioner
from ..physics.probe import fourier_shift, mode_intensity
from ..physics.scaling import measure_scale
from ..scan.raw_data import RawData

__all__ = ['Free', 'Judgement', 'TrialFit']

Free = Literal['intensities', 'background', 'affine', 'positions', 'probe']
FloatArray = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

HELD_OUT_FRACTION = 0.05
SMOOTHING = 0.12
"""Of total variation, as in reconstructions."""
PHASE_GAIN_ITERATIONS = 40
"""Iterations over which the extra update of the low-frequency phase fades."""
SETTLED = 6
"""Iterations of the object alone before anything else is fitted."""
POSITION_GAIN, MOMENTUM = 8.0, 0.9
LARGEST_MOVE = 0.5
"""Pixels by which one step moves a position at most."""
STIFFNESS = 1e-3


@dataclass(frozen=True)
class Judgement:
    """How well a fit predicts what it was not shown."""

    deviance: FloatArray
    """(n,) Poisson deviance per held-out pixel of each pattern."""
    noise: float
    """What photon noise alone leaves of its mean, for the predicted counts."""
    counts: float
    """Mean counts per held-out pixel."""

    @property
    def mean(self) -> float:
        """Deviance per held-out pixel."""
        return float(self.deviance.mean())

    @property
    def ratio(self) -> float:
        """Deviance relative to photon noise: about 1 where nothing is wrong."""
        return self.mean / max(self.noise, 1e-12)


class TrialFit:
    """An object, and what is fitted beside it, on its way.

    Parameters
    ----------
    raw : RawData
        A small part of a scan, in memory.
    free : collection of str
        What is fitted beside the object.
    seed : int
        Of the held-out pixels.

    Raises
    ------
    DataValueError
        If the patterns are dark, or the probe has no intensity on the valid pixels.
    """

    def __init__(self, raw: RawData, free: Collection[Free] = (), seed: int = 0) -> None:
        amplitude = np.asarray(raw.diffraction[:], dtype=np.float32)
        scale = measure_scale(amplitude, raw.probeGuess, raw.bad_pixels)
        self.raw, self.free = raw, frozenset(free)
        size, n = raw.N, len(amplitude)
        self._size = size
        measured = fft.ifftshift(amplitude, axes=(-2, -1)) / np.float32(scale.unit)
        self.counts = np.square(measured)
        """(n, N, N) measured."""
        self.probe = (raw.probeGuess.astype(np.complex128) * scale.probe_factor).astype(np.complex64)
        """(P, N, N) that a flat object of amplitude 1 predicts the mean counts with."""
        self._amplitude = measured
        self.ceiling = raw.ceiling / scale.unit
        """Of the amplitudes: from there on they are saturated."""
        self.valid = fft.ifftshift(raw.valid)
        """(N, N) valid pixels."""
        held = draw_held_out(raw.valid, HELD_OUT_FRACTION, seed)
        self._held = held[np.arange(n) % len(held)]
        self._fitted = np.broadcast_to(self.valid, self.counts.shape).copy()
        np.put_along_axis(self._fitted.reshape(n, -1), self._held, False, axis=1)
        self._x, self._y = raw.xcoords.copy(), raw.ycoords.copy()
        self._margin = 0
        self.background = 0.0
        """Counts per pixel beside those of the sample."""
        self.intensity = np.ones(n, np.float32)
        """(n,) of each exposure, relative to their mean."""
        self.matrix: FloatArray = np.eye(2)
        """Of the affine map of [y, x] about the middle of the part."""
        if self.free & {'affine', 'positions'}:
            self._margin = size // 8
        grid = ObjectGrid.around_scan(self._x, self._y, size)
        self._origin = np.array([grid.origin_y, grid.origin_x]) - self._margin
        self.shape = (grid.height + 2 * self._margin, grid.width + 2 * self._margin)
        """(H, W) of the object."""
        self._place()
        self.weight = np.zeros(self.shape, np.float32)
        self._add(self.weight, self._illumination)
        gain = phase_preconditioner(illumination_variance(self.probe), self.shape).astype(np.complex64)
        flat = np.ones(self.shape, np.complex64)
        self._descent = AcceleratedDescent(self, flat, smoothing_prior(self.weight, SMOOTHING), gain)
        self._done = 0
        self._probe_move: Any = 0
        self._position_move: Any = 0
        self._changes: Any = None
        self._rate: Any = None

    @property
    def object_array(self) -> npt.NDArray[np.complex64]:
        """(H, W) so far."""
        return np.asarray(self._descent.current)

    @property
    def moved(self) -> FloatArray:
        """(n, 2) [dy, dx] in pixels by which positions were moved."""
        return np.stack([self._y - self.raw.ycoords, self._x - self.raw.xcoords], axis=1)

    def run(self, iterations: int) -> TrialFit:
        """Take so many iterations over all patterns."""
        everything = np.arange(len(self.counts))
        for _ in range(iterations):
            self._descent.phase_gain = max(0.0, 1 - self._done / PHASE_GAIN_ITERATIONS)
            self._descent.iterate([everything])
            self._done += 1
            if self._done > SETTLED and self.free:
                self._refine()
        return self

    def judge(self, among: Mask | None = None) -> Judgement:
        """Compare the object so far with the held-out pixels, or those `among` (N, N) or (n, N, N) alone."""
        n = len(self.counts)
        rate = self._predicted().reshape(n, -1)
        rate = np.take_along_axis(rate, self._held, axis=1).astype(np.float64)
        k = np.take_along_axis(self.counts.reshape(n, -1), self._held, axis=1).astype(np.float64)
        lam = rate + BACKGROUND
        deviance = 2 * (xlogy(k, k / lam) - (k - lam))
        noise = noise_deviance(rate)
        among = self._telling(among)
        if among is not None:
            seen = np.take_along_axis(np.broadcast_to(among, self.counts.shape).reshape(n, -1), self._held, 1)
            share = seen.size / max(int(seen.sum()), 1)
            deviance, noise, k = deviance * seen * share, noise * seen * share, k * seen * share
        return Judgement(deviance.mean(axis=1), float(noise.mean()), float(k.mean()))

    def telling(self) -> Mask:
        """Return the pixels (n, N, N) that speak for or against the object so far."""
        return informative(self.counts, self.predicted(), self.ceiling)

    def _telling(self, among: Mask | None) -> Mask | None:
        if math.isinf(self.ceiling):
            return among
        return self.telling() if among is None else self.telling() & among

    def predicted(self) -> FloatArray:
        """Return the counts (n, N, N) that the object so far predicts."""
        return np.asarray(self._predicted())

    def filtered(self, values: Any, gain: Any) -> Any:
        """Return real values (H, W) whose Fourier transform was multiplied by `gain` (H, W)."""
        return fft.ifft2(fft.fft2(values) * gain).real

    def evaluate(self, obj: Any, indices: npt.NDArray[np.int64], likelihood: Likelihood) -> Evaluation:
        """Return gradient and weight of all patterns; `indices` are those of all."""
        fields = fft.fft2(self._probes * self._cut(obj)[:, None], norm='ortho')
        rate = mode_intensity(fields)
        self._rate = rate
        # Weighting a pattern by its intensity keeps the curvature below that of equal ones.
        expected = self.intensity[:, None, None] * rate + np.float32(self.background)
        amplitude = self._amplitude
        factor = residual_factor(NUMPY, amplitude, expected, BACKGROUND, 0.0, likelihood) * self._fitted
        if math.isfinite(self.ceiling):
            factor = factor * informative(self.counts, expected, self.ceiling)
        if 'intensities' in self.free:
            factor = factor * self.intensity[:, None, None]
        changes = fft.ifft2(fields * factor[:, None], norm='ortho')
        self._changes = changes
        gradient = np.zeros_like(obj)
        self._add(gradient, (self._probes.conj() * changes).sum(axis=1))
        return Evaluation(gradient, self.weight, 0.0)

    def _predicted(self) -> Any:
        fields = fft.fft2(self._probes * self._cut(self._descent.current)[:, None], norm='ortho')
        return self.intensity[:, None, None] * mode_intensity(fields) + np.float32(self.background)

    def _place(self) -> None:
        """Put the patches where the positions are now."""
        placement = place_patches(self._x - self._origin[1], self._y - self._origin[0], self._size)
        corner = np.clip(placement.corner, 0, np.array(self.shape) - self._size)
        self._corner = corner
        subpixel_shift = placement.subpixel_shift + (placement.corner - corner)
        self._probes = fourier_shift(self.probe[None], subpixel_shift[:, None]).astype(np.complex64)
        self._illumination = mode_intensity(self._probes)

    def _cut(self, obj: Any) -> Any:
        windows = np.lib.stride_tricks.sliding_window_view(obj, (self._size, self._size))
        return windows[self._corner[:, 0], self._corner[:, 1]]

    def _add(self, canvas: Any, patches: Any) -> None:
        size = self._size
        for patch, (row, column) in zip(patches, self._corner, strict=True):
            canvas[row : row + size, column : column + size] += patch

    def _refine(self) -> None:
        """Fit what is free beside the object, at which the last gradient was taken."""
        if 'intensities' in self.free:
            self._refine_intensities()
        if 'background' in self.free:
            self._refine_background()
        moved = False
        if self.free & {'affine', 'positions'}:
            self._refine_positions()
            moved = True
        if 'probe' in self.free:
            self._refine_probe()
            moved = True
        if moved:
            self._place()
            self.weight[:] = 0
            self._add(self.weight, self._illumination)

    def _refine_intensities(self) -> None:
        measured = (self.counts * self._fitted).sum(axis=(1, 2)) - self.background * self._fitted.sum(
            axis=(1, 2)
        )
        predicted = np.maximum((self._rate * self._fitted).sum(axis=(1, 2)), 1e-6)
        found = np.maximum(measured / predicted, 1e-3)
        self.intensity = (found / found.mean()).astype(np.float32)
        self.weight[:] = 0
        self._add(self.weight, self._illumination * self.intensity[:, None, None])

    def _refine_background(self) -> None:
        """Take a step of Newton's to the most likely background."""
        lam = self.intensity[:, None, None] * self._rate + np.float32(self.background + BACKGROUND)
        ratio = np.where(self._fitted, self.counts / lam, 0)
        slope = float(ratio.sum() - self._fitted.sum())
        bend = float((ratio / lam).sum())
        step = slope / max(bend, 1e-12)
        least = 0.5 * self.background
        self.background = max(self.background + min(step, self.background + 0.1), least, 0.0)

    def _refine_positions(self) -> None:
        obj = self._descent.judged
        patches = self._cut(obj)
        frequency = np.fft.fftfreq(self._size)
        slope = -2j * np.pi * np.stack(np.meshgrid(frequency, frequency, indexing='ij'))
        moved = fft.ifft2(fft.fft2(self._probes)[:, :, None] * slope.astype(np.complex64))
        moved *= patches[:, None, None]
        force = np.einsum('bpdyx,bpyx->bd', moved.conj(), self._changes, optimize=True).real
        bend = np.einsum('bpdyx,bpeyx->bde', moved.conj(), moved, optimize=True).real
        stiff = STIFFNESS * np.trace(bend, axis1=-2, axis2=-1).max() * np.eye(2)
        if 'affine' in self.free:
            step = self._affine_step(force, bend + stiff)
        else:
            step = np.linalg.solve(bend + stiff, force[..., None])[..., 0]
        step = MOMENTUM * self._position_move + POSITION_GAIN * step
        length = np.linalg.norm(step, axis=1)
        step *= (
            min(1.0, LARGEST_MOVE / max(float(length.max()), 1e-12))
            if 'affine' in self.free
            else (np.minimum(1, LARGEST_MOVE / np.maximum(length, 1e-12))[:, None])
        )
        step -= step.mean(axis=0)
        self._position_move = step
        self._y, self._x = self._y - step[:, 0], self._x - step[:, 1]
        if 'affine' in self.free:
            before = self._centred(self.raw.ycoords, self.raw.xcoords)
            after = self._centred(self._y, self._x)
            self.matrix = np.asarray(np.linalg.lstsq(before, after, rcond=None)[0].T)

    def _affine_step(self, force: FloatArray, bend: FloatArray) -> FloatArray:
        """Return the steps (n, 2) of the best affine map for these forces (n, 2) and curvatures (n, 2, 2)."""
        place = self._centred(self._y, self._x)
        # step_j = M place_j: unknowns M (2, 2), row-major.
        design = np.einsum('de,jf->jdef', np.eye(2), place).reshape(len(place), 2, 4)
        normal = np.einsum('jda,jde,jeb->ab', design, bend, design)
        right = np.einsum('jda,jd->a', design, force)
        normal += (STIFFNESS * np.trace(normal) / 4 + np.finfo(float).tiny) * np.eye(4)
        return np.asarray(design @ np.linalg.solve(normal, right))

    @staticmethod
    def _centred(y: FloatArray, x: FloatArray) -> FloatArray:
        places = np.stack([y, x], axis=1)
        return np.asarray(places - places.mean(axis=0))

    def _refine_probe(self) -> None:
        obj = self._descent.judged
        patches = self._cut(obj)
        subpixel_shift = place_patches(
            self._x - self._origin[1], self._y - self._origin[0], self._size
        ).subpixel_shift
        back = fourier_shift(patches.conj()[:, None] * self._changes, -subpixel_shift[:, None])
        weight = (np.abs(patches) ** 2).sum(axis=0)
        step = back.sum(axis=0) / step_curvature(weight, float(weight.max()))
        self._probe_move = MOMENTUM * self._probe_move - step
        probe = self.probe + self._probe_move
        probe *= np.linalg.norm(self.probe) / max(float(np.linalg.norm(probe)), 1e-30)
        self.probe = probe.astype(np.complex64)
