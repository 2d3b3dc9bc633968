"""Hits of single pixels in single frames, as of cosmic rays, which are no light of the beam (NPZ-24)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ..blocks import first_to_last, most_patterns

__all__ = ['FEWEST_FRAMES', 'MOST_FRAMES', 'SingleHits', 'looked_at']

FEWEST_FRAMES, MOST_FRAMES, MOST_VALUES = 16, 128, 1 << 24
"""Frames from which on they show what is usual for a pixel; as many as are looked at, and values of them, at
most: frames of more than 1024×1024 pixels are too few then."""

USUAL = 3
"""The how many-th largest number of a pixel is its usual one: two hits are none."""

TIMES, LEAST = 8.0, 20.0
"""Counts of a hit, in the median of its neighbours and in the usual ones of its pixel, and at least: of one
count or none, as in the dark, photons by themselves make eight now and then. Of eight neighbours three may
share the charge of a hit. Speckles, which are sampled finely enough for their phase to be found, reach a
quarter of it and, where the probe is cut off by the field of view, next to never all."""

STEPS = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx)
"""From a pixel to its eight neighbours."""


@dataclass(frozen=True)
class SingleHits:
    """What is too much to be light."""

    limit: npt.NDArray[np.float32]
    """(h, w) number up to which nothing is a hit; infinite for bad pixels."""
    times: float
    """Number of a hit in those of its neighbours."""
    bad: npt.NDArray[np.bool_]
    """(h, w) True where a pixel is bad."""

    @classmethod
    def of(
        cls,
        frames: npt.NDArray[np.floating[Any]],
        bad: npt.NDArray[np.bool_],
        *,
        roots: bool,
        one: float = 0.0,
    ) -> Self | None:
        """Return what some frames (k, h, w) from all over a scan show; None where they are too few.

        Parameters
        ----------
        bad : (h, w) bool
            True where a pixel is bad.
        roots : bool
            Whether the numbers are square roots of counts.
        one : float
            The number that stands for one count, where it is known.
        """
        if len(frames) < FEWEST_FRAMES:
            return None
        # Of counts times any factor the least number is that of one.
        one = max(one, float(frames.min(where=(frames > 0) & ~bad, initial=np.inf)))
        usual = np.partition(frames, len(frames) - USUAL, axis=0)[len(frames) - USUAL]
        times, least = (TIMES**0.5, LEAST**0.5) if roots else (TIMES, LEAST)
        with np.errstate(over='ignore'):
            # Above an infinite limit nothing is a hit.
            limit = np.where(bad | ~np.isfinite(usual), np.inf, np.maximum(times * usual, least * one))
            return cls(limit.astype(np.float32), times, bad)

    def told(self, frames: npt.NDArray[np.float32]) -> tuple[str, ...]:
        """Replace hits in frames (k, h, w) as :meth:`replace` does; return a sentence that says so."""
        hit = self.replace(frames)
        if not len(hit):
            return ()
        pixels = f'{len(hit)} single pixel{"s" if len(hit) > 1 else ""}'
        line = (
            f'{pixels} in {len(np.unique(hit))} of {len(frames)} patterns looked at far outshine their '
            'neighbours and what they show otherwise, as hits of cosmic rays do; such pixels are given the '
            'median of their neighbours.'
        )
        return (line,)

    def window(self, rows: slice, columns: slice) -> SingleHits:
        """Return the same for a window of the detector."""
        return SingleHits(self.limit[rows, columns], self.times, self.bad[rows, columns])

    def replace(self, frames: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
        """Give hits in frames (k, h, w) the median of their valid neighbours, in place.

        The lower one of two, so that counts stay whole.

        Returns
        -------
        ndarray
            (m,) number of the frame of each hit.
        """
        frame, row, column = np.nonzero(frames > self.limit)
        if not len(frame):
            return frame
        around = np.full((len(frame), len(STEPS)), np.inf, np.float32)
        for at, (dy, dx) in enumerate(STEPS):
            y, x = row + dy, column + dx
            inside = (y >= 0) & (y < frames.shape[1]) & (x >= 0) & (x < frames.shape[2])
            inside[inside] = ~self.bad[y[inside], x[inside]]
            around[inside, at] = frames[frame[inside], y[inside], x[inside]]
        around.sort(axis=1)
        valid = np.isfinite(around).sum(axis=1, keepdims=True)
        # Without a valid neighbour both are infinite.
        lower = np.take_along_axis(around, np.maximum(valid - 1, 0) // 2, axis=1)[:, 0]
        upper = np.take_along_axis(around, valid // 2, axis=1)[:, 0]
        with np.errstate(over='ignore'):
            hit = frames[frame, row, column] > self.times * upper
        frames[frame[hit], row[hit], column[hit]] = lower[hit]
        return np.asarray(frame[hit])


def looked_at(count: int, size: int) -> npt.NDArray[np.int64]:
    """Return which of `count` frames of `size` pixels a side tell what is usual, from all over a scan."""
    return first_to_last(count, most_patterns(MOST_FRAMES, MOST_VALUES, size, 1))
