"""Measured amplitudes that are read from their file block by block."""

from __future__ import annotations

import copy
from typing import Any, Generic, Self, TypeVar

import numpy as np
import numpy.typing as npt

from ..blocks import block_length, blocks
from ..errors import DataValueError
from .detector_mask import Survey
from .frame_stack import StoredStack
from .single_hits import SingleHits
from .units import Units

__all__ = ['MEMORY_LIMIT_BYTES', 'AmplitudeStack', 'LazyFrames', 'Patterns', 'check_amplitudes']

MEMORY_LIMIT_BYTES = 64 * 2**20
"""Amplitudes of scans up to this size are kept in memory: 4096 patterns of 64×64 pixels."""


T = TypeVar('T', bound=np.generic)


class LazyFrames(Generic[T]):
    """Frames (n, h, w) that are indexed like an array, and then read and converted in blocks.

    Iterate with slices or index arrays of moderate length; ``np.asarray`` reads everything.
    """

    ndim = 3
    dtype: np.dtype[T]
    _stack: StoredStack

    def _read(self, rows: npt.NDArray[np.intp]) -> npt.NDArray[T]:
        """Read and convert the frames of some rows (k,)."""
        raise NotImplementedError

    @property
    def shape(self) -> tuple[int, int, int]:
        """(n, h, w)."""
        n, height, width = self._stack.shape
        return n, height, width

    @property
    def nbytes(self) -> int:
        """Bytes that all frames would take in memory."""
        n, height, width = self.shape
        return n * height * width * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> npt.NDArray[T]:
        chosen, *rest = key if isinstance(key, tuple) else (key,)
        rows = np.asarray(np.arange(len(self))[chosen])
        _, height, width = self.shape
        flat = rows.ravel()
        frames = np.empty((len(flat), height, width), self.dtype)
        for part in blocks(len(flat), block_length(max(self._stack.shape[1:]))):
            frames[part] = self._read(flat[part])
        block = frames.reshape(*rows.shape, height, width)
        return block[(slice(None),) * rows.ndim + tuple(rest)]

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)

    def select(self, indices: npt.ArrayLike) -> Self:
        """Return the given frames, in that order; nothing is read."""
        chosen = copy.copy(self)
        chosen._stack = self._stack.select(indices)
        return chosen

    def in_memory_if_small(self, memory_limit: int = MEMORY_LIMIT_BYTES) -> npt.NDArray[T] | Self:
        """Return a plain array if it takes at most `memory_limit` bytes, else the frames themselves."""
        return self[:] if self.nbytes <= memory_limit else self


class Patterns(LazyFrames[np.float32]):
    """Amplitudes (n, N, N) float32 of a stack that stays in its file.

    Indexing, as of an array, reads the chosen patterns and returns them as float32: counts are square-rooted,
    pixels summed where they are binned, and bad pixels set to 0.

    Parameters
    ----------
    stack : StoredStack
        (n, h, w) frames as stored.
    counts : bool
        Whether the stored numbers are counts rather than amplitudes.
    bad_pixels : (h, w) bool, optional
        True where the detector is not to be trusted.
    hits : SingleHits, optional
        What is no light in the stored numbers, above a pedestal; replaced where it is read.
    source : str
        For messages.

    Raises
    ------
    DataValueError
        When patterns are read that hold negative, NaN or infinite values in valid pixels.
    """

    dtype = np.dtype(np.float32)

    def __init__(
        self,
        stack: StoredStack,
        *,
        counts: bool,
        bad_pixels: npt.NDArray[np.bool_] | None = None,
        hits: SingleHits | None = None,
        source: str = 'arrays',
    ) -> None:
        self._stack = stack
        self._counts = counts
        self._bad = np.zeros(stack.shape[1:], bool) if bad_pixels is None else bad_pixels
        self._source = source
        self._binning = 1
        self._factor = np.float32(1)
        self._negative = False
        self._pedestal = np.float32(0)
        self._hits = hits

    @classmethod
    def of(cls, stack: StoredStack, found: Survey, units: Units, source: str) -> Patterns:
        """Return the amplitudes of a stack of which it is known what its numbers are."""
        counts = units.domain == 'counts'
        patterns = cls(stack, counts=counts, bad_pixels=found.bad, hits=units.hits, source=source)
        patterns._negative = counts and (found.negative or units.pedestal > 0)
        patterns._pedestal = np.float32(units.pedestal)
        return patterns if units.factor == 1 else patterns.scaled(units.factor)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(n, N, N)."""
        n, height, width = self._stack.shape
        return n, height // self._binning, width // self._binning

    def _read(self, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
        with np.errstate(over='ignore', invalid='ignore'):
            # What does not fit in becomes infinite, and is refused as such.
            values = self._stack[rows].astype(np.float32, copy=False)
        if self._bad.any():
            values[:, self._bad] = 0
        if self._negative:
            values = np.maximum(values - self._pedestal, 0)
        check_amplitudes(values, self._source, 'counts' if self._counts else 'values')
        if self._hits is not None:
            self._hits.replace(values)
        if self._binning > 1:
            n, height, width = values.shape
            b = self._binning
            counts = values if self._counts else np.square(values)
            binned = counts.reshape(n, height // b, b, width // b, b).sum(axis=(2, 4))
            binned[:, binned_mask(self._bad, b)] = 0
            values = np.sqrt(binned)
        elif self._counts:
            values = np.sqrt(values)
        return values if self._factor == 1 else values * self._factor

    def cropped(self, rows: slice, columns: slice) -> Patterns:
        """Return the patterns reduced to a window of the detector; nothing is read."""
        b = self._binning
        height, width = self.shape[1:]
        inner = []
        for part, size in ((rows, height), (columns, width)):
            start, stop, _ = part.indices(size)
            inner.append(slice(start * b, stop * b))
        cropped = copy.copy(self)
        cropped._stack = self._stack.window(inner[0], inner[1])
        cropped._bad = self._bad[inner[0], inner[1]]
        cropped._hits = None if self._hits is None else self._hits.window(inner[0], inner[1])
        return cropped

    def binned(self, binning: int) -> Patterns:
        """Return the patterns with the counts of `binning`×`binning` pixels summed; nothing is read.

        The sides must be multiples of `binning`. A sum with a bad pixel in it is bad, and 0.
        """
        summed = copy.copy(self)
        summed._binning = self._binning * binning
        return summed

    def scaled(self, factor: float) -> Patterns:
        """Return the amplitudes times `factor`; nothing is read."""
        scaled = copy.copy(self)
        scaled._factor = np.float32(self._factor * factor)
        return scaled


AmplitudeStack = npt.NDArray[np.float32] | Patterns
"""Amplitudes (n, N, N) in memory or in their file; both are indexed alike."""


def binned_mask(bad: npt.NDArray[np.bool_], binning: int) -> npt.NDArray[np.bool_]:
    """Return which sums of `binning`×`binning` pixels hold a bad one."""
    height, width = bad.shape
    b = binning
    return np.asarray(bad.reshape(height // b, b, width // b, b).any(axis=(1, 3)))


def check_amplitudes(values: npt.NDArray[np.float32], source: str, what: str = 'values') -> None:
    """Check that patterns, 0 in bad pixels, are finite and not negative.

    Raises
    ------
    DataValueError
        If they are not.
    """
    if values.size == 0:
        return
    # A NaN passes through both extremes, and they need no array of flags.
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise DataValueError(
            f'{source}: diffraction holds NaN or infinite values, or such beyond single precision (3.4e38); '
            'mark those pixels in bad_pixels or correct them.'
        )
    if low < 0:
        raise DataValueError(
            f'{source}: diffraction holds negative {what}, the least {low:.4g}; counts and amplitudes are '
            'never negative: subtract less background, or mark those pixels in bad_pixels.'
        )
