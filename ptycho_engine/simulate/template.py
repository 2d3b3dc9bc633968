"""What a simulation takes from files before the first frame: probe, positions, dose and bad pixels."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DataFileNotFoundError, DataValueError
from ..formats.npz import PATTERN_KEYS, read_headers
from ..formats.product import ProductData, is_hdf5_name, read_product
from ..formats.training_file import is_training_file
from ..patterns.frame_stack import StoredStack
from ..patterns.stack import Patterns
from ..physics.forward import predict_intensity
from ..scan.product_exchange import import_product_to_rawdata
from ..scan.raw_data import RawData
from ..scan.scan import (
    DIFFRACTION_FILE,
    PRODUCT_FILE,
    Scan,
    find_training_scans,
    is_ptychodus_directory,
    load_scan,
)
from .probes import illuminated_width
from .scans import raster_positions
from .sources import read_mask, read_positions, read_probe

__all__ = ['find_templates', 'load_templates']

logger = logging.getLogger('ptychopinn.data')

RASTER_POINTS = 16
"""Rows and columns of the raster that stands for unknown positions."""
STEP_OF_WIDTH = 0.25
"""Its step relative to the equivalent width of the probe: neighbours overlap by three quarters."""
FEWEST_PHOTONS = 10.0
"""A probe of less power is normalised, not in the square root of counts."""


def load_templates(path: Path | str, photons: float | None = None) -> list[Scan]:
    """Load the scans that simulated ones are to be like.

    Parameters
    ----------
    path : Path
        Whatever :func:`~..scan.scan.load_training_scans` reads; a product without patterns, or a directory
        with nothing but ``product.h5``; an NPZ file with ``probeGuess`` and perhaps ``xcoords``, ``ycoords``
        and ``bad_pixels``; or a probe as ``.npy``. Without positions there is a raster of 16×16 in steps of
        a quarter of the probe's width.
    photons : float, optional
        Mean counts per pattern where there are no patterns; None for what the product says, or else for the
        power of the probe.

    Returns
    -------
    list of Scan
        Scans without patterns have those of a flat object instead, of that many photons.

    Raises
    ------
    EngineError
        With a sentence, if there is no probe, or nothing says how many photons there are.
    """
    found = find_templates(path)
    if not found:
        raise DataFileNotFoundError(
            f'{path}: there is nothing to simulate from; give a product, an NPZ file with a probe, or a scan.'
        )
    return [_load(item, photons) for item in found]


def find_templates(path: Path | str) -> list[Path]:
    """Return what :func:`load_templates` would load from a directory or file; little of it is read."""
    path = Path(path)
    found = find_training_scans(path)
    return found or ([path / PRODUCT_FILE] if (path / PRODUCT_FILE).is_file() else [])


def _load(path: Path, photons: float | None) -> Scan:
    of_a_pair = path.name in (DIFFRACTION_FILE, PRODUCT_FILE) and is_ptychodus_directory(path.parent)
    if is_hdf5_name(path) and not (of_a_pair or is_training_file(path)):
        raw, product = import_product_to_rawdata(path), read_product(path)
        if raw.has_patterns:
            return Scan(raw, product.grid, product)
        raw = replace(raw, objectGuess=None)
        return _with_flat_patterns(raw, _photons_of_product(product, photons, path), product)
    if path.suffix == '.npy' or (path.suffix == '.npz' and not set(PATTERN_KEYS) & set(read_headers(path))):
        raw = _scan_of_probe(path)
        power = _power(raw.probeGuess)
        return _with_flat_patterns(raw, _photons_of_probe(power, photons, path))
    return load_scan(path)


def _scan_of_probe(path: Path) -> RawData:
    """Read a probe and what else there is to a scan without patterns."""
    probe = read_probe(path)
    size = probe.shape[-1]
    names = set(read_headers(path)) if path.suffix == '.npz' else set()
    if {'xcoords', 'ycoords'} & names:
        x, y = read_positions(path)
    else:
        step = STEP_OF_WIDTH * illuminated_width(probe)
        x, y = raster_positions(RASTER_POINTS, RASTER_POINTS, step, np.random.default_rng(0))
        logger.info('%s: no positions; taking a raster of %.1f pixels.', path, step)
    return RawData(
        diffraction=np.empty((0, size, size), np.float32),
        probeGuess=probe,
        xcoords=x,
        ycoords=y,
        bad_pixels=read_mask(path) if 'bad_pixels' in names else None,
        source=str(path),
        path=path,
    )


def _photons_of_product(product: ProductData, photons: float | None, path: Path) -> float:
    """Return the photons per pattern: as asked for, as the product says, or the power of its probe."""
    if photons is None and product.position_photon_counts is not None:
        photons = float(np.mean(product.position_photon_counts)) or None
    photons = photons or product.probe_photon_count or None
    return _photons_of_probe(_power(product.probe[0]), photons, path)


def _power(probe: npt.NDArray[Any]) -> float:
    return float(np.sum(np.abs(probe.astype(np.complex128)) ** 2))


def _photons_of_probe(power: float, photons: float | None, path: Path) -> float:
    level = power if photons is None else photons
    if not (np.isfinite(level) and level > 0):
        raise DataValueError(f'{path}: {level} photons per pattern; expected a positive number.')
    if photons is None and level < FEWEST_PHOTONS:
        raise DataValueError(
            f'{path}: the probe has a power of {level:.3g}, which is no number of photons, and nothing else '
            'says how many a pattern holds; give --photons.'
        )
    logger.info('%s: no patterns; simulating about %.3g photons in each.', path, level)
    return level


def _with_flat_patterns(raw: RawData, photons: float, product: ProductData | None = None) -> Scan:
    """Return a scan whose patterns are those of a flat object: one array for all of them."""
    probe: npt.NDArray[np.complex128] = raw.probeGuess.astype(np.complex128)
    probe *= np.sqrt(photons / np.sum(np.abs(probe) ** 2))
    flat = predict_intensity(np.ones((1, raw.N, raw.N), np.complex64), probe, np.zeros((1, 2))).astype(
        np.float32
    )
    stack = StoredStack.of_array(np.broadcast_to(flat, (len(raw), raw.N, raw.N)), raw.source)
    patterns = Patterns(stack, counts=True, bad_pixels=raw.bad_pixels, source=raw.source)
    scan = Scan.from_raw(replace(raw, diffraction=patterns))
    return scan if product is None else Scan(scan.raw, product.grid, product)
