"""Counts of a scan, for files that hold counts: whole numbers of the smallest type where they are whole."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..blocks import block_length, blocks
from .stack import AmplitudeStack

__all__ = ['CountStack']

NEAR = 1e-3
"""Distance from a whole number, and part of a large one that single precision leaves, up to which the square
of an amplitude is that number."""
OF_LARGE = 1e-6


class CountStack:
    """Counts (n, N, N) of amplitudes, squared where they are read.

    All are read once to see whether they are whole numbers, and how large. Their type leaves room for one
    more: the largest value of a type would be taken for the mark of a bad pixel.
    """

    def __init__(self, amplitude: AmplitudeStack) -> None:
        self._amplitude = amplitude
        self.shape: tuple[int, ...] = amplitude.shape
        self.dtype = np.dtype(np.float32)
        largest = 0.0
        for part in blocks(len(self), block_length(self.shape[-1])):
            counts = np.square(amplitude[part], dtype=np.float64)
            if (np.abs(counts - np.rint(counts)) > NEAR + OF_LARGE * counts).any():
                return
            largest = max(largest, float(counts.max(initial=0)))
        if largest < np.iinfo(np.uint32).max - 1:
            self.dtype = np.promote_types(np.uint16, np.min_scalar_type(round(largest) + 1))

    def __len__(self) -> int:
        return len(self._amplitude)

    def __getitem__(self, part: slice) -> npt.NDArray[np.number]:
        counts = np.square(self._amplitude[part], dtype=np.float64)
        return (np.rint(counts) if self.dtype.kind == 'u' else counts).astype(self.dtype)
