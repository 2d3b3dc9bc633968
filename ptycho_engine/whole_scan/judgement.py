"""What a trial of calibration leads to, and which of several helps most (CAL-07)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..physics.likelihood import ScanPatterns, ScanPhysics
from .object_solver import ObjectSolver
from .paired import paired_difference
from .remaining import BACKGROUND_COUNTS, Remaining, remaining

__all__ = [
    'FAR',
    'HOPELESS',
    'LIKELY',
    'MANY_SUBSETS',
    'OPTIONS',
    'PLAINLY',
    'UNEVEN',
    'Judge',
    'Trial',
    'forces_left',
    'hardly_any',
]

UNEVEN = 'uneven background'

OPTIONS = {
    'background': 'background',
    UNEVEN: 'background',
    'intensities': 'intensities',
    'axes': 'positions',
    'probe': 'probe',
    'single positions': 'positions',
    'modes': 'modes',
}
"""What is tried, from what moves least to what moves most, and the part of the setting that it belongs to."""

LIKELY = 1.0
"""Standard errors over the patterns by which held-out pixels must be predicted better in a trial of a part,
and without bad pixels, which stand out by themselves."""

FAR = 1.3
"""Deviance in units of photon noise (:attr:`~.held_out.Fit.unexplained`) up to which an image is taken to
explain its patterns."""

PLAINLY, MANY_SUBSETS = 4.0, 8
"""Such a deviance from which on an image that has only begun is wrong already, and the subsets that it must
have begun with: fewer are few steps."""

HOPELESS = 2.5
"""Such a deviance: an image that is going to leave more is not brought to its end. Right ones of many counts
seem to lead to 1.6 when they have taken two steps."""

SURELY = 2.0
"""Standard errors over the patterns by which an image must predict held-out pixels better than a flat one."""

LEAST_GAIN, BY_FAR = 0.02, 0.1
"""Of what the held-out deviance is above noise, that a part must take away, and that one of more freedom must
take away beyond another."""

MOSTLY = 0.7
"""Part of what is beyond noise: a part of the experiment that takes away so much is kept, as those that come
after it move more."""


@dataclass
class Trial:
    """A model of the experiment and the object that belongs to it."""

    solver: ObjectSolver
    """Whose canvas they lie on."""
    patterns: ScanPatterns
    physics: ScanPhysics
    current: Any
    """The object (H, W) on the device."""
    deviance: npt.NDArray[np.float64]
    """(n,) per held-out pixel."""

    @property
    def left(self) -> float:
        """What is left of the held-out deviance, in the mean of the patterns."""
        return float(self.deviance.mean())


def forces_left(of: Trial | ObjectSolver, unexplained: float) -> Remaining:
    """Return the forces that are left at an image; none that speak where it has followed nothing but noise.

    Parameters
    ----------
    unexplained : float
        Deviance that the image leaves, in units of photon noise.
    """
    found = remaining(of.patterns, of.physics, of.current).beside(unexplained)
    if unexplained > FAR or not found.speaks or _knows_more_than_flat(of):
        return found
    return Remaining(counts=found.counts)


def _knows_more_than_flat(of: Trial | ObjectSolver) -> bool:
    """Return whether an image surely predicts held-out pixels better than an object that is flat."""
    flat = of.physics.to_device(np.ones(of.patterns.shape, np.complex64))
    before, after = of.physics.held_out_each(flat), of.physics.held_out_each(of.current)
    return paired_difference(before, after).score < -SURELY


@dataclass(frozen=True)
class Judge:
    """Compares trials of one scan."""

    noise: float
    """Deviance per pixel that photons alone leave."""

    def likely(self, before: Trial, after: Trial) -> bool:
        """Return whether held-out pixels are predicted better by more than their own error."""
        if before.patterns.background is None and hardly_any(after.patterns.background):
            return False
        return paired_difference(before.deviance, after.deviance).score < -LIKELY

    def helps(self, before: Trial, after: Trial) -> bool:
        """Return whether they are, and by enough to matter."""
        return self.likely(before, after) and self.taken(before, after) > LEAST_GAIN

    def taken(self, before: Trial, after: Trial) -> float:
        """Return the part of the deviance beyond noise that is gone."""
        return (before.left - after.left) / max(before.left - self.noise, 1e-30)

    def most_taken(self, before: Trial, found: Iterable[Trial]) -> float:
        """Return the largest such part, 0 of none."""
        return max((self.taken(before, trial) for trial in found), default=0.0)

    def settled(self, before: Trial, found: Iterable[Trial]) -> bool:
        """Return whether one of the trials takes away most of what is beyond noise."""
        return self.most_taken(before, found) > MOSTLY

    def best(self, found: Mapping[str, Trial]) -> str:
        """Return the option that helps most; a later one, which moves more, only where it does so by far."""
        best, *others = (option for option in OPTIONS if option in found)
        for option in others:
            reached = found[best].left
            if found[option].left < reached - BY_FAR * max(reached - self.noise, 0.0):
                best = option
        return best


def hardly_any(background: npt.NDArray[np.float64] | None) -> bool:
    """Return whether a background (N, N) is too little to be one."""
    return background is not None and float(background.mean()) < BACKGROUND_COUNTS
