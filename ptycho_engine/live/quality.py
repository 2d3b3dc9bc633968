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

LEAST_POINTS = 12
"""Points of the curve from which on its slope is told."""

NEXT = 0.1
"""Gain is expected of so many more frames, relative to those there are."""

GROWING = 0.02
"""Relative growth of the illuminated area over the last tenth of the frames above which a scan still goes
on to where nothing is known."""


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
    """How good a live image is, in the judgement of frames that were not in it."""

    unseen: float
    """Deviance of the last batches in units of photon noise: 1 where they are predicted as well as any could
    be; NaN as long as all frames lie on new area."""
    gain: float
    """By how much this is expected to fall with a tenth more frames; NaN as long as it cannot be told."""
    growth: float
    """Relative growth of the illuminated area over the last tenth of the frames."""
    enough: bool
    """Whether that gain is below the photon noise of the frames that tell it, and the area hardly grows."""

    @property
    def sentence(self) -> str:
        """A few words for a progress line."""
        if math.isnan(self.unseen):
            return 'all on new area'
        words = f'unseen frames at {self.unseen:.2f}× noise'
        if self.enough:
            return f'{words}, enough'
        return words if math.isnan(self.gain) else f'{words}, a tenth more gains {max(self.gain, 0.0):.3f}'


@dataclass
class UnseenCurve:
    """The points of all batches."""

    points: list[UnseenPoint] = field(default_factory=list)

    def add(self, point: UnseenPoint) -> None:
        """Take the next batch."""
        self.points.append(point)

    def quality(self) -> LiveQuality:
        """Return what the second half of the frames says."""
        told = [p for p in self.points if p.known]
        if not told:
            return LiveQuality(math.nan, math.nan, 1.0, False)
        frames = self.points[-1].frames
        grown = sum(p.new_area for p in self.points if p.frames >= (1 - NEXT) * frames)
        growth = grown / max(sum(p.new_area for p in self.points), grown, 1e-9)
        recent = told[-max(len(told) // 10, 4) :]
        unseen = 1 + float(np.average([p.excess for p in recent], weights=[p.known for p in recent]))
        late = [p for p in told if p.frames >= frames / 2]
        if len(late) < LEAST_POINTS:
            return LiveQuality(unseen, math.nan, growth, False)
        slope, error = _slope(late)
        step = math.log(1 + NEXT)
        # A mean deviance per pixel of photon noise varies by the root of two over their number.
        noise = math.sqrt(2 / sum(p.pixels for p in late))
        enough = growth < GROWING and (error - slope) * step < noise
        return LiveQuality(unseen, -slope * step, growth, bool(enough))


def _slope(points: list[UnseenPoint]) -> tuple[float, float]:
    """Return the slope of the excess over the logarithm of the number of frames, and its standard error."""
    x = np.log([p.frames for p in points])
    y = np.array([p.excess for p in points])
    root = np.sqrt([p.known for p in points])
    design = np.stack([np.ones_like(x), x], axis=1) * root[:, None]
    solution, *_ = np.linalg.lstsq(design, y * root, rcond=None)
    residual = y * root - design @ solution
    variance = float(residual @ residual) / max(len(x) - 2, 1)
    covariance = variance * np.linalg.pinv(design.T @ design)
    return float(solution[1]), float(np.sqrt(covariance[1, 1]))
