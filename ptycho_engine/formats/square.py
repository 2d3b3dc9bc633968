"""Patterns that are not square, made so: the middle is kept, or what was not measured is marked as bad."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..config.choices import Squaring
from ..errors import DataValueError
from ..patterns.frame_stack import Backing, StoredStack, slabs, staging

__all__ = ['Squared', 'fitted_probe']

SAME = 0.01
"""Relative difference of two lengths up to which they are one, as files round them."""


@dataclass(frozen=True)
class Squared:
    """Square patterns."""

    stack: StoredStack
    """(n, N, N), zero frequency at N // 2."""
    bad_pixels: npt.NDArray[np.bool_] | None
    """(N, N)"""
    told: tuple[str, ...]
    """What was done, in sentences."""

    @classmethod
    def of(
        cls,
        stack: StoredStack,
        bad_pixels: npt.NDArray[np.bool_] | None,
        centre: tuple[int, int] | None,
        how: Squaring | None,
        source: str,
    ) -> Squared:
        """Return square patterns of any (n, h, w).

        Parameters
        ----------
        bad_pixels : (h, w) bool, optional
        centre : (row, column), optional
            Of zero frequency, which then lies at N // 2; None for (h // 2, w // 2). Patterns that are square
            already are cut around it by 'crop' alone.
        how : {'crop', 'pad'}, optional
            None to refuse what is not square.

        Raises
        ------
        DataValueError
            If they are not square and nothing was said, or there are no frames (n, h, w), or the middle lies
            outside.
        """
        if stack.ndim != 3 or (bad_pixels is not None and bad_pixels.shape != stack.shape[1:]):
            mask = '' if bad_pixels is None else f' and bad pixels of shape {bad_pixels.shape}'
            raise DataValueError(
                f'{source}: the patterns have shape {stack.shape}{mask}; expected frames (n, h, w).'
            )
        _, height, width = stack.shape
        if how is None or (height == width and (centre is None or how == 'pad')):
            if height != width:
                raise DataValueError(
                    f'{source}: the patterns have {height}×{width} pixels, but square ones are needed; give '
                    '--square crop to keep their middle, or --square pad to add pixels that are marked bad.'
                )
            return cls(stack, bad_pixels, ())
        row, column = (height // 2, width // 2) if centre is None else centre
        if not (0 < row < height and 0 < column < width):
            raise DataValueError(
                f'{source}: the middle of the patterns, row {row} and column {column}, does not lie inside '
                f'{height}×{width} pixels.'
            )
        if how == 'crop':
            return cls._cropped(stack, bad_pixels, row, column)
        return cls._padded(stack, bad_pixels, row, column, source)

    @classmethod
    def _cropped(
        cls, stack: StoredStack, bad: npt.NDArray[np.bool_] | None, row: int, column: int
    ) -> Squared:
        _, height, width = stack.shape
        # N // 2 pixels lie before the middle, and for an even N one fewer behind it.
        size = min(min(2 * m, 2 * (side - m)) for m, side in ((row, height), (column, width)))
        if (row, column) == (height // 2, width // 2):
            size = min(height, width)
        rows, columns = (slice(m - size // 2, m - size // 2 + size) for m in (row, column))
        told = (f'of {height}×{width} pixels the {size}×{size} around row {row}, column {column} are used.',)
        return cls(stack.window(rows, columns), None if bad is None else bad[rows, columns], told)

    @classmethod
    def _padded(
        cls, stack: StoredStack, bad: npt.NDArray[np.bool_] | None, row: int, column: int, source: str
    ) -> Squared:
        n, height, width = stack.shape
        size = max(max(2 * m, 2 * (side - m)) for m, side in ((row, height), (column, width)))
        if (row, column) == (height // 2, width // 2):
            size = max(height, width)
        top, left = size // 2 - row, size // 2 - column
        inside = (slice(top, top + height), slice(left, left + width))
        mask = np.ones((size, size), bool)
        mask[inside] = False if bad is None else bad
        shape = (n, size, size)

        def fill() -> Backing:
            padded = staging(shape, stack.dtype, source, f'its patterns are padded to {size}×{size} pixels')
            for part in slabs(shape, stack.dtype):
                padded.array[part] = 0
                padded.array[(part, *inside)] = stack[part]
                padded.release()
            return padded

        told = (f'the {height}×{width} pixels are padded to {size}×{size}; those added are taken as bad.',)
        return cls(StoredStack(shape, stack.dtype, fill, source), mask, told)


def fitted_probe(
    modes: npt.NDArray[np.complexfloating[Any, Any]],
    size: int,
    pixels: tuple[float, float],
    own: tuple[float, float],
) -> npt.NDArray[np.complex64] | None:
    """Return modes (P, size, size) of a probe (P, h, w) on other pixels, around the same middle.

    Along each axis either the pixels stay, and the frame is cut or filled up with 0, or the frame stays and
    the spectrum is, as where the detector is cropped or padded.

    Parameters
    ----------
    pixels, own : (height, width)
        In metres, of the pixels that are wanted and of those that the probe has.

    Returns
    -------
    (P, size, size) complex64
        None where neither pixels nor frame are the same.
    """
    found = np.asarray(modes, dtype=np.complex128)
    for axis, wanted_m, own_m in zip((-2, -1), pixels, own, strict=True):
        side = found.shape[axis]
        if abs(own_m / wanted_m - 1) < SAME:
            found = _reframed(found, size, axis)
        elif abs(side * own_m / (size * wanted_m) - 1) < SAME:
            found = _resampled(found, size, axis)
        else:
            return None
    return found.astype(np.complex64)


def _reframed(modes: npt.NDArray[np.complex128], size: int, axis: int) -> npt.NDArray[np.complex128]:
    """Cut an axis to its middle, or fill it up with 0."""
    modes = np.moveaxis(modes, axis, -1)
    side = modes.shape[-1]
    common = min(side, size)
    here, there = (size - common + 1) // 2, (side - common + 1) // 2
    result = np.zeros((*modes.shape[:-1], size), np.complex128)
    result[..., here : here + common] = modes[..., there : there + common]
    return np.moveaxis(result, -1, axis)


def _resampled(modes: npt.NDArray[np.complex128], size: int, axis: int) -> npt.NDArray[np.complex128]:
    """Sample an axis on `size` pixels of the same frame; the middle, (N - 1)/2, stays the middle."""
    modes = np.moveaxis(modes, axis, -1)
    side = modes.shape[-1]
    spectrum = np.fft.fftshift(np.fft.fft(modes, norm='ortho'), axes=-1)
    common = min(side, size)
    kept = np.zeros((*modes.shape[:-1], size), np.complex128)
    here, there = size // 2 - common // 2, side // 2 - common // 2
    kept[..., here : here + common] = spectrum[..., there : there + common]
    # The middles of the first pixels are (side / size - 1) / 2 old pixels apart.
    frequency = (np.arange(size) - size // 2) / side
    kept *= np.exp(1j * np.pi * frequency * (side / size - 1))
    return np.moveaxis(np.fft.ifft(np.fft.ifftshift(kept, axes=-1), norm='ortho'), -1, axis)
