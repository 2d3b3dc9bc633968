"""How well an image predicts frames that it has not seen, and whether more of them would better it.

Each batch is predicted before it is used, so that the curve owes nothing to what was fitted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

__all__ = ['LiveQuality', 'UnseenCurve', 'UnseenPoint']

KNOWN = 0.9
"""Part of the light of a frame that falls where the object was illuminated before: of the others nothing can
be predicted, and they count as new area."""

LAST = 0.1
"""Part of the frames that tells how well unseen ones are predicted, and how the area grows."""


@dataclass(frozen=True)
class UnseenPoint:
    """One batch, predicted before it was used."""

    frames: int
    """In the image when it was predicted."""
    deviance: float
    """Poisson deviance per valid pixel of its frames that lie on known area."""
    noise: float
    """What photon noise alone would leave of it."""
    known: int
    """Its frames on known area; the point says nothing of the deviance where there are none."""
    new_area: float
    """Light of its frames on new area, in frames."""
    pixels: int
    """Valid pixels of the frames on known area."""

    @property
    def excess(self) -> float:
        """Deviance beyond photon noise, in units of photon noise."""
        return self.deviance / self.noise - 1


@dataclass(frozen=True)
class LiveQuality:
    """How good a live image is, in the judgement of frames that were not in it and of its uncertainty."""

    unseen: float
    """Deviance of the last batches in units of photon noise: 1 where they are predicted as well as any could
    be; NaN as long as all frames lie on new area."""
    growth: float
    """Relative growth of the illuminated area over the last tenth of the frames."""
    error: float
    """Stated uncertainty of the scanned region, relative to the root mean square of the object; NaN as long
    as there are too few frames to tell."""
    gain: float
    """By which part this is expected to fall with half as many frames more over the same area; NaN as long as
    it cannot be told."""
    enough: bool
    """Whether they better the image by little more than its photon noise (:class:`~.settling.Settling`)."""
    calibrated: tuple[str, ...] = ()
    """A phrase for each part of the experiment that is not as the session was told."""

    @property
    def sentence(self) -> str:
        """A few words for a progress line."""
        words = self._of_the_image
        return f'{words}; calibrated: {", ".join(self.calibrated)}' if self.calibrated else words

    @property
    def _of_the_image(self) -> str:
        if math.isnan(self.unseen):
            return 'all on new area'
        words = f'unseen frames at {self.unseen:.2f}× noise'
        if math.isnan(self.error):
            return words
        words = f'{words}, error about {100 * self.error:.2g} %'
        if self.enough:
            return f'{words}, enough'
        if math.isnan(self.gain):
            return words
        return f'{words}, half as many more lower it by {100 * max(self.gain, 0):.0f} %'


@dataclass
class UnseenCurve:
    """The points of all batches."""

    points: list[UnseenPoint] = field(default_factory=list)

    def add(self, point: UnseenPoint) -> None:
        """Take the next batch."""
        self.points.append(point)

    @property
    def unseen(self) -> float:
        """Deviance of the last batches in units of photon noise; NaN where there are none on known area."""
        told = [point for point in self.points if point.known]
        recent = told[-max(round(LAST * len(told)), 4) :]
        if not recent:
            return math.nan
        known = [point.known for point in recent]
        return 1 + float(np.average([point.excess for point in recent], weights=known))

    @property
    def growth(self) -> float:
        """Relative growth of the illuminated area over the last tenth of the frames."""
        if not self.points:
            return 1.0
        since = (1 - LAST) * self.points[-1].frames
        grown = sum(point.new_area for point in self.points if point.frames >= since)
        return grown / max(sum(point.new_area for point in self.points), grown, 1e-9)
