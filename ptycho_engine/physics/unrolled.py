"""One step of the unrolled network around its convolutions, in NumPy (clauses NET-01 to NET-03, NET-10).

The backends compute the same for small groups; this module is the reference, and serves whole
scans, whose gradient comes from :class:`~.refinement.ScanPhysics`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft

__all__ = [
    'CORRECTION_LIMIT',
    'FASTEST_MOMENTUM',
    'FEATURES',
    'INITIAL_RATES',
    'LARGEST_TURN',
    'RESTING_RATES',
    'SCANNED_FLOOR',
    'STEP_REGULARISATION',
    'WEAK_REGULARISATION',
    'Surroundings',
    'UnrolledState',
    'advance',
    'flat_state',
    'look_ahead',
    'network_features',
    'physics_momentum',
    'physics_step',
    'steps_between',
    'upright',
]

FloatImage = npt.NDArray[np.float32]
ComplexImage = npt.NDArray[np.complex64]

FEATURES = (
    'object_real_minus_1',
    'object_imag',
    'object_modulus_minus_1',
    'step_real',
    'step_imag',
    'weak_step_real',
    'weak_step_imag',
    'weak_step_modulus',
    'last_change_real',
    'last_change_imag',
    'slow_turn',
    'log_illumination',
    'illuminated',
    'log_uncertain_by',
)
"""Input channels of a correction network, in order (NET-02)."""

STEP_REGULARISATION = 0.2
"""Curvature, in units of the probe's brightest intensity, added to the illumination in a step."""

WEAK_REGULARISATION = 0.02
"""The same for the longer steps before the first correction, and for the step that networks see beside."""

SCANNED_FLOOR = 0.05
"""Illumination, relative to the largest of the canvas, below which the slow phase is not turned."""

UPRIGHT = 1e-6
"""Turn, in radians, that is less than the numbers of an object can tell."""

LARGEST_TURN = 1.0
"""Largest turn of the phase in one step, in radians."""

CORRECTION_LIMIT = 4.0
"""Real and imaginary part of each correction are bounded by ``limit * tanh(x / limit)``, in units of
:func:`uncertain_by`, so that one bad step of the optimiser cannot throw the object away, and an object that
explains its patterns is left alone. The object itself has no ceiling."""

INITIAL_RATES = (0.0, 0.5, 0.5)
"""Of each step before training, where the start is a flat object: logarithm of the factor of the step,
momentum, factor of the slow turn."""

RESTING_RATES = (-3.0, 0.0, 0.0)
"""The same where physics alone has brought the object near: another such step brings noise, not detail."""

BETWEEN_DIVISOR = 16
"""Between two corrections there are so many times fewer steps without one than before the first."""

FASTEST_MOMENTUM = 0.9
"""Largest momentum of the steps before the first correction."""


@dataclass(frozen=True)
class Surroundings:
    """What a step needs to know and no step changes."""

    illumination: FloatImage
    """(H, W) I = Σ_j |P_j|² that the patterns put on each pixel, in counts."""
    brightest: float
    """Largest value of the illumination of one pattern, in counts."""
    gain: FloatImage
    """(H, W) from :func:`~.slow_phase.slow_phase_gain`, over FFT frequencies."""

    @cached_property
    def scanned(self) -> FloatImage:
        """(H, W) how far a pixel counts as scanned, from 0 to 1."""
        light = self.illumination
        return np.asarray(light / (light + np.float32(SCANNED_FLOOR) * light.max()), dtype=np.float32)


@dataclass(frozen=True)
class UnrolledState:
    """The object between two steps."""

    obj: ComplexImage
    """(H, W) in the engine's gauge."""
    change: ComplexImage
    """(H, W) what the last step changed."""


def flat_state(shape: tuple[int, int]) -> UnrolledState:
    """Return the start: an object of 1 that has not changed."""
    return UnrolledState(np.ones(shape, np.complex64), np.zeros(shape, np.complex64))


def physics_momentum(index: int) -> float:
    """Return the momentum before the step of that index (from 0) that has no correction (NET-10).

    ``(k - 1) / (k + 2)`` of accelerated gradients (Nesterov, Soviet Math. Dokl. 27, 372, 1983; Beck &
    Teboulle, SIAM J. Imaging Sci. 2, 183, 2009), at most ``FASTEST_MOMENTUM``.
    """
    return min(max(index - 1, 0) / (index + 2), FASTEST_MOMENTUM)


def steps_between(physics_steps: int) -> int:
    """Return how many steps without a correction precede each correction but the first (NET-10)."""
    return physics_steps // BETWEEN_DIVISOR


def look_ahead(state: UnrolledState, index: int) -> ComplexImage:
    """Return where the step of that index that has no correction takes its gradient: (H, W)."""
    return np.asarray(state.obj + np.float32(physics_momentum(index)) * state.change, dtype=np.complex64)


def physics_step(
    state: UnrolledState,
    ahead: ComplexImage,
    gradient: ComplexImage,
    around: Surroundings,
    *,
    turn: bool = True,
) -> UnrolledState:
    """Take one step without a correction (NET-10).

    Parameters
    ----------
    ahead : (H, W) complex
        Of :func:`look_ahead`.
    gradient : (H, W) complex
        At `ahead`, of the patterns whose illumination `around` has.
    turn : bool
        Whether to turn the slow phase, as steps with all patterns do.
    """
    weak = _step(gradient, around, WEAK_REGULARISATION)
    moved = ahead + weak
    if turn:
        moved *= np.exp(1j * _slow_turn(ahead, weak, around))
    obj = np.asarray(moved, dtype=np.complex64)
    return UnrolledState(obj, obj - state.obj)


def upright(state: UnrolledState, light: FloatImage) -> UnrolledState:
    """Return the state turned so that the mean of the object, weighted by light (H, W), is real and positive.

    No pattern sees a phase that all of an object shares, so that steps let it drift; networks know objects
    about 1. What the drift itself changed is no part of the last change any more. A state that is upright is
    returned as it is, to the last bit.
    """
    both = state.obj, state.obj - state.change
    turns = [float(np.angle((light * each).sum(dtype=np.complex128))) for each in both]
    if max(map(abs, turns)) < UPRIGHT:
        return state
    obj, before = (each * np.complex64(np.exp(-1j * turn)) for each, turn in zip(both, turns, strict=True))
    return UnrolledState(obj, obj - before)


def network_features(state: UnrolledState, gradient: ComplexImage, around: Surroundings) -> FloatImage:
    """Return what the network of a step sees, (F, H, W) in the order of ``FEATURES``.

    Parameters
    ----------
    gradient : (H, W) complex
        ``G = Σ_j conj(P_j) F⁻¹((A_j / |Ψ_j| − 1) Ψ_j)``, by which the modulus constraint would change the
        object times the illumination.
    """
    light, obj, change = around.illumination, state.obj, state.change
    step = _step(gradient, around, STEP_REGULARISATION)
    weak = _step(gradient, around, WEAK_REGULARISATION)
    relative = light / np.float32(around.brightest)
    turn = _slow_turn(obj, weak, around)
    unit = uncertain_by(weak, light)
    step, weak, change = step / unit, weak / unit, change / unit
    return np.stack(
        [
            obj.real - 1,
            obj.imag,
            np.abs(obj) - 1,
            step.real,
            step.imag,
            weak.real,
            weak.imag,
            np.abs(weak),
            change.real,
            change.imag,
            turn,
            np.log1p(relative),
            relative / (relative + 1),
            np.log(unit),
        ]
    ).astype(np.float32)


def uncertain_by(weak: ComplexImage, light: FloatImage) -> FloatImage:
    """Return how far the object may be off: photon noise and what the patterns still ask for, (H, W).

    Parameters
    ----------
    weak : (H, W) complex
        The longer step.
    light : (H, W) float
        Illumination in counts.
    """
    asked = (light * np.abs(weak) ** 2).sum(dtype=np.float64) / light.sum(dtype=np.float64)
    return np.asarray(np.sqrt(np.float32(asked) + 1 / (1 + light)), dtype=np.float32)


def _step(gradient: ComplexImage, around: Surroundings, regularisation: float) -> ComplexImage:
    """Return how far a gradient (H, W) moves the object."""
    return gradient / (around.illumination + np.float32(regularisation * around.brightest))


def _slow_turn(obj: ComplexImage, weak: ComplexImage, around: Surroundings) -> FloatImage:
    """Return the turn (H, W) of the slow phase that the step asks for, in radians."""
    phase = around.scanned * (obj.conj() * weak).imag / (np.abs(obj) ** 2 + np.float32(SCANNED_FLOOR))
    turned = fft.ifft2(fft.fft2(phase) * around.gain).real
    return np.asarray(np.clip(turned, -LARGEST_TURN, LARGEST_TURN), dtype=np.float32)


def advance(
    state: UnrolledState, features: FloatImage, correction: FloatImage, rates: npt.NDArray[Any]
) -> UnrolledState:
    """Take one step (NET-01).

    Parameters
    ----------
    features : (F, H, W) float
        Of :func:`network_features`.
    correction : (2, H, W) float
        Output of the network: real and imaginary part, not yet bounded.
    rates : (3,) float
        Logarithm of the factor of the step, momentum, factor of the slow turn.
    """
    unit = np.exp(features[FEATURES.index('log_uncertain_by')])
    step = features[FEATURES.index('step_real')] + 1j * features[FEATURES.index('step_imag')]
    turn = rates[2] * features[FEATURES.index('slow_turn')]
    bounded = CORRECTION_LIMIT * np.tanh(correction[:2] / CORRECTION_LIMIT)
    moved = unit * (np.exp(rates[0]) * step + bounded[0] + 1j * bounded[1])
    moved += state.obj + rates[1] * state.change
    obj = (moved * np.exp(1j * turn)).astype(np.complex64)
    return UnrolledState(obj, obj - state.obj)
