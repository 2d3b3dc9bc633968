"""The patterns of a scan and what they say about an object: the inputs and results of its likelihood.

Clauses REF-* of ``specs/physics.md``. Computed by :class:`~.scan_likelihood.ScanLikelihood`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import fft

from ..blocks import block_length, blocks
from .coherent import CoherentModes
from .forward import BACKGROUND
from .geometry import PatchPlacement
from .probe import mode_intensity

__all__ = [
    'CoherentGradient',
    'DescentPhysics',
    'Evaluation',
    'ExperimentGradient',
    'IntArray',
    'Likelihood',
    'Residuals',
    'ScanPatterns',
    'ScanPhysics',
    'draw_held_out',
]

IntArray: TypeAlias = npt.NDArray[np.int64]
Likelihood: TypeAlias = Literal['poisson', 'amplitude']

HELD_OUT_SETS = 8
"""Different choices of held-out pixels; pattern i takes number i modulo this."""


@dataclass(frozen=True, eq=False)
class ScanPatterns:
    """All patterns of a scan, as the refinement of an object sees them."""

    probe: npt.NDArray[np.complex64]
    """(P, N, N) incoherent modes in the engine's scale; the mean over positions where they vary."""
    valid: npt.NDArray[np.bool_]
    """(N, N) True where the detector is to be trusted, zero frequency at N//2."""
    placement: PatchPlacement
    """Corners (n, 2) on the canvas, none negative, and sub-pixel shifts (n, 2)."""
    shape: tuple[int, int]
    """(H, W) of the canvas, which holds every patch whole."""
    amplitude: Callable[[IntArray], npt.NDArray[np.float32]]
    """Reads the amplitudes (b, N, N) of some patterns, zero frequency at N//2."""
    held_out: npt.NDArray[np.int64]
    """(K, h) flat indices, zero frequency at index 0, of the valid pixels that are not fitted."""
    intensity: npt.NDArray[np.float64] | None = None
    """(n,) relative intensity of the beam in each exposure; None where it is 1 in all."""
    background: npt.NDArray[np.float64] | None = None
    """(N, N) counts per pixel beside the object's, zero frequency at N//2; None where there are none."""
    ceiling: float = math.inf
    """Amplitude from which on a pixel of a pattern is saturated: it says that there were so many counts at
    least (REF-17)."""
    coherent: CoherentModes | None = None
    """How the first incoherent mode varies over the n positions; None where it does not."""

    def __len__(self) -> int:
        return len(self.placement.corner)

    @property
    def size(self) -> int:
        """Side N of a pattern in pixels."""
        return int(self.probe.shape[-1])

    @cached_property
    def peak_illumination(self) -> float:
        """Largest value of the illumination, in counts."""
        return float(mode_intensity(self.averaged_probe).max())

    @property
    def averaged_probe(self) -> npt.NDArray[np.complexfloating[Any, Any]]:
        """(Q, N, N) incoherent modes that light what the probes of all positions do in the mean."""
        return self.probe if self.coherent is None else self.coherent.averaged(self.probe)

    @cached_property
    def mean_counts(self) -> npt.NDArray[np.float64]:
        """(N, N) mean of all patterns, zero frequency at N//2; read block by block."""
        total = np.zeros((self.size, self.size))
        for part in blocks(len(self), block_length(self.size)):
            indices = np.arange(part.start, part.stop)
            total += np.square(self.amplitude(indices), dtype=np.float64).sum(axis=0)
        return total / len(self)

    def lit_as(self, other: ScanPatterns) -> bool:
        """Return whether probe, positions and intensities are the very arrays of another experiment."""
        return (
            self.probe is other.probe
            and self.coherent is other.coherent
            and self.placement is other.placement
            and self.intensity is other.intensity
        )

    @property
    def exposure(self) -> npt.NDArray[np.float64]:
        """(n,) factor of the probe in each exposure, the square root of :attr:`intensity`."""
        return np.ones(len(self)) if self.intensity is None else np.sqrt(self.intensity)

    @property
    def dark_rate(self) -> npt.NDArray[np.float64]:
        """(N, N) counts per pixel without any light, zero frequency at index 0."""
        if self.background is None:
            return np.full((self.size, self.size), BACKGROUND)
        return np.asarray(fft.ifftshift(self.background) + BACKGROUND)


def draw_held_out(valid: npt.NDArray[np.bool_], fraction: float, seed: int) -> npt.NDArray[np.int64]:
    """Choose the pixels that judge a refinement: ``HELD_OUT_SETS`` sets of equally many valid ones (REF-04).

    Parameters
    ----------
    valid : (N, N) bool
        Trusted pixels, zero frequency at N//2.
    fraction : float
        Part of the valid pixels in each set; at least one pixel is taken.
    seed : int

    Returns
    -------
    (K, h) int64
        Flat indices into a pattern with zero frequency at index 0.
    """
    pixels = np.flatnonzero(fft.ifftshift(valid))
    count = max(round(fraction * len(pixels)), 1)
    rng = np.random.default_rng([seed, 4])
    return np.stack([rng.choice(pixels, count, replace=False) for _ in range(HELD_OUT_SETS)]).astype(np.int64)


@dataclass(frozen=True)
class Evaluation:
    """The likelihood of some patterns at an object. Arrays are those of the backend."""

    gradient: Any
    """(H, W) complex, descends the likelihood; the curvature is at most `weight` (REF-01)."""
    weight: Any
    """(H, W) illumination that these patterns put on each pixel, in counts."""
    held_out: float
    """Poisson deviance summed over the held-out pixels of these patterns."""


@dataclass(frozen=True)
class CoherentGradient:
    """What b patterns say of how the first incoherent mode varies; arrays of NumPy (OPR-07)."""

    modes: npt.NDArray[np.complexfloating[Any, Any]]
    """(K, N, N) descends the likelihood; the curvature is at most `modes_weight`."""
    modes_weight: npt.NDArray[np.floating[Any]]
    """(K, N, N)."""
    force: npt.NDArray[np.float64]
    """(b, K) by the weights: a quarter of the derivative, as for positions."""
    curvature: npt.NDArray[np.float64]
    """(b, K, K) about a quarter of the second derivative, at least."""


@dataclass(frozen=True)
class ExperimentGradient:
    """What b patterns say about the object and, in the same pass, about the experiment (CAL-01).

    Arrays beside those of :attr:`evaluation` are NumPy's. Forces on rates are derivatives of ``λ - k log λ``,
    their curvatures Fisher's information.
    """

    evaluation: Evaluation
    """The likelihood at the object."""
    intensity_force: npt.NDArray[np.float64]
    """(b,) by a factor of the intensity of each exposure."""
    intensity_curvature: npt.NDArray[np.float64]
    """(b,)."""
    background_force: npt.NDArray[np.float64]
    """(N, N) by the background's counts in each pixel, zero frequency at index 0."""
    background_curvature: npt.NDArray[np.float64]
    """(N, N)."""
    probe: npt.NDArray[np.complexfloating[Any, Any]]
    """(P, N, N) descends the likelihood; the curvature is at most `probe_weight` (REF-07)."""
    probe_weight: npt.NDArray[np.floating[Any]]
    """(N, N) what the object let through, summed over the patterns."""
    force: npt.NDArray[np.float64]
    """(b, 2) by [dy, dx] of each position (REF-08): a quarter of the derivative of ``λ - k log λ``, but where
    k is above 4 λ, which is bounded as for the object (REF-01)."""
    curvature: npt.NDArray[np.float64]
    """(b, 2, 2) about a quarter of the second derivative, at least."""
    coherent: CoherentGradient | None = None
    """None where the probe does not vary."""


@dataclass(frozen=True)
class Residuals:
    """What the fitted pixels of all patterns say about the detector (CAL-03).

    Images (N, N) of NumPy have zero frequency at index 0 and are sums over the patterns.
    """

    counts: npt.NDArray[np.float64]
    """(N, N) measured."""
    rate: npt.NDArray[np.float64]
    """(N, N) predicted."""
    misfits: npt.NDArray[np.float64]
    """(N, N) patterns in which the counts are more than five standard deviations off."""
    fitted: npt.NDArray[np.float64]
    """(N, N) patterns in which the pixel is fitted."""


class DescentPhysics(Protocol):
    """What the steps of an object need of patterns."""

    def filtered(self, values: Any, gain: Any) -> Any:
        """Return real values (H, W) whose Fourier transform was multiplied by `gain` (H, W)."""

    def evaluate(self, obj: Any, indices: IntArray, likelihood: Likelihood) -> Evaluation:
        """Return gradient, weight and held-out deviance of the given patterns."""


class ScanPhysics(DescentPhysics, Protocol):
    """The patterns of one scan on a device. Objects are (H, W) complex arrays of that device's library."""

    def to_device(self, obj: npt.NDArray[np.complex64]) -> Any:
        """Return a copy of an object on the device."""

    def to_host(self, array: Any) -> npt.NDArray[Any]:
        """Return a copy of an array of the device for NumPy."""

    def curvature_along(self, obj: Any, direction: Any) -> Any:
        """Return what the curvature of the likelihood of all patterns makes of a direction (H, W) (SOLVE-08).

        In units of the gradient of :meth:`evaluate`: half of Fisher's information, at most its weight. What
        depends on `obj` alone is kept for the next call with the same array, which must not change meanwhile.
        """

    def held_out(self, obj: Any) -> float:
        """Return the Poisson deviance per held-out pixel of all patterns."""

    def held_out_each(self, obj: Any) -> npt.NDArray[np.float64]:
        """Return the Poisson deviance per held-out pixel of each pattern (n,)."""

    def residuals(self, obj: Any) -> Residuals:
        """Return what the fitted pixels say about the detector."""

    def gradient_power(self, obj: Any) -> tuple[Any, Any]:
        """Return ``sum_j |g_j|^2`` and ``sum_j |P_j|^2`` over all patterns, g_j the gradient of each."""

    def experiment_gradient(
        self, obj: Any, indices: IntArray, *, unbiased: bool = False
    ) -> ExperimentGradient:
        """Return the Poisson gradient by the object and by the experiment of the given patterns.

        Parameters
        ----------
        unbiased : bool
            Whether the forces on probe and positions are those of the likelihood itself, of mean zero at the
            truth, in place of steps that stay bounded in the dark.
        """

    def set_experiment(self, patterns: ScanPatterns) -> None:
        """Take the probe (as many modes), sub-pixel shifts, intensities and background of `patterns`."""
