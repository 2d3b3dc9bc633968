"""Steps of Newton's kind towards the likelihood's maximum, for scans that hold their object well (SOLVE-08).

Written with operators and slices only, so that the arrays may be NumPy's or those of a device.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from .descent import WEAKEST_STEP, difference, divergence, real_product, step_curvature
from .likelihood import DescentPhysics

__all__ = ['NewtonPhysics', 'NewtonStep']

PHASE_GAIN = 3.0
"""Factor of the gain of the low-frequency phase in the preconditioner. Conjugate gradients choose their own
lengths, so that too much of it costs nothing."""

SMOOTH_EDGE = 0.5
"""Difference of neighbours, in units of photon noise, below which total variation is taken as a square."""

EDGE_CURVATURE = 2.0
"""Mean curvature of a difference operator over its frequencies, for the preconditioner."""


class NewtonPhysics(DescentPhysics, Protocol):
    """What such steps need of patterns; :class:`~.likelihood.ScanPhysics` has it."""

    def curvature_along(self, obj: Any, direction: Any) -> Any:
        """Return what the curvature of the likelihood of all patterns makes of a direction (H, W)."""


class NewtonStep:
    """A step from an object to the minimum of a quadratic model, by preconditioned conjugate gradients.

    The model has Fisher's information in place of the second derivative (Gauss-Newton), and total variation
    with the weights of its edges held (lagged diffusivity: Vogel & Oman, SIAM J. Sci. Comput. 17, 227, 1996).
    Each improvement costs as much as a gradient.

    Parameters
    ----------
    physics : NewtonPhysics
    obj : (H, W) complex
        Where it starts, on the device.
    weight : (H, W) float
        Illumination of the whole scan, in counts.
    smoothing : float or (H, W) float
        Strength of total variation (:class:`~.descent.TotalVariation`); 0 for none.
    gain : (H, W) complex
        :func:`~.preconditioner.phase_preconditioner`, on the device.
    count : int
        Patterns of the scan.
    """

    def __init__(
        self, physics: NewtonPhysics, obj: Any, weight: Any, smoothing: Any, gain: Any, count: int
    ) -> None:
        self._physics = physics
        self._obj = obj
        self._gain = PHASE_GAIN * gain
        largest = float(weight.max())
        rows, columns = difference(obj)
        edge = rows.real**2 + rows.imag**2 + columns.real**2 + columns.imag**2
        noise = SMOOTH_EDGE**2 / (weight + WEAKEST_STEP * largest)
        self._edges = smoothing * (weight / (edge + noise)) ** 0.5
        found = physics.evaluate(obj, np.arange(count), 'poisson')
        self.held_out = found.held_out
        """Poisson deviance summed over the held-out pixels of all patterns, where it starts."""
        # Half of the patterns' weight is the mean of their curvature over real and imaginary directions.
        inverse = 1 / (0.5 * step_curvature(weight, largest) + EDGE_CURVATURE * self._edges)
        self._scale = inverse**0.5
        scanned = weight / (weight + WEAKEST_STEP * largest)
        self._turning = scanned * obj / (abs(obj) + WEAKEST_STEP)
        self._residual = -found.gradient - self._smoothed(obj)
        self._step: Any = obj * 0
        conditioned = self._conditioned(self._residual)
        self._direction = conditioned
        self._power = real_product(self._residual, conditioned)

    def improve(self) -> None:
        """Take one iteration of conjugate gradients."""
        if not self._power > 0:
            return
        bent = self._physics.curvature_along(self._obj, self._direction) + self._smoothed(self._direction)
        curvature = real_product(self._direction, bent)
        if not curvature > 0:
            return
        length = self._power / curvature
        self._step = self._step + length * self._direction
        self._residual = self._residual - length * bent
        conditioned = self._conditioned(self._residual)
        power = real_product(self._residual, conditioned)
        self._direction = conditioned + (power / self._power) * self._direction
        self._power = power

    @property
    def reached(self) -> Any:
        """The object (H, W) that the step leads to."""
        return self._obj + self._step

    @property
    def gradient(self) -> Any:
        """The gradient (H, W) of the likelihood there, as the quadratic model has it."""
        return -self._residual - self._smoothed(self.reached)

    def _smoothed(self, values: Any) -> Any:
        """Return the gradient of the quadratic model of total variation."""
        rows, columns = difference(values)
        return divergence(self._edges * rows, self._edges * columns)

    def _conditioned(self, residual: Any) -> Any:
        """Apply the preconditioner: the reciprocal curvature of pixels, and more for the low-frequency
        phase."""
        scaled = self._scale * residual
        phase = self._physics.filtered((self._turning.conj() * scaled).imag, self._gain)
        return self._scale * (scaled + 1j * self._turning * phase)
