"""Scans made to fit a network: crop or bin the patterns, and the probe, pixel sizes and positions follow."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, map_coordinates

from ..errors import DataValueError
from ..formats.product import ProductData
from ..formats.product_extras import ProductExtras
from ..patterns.frame_stack import StoredStack
from ..patterns.known_patches import KnownPatches
from ..patterns.stack import AmplitudeStack, Patterns, binned_mask
from ..physics.coherent import CoherentModes
from ..physics.geometry import ObjectGrid
from .raw_data import RawData
from .scan import Scan

__all__ = ['bin_scan', 'crop_scan', 'pretreat']

logger = logging.getLogger('ptychopinn.data')

ComplexArray = npt.NDArray[np.complexfloating[Any, Any]]

CUT_LIGHT_WARNING = 1e-3
CUT_LIGHT_LIMIT = 0.05
"""Share of the probe's light that binning may cut off before it warns, and before it refuses."""


def pretreat(
    scan: Scan, *, binning: int = 1, crop: int | None = None, centre: tuple[int, int] | None = None
) -> Scan:
    """Bin a scan's patterns, then crop them; nothing is read (``specs/data_contracts.md``, PRE-*).

    Parameters
    ----------
    scan : Scan
        The scan.
    binning : int
        Counts of so many by so many pixels are summed.
    crop : int, optional
        Side of the patterns afterwards, in binned pixels.
    centre : (row, column), optional
        Pixel of the binned pattern that becomes the middle; None for N//2.

    Raises
    ------
    DataValueError
        If the patterns, or what belongs to them, cannot be brought to that size.
    """
    if binning != 1:
        scan = bin_scan(scan, binning)
    if crop is not None or centre is not None:
        scan = crop_scan(scan, scan.raw.N if crop is None else crop, centre)
    return scan


def crop_scan(scan: Scan, size: int, centre: tuple[int, int] | None = None) -> Scan:
    """Keep the middle `size`×`size` pixels of each pattern.

    The field of view stays and the resolution falls: object pixels grow by N/size, the probe is cropped in
    reciprocal space and the object is resampled.

    Parameters
    ----------
    scan : Scan
        The scan.
    size : int
        Side of the patterns afterwards.
    centre : (row, column), optional
        Pixel that becomes the middle; None for N//2. The probe, whose far field is centred already, does not
        move.

    Raises
    ------
    DataValueError
        If the window reaches over the edge of the pattern, or the scan has known patches.
    """
    raw = scan.raw
    old = raw.N
    middle = (old // 2, old // 2) if centre is None else centre
    start = tuple(c - size // 2 for c in middle)
    if size < 1 or min(start) < 0 or max(start) + size > old:
        raise DataValueError(
            f'{raw.source}: a window of {size}×{size} pixels around row {middle[0]}, column {middle[1]} does '
            f'not lie inside the patterns of {old}×{old}; crop to fewer pixels.'
        )
    if raw.Y is not None and size != old:
        raise DataValueError(
            f'{raw.source} has known object patches Y, which cannot be brought to the larger pixels of '
            'cropped patterns; leave Y out, or bin instead.'
        )
    rows, columns = (slice(s, s + size) for s in start)
    patterns: AmplitudeStack
    if isinstance(raw.diffraction, Patterns):
        patterns = raw.diffraction.cropped(rows, columns)
    else:
        patterns = raw.diffraction[:, rows, columns]
    growth = old / size
    grid, x, y = _coarser(scan, growth)
    objects = None if raw.objectGuess is None else resampled(raw.objectGuess, growth)
    cropped = replace(
        raw,
        diffraction=patterns,
        bad_pixels=None if raw.bad_pixels is None else raw.bad_pixels[rows, columns],
        probeGuess=crop_probe(raw.probeGuess, size),
        coherent=_with_modes(raw.coherent, lambda modes: crop_probe(modes, size)),
        xcoords=x(raw.xcoords),
        ycoords=y(raw.ycoords),
        xcoords_start=None if raw.xcoords_start is None else x(raw.xcoords_start),
        ycoords_start=None if raw.ycoords_start is None else y(raw.ycoords_start),
        objectGuess=objects,
        metadata=_coarser_metadata(raw.metadata, growth),
        path=None,
    )
    if scan.product is None or grid is None:
        return Scan.from_raw(cropped)
    product = replace(
        scan.product,
        object_array=np.stack([resampled(layer, growth) for layer in scan.product.object_array]),
        object_pixel_width_m=scan.product.object_pixel_width_m * growth,
        object_pixel_height_m=scan.product.object_pixel_height_m * growth,
        probe=crop_probe(scan.product.probe, size),
        probe_pixel_width_m=_times(scan.product.probe_pixel_width_m, growth),
        probe_pixel_height_m=_times(scan.product.probe_pixel_height_m, growth),
        comments=_remark(scan.product, f'patterns cropped from {old} to {size} pixels'),
        extras=ProductExtras(),
    )
    return Scan(cropped, product.grid, product)


def bin_scan(scan: Scan, binning: int) -> Scan:
    """Sum the counts of `binning`×`binning` pixels.

    The resolution stays and the field of view shrinks: the probe is cropped to the middle N/binning pixels,
    outside which it must be dark. Pixels of the object keep their size.

    Raises
    ------
    DataValueError
        If N/binning is not a whole, even number, or the probe does not fit into so many pixels.
    """
    raw = scan.raw
    old = raw.N
    if binning < 1 or old % (2 * binning):
        raise DataValueError(
            f'{raw.source}: patterns of {old}×{old} pixels cannot be binned {binning}×{binning} to an even '
            'number of pixels; crop them first, or choose another factor.'
        )
    size = old // binning
    inner = slice((old - size) // 2, (old + size) // 2)
    _check_light(raw, inner, binning)
    bad = raw.bad_pixels
    if isinstance(raw.diffraction, Patterns):
        patterns = raw.diffraction
    else:
        patterns = Patterns(
            StoredStack.of_array(raw.diffraction, raw.source), counts=False, bad_pixels=bad, source=raw.source
        )
    binned = replace(
        raw,
        diffraction=patterns.binned(binning).in_memory_if_small(),
        bad_pixels=None if bad is None else binned_mask(bad, binning),
        probeGuess=bin_probe(raw.probeGuess, binning),
        coherent=_with_modes(raw.coherent, lambda modes: bin_probe(modes, binning)),
        # Of sums nothing tells where one of the parts is saturated.
        metadata={name: value for name, value in raw.metadata.items() if name != 'saturation_counts'},
        Y=_windowed(raw.Y, inner),
        path=None,
    )
    if scan.product is None:
        return Scan.from_raw(binned)
    product = replace(
        scan.product,
        probe=bin_probe(scan.product.probe, binning),
        comments=_remark(scan.product, f'patterns binned {binning}×{binning} to {size} pixels'),
        extras=ProductExtras(),
    )
    return Scan(binned, scan.grid, product)


def _with_modes(
    coherent: CoherentModes | None, change: Callable[[ComplexArray], npt.NDArray[np.complex64]]
) -> CoherentModes | None:
    return None if coherent is None else replace(coherent, modes=change(coherent.modes))


def crop_probe(probe: ComplexArray, size: int) -> npt.NDArray[np.complex64]:
    """Sample probe modes (..., N, N) on `size` larger pixels, as cropping the detector does.

    Their spectra are cropped, so that in the kept pixels a flat object predicts the same counts. The middle
    of the patch, (N - 1)/2, stays the middle, (size - 1)/2.
    """
    old = probe.shape[-1]
    start = old // 2 - size // 2
    part = slice(start, start + size)
    spectrum = np.fft.fftshift(np.fft.fft2(probe, norm='ortho'), axes=(-2, -1))[..., part, part]
    frequency = (np.arange(size) - size // 2) / old
    # The first pixels' middles are (old / size - 1) / 2 old pixels apart.
    ramp = np.exp(1j * np.pi * frequency * (old / size - 1))
    spectrum = np.fft.ifftshift(spectrum * ramp[:, None] * ramp, axes=(-2, -1))
    return np.asarray(np.fft.ifft2(spectrum, norm='ortho'), dtype=np.complex64)


def bin_probe(probe: ComplexArray, binning: int) -> npt.NDArray[np.complex64]:
    """Cut probe modes (..., N, N) to the middle N/binning pixels, as binning the detector does.

    The middle of the bin that holds zero frequency lies (binning - 1)/2 pixels beyond it; a phase ramp of the
    probe says so to the forward model, which takes pixels for points.
    """
    old = probe.shape[-1]
    size = old // binning
    inner = slice((old - size) // 2, (old + size) // 2)
    place = np.arange(size) - (size - 1) / 2
    ramp = np.exp(-1j * np.pi * (binning - 1) / binning * place / size)
    return np.asarray(probe[..., inner, inner] * ramp[:, None] * ramp, dtype=np.complex64)


def resampled(obj: ComplexArray, growth: float) -> npt.NDArray[np.complex64]:
    """Sample an object (H, W) on pixels `growth` times as large around the same middle.

    It is smoothed first, so that what the larger pixels cannot hold does not fold back.
    """
    shape = [math.ceil(side / growth - 1e-9) for side in obj.shape]
    if growth == 1:
        return np.asarray(obj, dtype=np.complex64)
    where = np.meshgrid(
        *(
            (np.arange(new) - (new - 1) / 2) * growth + (side - 1) / 2
            for new, side in zip(shape, obj.shape, strict=True)
        ),
        indexing='ij',
    )
    blur = math.sqrt(max(growth**2 - 1, 0)) / 2
    parts = [
        map_coordinates(gaussian_filter(np.asarray(part, np.float64), blur), where, order=3, mode='nearest')
        for part in (obj.real, obj.imag)
    ]
    return np.asarray(parts[0] + 1j * parts[1], dtype=np.complex64)


def _coarser(scan: Scan, growth: float) -> tuple[ObjectGrid | None, Any, Any]:
    """Return the grid after resampling and the maps of x and y to its pixels."""
    if scan.raw.objectGuess is None and scan.product is None:
        return None, lambda x: x / growth, lambda y: y / growth
    old = scan.grid
    grid = ObjectGrid(*(math.ceil(side / growth - 1e-9) for side in old.shape))

    def map_to(new: int, size: int, origin: float) -> Any:
        return lambda value: (value - origin - (size - 1) / 2) / growth + (new - 1) / 2

    return (
        grid,
        map_to(grid.width, old.width, old.origin_x),
        map_to(grid.height, old.height, old.origin_y),
    )


def _coarser_metadata(metadata: dict[str, Any], growth: float) -> dict[str, Any]:
    sizes = ('object_pixel_size_m', 'probe_pixel_size_m')
    return {
        name: value * growth if name in sizes and isinstance(value, int | float) else value
        for name, value in metadata.items()
    }


def _windowed(
    patches: npt.NDArray[np.complex64] | KnownPatches | None, inner: slice
) -> npt.NDArray[np.complex64] | KnownPatches | None:
    if isinstance(patches, KnownPatches):
        return patches.window(inner, inner)
    return None if patches is None else patches[:, inner, inner]


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _remark(product: ProductData, text: str) -> str:
    return '\n'.join(line for line in (product.comments, text) if line)


def _check_light(raw: RawData, inner: slice, binning: int) -> None:
    light = np.abs(raw.probeGuess.astype(np.complex128)) ** 2
    cut = 1 - float(light[:, inner, inner].sum() / light.sum())
    size = raw.N // binning
    if cut > CUT_LIGHT_LIMIT:
        raise DataValueError(
            f'{raw.source}: binned {binning}×{binning}, the field of view is {size} pixels wide, and '
            f'{cut:.0%} of the light of the probe lies outside; crop the patterns instead.'
        )
    if cut > CUT_LIGHT_WARNING:
        logger.warning(
            '%s: %.1f %% of the probe lies outside the binned field of view.', raw.source, 100 * cut
        )
