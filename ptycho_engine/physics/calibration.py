"""Probe, positions, intensities and background, refined beside the object (REF-07, REF-08, CAL-01)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft

from .coherent import CoherentModes
from .descent import step_curvature
from .geometry import PatchPlacement
from .likelihood import (
    CoherentGradient,
    Evaluation,
    ExperimentGradient,
    Likelihood,
    ScanPatterns,
    ScanPhysics,
)

__all__ = ['ExperimentRefinement', 'next_intensities']

IntArray = npt.NDArray[np.int64]
Strengths = npt.NDArray[np.float64]

MOMENTUM = 0.9
"""Of one step an iteration: single steps are short, as the object has learned the errors."""

POSITION_GAIN = 8.0
"""Times the Gauss-Newton step of a position at a fixed object. The object follows, so that more is gained."""

LARGEST_MOVE = 0.1
"""Pixels of that Gauss-Newton step, at most."""

FARTHEST_MOVE = 0.125
"""Distance from where the scan says that a position may end along an axis, relative to a pattern's side."""

COHERENT_GAIN, LARGEST_WEIGHT = 0.5, 0.1
"""Times the steps of modes and of weights that are safe where the other stays: each follows the other. And
the change of a weight in a step, at most."""

LARGEST_FACTOR = 2.0
"""By which the intensity of an exposure changes at most in a step."""

WAVES, UNEVENNESS = 6, 0.5
"""Half waves of a background over the detector at most, in both directions together; and how strong one is
likely to be, relative to the mean, by the square of whose number the strength of several is less."""

STIFFNESS = 1e-3
"""Added to the curvature of a position, relative to the largest of the scan; a blank patch does not move."""


class ExperimentRefinement:
    """Moves what is refined of an experiment on, one step after each iteration of the object.

    Parameters
    ----------
    physics : ScanPhysics
        Takes each new experiment.
    patterns : ScanPatterns
        The experiment as the scan has it.
    probe, axes, positions, intensities, background, uneven, coherent : bool
        Which parts to refine; `axes` is a linear map of all positions, `positions` each by itself;
        `background` one that is alike everywhere, `uneven` a smooth one; `coherent` modes and weights by
        which the probe varies, of patterns that have such.
    weights_stay : bool
        Whether of the latter the modes alone move.
    momentum : float
        Part of the last move that is made again.
    probe_gain : float
        Times the step of the probe that is safe at a fixed object. The object follows, as for positions.
    """

    def __init__(
        self,
        physics: ScanPhysics,
        patterns: ScanPatterns,
        *,
        probe: bool = False,
        axes: bool = False,
        positions: bool = False,
        intensities: bool = False,
        background: bool = False,
        uneven: bool = False,
        coherent: bool = False,
        weights_stay: bool = False,
        momentum: float = MOMENTUM,
        probe_gain: float = 1.0,
    ) -> None:
        self._physics = physics
        self._start = patterns.placement
        self.patterns = patterns
        """With the experiment as it is now."""
        self._momentum, self._probe_gain = momentum, probe_gain
        self._everything = np.arange(len(patterns))
        self._intensities = intensities
        self._background: Strengths | None = None
        if background or uneven:
            self._waves, self._orders = _waves(patterns.size, WAVES if uneven else 0)
            self._background = _strengths(patterns.background, self._waves)
        self._probe_move: Any = 0 if probe else None
        self._axes_move: Any = 0 if axes else None
        self._position_move: Any = np.zeros((len(patterns), 2)) if positions else None
        varying, self._weights_stay = patterns.coherent, weights_stay
        self._coherent_move: Any = None
        if coherent and varying is not None:
            self._coherent_move = np.zeros_like(varying.modes), np.zeros_like(varying.weights)

    def step(self, obj: Any) -> None:
        """Move what is refined to where it fits the object (H, W) better."""
        self._move(self._physics.experiment_gradient(obj, self._everything), self._everything)

    def evaluate(self, obj: Any, indices: IntArray, likelihood: Likelihood) -> Evaluation:
        """Move what is refined as some patterns ask for, and return what they say about the object.

        So that steps of an object (:class:`~.descent.AcceleratedDescent`) move the experiment too.
        """
        found = self._physics.experiment_gradient(obj, indices)
        self._move(found, indices)
        return found.evaluation

    def filtered(self, values: Any, gain: Any) -> Any:
        """Return real values (H, W) whose Fourier transform was multiplied by `gain` (H, W)."""
        return self._physics.filtered(values, gain)

    def _move(self, found: ExperimentGradient, indices: IntArray) -> None:
        """Take a step for some patterns.

        The power of the probe, the mean intensity and the mean position stay: a factor and a shift may as
        well be the object's.
        """
        if self._intensities:
            self._move_intensities(found, indices)
        if self._background is not None:
            self._background = self._moved_background(self._background, found, len(indices))
        if self._coherent_move is not None and found.coherent is not None:
            self._move_coherent(found.coherent, indices)
        if self._probe_move is not None:
            self._move_probe(found.probe, found.probe_weight)
        if self._axes_move is not None:
            self._move_axes(found.force, found.curvature, indices)
        if self._position_move is not None:
            self._move_positions(found.force, found.curvature, indices)
        self._physics.set_experiment(self.patterns)

    def _move_intensities(self, found: ExperimentGradient, indices: IntArray) -> None:
        """Take a step of :func:`next_intensities` that leaves their mean."""
        intensity = np.square(self.patterns.exposure)
        before = intensity[indices]
        after = next_intensities(before, found)
        # The object sees no other light: the mean of these stays, and with it that of all.
        intensity[indices] = after * (before.mean() / after.mean())
        self.patterns = replace(self.patterns, intensity=intensity)

    def _moved_background(self, before: Strengths, found: ExperimentGradient, count: int) -> Strengths:
        """Take a step of Fisher's scoring for a background, and return the strengths of its waves.

        Its mean is free; waves about it are as strong as is likely beside it, unless `count` patterns say
        otherwise.
        """
        waves = self._waves
        force, bend = (
            fft.fftshift(image).ravel() for image in (found.background_force, found.background_curvature)
        )
        mean = max(before[0] - force.sum() / max(bend.sum(), 1e-30), 0.0)
        after = np.zeros_like(before)
        if mean > 0:
            stiff = count / len(self.patterns) * np.square(self._orders**2 / (UNEVENNESS * mean))
            bent = (waves * bend) @ waves.T + np.diag(stiff)
            after = before - np.linalg.solve(bent, waves @ force + stiff * before)
        background = np.maximum(after @ waves, 0.0).reshape(self.patterns.probe.shape[-2:])
        self.patterns = replace(self.patterns, background=background)
        return after

    def _move_probe(self, gradient: npt.NDArray[Any], weight: npt.NDArray[Any]) -> None:
        old = self.patterns.probe
        step = self._probe_gain * gradient / step_curvature(weight, weight.max())
        self._probe_move = self._momentum * self._probe_move - step
        probe = old + self._probe_move
        probe *= np.linalg.norm(old) / max(float(np.linalg.norm(probe)), 1e-30)
        self.patterns = replace(self.patterns, probe=probe.astype(old.dtype))

    def _move_coherent(self, found: CoherentGradient, indices: IntArray) -> None:
        """Take a step for the modes by which the probe varies, and for the weights of some patterns.

        Along the probe itself no mode moves: another power may as well be the object's amplitude, or an
        intensity, and another phase shows in no pattern.
        """
        old, probe = self.patterns.coherent, self.patterns.probe[0]
        assert old is not None
        modes_move, weights_move = self._coherent_move
        steps = [
            gradient / step_curvature(weight, max(float(weight.max()), 1e-30))
            for gradient, weight in zip(found.modes, found.modes_weight, strict=True)
        ]
        along = np.tensordot(np.stack(steps), probe.conj(), 2) / max(float((np.abs(probe) ** 2).sum()), 1e-30)
        across = np.stack(steps) - along[:, None, None] * probe
        modes_move = self._momentum * modes_move - COHERENT_GAIN * across
        modes = old.modes + modes_move
        weights = old.weights.copy()
        if not self._weights_stay:
            step = COHERENT_GAIN * _damped_steps(found.force, found.curvature)
            step = np.clip(step, -LARGEST_WEIGHT, LARGEST_WEIGHT)
            weights_move[indices] = self._momentum * weights_move[indices] - step
            weights[indices] += weights_move[indices]
        self._coherent_move = modes_move, weights_move
        self.patterns = replace(self.patterns, coherent=CoherentModes(modes.astype(old.modes.dtype), weights))

    def _move_axes(
        self, force: npt.NDArray[np.float64], curvature: npt.NDArray[np.float64], indices: IntArray
    ) -> None:
        place = self._start.corner + self._start.subpixel_shift
        place = place - place.mean(axis=0)
        seen = place[indices]
        slope = np.einsum('jd,jc->dc', force, seen).ravel()
        bent = np.einsum('jde,jc,jf->dcef', curvature, seen, seen).reshape(4, 4)
        bent += STIFFNESS * np.trace(bent) * np.eye(4)
        step = place @ np.linalg.solve(bent, slope).reshape(2, 2).T
        longest = float(np.linalg.norm(step, axis=1).max())
        step *= min(1, LARGEST_MOVE / max(longest, 1e-30))
        self._axes_move = self._momentum * self._axes_move - POSITION_GAIN * step
        self._place(self._axes_move)

    def _move_positions(
        self, force: npt.NDArray[np.float64], curvature: npt.NDArray[np.float64], indices: IntArray
    ) -> None:
        step = POSITION_GAIN * _gauss_newton(force, curvature)
        moved = self._momentum * self._position_move[indices] - step
        self._position_move[indices] = moved
        move = np.zeros_like(self._position_move)
        move[indices] = moved
        self._place(move)

    def _place(self, move: npt.NDArray[np.float64]) -> None:
        """Move positions by (n, 2), but none too far from where it began, and their mean not at all."""
        old, farthest = self.patterns.placement, FARTHEST_MOVE * self.patterns.size
        away = np.clip(old.subpixel_shift + move - self._start.subpixel_shift, -farthest, farthest)
        subpixel_shift = self._start.subpixel_shift + away - away.mean(axis=0)
        self.patterns = replace(self.patterns, placement=PatchPlacement(old.corner, subpixel_shift))


def _waves(size: int, most: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return the images (K, N * N) that a background consists of, the mean first, and the half waves (K,) of
    each, `most` at most."""
    at = np.pi * (np.arange(size) + 0.5) / size
    orders = [(y, x) for y in range(most + 1) for x in range(most + 1 - y)]
    waves = np.stack([np.outer(np.cos(y * at), np.cos(x * at)).ravel() for y, x in orders])
    return waves, np.array(orders).sum(axis=1)


def _strengths(background: npt.NDArray[np.float64] | None, waves: npt.NDArray[np.float64]) -> Strengths:
    """Return how strong each of the waves (K, N * N) is in a background (N, N), or 0 where there is none."""
    if background is None:
        return np.zeros(len(waves))
    # Cosines of half waves are orthogonal on pixels.
    return np.asarray(waves @ background.ravel() / np.square(waves).sum(axis=1))


def next_intensities(before: npt.NDArray[np.float64], found: ExperimentGradient) -> npt.NDArray[np.float64]:
    """Return the relative intensities (b,) of exposures after a step of Fisher's scoring (CAL-01)."""
    step = found.intensity_force / np.maximum(found.intensity_curvature, 1e-30)
    return np.asarray(before * np.clip(1 - step, 1 / LARGEST_FACTOR, LARGEST_FACTOR))


def _damped_steps(
    force: npt.NDArray[np.float64], curvature: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return steps (n, k) for forces (n, k) and curvatures (n, k, k)."""
    stiff = STIFFNESS * np.trace(curvature, axis1=-2, axis2=-1).max() * np.eye(force.shape[-1])
    return np.asarray(np.linalg.solve(curvature + stiff, force[..., None])[..., 0])


def _gauss_newton(
    force: npt.NDArray[np.float64], curvature: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return steps (n, 2) for forces (n, 2) and curvatures (n, 2, 2), cut to LARGEST_MOVE."""
    step = _damped_steps(force, curvature)
    length = np.linalg.norm(step, axis=-1, keepdims=True)
    return np.asarray(step * np.minimum(1, LARGEST_MOVE / np.maximum(length, 1e-30)))
