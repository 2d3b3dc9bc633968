"""The object of a scan that is still being measured, on a canvas that grows with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..scan.scan import MOST_PIXELS, SPARSEST

__all__ = ['Canvas', 'Rectangle']

GROWTH = 0.25
"""Part of a side by which a canvas grows beyond what is needed, so that it is seldom copied."""


@dataclass(frozen=True)
class Rectangle:
    """Whole pixels of the object: the first row and column, and those after the last."""

    top: int
    left: int
    bottom: int
    right: int

    @classmethod
    def around(cls, corner: npt.NDArray[np.int64], size: int) -> Rectangle:
        """Return the smallest one that holds patches of a size at corners (n, 2)."""
        (top, left), (bottom, right) = corner.min(axis=0).tolist(), (corner.max(axis=0) + size).tolist()
        return cls(top, left, bottom, right)

    def joined(self, other: Rectangle) -> Rectangle:
        """Return the smallest one that holds both."""
        return Rectangle(
            min(self.top, other.top),
            min(self.left, other.left),
            max(self.bottom, other.bottom),
            max(self.right, other.right),
        )

    def in_multiples(self, multiple: int) -> Rectangle:
        """Return it with sides that are multiples of a number; it grows at its end."""
        height, width = (-(-side // multiple) * multiple for side in self.shape)
        return Rectangle(self.top, self.left, self.top + height, self.left + width)

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return self.bottom - self.top, self.right - self.left


class Canvas:
    """Object and illumination, flat and dark where nothing was measured.

    Parameters
    ----------
    size : int
        Side of a patch in pixels.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._allocated: Rectangle | None = None
        self._object = np.empty((0, 0), np.complex64)
        self._weight = np.empty((0, 0), np.float32)
        self.lit: Rectangle | None = None
        """What holds all patches; None before the first."""

    def too_far(self, corner: npt.NDArray[np.int64], patches: int) -> npt.NDArray[np.bool_]:
        """Return which of some corners (b, 2) would need a larger canvas than so many patches can fill.

        The rule is that for scans (:class:`~..scan.scan.Scan`).
        """
        most = max(MOST_PIXELS, SPARSEST * patches * self._size**2)
        far = np.zeros(len(corner), bool)
        reached = self.lit
        for number, one in enumerate(corner):
            alone = Rectangle.around(one[None], self._size)
            joined = alone if reached is None else reached.joined(alone)
            far[number] = joined.shape[0] * joined.shape[1] > most
            reached = reached if far[number] else joined
        return far

    def light(self, corner: npt.NDArray[np.int64], illumination: npt.NDArray[np.float32]) -> None:
        """Add the illumination (b, N, N) of patches at corners (b, 2); the canvas grows to hold them."""
        new = Rectangle.around(corner, self._size)
        self.lit = new if self.lit is None else self.lit.joined(new)
        self._hold(self.lit)
        assert self._allocated is not None
        rows, columns = (corner - [self._allocated.top, self._allocated.left]).T.tolist()
        for row, column, light in zip(rows, columns, illumination, strict=True):
            self._weight[row : row + self._size, column : column + self._size] += light

    def window(self, part: Rectangle) -> tuple[npt.NDArray[np.complex64], npt.NDArray[np.float32]]:
        """Return copies of object and illumination (h, w) in a rectangle that may reach beyond the canvas."""
        obj, weight = np.ones(part.shape, np.complex64), np.zeros(part.shape, np.float32)
        if self._allocated is not None:
            here, there = self._overlap(part)
            obj[there], weight[there] = self._object[here], self._weight[here]
        return obj, weight

    def put(self, part: Rectangle, obj: npt.NDArray[np.complex64]) -> None:
        """Replace the object (h, w) in a rectangle, as far as the canvas reaches."""
        here, there = self._overlap(part)
        self._object[here] = obj[there]

    def scale(self, factor: float) -> None:
        """Multiply the object by a factor, and the illumination by the inverse of its square."""
        self._object *= np.float32(factor)
        self._weight /= np.float32(factor**2)

    def _hold(self, part: Rectangle) -> None:
        """Grow so as to hold a rectangle."""
        old = self._allocated
        if old is not None and old.joined(part) == old:
            return
        grown = part if old is None else old.joined(part)
        spare = [round(GROWTH * side) for side in grown.shape]
        if old is None:
            new = Rectangle(
                grown.top - spare[0], grown.left - spare[1], grown.bottom + spare[0], grown.right + spare[1]
            )
        else:
            # Only to the sides to which the scan goes on.
            new = Rectangle(
                grown.top - spare[0] * (grown.top < old.top),
                grown.left - spare[1] * (grown.left < old.left),
                grown.bottom + spare[0] * (grown.bottom > old.bottom),
                grown.right + spare[1] * (grown.right > old.right),
            )
        obj, weight = self.window(new)
        self._allocated, self._object, self._weight = new, obj, weight

    def _overlap(self, part: Rectangle) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Return where a rectangle lies on the canvas, and where that part lies on the rectangle."""
        own = self._allocated
        assert own is not None
        top, left = max(part.top, own.top), max(part.left, own.left)
        bottom, right = max(min(part.bottom, own.bottom), top), max(min(part.right, own.right), left)
        return (
            (slice(top - own.top, bottom - own.top), slice(left - own.left, right - own.left)),
            (slice(top - part.top, bottom - part.top), slice(left - part.left, right - part.left)),
        )
