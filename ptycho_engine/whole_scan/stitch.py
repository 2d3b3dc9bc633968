"""Stitching: patches to one object on the product's own grid, weighted by the illumination."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ['Stitcher', 'add_patches', 'faded', 'weakest_weight']

RELATIVE_FLOOR = 1e-3
"""Illumination, relative to a fully scanned pixel, below which the object fades to the flat start."""


def weakest_weight(weight: npt.NDArray[np.floating[Any]]) -> float:
    """Return the illumination below which a pixel of the map `weight` (H, W) counts as not scanned."""
    covered = weight[weight > 0]
    return RELATIVE_FLOOR * float(np.percentile(covered, 90)) if covered.size else 0.0


def faded(
    weighted: npt.NDArray[Any], weight: npt.NDArray[np.floating[Any]], background: complex = 1.0
) -> npt.NDArray[np.complex64]:
    """Return ``weighted / weight`` (H, W), which fades to `background` where nothing was scanned (STI-01)."""
    if not weight.any():
        return np.full(weight.shape, background, np.complex64)
    floor = weakest_weight(weight)
    return np.asarray((weighted + floor * background) / (weight + floor), dtype=np.complex64)


def add_patches(canvas: npt.NDArray[Any], patches: npt.NDArray[Any], corner: npt.NDArray[np.int64]) -> None:
    """Add patches (n, N, N) at corners (n, 2) [row, column] to a canvas; what falls outside is left out."""
    height, width = canvas.shape
    size = patches.shape[-1]
    for k, (row, column) in enumerate(corner.tolist()):
        top, bottom = max(row, 0), min(row + size, height)
        left, right = max(column, 0), min(column + size, width)
        if top >= bottom or left >= right:
            continue
        inner = patches[k, top - row : bottom - row, left - column : right - column]
        canvas[top:bottom, left:right] += inner


class Stitcher:
    """Adds weighted patches to a canvas of fixed size; what falls outside is left out.

    Parameters
    ----------
    shape : (H, W)
        Size of the object.
    weight : (H, W) float, optional
        Total weight of all patches, where it is known beforehand; then none is added.
    """

    def __init__(self, shape: tuple[int, int], weight: npt.NDArray[np.float64] | None = None) -> None:
        self._sum = np.zeros(shape, np.complex128)
        self._known = weight is not None
        self._weight = np.zeros(shape, np.float64) if weight is None else weight

    def add(
        self,
        weighted: npt.NDArray[np.complexfloating[Any, Any]],
        weight: npt.NDArray[np.floating[Any]] | None,
        corner: npt.NDArray[np.int64],
    ) -> None:
        """Add patches times their weights (n, N, N) and the weights (n, N, N), not negative.

        Parameters
        ----------
        weighted : (n, N, N) complex
        weight : (n, N, N) float
            None where the total weight was given.
        corner : (n, 2) int
            [row, column] of each patch.
        """
        assert self._known == (weight is None)
        add_patches(self._sum, weighted, corner)
        if weight is not None:
            add_patches(self._weight, weight, corner)

    def joined(self, other: Stitcher) -> Stitcher:
        """Return the stitcher that got the patches of both."""
        both = Stitcher(self._sum.shape, self._weight + other._weight)
        both._sum += self._sum
        both._sum += other._sum
        return both

    @property
    def weight(self) -> npt.NDArray[np.float64]:
        """(H, W) total illumination."""
        return self._weight

    def result(self, background: complex = 1.0) -> npt.NDArray[np.complex64]:
        """Return the object (H, W); where nothing was scanned it fades to `background`."""
        return faded(self._sum, self._weight, background)
