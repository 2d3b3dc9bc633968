"""What a detector counts in the exposures of a scan: the exact forward model, background and photon noise."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..blocks import block_length, blocks
from ..errors import DataValueError
from .forward import cut_patches, predict_intensity
from .geometry import PatchPlacement, place_patches

__all__ = ['draw_counts']

MOST_COUNTS = 9e18
"""Beyond it 64 bits cannot hold a count, and NumPy draws none."""


def draw_counts(
    obj: npt.NDArray[np.complex64],
    modes: npt.NDArray[np.complex64],
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    *,
    photons: float,
    rng: np.random.Generator,
    bad_pixels: npt.NDArray[np.bool_] | None = None,
    background: float = 0.0,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.complex64]]:
    """Return the counts (n, N, N) of a scan and the modes (P, N, N), scaled to `photons` in the mean pattern.

    The parameters are those of :meth:`~ptycho_engine.RawData.from_simulation`.

    Raises
    ------
    DataValueError
        If a patch reaches over the edge of the object, a number is out of range, or no light comes through.
    """
    if not 0 < photons < np.inf:
        raise DataValueError(f'photons is {photons}; expected a positive mean count per pattern.')
    if not 0 <= background < np.inf:
        raise DataValueError(f'background is {background}; expected 0 or more counts per pixel.')
    size = modes.shape[-1]
    if bad_pixels is not None and bad_pixels.shape != (size, size):
        raise DataValueError(
            f'The bad-pixel mask has shape {bad_pixels.shape}; expected {(size, size)}, that of the probe.'
        )
    probe = modes.astype(np.complex128)
    placement = place_patches(x, y, size)
    intensity = np.empty((len(x), size, size))
    for part in blocks(len(x), block_length(size, len(probe))):
        at = PatchPlacement(placement.corner[part], placement.subpixel_shift[part])
        try:
            patches = cut_patches(obj, at, size)
        except IndexError:
            raise DataValueError(
                f'Some of the {len(x)} positions put the {size}-pixel probe over the edge of the object of '
                f'{obj.shape[1]}×{obj.shape[0]} pixels; move them inside or enlarge the object.'
            ) from None
        intensity[part] = predict_intensity(patches, probe, at.subpixel_shift)
    mean = intensity.sum(axis=(1, 2)).mean()
    if not mean > 0:
        raise DataValueError('With this object and probe no light comes through; give others.')
    factor = photons / mean
    if not intensity.max() <= (MOST_COUNTS - background) / factor:
        raise DataValueError(
            f'With {photons:g} photons in a pattern, and {background:g} counts of background, the brightest '
            f'pixel would hold more than {MOST_COUNTS:g} counts; ask for less light.'
        )
    intensity *= factor
    intensity += background
    counts = rng.poisson(intensity).astype(np.float64)
    if bad_pixels is not None:
        counts[:, bad_pixels] = 0
    return counts, (probe * np.sqrt(factor)).astype(np.complex64)
