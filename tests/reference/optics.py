"""The forward model of ptychography and its losses in float64, written from specs/physics.md alone.

Nothing here comes from the engine, so that a constant or a sign that changes there is noticed. Slow and
plain: Fourier transforms are products with matrices. Zero frequency is at index N//2 of the detector.
"""

from __future__ import annotations

import numpy as np
from scipy.special import xlogy

DARK = 0.01
"""Counts per pixel that are added to a predicted rate (FWD-02)."""


def _frequencies(size: int) -> np.ndarray:
    return np.arange(size) - size // 2


def to_detector(wave: np.ndarray) -> np.ndarray:
    """Return the unitary Fourier transform of waves (..., N, N) (FWD-01)."""
    size = wave.shape[-1]
    matrix = np.exp(-2j * np.pi * np.outer(_frequencies(size), np.arange(size)) / size) / np.sqrt(size)
    return matrix @ wave @ matrix.T


def from_detector(field: np.ndarray) -> np.ndarray:
    """Return the wave whose :func:`to_detector` is a field (..., N, N)."""
    size = field.shape[-1]
    matrix = np.exp(2j * np.pi * np.outer(np.arange(size), _frequencies(size)) / size) / np.sqrt(size)
    return matrix @ field @ matrix.T


def moved(probe: np.ndarray, dy: float, dx: float) -> np.ndarray:
    """Return probe modes (P, N, N) moved by a fraction of a pixel through the shift theorem (GEO-03)."""
    size = probe.shape[-1]
    down, right = (np.exp(-2j * np.pi * _frequencies(size) * d / size) for d in (dy, dx))
    return from_detector(to_detector(probe) * down[:, None] * right)


def probe_of_position(probes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return modes (P, N, N) of a position: those of probes (c, P, N, N) by its weights (c,) (OPR-01)."""
    modes = probes[0].astype(complex)
    modes[0] = sum(weight * mode for weight, mode in zip(weights, probes[:, 0], strict=True))
    return modes


def light(probe: np.ndarray) -> np.ndarray:
    """Return the illumination (N, N) of incoherent modes (P, N, N)."""
    return (probe.real**2 + probe.imag**2).sum(axis=0)


def rate(patch: np.ndarray, probe: np.ndarray) -> np.ndarray:
    """Return the counts (N, N) that a patch (N, N) predicts under moved modes (P, N, N) (FWD-01)."""
    return light(to_detector(probe * patch))


def deviance(counts: np.ndarray, predicted: np.ndarray, looked_at: np.ndarray) -> float:
    """Return the Poisson deviance of a pattern (N, N) per pixel that is looked at (LOSS-01)."""
    expected = predicted + DARK
    each = 2 * (xlogy(counts, counts / expected) - (counts - expected))
    return float(each[looked_at].mean())


def deviance_gradient(
    patch: np.ndarray, probe: np.ndarray, counts: np.ndarray, looked_at: np.ndarray
) -> np.ndarray:
    """Return ``dD/dRe + i dD/dIm`` of the deviance of a pattern by its patch (N, N) under moved modes."""
    fields = to_detector(probe * patch)
    residual = 2 * (1 - counts / (light(fields) + DARK)) * looked_at / looked_at.sum()
    return (np.conj(probe) * from_detector(2 * residual * fields)).sum(axis=0)


def merged(patches: np.ndarray, weights: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Return the patches (C, N, N) of a group, averaged with weights and cut again (FWD-03)."""
    size = patches.shape[-1]
    start = corners - corners.min(axis=0)
    total = np.zeros(start.max(axis=0) + size, complex)
    weight = np.zeros(total.shape)
    for patch, factor, (row, column) in zip(patches, weights, start, strict=True):
        total[row : row + size, column : column + size] += factor * patch
        weight[row : row + size, column : column + size] += factor
    mean = total / np.where(weight > 0, weight, 1)
    return np.stack([mean[row : row + size, column : column + size] for row, column in start])


def amplitude_error(amplitude: np.ndarray, predicted: np.ndarray, looked_at: np.ndarray) -> float:
    """Return the error of the amplitudes of a pattern (N, N) relative to their sum (LOSS-03)."""
    difference = np.abs(np.sqrt(predicted + DARK) - amplitude)
    return float(difference[looked_at].sum() / amplitude[looked_at].sum())


def label_weights(lights: np.ndarray, corners: np.ndarray, peak_illumination: float) -> np.ndarray:
    """Return the weights (C, N, N) of the labels of patches that share an object (LOSS-04).

    Parameters
    ----------
    lights : (C, N, N) float
        Illumination of each patch.
    corners : (C, 2) int
        [row, column] of each.
    peak_illumination : float
        Largest illumination of the probe.
    """
    size = lights.shape[-1]
    start = corners - corners.min(axis=0)
    total = np.zeros(start.max(axis=0) + size)
    for own, (row, column) in zip(lights, start, strict=True):
        total[row : row + size, column : column + size] += own
    whole = [total[row : row + size, column : column + size] for row, column in start]
    return lights / (np.stack(whole) + 0.05 * peak_illumination)


def label_error(found: np.ndarray, known: np.ndarray, weight: np.ndarray) -> float:
    """Return the error of patches (C, N, N) that share a phase against known ones (LOSS-04)."""
    phase = np.angle((weight * np.conj(found) * known).sum())
    difference = found * np.exp(1j * phase) - known

    def soft(values: np.ndarray) -> np.ndarray:
        return np.sqrt(np.abs(values) ** 2 + 1e-6)

    # Differences are to the neighbour before, and count with the weight of the pixel.
    total = (weight * soft(difference)).sum()
    total += (weight[:, 1:] * soft(difference[:, 1:] - difference[:, :-1])).sum()
    total += (weight[:, :, 1:] * soft(difference[:, :, 1:] - difference[:, :, :-1])).sum()
    return float(total / (weight * np.abs(known)).sum())


def variation(patch: np.ndarray, weight: np.ndarray) -> float:
    """Return the mean modulus of the gradient of a patch (N, N), weighted by its illumination (LOSS-05)."""
    down = patch[1:, :-1] - patch[:-1, :-1]
    right = patch[:-1, 1:] - patch[:-1, :-1]
    modulus = np.sqrt(np.abs(down) ** 2 + np.abs(right) ** 2)
    inner = weight[:-1, :-1]
    return float((inner * modulus).sum() / inner.sum())
