"""The object near some frames, brought up to date by a few iterations over these and their neighbours.

Frames that take no part are not forgotten: what they said is held by a parabola about the object as it was,
as narrow as their illumination makes it, as a Kalman filter holds what came before.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..backends.base import Backend
from ..physics.descent import Proximal, TotalVariation, step_curvature
from ..physics.learned_prior import LearnedPrior, detail_filters
from ..physics.likelihood import Evaluation, Likelihood, ScanPatterns, ScanPhysics
from ..physics.newton import NewtonStep
from ..physics.preconditioner import illumination_variance, phase_preconditioner

__all__ = ['improve_window']

HELD = 0.5
"""Curvature of what the other frames said, in units of their illumination: counts pin down one of the two
directions in which a pixel can move."""

TINY = 1e-6
"""Amplitude, and counts, that keep nothing from being divided by."""


class HeldPhysics:
    """The frames of a window beside what the other frames said of it.

    Parameters
    ----------
    physics : ScanPhysics
        Of the frames that take part.
    obj : (h, w) complex
        The object as all frames so far left it, on the device.
    light : (h, w) float
        Illumination of all frames, in counts, on the device.
    firm : (h, w) complex
        How firmly patterns hold a phase, relative to fine detail, over FFT frequencies, on the device.
    """

    def __init__(self, physics: ScanPhysics, obj: Any, light: Any, firm: Any, count: int) -> None:
        self._physics, self._obj, self._firm = physics, obj, firm
        self._first = physics.evaluate(obj, np.arange(count), 'poisson')
        own = self._first.weight
        self._others = (light - own).clip(min=0 * own)
        self.light = own + self._others
        """(h, w) illumination of all frames, in counts."""
        self.share = own / (self.light + TINY)
        """(h, w) part of it that is of the frames that take part."""
        phasor = obj / (abs(obj) + TINY)
        # Made once: each is asked for in every iteration.
        self._to_phase, self._from_phase = phasor.conj() * 1, HELD * self._others * phasor

    def filtered(self, values: Any, gain: Any) -> Any:
        """Return real values (h, w) whose Fourier transform was multiplied by `gain` (h, w)."""
        return self._physics.filtered(values, gain)

    def evaluate(self, obj: Any, indices: npt.NDArray[np.int64], likelihood: Likelihood) -> Evaluation:
        """Return gradient, weight and held-out deviance of all frames at the object as it was.

        There the other frames have none: it is the vertex of their parabola.
        """
        assert obj is self._obj
        return Evaluation(self._first.gradient, self.light, self._first.held_out)

    def curvature_along(self, obj: Any, direction: Any) -> Any:
        """Return what the curvature of the frames and of the parabola makes of a direction (h, w)."""
        return self._physics.curvature_along(obj, direction) + self._held(direction)

    def _held(self, moved: Any) -> Any:
        """Return the gradient of the parabola where the object has moved so far (h, w)."""
        turned = moved * self._to_phase
        turned.imag[:] = self._physics.filtered(turned.imag, self._firm)
        return self._from_phase * turned


def improve_window(
    backend: Backend,
    patterns: ScanPatterns,
    obj: npt.NDArray[np.complex64],
    weight: npt.NDArray[np.float32],
    smoothing: float,
    strength: float,
    iterations: int,
) -> npt.NDArray[np.complex64]:
    """Return the object (h, w) of a window after a step of Gauss and Newton and one with the prior (LIVE-03).

    Parameters
    ----------
    backend : Backend
        Built for 'prior' where `strength` is not 0.
    patterns : ScanPatterns
        The frames that take part, on a canvas that is the window.
    obj : (h, w) complex64
        The object as it is.
    weight : (h, w) float32
        Illumination of all frames so far, in counts.
    smoothing : float
        Strength of total variation (:class:`~..physics.descent.TotalVariation`).
    strength : float
        Of the learned prior (:class:`~..physics.learned_prior.LearnedPrior`); 0 for none.
    iterations : int
        Of conjugate gradients (:class:`~..physics.newton.NewtonStep`).
    """
    physics = backend.scan_physics(patterns)
    start = physics.to_device(obj)
    slow = phase_preconditioner(illumination_variance(patterns.probe), patterns.shape)
    gain, firm = (physics.to_device(values.astype(np.complex64)) for values in (slow, 1 / (1 + slow)))
    light = physics.to_device(weight.astype(np.complex64)).real
    held = HeldPhysics(physics, start, light, firm, len(patterns))
    # The object that is held was smoothed already for the other frames.
    strengths = smoothing * held.share
    step = NewtonStep(held, start, held.light, strengths, gain, len(patterns))
    for _ in range(iterations):
        step.improve()
    prior: Proximal = TotalVariation(held.light, strengths)
    if strength > 0:
        prior = _in_part(
            _learned_prior(backend, physics, held.light, smoothing, strength, patterns.shape), held.share**0.5
        )
    # The patterns need not be asked again: the model of the step knows their gradient well enough.
    curvature = step_curvature(held.light, float(held.light.max()))
    found = prior(step.reached - step.gradient / curvature, curvature)
    return np.asarray(physics.to_host(found), np.complex64)


def _in_part(prior: Proximal, part: Any) -> Proximal:
    """Return a prior whose change is taken in part (h, w)."""
    return lambda z, curvature: z + part * (prior(z, curvature) - z)


def _learned_prior(
    backend: Backend,
    physics: ScanPhysics,
    light: Any,
    smoothing: float,
    strength: float,
    shape: tuple[int, int],
) -> Proximal:
    high_pass, low_pass = detail_filters(physics, shape)
    return LearnedPrior(light, smoothing, backend.denoise, high_pass, low_pass, strength, phase_update=False)
