"""Object-pixel geometry: where a pattern's patch lies on the object.

Positions are object-pixel coordinates of the patch centre, ``x`` along columns and ``y`` along rows, and the
centre of an N-pixel patch is at index (N - 1)/2, as in Ptychodus 1.6 and later. A patch is cut on whole
pixels; the sub-pixel shift, in [-0.5, 0.5), shifts the probe inside the patch. That is the forward
model of Ptychodus itself, and it never interpolates the object.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import constants

__all__ = [
    'ObjectGrid',
    'PatchPlacement',
    'overhang',
    'pixel_to_world',
    'place_patches',
    'wavelength_m',
    'world_to_pixel',
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def wavelength_m(photon_energy_eV: float) -> float:
    """Return the wavelength of photons in metres."""
    return float(constants.h * constants.c / (photon_energy_eV * constants.e))


def world_to_pixel(
    coordinate_m: npt.ArrayLike, center_m: float, pixel_size_m: float, size_px: int
) -> FloatArray:
    """Convert metres to object pixels: ``(x_m - center_m) / pixel_size_m + (size_px - 1) / 2``."""
    metres = np.asarray(coordinate_m, dtype=np.float64)
    return np.asarray((metres - center_m) / pixel_size_m + (size_px - 1) / 2)


def pixel_to_world(
    coordinate_px: npt.ArrayLike, center_m: float, pixel_size_m: float, size_px: int
) -> FloatArray:
    """Convert object pixels to metres; the inverse of :func:`world_to_pixel`."""
    pixels = np.asarray(coordinate_px, dtype=np.float64)
    return np.asarray(center_m + (pixels - (size_px - 1) / 2) * pixel_size_m)


@dataclass(frozen=True)
class PatchPlacement:
    """Whole-pixel corners and sub-pixel shifts of n patches."""

    corner: IntArray
    """(n, 2) [row, column] of the first pixel of each patch on the object."""
    subpixel_shift: FloatArray
    """(n, 2) [dy, dx] by which the probe is shifted inside its patch, in [-0.5, 0.5) px."""


def place_patches(x: npt.ArrayLike, y: npt.ArrayLike, size: int) -> PatchPlacement:
    """Return where patches of `size` pixels centred at (`x`, `y`) lie on the object.

    Parameters
    ----------
    x, y : (n,) float
        Object-pixel coordinates of the patch centres (column, row).
    size : int
        Side of a patch in pixels.
    """
    centre = np.stack([np.asarray(y, dtype=np.float64), np.asarray(x, dtype=np.float64)], axis=-1)
    start = centre - (size - 1) / 2
    corner = np.floor(start + 0.5)
    return PatchPlacement(corner.astype(np.int64), start - corner)


def overhang(corner: IntArray, shape: tuple[int, ...], size: int) -> int:
    """Return the pixels by which the outermost of some patches of `size` reaches over an object (H, W)."""
    return int(max(0, -corner.min(), (corner + size - np.asarray(shape)).max()))


@dataclass(frozen=True)
class ObjectGrid:
    """The pixel grid that a reconstruction lies on."""

    height: int
    """Rows."""
    width: int
    """Columns."""
    origin_x: float = 0.0
    """Object-pixel x coordinate of column 0."""
    origin_y: float = 0.0
    """Object-pixel y coordinate of row 0."""
    pixel_width_m: float | None = None
    """Width of a pixel in metres; None where the scan has no physical scale."""
    pixel_height_m: float | None = None
    """Height of a pixel in metres; None where the scan has no physical scale."""
    center_x_m: float = 0.0
    """World x coordinate of the middle of the grid, in metres."""
    center_y_m: float = 0.0
    """World y coordinate of the middle of the grid, in metres."""

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width

    @property
    def pixels_m(self) -> tuple[float, float]:
        """(height, width) of a pixel in metres; NaN where the grid has no physical scale."""
        known = (self.pixel_height_m, self.pixel_width_m)
        return float('nan') if known[0] is None else known[0], float('nan') if known[1] is None else known[1]

    @property
    def centre_m(self) -> tuple[float, float]:
        """(y, x) of the middle of the grid in metres."""
        return self.center_y_m, self.center_x_m

    @classmethod
    def around_scan(cls, x: npt.ArrayLike, y: npt.ArrayLike, size: int) -> ObjectGrid:
        """Return the smallest grid that holds every patch: the scan's bounding box plus one probe."""
        corner = place_patches(x, y, size).corner
        low = corner.min(axis=0)
        high = corner.max(axis=0) + size
        return cls(
            height=int(high[0] - low[0]),
            width=int(high[1] - low[1]),
            origin_x=float(low[1]),
            origin_y=float(low[0]),
        )
