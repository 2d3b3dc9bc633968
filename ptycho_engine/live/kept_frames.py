"""The frames of a live session: which are frames at all, what the detector marks, and where they are kept."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..patterns.detector_mask import MOST_MARKED
from ..patterns.frame_stack import StoredStack
from ..patterns.single_hits import FEWEST_FRAMES, MOST_FRAMES, SingleHits, looked_at
from ..patterns.stack import Patterns
from .frame_store import FrameStore

__all__ = ['Domain', 'KeptFrames']

Domain = Literal['counts', 'amplitude']

DARK, LEAST_LIGHT = 0.01, 500.0
"""A frame with less than this part of the mean counts is dark, where these are at least so many."""


class KeptFrames:
    """Frames (n, N, N) with light, of one type, and the pixels that any of them marks as bad.

    Parameters
    ----------
    bad : (N, N) bool
        Pixels that are bad from the beginning.
    domain : str
        What frames hold: 'counts', or 'amplitude', their roots.
    budget : int
        Bytes that are kept in memory (:class:`~.frame_store.FrameStore`).
    source : str
        For messages.
    """

    def __init__(self, bad: npt.NDArray[np.bool_], domain: Domain, budget: int, source: str) -> None:
        self.bad = bad
        """(N, N) True where the detector is not to be trusted."""
        self._domain, self._budget, self._source = domain, budget, source
        self._store: FrameStore | None = None
        self._counts, self._lit = 0.0, 0
        self._hits: SingleHits | None = None
        self._hits_of = 0
        self.told: tuple[str, ...] = ()
        """What was taken for granted of the frames that were handed out, in sentences."""

    def __len__(self) -> int:
        return 0 if self._store is None else len(self._store)

    @property
    def on_disk(self) -> int:
        """Frames beyond the budget of memory."""
        return 0 if self._store is None else self._store.on_disk

    @property
    def mean_counts(self) -> float:
        """Counts in the valid pixels of a frame, mean of those that were kept."""
        return self._counts / max(self._lit, 1)

    def keep(self, frames: npt.NDArray[Any]) -> list[int]:
        """Keep those of some frames (b, N, N) that have light; return their places among them.

        Raises
        ------
        OSError
            If the scratch file cannot be written.
        """
        kept = [at for at, frame in enumerate(frames) if self._is_frame(frame)]
        if kept:
            if self._store is None:
                self._store = FrameStore(frames.shape[1:], frames.dtype, self._budget)
            self._store.append(frames[kept])
        return kept

    def patterns(self) -> Patterns:
        """Return the amplitudes of all kept frames; there must be some.

        What a pixel usually shows, from which single hits are told (NPZ-24), is looked at again whenever the
        frames are twice as many, as long as all are few.
        """
        assert self._store is not None
        store, counts = self._store, self._domain == 'counts'
        stack = StoredStack((len(store), *self.bad.shape), store.dtype, lambda: store, self._source)
        known = len(store) < FEWEST_FRAMES or self._hits_of >= min(len(store) / 2, MOST_FRAMES)
        if not known or (self._hits is not None and not np.array_equal(self._hits.bad, self.bad)):
            frames = stack[looked_at(len(store), len(self.bad))].astype(np.float32)
            self._hits, self._hits_of = SingleHits.of(frames, self.bad, roots=not counts), len(store)
            self.told = () if self._hits is None else self._hits.told(frames)
        return Patterns(stack, counts=counts, bad_pixels=self.bad, hits=self._hits, source=self._source)

    def _is_frame(self, frame: npt.NDArray[Any]) -> bool:
        """Return whether a frame has light; take note of the pixels that it marks."""
        marked = ~np.isfinite(frame) | (frame < 0)
        if frame.dtype.kind in 'iu' and frame.dtype.itemsize > 1:
            marked |= frame == np.iinfo(frame.dtype).max
        if marked.mean() > MOST_MARKED:
            return False
        if (marked & ~self.bad).any():
            self.bad = self.bad | marked
        valid = frame[~self.bad].astype(np.float64)
        counts = float((valid if self._domain == 'counts' else np.square(valid)).sum())
        mean = self.mean_counts
        if not counts > (DARK * mean if mean >= LEAST_LIGHT else 0):
            return False
        self._counts, self._lit = self._counts + counts, self._lit + 1
        return True
