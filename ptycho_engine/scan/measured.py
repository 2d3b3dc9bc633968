"""A scan joined from patterns, positions and probe, each from where it is."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..arrays import as_numbers
from ..config.choices import Squaring
from ..errors import DataValueError
from ..formats.diffraction_file import AssembledPatterns
from ..formats.measurement import Geometry, MeasuredPatterns, MeasuredPositions, MeasuredProbe
from ..formats.product import ProductData
from ..formats.square import Squared, fitted_probe
from ..physics.geometry import ObjectGrid
from .matched_pair import match_pair
from .product_exchange import ESTIMATED, OBJECT_PIXEL_SIZE_M
from .scan import Scan, scan_of_pair

__all__ = ['probe_of_size', 'scan_of_measurement', 'with_probe']

logger = logging.getLogger('ptychopinn.formats')


def scan_of_measurement(
    patterns: MeasuredPatterns,
    positions: MeasuredPositions,
    probe: MeasuredProbe | None,
    *,
    name: str,
    path: Path | None = None,
    square: Squaring | None = None,
    match_first: bool = False,
    domain: str | None = None,
    nphotons: float | None = None,
) -> Scan:
    """Join what belongs to a scan.

    Patterns and positions are matched by their indexes, as Ptychodus does. The object is flat, on the
    bounding box of the scan plus one probe. Without a probe one of a single bright pixel stands in for it,
    which :func:`with_probe` replaces.

    Parameters
    ----------
    name : str
        Of the product, and for messages.
    path : Path, optional
        Of the patterns.
    square : {'crop', 'pad'}, optional
        How patterns that are not square are made so.
    match_first : bool
        Whether, where there are more patterns than positions or the reverse, the first ones belong together.
    domain, nphotons
        As for :func:`~..scan.scan.load_scan`.

    Raises
    ------
    DataValueError
        With a sentence that names what is missing, or what does not fit.
    """
    source = name if path is None else str(path)
    framed = Squared.of(patterns.counts, patterns.bad_pixels, patterns.centre, square, source)
    size = framed.stack.shape[-1]
    pixels = patterns.geometry.object_pixels(size, size)
    comments = []
    if pixels is None:
        if positions.unit != 'px':
            raise DataValueError(_missing(patterns.geometry, source))
        pixels = OBJECT_PIXEL_SIZE_M, OBJECT_PIXEL_SIZE_M
        comments.append(ESTIMATED)
    height_m, width_m = pixels
    own = patterns.counts.shape[1:]
    modes, weights = probe_of_size(probe, size, pixels, own, source)[None], None
    varying = None if probe is None else probe.coherent
    if probe is not None and varying is not None:
        fitted = probe_of_size(replace(probe, modes=varying.modes), size, pixels, own, source)
        modes, weights = replace(varying, modes=fitted).stored(modes[0])
    x_m, y_m = positions.x, positions.y
    if positions.unit == 'px':
        x_m, y_m = x_m * width_m * (size / own[1]), y_m * height_m * (size / own[0])
    chosen = _equally_many(patterns, positions, framed, match_first=match_first, source=source)
    product = ProductData(
        name=name,
        comments='\n'.join([*comments, *framed.told]),
        detector_distance_m=patterns.geometry.detector_distance_m or 0.0,
        photon_energy_eV=patterns.geometry.photon_energy_eV or 0.0,
        object_array=np.ones((1, 1), np.complex64),
        object_pixel_width_m=width_m,
        object_pixel_height_m=height_m,
        probe=modes,
        opr_weights=weights,
        probe_pixel_width_m=width_m,
        probe_pixel_height_m=height_m,
        position_x_m=x_m,
        position_y_m=y_m,
        position_indexes=positions.indexes,
    )
    bad = np.zeros(framed.stack.shape[1:], bool) if framed.bad_pixels is None else framed.bad_pixels
    assembled = AssembledPatterns(
        framed.stack.select(chosen), patterns.indexes[chosen], bad, math.nan, math.nan
    )
    _tell_geometry(product, source, size)
    pair = match_pair(assembled, product, source)
    pair = replace(pair, product=_on_flat_object(pair.product, size, source), told=(*framed.told, *pair.told))
    return scan_of_pair(pair, path, domain=domain or patterns.said, nphotons=nphotons)


def with_probe(scan: Scan, modes: npt.NDArray[np.complex64], remark: str = '') -> Scan:
    """Return a scan with another probe (P, N, N), and a remark in the comments of its product."""
    raw = replace(scan.raw, probeGuess=modes, coherent=None)
    product = scan.product
    if product is not None:
        comments = '\n'.join(line for line in (product.comments, remark) if line)
        product = replace(product, probe=modes, opr_weights=None, comments=comments)
    return replace(scan, raw=raw, product=product)


def _tell_geometry(product: ProductData, source: str, size: int) -> None:
    energy, distance = product.photon_energy_eV, product.detector_distance_m
    logger.info(
        '%s: %s, %s to the detector; pixels of the object of %.4g×%.4g m, %d×%d in a pattern.',
        source,
        f'{energy:.6g} eV' if energy else 'unknown energy',
        f'{distance:.4g} m' if distance else 'unknown distance',
        product.object_pixel_height_m,
        product.object_pixel_width_m,
        *(size, size),
    )


def _missing(geometry: Geometry, source: str) -> str:
    """Return which flags say what the size of an object pixel would follow from."""
    flags = {
        '--energy-eV': geometry.photon_energy_eV,
        '--distance-m': geometry.detector_distance_m,
        '--pixel-size-m': geometry.detector_pixel_width_m and geometry.detector_pixel_height_m,
    }
    lacking = [flag for flag, value in flags.items() if not value]
    return (
        f'{source} does not say how large a pixel of the object is; give {" and ".join(lacking)} (of the '
        'detector), or --object-pixel-size-m; positions in pixels of the object (--positions-unit px) need '
        'none of them.'
    )


def probe_of_size(
    probe: MeasuredProbe | None,
    size: int,
    pixels: tuple[float, float],
    framed: tuple[int, ...],
    source: str,
) -> npt.NDArray[np.complex64]:
    """Return modes (P, size, size) on pixels of the object; a single bright pixel for none.

    `framed` is the shape of patterns before they were made square; a probe of that shape has their pixels.
    """
    if probe is None:
        stand_in = np.zeros((1, size, size), np.complex64)
        stand_in[:, size // 2, size // 2] = 1
        return stand_in
    modes = as_numbers(probe.modes, np.complex64, f'{source}: the probe')
    modes = modes.reshape(-1, *modes.shape[-2:])
    height_m, width_m = pixels
    own = probe.pixel_m
    if own is None and modes.shape[-2:] == framed:
        own = height_m * size / framed[0], width_m * size / framed[1]
    elif own is None and modes.shape[-2:] == (size, size):
        own = pixels
    fitted = None if own is None else fitted_probe(modes, size, pixels, own)
    if fitted is None:
        each = 'unknown size' if own is None else f'{own[0]:.4g}×{own[1]:.4g} m'
        height, width = modes.shape[-2:]
        raise DataValueError(
            f'{source}: the probe has {height}×{width} pixels of {each}, but the object pixels of '
            f'{height_m:.4g}×{width_m:.4g} m and the patterns {size}×{size}; give a probe of this '
            'experiment, or --probe estimate.'
        )
    return fitted


def _equally_many(
    patterns: MeasuredPatterns,
    positions: MeasuredPositions,
    framed: Squared,
    *,
    match_first: bool,
    source: str,
) -> npt.NDArray[np.int64]:
    """Return which patterns are matched; where both are only counted there must be as many of either."""
    n, m = len(framed.stack), len(positions.x)
    everything = np.arange(n)
    counted = all(
        np.array_equal(found, np.arange(len(found))) for found in (patterns.indexes, positions.indexes)
    )
    if n == m or not counted:
        return everything
    if match_first:
        logger.info(
            '%s: there are %d patterns and %d positions; the first %d belong together.',
            *(source, n, m, min(n, m)),
        )
        return everything[:m]
    raise DataValueError(
        f'{source}: there are {n} patterns but {m} positions, and nothing says which belong together; give '
        f'--match-first if the first {min(n, m)} do.'
    )


def _on_flat_object(product: ProductData, size: int, source: str) -> ProductData:
    """Return a product with a flat object on the bounding box of its positions plus one probe."""
    width_m, height_m = product.object_pixel_width_m, product.object_pixel_height_m
    x, y = product.position_x_m / width_m, product.position_y_m / height_m
    # Near 0, where doubles tell parts of a pixel apart however far the stage is from its origin.
    base_x, base_y = np.floor(x.min()), np.floor(y.min())
    span = math.prod(float(np.ptp(axis)) + size for axis in (x, y))
    if not span < 2**31:
        raise DataValueError(
            f'{source}: the positions span {np.ptp(product.position_x_m):.4g}×'
            f'{np.ptp(product.position_y_m):.4g} m, {span:.3g} pixels of {width_m:.4g}×{height_m:.4g} m; '
            'check the unit of the positions (--positions-unit) and the geometry.'
        )
    around = ObjectGrid.around_scan(x - base_x, y - base_y, size)
    return replace(
        product,
        object_array=np.ones(around.shape, np.complex64),
        object_center_x_m=(base_x + around.origin_x + (around.width - 1) / 2) * width_m,
        object_center_y_m=(base_y + around.origin_y + (around.height - 1) / 2) * height_m,
    )
