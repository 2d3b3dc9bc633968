"""Steps of an object towards the likelihood's maximum (clauses REF-02 and REF-03).

Written with operators and slices only, so that the arrays may be NumPy's or those of a device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from .likelihood import DescentPhysics, ScanPhysics

__all__ = [
    'AcceleratedDescent',
    'Descent',
    'Proximal',
    'ReferencedVariation',
    'RegularisedPIE',
    'TotalVariation',
    'difference',
    'divergence',
    'real_product',
    'smoothing_prior',
    'step_curvature',
]

WEAKEST_STEP = 0.05
"""Curvature, relative to the largest, that a pixel without light is given."""

RPIE_ALPHA = 0.3
"""α of rPIE: 1 is ePIE, small values take larger steps where the probe is weak."""

PROXIMAL_ROUNDS = 4
"""Rounds of the dual iteration in each step; it goes on from where the last step left it."""

SMALLEST_DUAL = 1e-12
"""Keeps the dual from a division by zero. In the dark it is zero then, not a denormal number, with which
arithmetic is ten times slower."""

REFERENCED_FACTOR = 2.0
"""How much stronger the total variation is where half of it is that of the difference to a reference."""


Proximal = Callable[[Any, Any], Any]
"""A prior: what it makes of an object (H, W) that a step with a curvature (H, W), in counts, has led to."""


class Descent(Protocol):
    """An object on its way."""

    def iterate(self, subsets: Sequence[npt.NDArray[np.int64]]) -> float:
        """Step once for each subset of the patterns; return the held-out deviance, summed on the way."""

    @property
    def current(self) -> Any:
        """The object (H, W) after the last step."""

    @property
    def judged(self) -> Any:
        """The object (H, W) that the last subset of the last iteration was compared with."""


def real_product(a: Any, b: Any) -> float:
    """Return ``Re <a, b>`` of two complex arrays."""
    return float((a.real * b.real + a.imag * b.imag).sum())


def step_curvature(weight: Any, largest: float) -> Any:
    """Return the curvature for a step: `weight`, whose maximum is `largest`, raised where there is little."""
    return (1 - WEAKEST_STEP) * weight + WEAKEST_STEP * largest


class TotalVariation:
    """Isotropic total variation of a complex object, in units of its photon noise.

    Solves ``min_x sum D |x - z|^2 / 2 + c sum sqrt(W) |grad x|`` by projected ascent of the dual with a
    diagonal step (Chambolle, J. Math. Imaging Vis. 20, 89, 2004; Pock & Chambolle, ICCV 2011). The noise of
    a pixel that W counts fell on is about ``1 / sqrt W``, so that c has no unit and holds at any dose.

    Parameters
    ----------
    weight : (H, W) float
        Illumination W of the whole scan, in counts.
    strength : float or (H, W) float
        c.
    """

    def __init__(self, weight: Any, strength: Any) -> None:
        self._limit = strength * weight**0.5
        self._divisor = self._limit + SMALLEST_DUAL
        self._dual: list[tuple[Any, Any]] | None = None

    def __call__(self, z: Any, curvature: Any) -> Any:
        """Return the minimum (H, W) for the object `z` (H, W) and D (H, W)."""
        # Real and imaginary parts apart: arithmetic of real with complex numbers copies the former.
        planes = z.real, z.imag
        dual = self._dual or [(plane * 0, plane * 0) for plane in planes]
        inverse = 1 / curvature
        step = curvature / 8
        for _ in range(PROXIMAL_ROUNDS):
            power = 0
            for plane, (rows, columns) in zip(planes, dual, strict=True):
                x = plane - inverse * divergence(rows, columns)
                rows[:-1] += step[:-1] * (x[1:] - x[:-1])
                columns[:, :-1] += step[:, :-1] * (x[:, 1:] - x[:, :-1])
                power = power + rows * rows + columns * columns
            shrink = self._limit / (power**0.5).clip(min=self._divisor)
            dual = [(rows * shrink, columns * shrink) for rows, columns in dual]
        self._dual = dual
        real, imag = (inverse * divergence(*pair) for pair in dual)
        return z - (real + 1j * imag)


class ReferencedVariation:
    """Half the total variation of an object and half that of its difference to a reference.

    Edges that the reference has then cost half. A step is the mean of both steps, which is exact for the
    proximal average of both (Bauschke, Goebel, Lucet & Wang, SIAM J. Optim. 19, 766, 2008).

    Parameters
    ----------
    weight : (H, W) float
        As for :class:`TotalVariation`.
    strength : float
        Of each half, in its units; since their edges do not add up, twice that of one alone.
    reference : (H, W) complex
    """

    def __init__(self, weight: Any, strength: float, reference: Any) -> None:
        self._own = TotalVariation(weight, strength)
        self._apart = TotalVariation(weight, strength)
        self._reference = reference

    def __call__(self, z: Any, curvature: Any) -> Any:
        """Return the minimum (H, W) for the object `z` (H, W) and the curvature (H, W)."""
        apart = self._apart(z - self._reference, curvature) + self._reference
        return 0.5 * (self._own(z, curvature) + apart)


def smoothing_prior(weight: Any, strength: float, reference: Any | None = None) -> Proximal | None:
    """Return total variation of a strength, half of it referenced where there is an object to refer to.

    None where the strength is 0.
    """
    if strength == 0:
        return None
    if reference is None:
        return TotalVariation(weight, strength)
    return ReferencedVariation(weight, REFERENCED_FACTOR * strength, reference)


def difference(values: Any) -> tuple[Any, Any]:
    """Return the forward differences (H, W) along rows and columns; those of the last ones are zero."""
    rows, columns = values * 0, values * 0
    rows[:-1] = values[1:] - values[:-1]
    columns[:, :-1] = values[:, 1:] - values[:, :-1]
    return rows, columns


def divergence(rows: Any, columns: Any) -> Any:
    """Return the adjoint of :func:`difference`, for values whose last row and column are zero."""
    total = -rows - columns
    total[1:] += rows[:-1]
    total[:, 1:] += columns[:, :-1]
    return total


class AcceleratedDescent:
    """Poisson likelihood with a prior: proximal steps with Nesterov momentum over ordered subsets.

    The step of a pixel is the reciprocal of the illumination it got; momentum starts afresh when it points
    uphill (Beck & Teboulle, SIAM J. Imaging Sci. 2, 183, 2009; O'Donoghue & Candès, Found. Comput. Math. 15,
    715, 2015; subsets: Kim, Ramani & Fessler, IEEE Trans. Med. Imaging 34, 167, 2015). Steps of the whole
    scan move the low-frequency phase further (:func:`~.preconditioner.phase_preconditioner`).

    Parameters
    ----------
    physics : DescentPhysics
    start : (H, W) complex
        On the device.
    prior : Proximal, optional
        None for the likelihood alone.
    gain : (H, W) complex
        :func:`~.preconditioner.phase_preconditioner`, on the device.
    """

    def __init__(self, physics: DescentPhysics, start: Any, prior: Proximal | None, gain: Any) -> None:
        self._physics = physics
        self.current: Any = start
        """The object (H, W) after the last step."""
        self.judged: Any = start
        """The object (H, W) at which the last gradient was taken, ahead of the step before it."""
        self.prior = prior
        self.phase_gain = 1.0
        """Part of the gain of the low-frequency phase with which the next steps turn it."""
        self._ahead = start
        self._gain = gain
        self._momentum = 1.0
        self._moved: Any = start * 0
        self._weight: Any = abs(start)

    @property
    def change(self) -> float:
        """How far the last step moved the object: root mean square, weighted by the illumination."""
        moved, weight = self._moved, self._weight
        power = (weight * (moved.real**2 + moved.imag**2)).sum()
        return math.sqrt(float(power / weight.sum()))

    def iterate(self, subsets: Sequence[npt.NDArray[np.int64]]) -> float:
        """Step once for each subset of the patterns."""
        held_out = 0.0
        for subset in subsets:
            found = self._physics.evaluate(self._ahead, subset, 'poisson')
            held_out += found.held_out
            self._step(found.gradient, found.weight, whole=len(subsets) == 1)
        return held_out

    def _step(self, gradient: Any, weight: Any, *, whole: bool) -> None:
        largest = float(weight.max())
        curvature = step_curvature(weight, largest)
        step = gradient / curvature
        following = self._ahead - step
        if whole and self.phase_gain > 0:
            scanned = weight / (weight + WEAKEST_STEP * largest)
            power = self._ahead.real**2 + self._ahead.imag**2
            phase = scanned * (self._ahead.conj() * step).imag / (power + WEAKEST_STEP)
            turn = self._physics.filtered(phase, self.phase_gain * self._gain)
            # A unit factor close to exp(-i turn) that needs no exponential.
            following = following * ((1 - 0.5j * turn) / (1 + 0.5j * turn))
        if self.prior is not None:
            following = self.prior(following, curvature)
        moved = following - self.current
        if real_product(self._ahead - following, moved) > 0:
            self._momentum = 1.0
        grown = (1 + (1 + 4 * self._momentum**2) ** 0.5) / 2
        self.judged = self._ahead
        self._ahead = following + ((self._momentum - 1) / grown) * moved
        self.current = following
        self._momentum = grown
        self._moved, self._weight = moved, weight


class RegularisedPIE:
    """rPIE: the modulus constraint, a few patterns at a time, weak pixels moved further.

    Maiden, Johnson & Li, Optica 4, 736, 2017. The patterns of a subset are applied together.
    """

    def __init__(self, physics: ScanPhysics, start: Any, peak_illumination: float) -> None:
        self._physics = physics
        self.current: Any = start
        """The object (H, W) after the last step."""
        self.judged: Any = start
        """The object (H, W) before it."""
        self._peak = peak_illumination

    def iterate(self, subsets: Sequence[npt.NDArray[np.int64]]) -> float:
        """Step once for each subset of the patterns."""
        held_out = 0.0
        for subset in subsets:
            found = self._physics.evaluate(self.current, subset, 'amplitude')
            held_out += found.held_out
            curvature = (1 - RPIE_ALPHA) * found.weight + RPIE_ALPHA * self._peak
            self.judged = self.current
            self.current = self.current - found.gradient / curvature
        return held_out
