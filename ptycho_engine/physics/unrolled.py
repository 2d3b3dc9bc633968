"""One step of the unrolled network around its convolutions, in NumPy (clauses NET-01 to NET-03).

The backends compute the same for small groups in training; this module is the reference, and serves whole
scans, whose gradient comes from :class:`~.refinement.ScanPhysics`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft

__all__ = [
    'CORRECTION_LIMIT',
    'FEATURES',
    'INITIAL_RATES',
    'LARGEST_TURN',
    'SCANNED_FLOOR',
    'STEP_REGULARISATION',
    'WEAK_REGULARISATION',
    'Surroundings',
    'UnrolledState',
    'advance',
    'flat_state',
    'network_features',
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
    'photon_noise',
)
"""Input channels of a correction network, in order (NET-02)."""

STEP_REGULARISATION = 0.2
"""Curvature, in units of the probe's brightest intensity, added to the illumination in a step."""

WEAK_REGULARISATION = 0.02
"""The same for the step that the network sees beside it, which is longer where light is weak."""

SCANNED_FLOOR = 0.05
"""Illumination, relative to the largest of the canvas, below which the slow phase is not turned."""

LARGEST_TURN = 1.0
"""Largest turn of the phase in one step, in radians."""

CORRECTION_LIMIT = 2.0
"""Real and imaginary part of each correction are bounded by ``limit * tanh(x / limit)``, so that one bad
step of the optimiser cannot throw the object away. The object itself has no ceiling."""

INITIAL_RATES = (0.0, 0.5, 0.5)
"""Of each step, before training: logarithm of the factor of the step, momentum, factor of the slow turn."""


@dataclass(frozen=True)
class Surroundings:
    """What a step needs to know and no step changes."""

    illumination: FloatImage
    """(H, W) I = Σ_j |P_j|² that the patterns put on each pixel, in counts."""
    brightest: float
    """Largest value of the illumination of one pattern, in counts."""
    gain: FloatImage
    """(H, W) from :func:`~.slow_phase.slow_phase_gain`, over FFT frequencies."""


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


def network_features(state: UnrolledState, gradient: ComplexImage, around: Surroundings) -> FloatImage:
    """Return what the network of a step sees, (F, H, W) in the order of ``FEATURES``.

    Parameters
    ----------
    gradient : (H, W) complex
        ``G = Σ_j conj(P_j) F⁻¹((A_j / |Ψ_j| − 1) Ψ_j)``, by which the modulus constraint would change the
        object times the illumination.
    """
    light, obj = around.illumination, state.obj
    step = gradient / (light + np.float32(STEP_REGULARISATION * around.brightest))
    weak = gradient / (light + np.float32(WEAK_REGULARISATION * around.brightest))
    relative = light / np.float32(around.brightest)
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
            state.change.real,
            state.change.imag,
            _slow_turn(obj, weak, around),
            np.log1p(relative),
            relative / (relative + 1),
            1 / np.sqrt(1 + light),
        ]
    ).astype(np.float32)


def _slow_turn(obj: ComplexImage, weak: ComplexImage, around: Surroundings) -> FloatImage:
    """Return the turn (H, W) of the slow phase that the step asks for, in radians."""
    light = around.illumination
    scanned = light / (light + np.float32(SCANNED_FLOOR) * light.max())
    phase = scanned * (obj.conj() * weak).imag / (np.abs(obj) ** 2 + np.float32(SCANNED_FLOOR))
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
    step = features[FEATURES.index('step_real')] + 1j * features[FEATURES.index('step_imag')]
    turn = rates[2] * features[FEATURES.index('slow_turn')]
    bounded = CORRECTION_LIMIT * np.tanh(correction[:2] / CORRECTION_LIMIT)
    moved = state.obj + np.exp(rates[0]) * step + rates[1] * state.change + (bounded[0] + 1j * bounded[1])
    obj = (moved * np.exp(1j * turn)).astype(np.complex64)
    return UnrolledState(obj, obj - state.obj)
