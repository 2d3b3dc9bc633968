"""Positions of frames from a stage that says where it is at times of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

__all__ = ['TimedPositions']

MOST_SAMPLES = 1 << 16
"""Of an axis that are remembered; a frame older than the first of them stays without a position."""

AXES = 'yx'


class TimedPositions:
    """Places frames between the samples of two axes, by time.

    A frame is placed once both axes have said where they are after it. Samples may come late, but in order.
    """

    def __init__(self) -> None:
        self._samples: dict[str, deque[tuple[float, float]]] = {
            axis: deque(maxlen=MOST_SAMPLES) for axis in AXES
        }
        self._waiting: dict[int, float] = {}

    def __len__(self) -> int:
        """Frames that wait for a sample."""
        return len(self._waiting)

    def frame(self, index: int, time_s: float) -> None:
        """Let a frame wait for its position."""
        self._waiting.setdefault(index, time_s)

    def sample(self, axis: str, times_s: Iterable[float], values: Iterable[float]) -> None:
        """Take where an axis, 'y' or 'x', was at some times; what is not later than what came is left out.

        So is what has no time, or a time without a value.
        """
        known = self._samples[axis]
        for time_s, value in zip(times_s, values, strict=False):
            if not known or time_s > known[-1][0]:
                known.append((float(time_s), float(value)))

    def placed(self) -> tuple[list[int], npt.NDArray[np.float64]]:
        """Return frames that can be placed now, and their positions (b, 2), [y, x]; they wait no longer."""
        if not all(self._samples.values()):
            return [], np.empty((0, 2))
        first = max(samples[0][0] for samples in self._samples.values())
        last = min(samples[-1][0] for samples in self._samples.values())
        ready = [index for index, time_s in self._waiting.items() if first <= time_s <= last]
        times = np.array([self._waiting.pop(index) for index in ready])
        columns = [np.interp(times, *np.array(self._samples[axis]).T) for axis in AXES] if ready else []
        return ready, np.stack(columns, axis=1) if ready else np.empty((0, 2))
