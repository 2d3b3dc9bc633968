"""What the patterns still ask of an experiment at the end of an image (CAL-10).

At the object that explains the patterns best, the derivative of the likelihood by a part of the experiment
is that of the best likelihood that any object gives. Where the part is right it is as large as photon noise
makes it; where it is not, it says so long before the deviance does: an object follows wrong positions, but
what is left of each pattern pulls the same way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from scipy.special import fdtrc

from ..physics.information import position_information
from ..physics.likelihood import ScanPatterns, ScanPhysics

__all__ = ['LEAST_PATTERNS', 'SETS', 'Remaining', 'probe_scatter', 'remaining']

SETS = 13
"""Sets of patterns, each from all over the scan, whose scatter tells what the force on a probe is worth."""

LEAST_PATTERNS = 16
"""Fewer say nothing of their scatter."""

MOST_PATTERNS = 1024
"""Patterns that are looked at, from all over the scan: of more, what no image is free of is no chance."""

LOOKED_AT = 48
"""Patterns whose own positions are looked at."""

CHANCE = 1e-4
"""Probability that the axes of a right scan are pulled as much."""

BACKGROUND_COUNTS = 0.03
"""Counts of a background in the next step, from which on there is one: it is beside the likelihood's own
(``BACKGROUND``). Right scans reach 0.02."""

UNEVEN, PULLED, PULLED_BY_FAR, MOVED = 1.2, 1.1, 1.5, 2.0
"""Of :class:`Remaining`'s numbers, from which on they are no noise. Right scans reach 1.08 for the
intensities, 1.21 for the probe where counts are few, and 1.2 for the positions."""

PULLED_FOR_SURE, OF_THE_COUNTS = 2.0, 2e-4
"""Force on a probe, and background relative to the mean counts of a pixel, that right scans of any dose stay
below; from 1e7 photons in a pattern on no image is found down to their noise."""

IN_WORDS = {
    'background': 'a background',
    'intensities': 'the intensity of the beam',
    'axes': 'the axes of the scan',
    'probe': 'the probe',
    'single positions': 'single positions',
}
"""What :attr:`Remaining.sure` speaks of."""


@dataclass(frozen=True)
class Remaining:
    """The forces on an experiment that are left at an object; by themselves they are those of a right one."""

    background: float = 0.0
    """Counts per pixel that the next step would add."""
    intensities: float = 1.0
    """Scatter of the forces on the intensities of the exposures, in units of what photon noise makes it."""
    axes: float = 1.0
    """Probability that forces as large along a linear map of the positions are chance."""
    axes_force: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros((2, 2)))
    """(2, 2) derivative, up to a factor, by the linear map of the positions [y, x]."""
    probe: float = 1.0
    """Power of the mean force on the probe, in units of what its scatter over the patterns makes of it."""
    positions: float = 1.0
    """Power of the force on a position, median of the patterns, in units of what photon noise makes its
    mean."""
    counts: float = 0.0
    """Mean of a pixel."""
    probe_scatter: float | None = None
    """Scatter of the force on the probe over sets from all over the scan (:func:`probe_scatter`); None where
    not all patterns were looked at."""
    unexplained: float = 1.0
    """Deviance that the object leaves, in units of photon noise, by which what it does not follow is
    measured; at least 1."""

    def speaks_of(self, option: str) -> bool:
        """Return whether it tells by itself that a part of the experiment is wrong."""
        return {
            'background': self.background > BACKGROUND_COUNTS,
            'uneven background': self.background > BACKGROUND_COUNTS,
            'intensities': self.intensities > UNEVEN,
            'axes': self.axes < CHANCE,
            'probe': self.probe > PULLED_BY_FAR,
            'single positions': self.positions > MOVED * self.unexplained,
            'modes': self.probe > PULLED_BY_FAR,
        }[option]

    @property
    def speaks(self) -> bool:
        """Whether it tells so of any part."""
        return any(map(self.speaks_of, IN_WORDS))

    def allows(self, option: str) -> bool:
        """Return whether that part may be why an image is far from noise."""
        return self.probe > PULLED if option in ('probe', 'modes') else self.speaks_of(option)

    @property
    def sure(self) -> tuple[str, ...]:
        """What is not as the file says, though nothing was tried to make sure of it.

        Words for one fault or more: wrong axes, for one, pull at single positions and intensities too.
        """
        found = {
            'background': self.background > max(BACKGROUND_COUNTS, OF_THE_COUNTS * self.counts),
            'intensities': self.intensities > UNEVEN * math.sqrt(self.unexplained),
            'axes': self.speaks_of('axes'),
            'probe': self.probe > PULLED_FOR_SURE,
            'single positions': self.speaks_of('single positions'),
        }
        return tuple(IN_WORDS[option] for option, wrong in found.items() if wrong)

    def beside(self, unexplained: float) -> Remaining:
        """Return the same with what the object leaves of the deviance, in units of photon noise."""
        return replace(self, unexplained=max(unexplained, 1.0))


def remaining(patterns: ScanPatterns, physics: ScanPhysics, obj: npt.ArrayLike) -> Remaining:
    """Return the forces that are left at an object (H, W) of the device, as if it left noise alone."""
    n = len(patterns)
    if n < LEAST_PATTERNS:
        return Remaining()
    order = np.random.default_rng(0).permutation(n)[:MOST_PATTERNS]
    sets = [np.sort(part) for part in np.array_split(order, SETS)]
    found = [physics.experiment_gradient(obj, indices, unbiased=True) for indices in sets]
    indices = np.concatenate(sets)
    forces = np.concatenate([each.force for each in found])
    place = patterns.placement.corner + patterns.placement.subpixel_shift
    along = forces[:, :, None] * (place - place.mean(axis=0))[indices][:, None]
    intensity = np.concatenate([each.intensity_force for each in found])
    bent = np.concatenate([each.intensity_curvature for each in found])
    probe = np.stack([each.probe for each in found])
    mean = probe.mean(axis=0)
    scatter = float((np.abs(probe - mean) ** 2).sum()) / (SETS - 1)
    return Remaining(
        background=-sum(float(each.background_force.sum()) for each in found)
        / max(sum(float(each.background_curvature.sum()) for each in found), 1e-30),
        intensities=float((intensity / np.sqrt(np.maximum(bent, 1e-30))).std()),
        axes=_chance(along.reshape(-1, 4)),
        axes_force=along.sum(axis=0),
        probe=SETS * float((np.abs(mean) ** 2).sum()) / max(scatter, 1e-30),
        positions=_moved(patterns, physics.to_host(obj), indices[:LOOKED_AT], forces[:LOOKED_AT]),
        counts=float((np.abs(patterns.probe) ** 2).sum()) / patterns.size**2,
        probe_scatter=probe_scatter(probe, sets) if len(order) == n else None,
    )


def probe_scatter(forces: npt.NDArray[np.complexfloating], sets: Sequence[npt.NDArray[np.int64]]) -> float:
    """Return the scatter of the forces (sets, P, N, N) on a probe, each by the patterns of its set."""
    each = forces / np.array([len(part) for part in sets])[:, None, None, None]
    return float((np.abs(each - each.mean(axis=0)) ** 2).sum())


def _moved(
    patterns: ScanPatterns,
    obj: npt.NDArray[np.complex64],
    indices: npt.NDArray[np.int64],
    forces: npt.NDArray[np.float64],
) -> float:
    """Return the median power of forces (b, 2) on positions, in units of what noise makes its mean."""
    information = position_information(patterns, obj, indices)
    floor = 1e-9 * max(float(np.trace(information.mean(axis=0))), 1e-30) * np.eye(2)
    # The forces are quarters of the derivatives (REF-08).
    power = 16 * np.einsum('ja,jab,jb->j', forces, np.linalg.inv(information + floor), forces) / 2
    return float(np.median(power))


def _chance(values: npt.NDArray[np.float64]) -> float:
    """Return the probability that the mean of rows (n, p) is as far from nought by chance.

    Hotelling's test: ``T² (n - p) / (p (n - 1))`` is distributed as F with p and n - p degrees of freedom
    (Anderson, *An Introduction to Multivariate Statistical Analysis*, 2003, section 5.2).
    """
    n, p = values.shape
    mean, covariance = values.mean(axis=0), np.cov(values.T)
    size = float(np.trace(covariance))
    if not size > 0:
        return 1.0
    squared = n * mean @ np.linalg.solve(covariance + 1e-12 * size * np.eye(p), mean)
    return float(fdtrc(p, n - p, squared * (n - p) / (p * (n - 1))))
