"""How far the image of a scan may be from the truth, pixel by pixel (clause SOLVE-07, ``specs/physics.md``).

Photon noise is a part of it. What the learned prior changed, edges, and the low-frequency phase err in other
ways. How much each of these counts was fitted to simulated scans whose truth is known:
``tests/benchmarks/bench_uncertainty.py --fit`` does it anew.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from ..physics.likelihood import ScanPhysics
from .ramp import with_ramp_of
from .scan_model import ScanModel, on_grid
from .stitch import weakest_weight

__all__ = [
    'PHYSICS_ALONE',
    'REACH_PX',
    'WITH_PRIOR',
    'Shares',
    'averaged_light',
    'squared_parts',
    'standard_error',
    'stated_uncertainty',
    'with_more_light',
]

FloatImage = npt.NDArray[np.floating[Any]]

AVERAGED_PX = 4.0
"""Standard deviation in pixels of the Gaussian that every part is averaged over."""

REACH_PX = 17
"""Pixels beyond which nothing has a part in the uncertainty of a pixel: that of a Gaussian and a gradient."""

EDGE_POWER = 0.75
"""Of the photon noise, squared, that the square of a gradient is multiplied by."""

LEAST_OVERLAP = 0.5
"""Patterns on a pixel; fewer count as so many."""


MEAN_CURVATURE = 0.5
"""Of the likelihood along a pixel, in units of its illumination: counts say how long a wave at the detector
is but not its phase, and so pin down one of two directions."""


@dataclass(frozen=True)
class Shares:
    """By how much each part counts in the square of the uncertainty."""

    noise: float
    """Square of the photon noise, the reciprocal of the illumination in counts. It is below 1, because the
    details in which there is most of it are smoothed away."""
    prior: float
    """Square of what the learned prior changed."""
    edges: float
    """Square of the gradient per pixel times a power of the photon noise."""
    phase: float
    """Square of the low-frequency phase, divided by the fourth power of the overlap: where patterns hardly
    overlap, they do not bring it all the way from the flat start to the truth."""


WITH_PRIOR = Shares(noise=0.12, prior=1.17, edges=3.72, phase=0.00756)
"""Of an image in which the learned prior took part."""

PHYSICS_ALONE = Shares(noise=0.136, prior=0.0, edges=11.8, phase=0.0371)
"""Of an image of physics and total variation."""


def squared_parts(
    obj: npt.NDArray[np.complex64],
    change: FloatImage | None,
    weight: npt.NDArray[np.float32],
    overlap: float,
    box: tuple[slice, slice],
) -> npt.NDArray[np.float64]:
    """Return the square (4, H, W) of each part of :class:`Shares`, each for a share of 1.

    Parameters
    ----------
    obj : (H, W) complex
        In the engine's scale: its amplitude is about 1.
    change : (H, W) float, optional
        Modulus of what the learned prior changed; None where it took no part.
    weight : (H, W) float
        Illumination in counts.
    overlap : float
        Patterns that fall on a pixel (:func:`~.subsets.overlap_of`).
    box : (rows, columns)
        Where the scan positions are. A phase ramp there is no error.

    Returns
    -------
    (4, H, W) float
        NaN where nothing was scanned, and everywhere if the object is not finite.
    """
    if not np.isfinite(obj).all():
        return np.full((4, *obj.shape), np.nan)
    known = weight > weakest_weight(weight)
    noise = 1 / np.where(known, averaged_light(weight), 1)
    rows, columns = (np.gradient(obj, axis=axis) for axis in (0, 1))
    edges = _averaged(np.abs(rows) ** 2 + np.abs(columns) ** 2, known)
    phase = np.square(_low_frequency_phase(obj, np.where(known, weight, 0), box))
    prior = np.zeros(obj.shape)
    if change is not None:
        prior = _averaged(np.square(change, dtype=np.float64), known)
    parts = np.stack(
        [
            noise,
            prior,
            edges * noise**EDGE_POWER,
            phase / max(overlap, LEAST_OVERLAP) ** 4,
        ]
    )
    return np.where(known, parts, np.nan)


def averaged_light(weight: FloatImage) -> npt.NDArray[np.float64]:
    """Return the illumination (H, W) whose reciprocal is the photon noise of :func:`squared_parts`."""
    return np.asarray(gaussian_filter(weight.astype(np.float64), AVERAGED_PX))


def with_more_light(
    parts: npt.NDArray[np.float64], factor: FloatImage, overlaps: tuple[float, float]
) -> npt.NDArray[np.float64]:
    """Return what :func:`squared_parts` would be of the same object under more illumination.

    Parameters
    ----------
    parts : (4, H, W) float
    factor : (H, W) float
        By which :func:`averaged_light` is more.
    overlaps : (float, float)
        Patterns on a pixel now, and then.
    """
    now, then = (max(overlap, LEAST_OVERLAP) for overlap in overlaps)
    less = [1 / factor, np.ones_like(factor), factor**-EDGE_POWER, np.full_like(factor, (now / then) ** 4)]
    return np.asarray(parts * np.stack(less))


def standard_error(physics: ScanPhysics, obj: Any, prepared: ScanModel) -> npt.NDArray[np.float32]:
    """Return how well the patterns agree on each pixel (REF-06)."""
    power, weight = (on_grid(physics.to_host(a), prepared) for a in physics.gradient_power(obj))
    known = weight > weakest_weight(weight)
    curvature = np.maximum(MEAN_CURVATURE * weight, 1e-30)
    return np.where(known, np.sqrt(power) / curvature, np.nan).astype(np.float32)


def stated_uncertainty(parts: npt.NDArray[np.float64], shares: Shares) -> npt.NDArray[np.float32]:
    """Return the uncertainty (H, W) for the squares (4, H, W) of its parts; NaN where they are."""
    return np.sqrt(np.tensordot(astuple(shares), parts, 1)).astype(np.float32)


def _averaged(values: FloatImage, known: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return values (H, W) averaged over a Gaussian, of what is known alone; 0 elsewhere."""
    inside = gaussian_filter(known.astype(np.float64), AVERAGED_PX)
    total = gaussian_filter(np.where(known, values, 0), AVERAGED_PX)
    return np.asarray(np.where(known, total / np.where(known, inside, 1), 0))


def _low_frequency_phase(
    obj: npt.NDArray[np.complex64], weight: FloatImage, box: tuple[slice, slice]
) -> npt.NDArray[np.float64]:
    """Return the averaged phase (H, W), less its mean and ramp in `box`, times the amplitude."""
    lit = np.asarray(obj * weight, dtype=np.complex64)
    slow = gaussian_filter(lit.real, AVERAGED_PX) + 1j * gaussian_filter(lit.imag, AVERAGED_PX)
    light = gaussian_filter(np.asarray(weight, dtype=np.float32), AVERAGED_PX)
    mean = slow / np.maximum(light, np.finfo(np.float32).tiny)
    inside = np.zeros_like(light)
    inside[box] = light[box]
    phase_aligned = with_ramp_of(np.ones_like(mean), mean, inside)
    common = complex((inside * phase_aligned).sum(dtype=np.complex128))
    phase_aligned = phase_aligned * np.exp(-1j * np.angle(common))
    return np.asarray(np.angle(phase_aligned) * np.abs(phase_aligned), dtype=np.float64)
