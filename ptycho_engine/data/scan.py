"""A scan and the object grid its reconstruction lies on; loading from NPZ files and Ptychodus directories."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import DataFileNotFoundError, DataValueError
from ..files.product import ProductData, read_product
from ..physics.geometry import ObjectGrid
from .diffraction_file import read_diffraction_file
from .groups_cache import CACHE_SUFFIX
from .raw_data import RawData

__all__ = [
    'Scan',
    'find_training_scans',
    'load_scan',
    'load_training_scans',
    'raw_data_from_counts',
]

logger = logging.getLogger('ptychopinn.data')

DIFFRACTION_FILE = 'diffraction.h5'
PRODUCT_FILE = 'product.h5'


@dataclass(frozen=True)
class Scan:
    """A scan, the grid its object lies on and, where there is one, the product it came with.

    Raises
    ------
    DataValueError
        If the scan has no patterns.
    """

    raw: RawData
    grid: ObjectGrid
    product: ProductData | None = None

    def __post_init__(self) -> None:
        self.raw.require_patterns()

    @classmethod
    def from_raw(cls, raw: RawData) -> Scan:
        """Place a scan on the grid of its own object, else on its bounding box plus one probe."""
        if raw.objectGuess is not None:
            height, width = raw.objectGuess.shape
            return cls(raw, ObjectGrid(height, width))
        return cls(raw, ObjectGrid.around_scan(raw.xcoords, raw.ycoords, raw.N))


def raw_data_from_counts(
    counts: np.ndarray,
    bad_pixels: np.ndarray | None,
    product: ProductData,
    source: str,
    path: Path | None = None,
) -> RawData:
    """Join counts (n, N, N), already matched to the product's positions, with that product.

    Raises
    ------
    DataValueError
        If the patterns are not square or do not match positions and probe.
    """
    if counts.ndim != 3 or counts.shape[1] != counts.shape[2]:
        raise DataValueError(
            f'{source}: patterns have shape {counts.shape}; expected (n, N, N), square. Crop them to a '
            'square in the diffraction settings of Ptychodus.'
        )
    x, y = product.positions_px()
    amplitude = np.asarray(counts, dtype=np.float32)
    if bad_pixels is not None:
        amplitude = np.where(bad_pixels, np.float32(0), amplitude)
    if (amplitude < 0).any():
        raise DataValueError(f'{source}: patterns hold negative counts; counts are never negative.')
    return RawData(
        diffraction=np.sqrt(amplitude),
        # Coherent (OPR) modes beyond the first describe how the probe varies over the scan.
        probeGuess=product.probe[0],
        xcoords=x,
        ycoords=y,
        objectGuess=product.object_array[0],
        bad_pixels=bad_pixels,
        source=source,
        path=path,
    )


def load_scan(path: Path | str) -> Scan:
    """Load a scan from an NPZ file or from a Ptychodus directory (``diffraction.h5`` and ``product.h5``).

    Raises
    ------
    DataFileNotFoundError, DataKeyError, DataValueError, ProductError
        With a sentence that says what is wrong.
    """
    path = Path(path)
    if path.is_dir():
        return _load_directory(path)
    return Scan.from_raw(RawData.from_file(path))


def _load_directory(path: Path) -> Scan:
    patterns = read_diffraction_file(path / DIFFRACTION_FILE)
    product = read_product(path / PRODUCT_FILE)
    product, chosen = _join(product, patterns.indexes, path)
    bad = patterns.bad_pixels if patterns.bad_pixels.any() else None
    raw = raw_data_from_counts(patterns.counts[chosen], bad, product, str(path), path)
    return Scan(raw, product.grid, product)


def _join(product: ProductData, pattern_indexes: np.ndarray, source: Path) -> tuple[ProductData, np.ndarray]:
    """Match patterns to positions by scan index, as Ptychodus does.

    Pattern indexes rule; positions with the same index are averaged; gaps inside the range are interpolated;
    patterns outside it are dropped.
    """
    known, inverse = np.unique(product.position_indexes, return_inverse=True)
    if len(known) == 0 or len(pattern_indexes) == 0:
        raise DataValueError(f'{source}: the scan has no positions or no patterns.')
    count = np.bincount(inverse)
    inside = (pattern_indexes >= known[0]) & (pattern_indexes <= known[-1])
    chosen = np.flatnonzero(inside)
    if len(chosen) == 0:
        raise DataValueError(
            f'{source}: pattern indexes {pattern_indexes.min()}–{pattern_indexes.max()} and position '
            f'indexes {known[0]}–{known[-1]} do not overlap; is product.h5 of another scan?'
        )
    if len(chosen) < len(pattern_indexes):
        logger.warning(
            '%s: %d patterns have no position and are left out.',
            source,
            len(pattern_indexes) - len(chosen),
        )
    wanted = pattern_indexes[chosen]

    def at_patterns(values: np.ndarray) -> np.ndarray:
        return np.asarray(np.interp(wanted, known, np.bincount(inverse, weights=values) / count))

    # A row of OPR weights belongs to a position as it was listed; it cannot be interpolated.
    unchanged = np.array_equal(wanted, product.position_indexes)
    return (
        replace(
            product,
            position_indexes=wanted,
            position_x_m=at_patterns(product.position_x_m),
            position_y_m=at_patterns(product.position_y_m),
            position_photon_counts=(
                None
                if product.position_photon_counts is None
                else at_patterns(product.position_photon_counts)
            ),
            opr_weights=product.opr_weights if unchanged else None,
        ),
        chosen,
    )


def find_training_scans(path: Path | str) -> list[Path]:
    """Return what :func:`load_training_scans` would load from a directory or file; nothing is opened."""
    path = Path(path)
    if not path.is_dir():
        return [path] if path.exists() else []
    if (path / DIFFRACTION_FILE).is_file() and (path / PRODUCT_FILE).is_file():
        return [path]
    return sorted(item for item in path.glob('*.npz') if not item.name.endswith(CACHE_SUFFIX))


def load_training_scans(path: Path | str) -> list[Scan]:
    """Load what a training directory holds: ``diffraction.h5`` + ``product.h5``, or else its ``*.npz`` files.

    A path to one NPZ file is accepted too.

    Raises
    ------
    DataFileNotFoundError
        If there is nothing to train on.
    """
    path = Path(path)
    if not path.exists():
        raise DataFileNotFoundError(
            f'{path}: there is no such file or directory; give an NPZ file or a Ptychodus directory.'
        )
    found = find_training_scans(path)
    if not found:
        raise DataFileNotFoundError(
            f'{path} holds no training data: expected diffraction.h5 and product.h5, or *.npz files as '
            'written by "Export Training Data".'
        )
    return [load_scan(item) for item in found]
