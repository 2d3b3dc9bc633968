"""Simulated counts: the exact forward model, background, photon noise and bad pixels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..blocks import block_length, blocks
from ..data.raw_data import RawData
from ..errors import DataValueError
from ..physics.forward import cut_patches, predict_intensity
from ..physics.geometry import PatchPlacement, place_patches
from ..physics.probe import as_mode_stack

__all__ = ['random_bad_pixels', 'simulate_scan', 'without_truth']

MOST_COUNTS = 9e18
"""Beyond it 64 bits cannot hold a count, and NumPy draws none."""


def simulate_scan(
    obj: npt.ArrayLike,
    probe: npt.ArrayLike,
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    photons: float,
    rng: np.random.Generator,
    bad_pixels: npt.NDArray[np.bool_] | None = None,
    background: float = 0.0,
) -> RawData:
    """Simulate a scan with the exact forward model and Poisson counts.

    Parameters
    ----------
    obj : (H, W) complex
        The object.
    probe : (N, N) or (P, N, N) complex
        Incoherent modes; scaled here so that the mean pattern holds `photons` counts.
    x, y : (n,) float
        Patch centres in object pixels; fractions shift the probe, the object is never interpolated.
    photons : float
        Mean counts per pattern, without background.
    rng : numpy.random.Generator
        Draws the counts.
    bad_pixels : (N, N) bool, optional
        Pixels that read zero and are marked bad.
    background : float
        Mean counts per pixel that are no light of the sample.

    Returns
    -------
    RawData
        Amplitudes are square roots of counts, the probe is in the same units and `objectGuess` is the truth.

    Raises
    ------
    DataValueError
        If a patch reaches over the edge of the object, a number is out of range, or no light comes through.
    """
    if not 0 < photons < np.inf:
        raise DataValueError(f'photons is {photons}; expected a positive mean count per pattern.')
    if not 0 <= background < np.inf:
        raise DataValueError(f'background is {background}; expected 0 or more counts per pixel.')
    truth = np.asarray(obj, dtype=np.complex64)
    modes = as_mode_stack(probe).astype(np.complex128)
    size = modes.shape[-1]
    if bad_pixels is not None and bad_pixels.shape != (size, size):
        raise DataValueError(
            f'The bad-pixel mask has shape {bad_pixels.shape}; expected {(size, size)}, that of the probe.'
        )
    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    placement = place_patches(xs, ys, size)
    intensity = np.empty((len(xs), size, size))
    for part in blocks(len(xs), block_length(size, len(modes))):
        at = PatchPlacement(placement.corner[part], placement.remainder[part])
        try:
            patches = cut_patches(truth, at, size)
        except IndexError:
            raise DataValueError(
                f'Some of the {len(xs)} positions put the {size}-pixel probe over the edge of the object of '
                f'{truth.shape[1]}×{truth.shape[0]} pixels; move them inside or enlarge the object.'
            ) from None
        intensity[part] = predict_intensity(patches, modes, at.remainder)
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
    return RawData(
        diffraction=np.sqrt(counts).astype(np.float32),
        probeGuess=(modes * np.sqrt(factor)).astype(np.complex64),
        xcoords=xs,
        ycoords=ys,
        objectGuess=truth,
        bad_pixels=bad_pixels,
        metadata={'simulated': True, 'photons': float(photons), 'background': float(background)},
        source='simulation',
    )


def random_bad_pixels(size: int, fraction: float, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Return a mask (size, size) in which `fraction` of the pixels, at random places, are bad.

    Raises
    ------
    DataValueError
        If `fraction` is not from 0 to below 1.
    """
    if not 0 <= fraction < 1:
        raise DataValueError(f'The fraction of bad pixels is {fraction}; expected from 0 to below 1.')
    mask = np.zeros(size * size, bool)
    mask[rng.choice(size * size, round(fraction * size * size), replace=False)] = True
    return mask.reshape(size, size)


def without_truth(raw: RawData) -> RawData:
    """Return the scan with a flat object in place of the truth."""
    if raw.objectGuess is None:
        return raw
    return replace(raw, objectGuess=np.ones_like(raw.objectGuess), Y=None)
