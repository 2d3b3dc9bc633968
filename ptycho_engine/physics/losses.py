"""The losses of training beside the deviance, over a table of operations (``specs/physics.md``, LOSS)."""

from __future__ import annotations

from .forward import BACKGROUND, PIXELS
from .operations import A, Operations

__all__ = [
    'LABEL_LIGHT',
    'LABEL_SOFTNESS',
    'amplitude_error',
    'label_error',
    'lit_part',
    'total_variation',
]

LABEL_LIGHT = 0.05
"""Illumination, relative to the brightest of the probe, below which labels count less."""

LABEL_SOFTNESS = 1e-3
"""Difference from a label below which its absolute value is rounded off, so that it has a gradient at 0."""

TINY = 1e-12
"""Keeps a phase of nothing from a division by zero."""


def amplitude_error(ops: Operations[A], amplitude: A, rate: A, valid: A) -> A:
    """Return the mean absolute error of amplitudes relative to the mean amplitude, of each pattern (n,)."""
    mask = ops.cast(valid, amplitude)
    difference = ops.abs(ops.sqrt(rate + BACKGROUND) - amplitude) * mask
    scale = ops.least(ops.sum(amplitude * mask, PIXELS), BACKGROUND)
    return ops.sum(difference, PIXELS) / scale


def lit_part(relative: A) -> A:
    """Return the weights (B, H, W) of labels on canvases, for the illumination relative to the brightest.

    1, but less where there is less light than ``LABEL_LIGHT``.
    """
    return relative / (relative + LABEL_LIGHT)


def label_error(ops: Operations[A], patches: A, labels: A, weight: A) -> A:
    """Return the error against known patches and of its differences between neighbours, up to one phase (B,).

    ``Σ w (|d| + |∂_y d| + |∂_x d|) / Σ w |T|`` with ``d = O e^{iφ} − T`` over all patches (B, C, N, N) of a
    group that shares its phase, φ that of ``Σ w conj(O) T``: patterns do not fix it.
    """
    axes = (1, 2, 3)
    cross = ops.sum(ops.scaled(ops.conj(patches) * labels, weight), axes)[:, None, None, None]
    unit = ops.scaled(cross, 1 / ops.least(ops.abs(cross), TINY))
    difference = patches * unit - labels

    def soft_modulus(values: A) -> A:
        return ops.sqrt(ops.abs2(values) + LABEL_SOFTNESS**2)

    rows, columns = difference[:, :, 1:] - difference[:, :, :-1], difference[..., 1:] - difference[..., :-1]
    total = ops.sum(weight * soft_modulus(difference), axes)
    total = total + ops.sum(weight[:, :, 1:] * soft_modulus(rows), axes)
    total = total + ops.sum(weight[..., 1:] * soft_modulus(columns), axes)
    return total / ops.sum(weight * ops.abs(labels), axes)


def total_variation(ops: Operations[A], patches: A, weight: A) -> A:
    """Return the illumination-weighted isotropic total variation of complex patches (n,)."""
    dy = patches[:, 1:, :-1] - patches[:, :-1, :-1]
    dx = patches[:, :-1, 1:] - patches[:, :-1, :-1]
    magnitude = ops.sqrt(ops.abs2(dy) + ops.abs2(dx) + 1e-8)
    inner = weight[:, :-1, :-1]
    return ops.sum(inner * magnitude, PIXELS) / ops.sum(inner, PIXELS)
