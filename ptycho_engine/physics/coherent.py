"""Coherent (OPR) modes: a probe that is another one at each position of a scan (OPR-*).

M. Odstrčil et al., *Opt. Express* 24, 8360 (2016): the probes of all positions lie near a space of few
dimensions. Only the first incoherent mode varies, as in pty-chi and Ptychodus.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DataValueError
from .probe import with_first_modes

__all__ = ['CoherentModes', 'coherent_modes', 'in_product', 'of_product']

LEAST_SHARE = 1e-8
"""Part of the light of the mean probe below which a mode is none: what starts an iterative solver, say."""

ComplexArray = npt.NDArray[np.complexfloating[Any, Any]]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CoherentModes:
    """How the first incoherent mode varies: at position j it is ``probe[0] + sum_k weights[j, k] modes[k]``.

    :func:`coherent_modes` makes them so that `probe[0]` is the mean of all positions.
    """

    modes: ComplexArray
    """(K, N, N) in the units of the probe."""
    weights: FloatArray
    """(n, K) real."""

    def __len__(self) -> int:
        return len(self.modes)

    def at(self, positions: Any) -> CoherentModes:
        """Return those of some positions, by their indices."""
        return replace(self, weights=self.weights[positions])

    def scaled(self, factor: float) -> CoherentModes:
        """Return them in other units."""
        modes = (self.modes.astype(np.complex128) * factor).astype(np.complex64)
        return replace(self, modes=modes)

    def beside(self, probe: ComplexArray) -> ComplexArray:
        """Return changes (K, P, N, N) of a probe (P, N, N)."""
        changes = np.zeros((len(self), *probe.shape), self.modes.dtype)
        changes[:, 0] = self.modes
        return changes

    def averaged(self, probe: ComplexArray) -> ComplexArray:
        """Return incoherent modes (K + P, N, N) that light what all the probes do in the mean."""
        factors = self.factors
        # Rows of an upper triangle R, where R^T R is the mean of products of factors.
        combining = np.linalg.qr(factors / np.sqrt(len(factors)), mode='r')
        combined = np.tensordot(combining, np.concatenate([probe[:1], self.modes]), 1)
        return np.concatenate([combined, probe[1:]]).astype(probe.dtype)

    def stored(self, probe: ComplexArray) -> tuple[ComplexArray, FloatArray]:
        """Return what a product holds of a probe (P, N, N): (1 + K, P, N, N), and weights (n, 1 + K)."""
        return np.concatenate([probe[None], self.beside(probe)]).astype(probe.dtype), self.factors

    @property
    def factors(self) -> FloatArray:
        """(n, 1 + K) weights of the first incoherent mode and of :attr:`modes`."""
        return np.column_stack([np.ones(len(self.weights)), self.weights])


def coherent_modes(
    probe: ComplexArray, modes: ComplexArray, weights: npt.NDArray[np.floating[Any]]
) -> tuple[npt.NDArray[np.complex64], CoherentModes | None]:
    """Bring a probe (P, N, N) that varies by modes (K, N, N) and weights (n, K) into one form (OPR-02).

    Weights have a mean of 0 and do not correlate; modes are orthogonal, as strong as the first incoherent
    mode, the one that varies most first. None where nothing varies.

    Returns
    -------
    (P, N, N) complex64
        The mean probe.
    CoherentModes or None
    """
    mean = weights.mean(axis=0)
    middle = np.array(probe, np.complex128)
    middle[0] += np.tensordot(mean, modes, 1)
    strength = float(np.linalg.norm(middle[0]))
    flat = modes.reshape(len(modes), -1).astype(np.complex128)
    # Weights are real: so is the product by which modes are orthogonal.
    square, turn = np.linalg.eigh((flat @ flat.conj().T).real)
    root = np.sqrt(np.maximum(square, 0))
    left, size, right = np.linalg.svd((weights - mean) @ (turn * root), full_matrices=False)
    kept = np.asarray(size > strength * np.sqrt(LEAST_SHARE * len(weights)))
    if not kept.any() or not strength > 0:
        return middle.astype(np.complex64), None
    unit = np.divide(turn, root, out=np.zeros_like(turn), where=root > 1e-9 * root.max())
    found = (right[kept] @ unit.T @ flat).reshape(-1, *modes.shape[1:]) * strength
    strengths = left[:, kept] * size[kept] / strength
    farthest = np.abs(strengths).argmax(axis=0)
    sign = np.sign(strengths[farthest, np.arange(len(farthest))])
    varying = CoherentModes((sign[:, None, None] * found).astype(np.complex64), sign * strengths)
    return middle.astype(np.complex64), varying


def of_product(
    probe: ComplexArray, weights: npt.NDArray[np.floating[Any]] | None, source: str
) -> tuple[npt.NDArray[np.complex64], CoherentModes | None]:
    """Return the mean probe (P, N, N) of a product's (c, P, N, N), and how it varies with weights (n, c).

    Without weights it is the first coherent mode, as in Ptychodus.

    Raises
    ------
    DataValueError
        If weights are not finite, or give the mean probe no light.
    """
    if weights is None:
        return probe[0].astype(np.complex64), None
    if not np.isfinite(weights).all():
        raise DataValueError(
            f'{source}: the weights of coherent (OPR) probe modes hold NaN or infinite values; leave them '
            'out, or write the product anew.'
        )
    if not np.isfinite(probe).all():
        # Told with the probe's own check.
        return probe[0].astype(np.complex64), None
    others = np.array(probe[0], np.complex128)
    others[0] = 0
    found, varying = coherent_modes(others, probe[:, 0], np.asarray(weights, np.float64))
    if not np.any(found[0]) and np.any(probe[0, 0]):
        raise DataValueError(
            f'{source}: by its weights the coherent (OPR) probe modes give no light in the mean of all '
            'positions; leave the weights out, or write the product anew.'
        )
    return found, varying


def in_product(
    probes: ComplexArray,
    weights: npt.NDArray[np.floating[Any]] | None,
    found: ComplexArray,
    varying: CoherentModes | None,
) -> tuple[ComplexArray, npt.NDArray[np.floating[Any]] | None]:
    """Return the probes and weights of a product with another mean probe (P, N, N), and how that varies.

    Where nothing varies, the product's other coherent modes (c, P, N, N) and its weights (n, c) stay, and its
    first mode is what makes their mean the new one.
    """
    if varying is not None:
        return varying.stored(found)
    if weights is None:
        return with_first_modes(probes, found), None
    mean = np.asarray(weights, np.float64).mean(axis=0)
    modes = np.array(found)
    if mean[0]:
        modes[0] = (found[0] - np.tensordot(mean[1:], probes[1:, 0], 1)) / mean[0]
    return with_first_modes(probes, modes), weights
