"""A scan and the object grid its reconstruction lies on; loading from NPZ files and Ptychodus directories."""

from __future__ import annotations

import html
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DataFileNotFoundError, DataValueError
from ..formats.diffraction_file import read_diffraction_file
from ..formats.foreign_scan import foreign_scan
from ..formats.product import ProductData, is_hdf5_name, read_product
from ..formats.training_file import is_training_file, read_training_file
from ..formats.verification import verify_file
from ..io.atomic import is_hidden
from ..io.folder_lock import tidy
from ..io.regular import read_as_one
from ..patterns.detector_mask import Survey, survey
from ..patterns.frame_stack import StoredStack
from ..patterns.stack import Patterns
from ..patterns.units import decide_units
from ..physics.coherent import of_product
from ..physics.geometry import ObjectGrid
from .bundle import holds_patterns
from .groups_cache import CACHE_SUFFIX
from .matched_pair import MatchedPair, match_pair
from .neighbours import nearest_distances
from .product_exchange import known_object, rawdata_of_product, without_weights
from .raw_data import RawData

__all__ = [
    'Scan',
    'find_training_scans',
    'load_scan',
    'load_training_scans',
    'raw_data_from_counts',
    'scan_of_pair',
    'verify_scan',
]

logger = logging.getLogger('ptychopinn.data')

DIFFRACTION_FILE = 'diffraction.h5'
PRODUCT_FILE = 'product.h5'
NAMES_TOLD = 20
"""So many scans of a folder are named in the log."""

MOST_PIXELS, SPARSEST = 1 << 28, 64
"""The pixels between the outermost patterns may be more than the first only where the patterns, side by side,
would cover one in so many."""


@dataclass(frozen=True)
class Scan:
    """A scan, the grid its object lies on and, where there is one, the product it came with.

    Raises
    ------
    DataValueError
        If the scan has no patterns, is of the near field, or its positions are so far apart, or from the
        object, that they are of another unit.
    """

    raw: RawData
    grid: ObjectGrid
    product: ProductData | None = None

    def __post_init__(self) -> None:
        self.raw.require_patterns()
        raw = self.raw
        if self.product is not None:
            self.product.require_far_field(raw.source)
        height, width = (float(np.ptp(axis)) + raw.N for axis in (raw.ycoords, raw.xcoords))
        if height * width > max(MOST_PIXELS, SPARSEST * len(raw) * raw.N**2):
            raise DataValueError(
                f'{raw.source}: the positions span {height:.4g}×{width:.4g} pixels of the object, over which '
                f'{len(raw)} patterns of {raw.N}×{raw.N} pixels do not overlap; they must be in object '
                'pixels (metres divided by the pixel size of the object).'
            )
        self._require_near()

    def _require_near(self) -> None:
        """Check that patches touch the object, and that none is so far off that it cannot be made larger."""
        raw, grid = self.raw, self.grid
        x, y = raw.xcoords - grid.origin_x, raw.ycoords - grid.origin_y
        reach = raw.N / 2
        touching = (x > -reach) & (x < grid.width - 1 + reach) & (y > -reach) & (y < grid.height - 1 + reach)
        off = np.maximum(np.maximum(-x, x - (grid.width - 1)), np.maximum(-y, y - (grid.height - 1)))
        farthest = max(float(off.max()) + reach, 0.0)
        canvas = (grid.height + 2 * farthest) * (grid.width + 2 * farthest)
        most = max(MOST_PIXELS, SPARSEST * len(raw) * raw.N**2, 4 * grid.height * grid.width)
        if touching.any() and canvas <= most:
            return
        where = f'are up to {farthest:.4g} pixels off' if touching.any() else 'lie so that no pattern touches'
        raise DataValueError(
            f'{raw.source}: the positions {where} the object of {grid.height}×{grid.width} pixels (x from '
            f'{x.min():.4g} to {x.max():.4g}, y from {y.min():.4g} to {y.max():.4g}); they must be in object '
            'pixels, counted from its first one.'
        )

    def _repr_html_(self) -> str:
        """Return what a notebook shows of it: a table of its size, probe, step and geometry."""
        raw, grid = self.raw, self.grid
        rows = {
            'scan': raw.source,
            'patterns': f'{len(raw)} of {raw.N}×{raw.N} pixels',
            'probe': f'{len(raw.probeGuess)} mode{"s" if len(raw.probeGuess) > 1 else ""}',
            'object': f'{grid.height}×{grid.width} pixels',
        }
        if grid.pixel_width_m is not None:
            rows['object pixel'] = f'{grid.pixel_width_m:.4g} m'
        if len(raw) > 1:
            step = np.median(nearest_distances(np.stack([raw.xcoords, raw.ycoords], axis=1)))
            rows['step'] = f'{step:.3g} pixels (median)'
        if raw.assumed:
            rows['taken for granted'] = ' '.join(raw.assumed)
        cells = ''.join(f'<tr><th>{key}</th><td>{html.escape(text)}</td></tr>' for key, text in rows.items())
        return f'<table>{cells}</table>'

    @classmethod
    def from_raw(cls, raw: RawData) -> Scan:
        """Place a scan on the grid of its own object, else on its bounding box plus one probe."""
        if raw.objectGuess is not None:
            height, width = raw.objectGuess.shape
            return cls(raw, ObjectGrid(height, width))
        return cls(raw, ObjectGrid.around_scan(raw.xcoords, raw.ycoords, raw.N))


def raw_data_from_counts(
    counts: npt.NDArray[Any] | StoredStack,
    bad_pixels: npt.NDArray[np.bool_] | None,
    product: ProductData,
    source: str,
    path: Path | None = None,
    *,
    domain: str | None = 'counts',
    nphotons: float | None = None,
    found: Survey | None = None,
) -> RawData:
    """Join counts (n, N, N), already matched to the product's positions, with that product.

    Small stacks are turned into amplitudes at once, large ones where they are used. `found` is of the stack
    where that is known already, `domain` and `nphotons` are as for :func:`load_scan`; None lets the values
    decide what they are.

    Raises
    ------
    DataValueError
        If the patterns are not square, of the near field, or do not match positions and probe.
    """
    product.require_far_field(source)
    if counts.ndim != 3 or counts.shape[1] != counts.shape[2]:
        raise DataValueError(
            f'{source}: patterns have shape {counts.shape}; expected (n, N, N), square. Crop them to a '
            'square in the diffraction settings of Ptychodus, or by ptychopinn prepare --square crop.'
        )
    stack = counts if isinstance(counts, StoredStack) else StoredStack.of_array(counts, source)
    found = found or survey(bad_pixels, stack, source)
    units = decide_units(stack, found, said=domain, nphotons=nphotons)
    x, y = product.positions_px()
    probe, coherent = of_product(product.probe, product.opr_weights, source)
    return RawData(
        diffraction=Patterns.of(stack, found, units, source).in_memory_if_small(),
        probeGuess=probe,
        coherent=coherent,
        xcoords=x,
        ycoords=y,
        objectGuess=known_object(product, source),
        bad_pixels=found.bad,
        source=source,
        path=path,
        original_domain=units.domain,
        counted=units.counted,
        assumed=(*found.told, *units.told, *filter(None, [without_weights(product)])),
    )


def load_scan(
    path: Path | str,
    *,
    verify: bool = False,
    domain: str | None = None,
    nphotons: float | None = None,
    own_probe: bool = True,
) -> Scan:
    """Load a scan from an NPZ file, a Ptychodus directory or a Ptychodus HDF5 file.

    A directory holds ``diffraction.h5`` and ``product.h5``, either of which may be named instead. An HDF5
    file is training data that Ptychodus 1.7 wrote, or a product that holds its patterns (``/raw_data``).
    Large scans stay in their files.

    Parameters
    ----------
    path : Path
        The file or directory.
    verify : bool
        Read all of it once beforehand and hold it against its checksums
        (:func:`~..formats.verification.verify_file`). Arrays that are read whole are checked in any case.
    domain : {'amplitude', 'counts', 'normalised'}, optional
        What the patterns are, where it is not what the file or its values say.
    nphotons : float, optional
        Mean counts per pattern, to which they are scaled; else what they say themselves.
    own_probe : bool
        Whether the probe of an NPZ file is wanted; else it need not be there, and is 1 everywhere.

    Raises
    ------
    DataFileNotFoundError, DataKeyError, DataValueError, ProductError
        With a sentence that says what is wrong.
    """
    path = Path(path)
    if verify:
        verify_scan(path)
    if path.is_dir():
        return _load_directory(path, domain, nphotons)
    pair = path.name in (DIFFRACTION_FILE, PRODUCT_FILE) and is_ptychodus_directory(path.parent)
    foreign = None if pair else foreign_scan(path)
    if foreign:
        raise DataValueError(foreign)
    if is_hdf5_name(path) and path.is_file():
        if pair:
            return _load_directory(path.parent, domain, nphotons)
        return read_as_one([path], lambda: _load_hdf5(path, domain, nphotons))
    return Scan.from_raw(RawData.from_file(path, domain=domain, nphotons=nphotons, own_probe=own_probe))


def verify_scan(path: Path) -> None:
    """Hold the files of a scan, or of all that a training directory holds, against their checksums.

    Raises
    ------
    DataFileNotFoundError, DataValueError
        If something in them is not what was written, or there is none.
    """
    for item in find_training_scans(path) or [path]:
        pair = item if item.is_dir() else item.parent
        if is_ptychodus_directory(pair) and (item.is_dir() or item.name in (DIFFRACTION_FILE, PRODUCT_FILE)):
            verify_file(pair / DIFFRACTION_FILE)
            verify_file(pair / PRODUCT_FILE)
        else:
            verify_file(item)


def _load_hdf5(path: Path, domain: str | None, nphotons: float | None) -> Scan:
    if is_training_file(path):
        counts, bad_pixels, product = read_training_file(path)
        raw = raw_data_from_counts(
            counts, bad_pixels, product, str(path), path, domain=domain or 'counts', nphotons=nphotons
        )
        return Scan(raw, product.grid, product)
    raw, product = rawdata_of_product(path, read_product(path), domain, nphotons)
    return Scan(raw, product.grid, product)


def _load_directory(path: Path, domain: str | None, nphotons: float | None) -> Scan:
    tidy(path)
    files = [path / DIFFRACTION_FILE, path / PRODUCT_FILE]
    return read_as_one(files, lambda: _load_pair(path, domain, nphotons))


def _load_pair(path: Path, domain: str | None, nphotons: float | None) -> Scan:
    patterns = read_diffraction_file(path / DIFFRACTION_FILE)
    pair = match_pair(patterns, read_product(path / PRODUCT_FILE), str(path))
    return scan_of_pair(pair, path, domain=domain or 'counts', nphotons=nphotons)


def scan_of_pair(pair: MatchedPair, path: Path | None, *, domain: str | None, nphotons: float | None) -> Scan:
    """Return the scan of a pair; arguments as for :func:`raw_data_from_counts`.

    Raises
    ------
    DataValueError
        If the patterns are not square or do not match positions and probe.
    """
    raw = raw_data_from_counts(
        *(pair.stack, pair.found.bad, pair.product, pair.source, path),
        domain=domain,
        nphotons=nphotons,
        found=pair.found,
    )
    return Scan(replace(raw, assumed=(*pair.told, *raw.assumed)), pair.product.grid, pair.product)


def is_ptychodus_directory(path: Path) -> bool:
    """Return whether a directory holds both files of a Ptychodus scan."""
    return (path / DIFFRACTION_FILE).is_file() and (path / PRODUCT_FILE).is_file()


def find_training_scans(path: Path | str) -> list[Path]:
    """Return what :func:`load_training_scans` would load from a directory or file.

    Hidden files and folders are no data: what is unfinished is hidden. Only the names of the datasets in
    HDF5 files are looked at.
    """
    path = Path(path)
    if not path.is_dir():
        return [path] if path.exists() else []
    if is_ptychodus_directory(path):
        return [path]
    inside = [item for item in path.iterdir() if not is_hidden(item)]
    archives = (item for item in inside if item.suffix == '.npz' and not item.name.endswith(CACHE_SUFFIX))
    files = (
        item for item in inside if is_hdf5_name(item) and (is_training_file(item) or holds_patterns(item))
    )
    pairs = (item for item in inside if item.is_dir() and is_ptychodus_directory(item))
    return sorted([*archives, *files]) or sorted(pairs)


def load_training_scans(
    path: Path | str,
    *,
    verify: bool = False,
    domain: str | None = None,
    nphotons: float | None = None,
    load: Callable[[Path], Scan] | None = None,
) -> list[Scan]:
    """Load what a training directory holds.

    That is the pair ``diffraction.h5`` and ``product.h5``; else its NPZ files, the HDF5 training data of
    Ptychodus and the products that hold their patterns; else the pairs in its folders. A path to one file is
    accepted too. What is taken from a directory is said in the log. `verify`, `domain` and `nphotons` are as
    for :func:`load_scan`; `load` takes its place.

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
    if path.is_dir():
        tidy(path)
    found = find_training_scans(path)
    if found and found != [path]:
        names = ', '.join(item.name for item in found[:NAMES_TOLD])
        more = f' and {len(found) - NAMES_TOLD} more' if len(found) > NAMES_TOLD else ''
        logger.info('%s: taking %s%s.', path, names, more)
    if not found:
        raise DataFileNotFoundError(
            f'{path} holds no training data: expected diffraction.h5 and product.h5, or *.npz or *.h5 files '
            'as written by "Export Training Data", or products with their patterns, or folders with such a '
            'pair.'
        )
    one = load or partial(load_scan, verify=verify, domain=domain, nphotons=nphotons)
    return [one(item) for item in found]
