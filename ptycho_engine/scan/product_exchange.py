"""Scans in pixels <-> product files in metres (``specs/data_contracts.md``, EXCHANGE-*)."""

from __future__ import annotations

import logging
import math
from dataclasses import InitVar, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..arrays import all_finite
from ..errors import ProductError
from ..formats.product import Compression, ProductData, read_product, write_into
from ..formats.product_extras import ProductExtras, with_dataset
from ..io.hdf5_writing import new_hdf5_file
from ..io.regular import read_as_one
from ..patterns.dataset_labels import several_datasets, tell_labels
from ..physics.coherent import in_product, of_product
from ..physics.geometry import ObjectGrid
from .bundle import read_bundle, write_bundle
from .raw_data import RawData

__all__ = [
    'ExportMeta',
    'export_product_from_rawdata',
    'import_product_to_rawdata',
    'known_object',
    'product_metadata',
    'product_of_rawdata',
    'rawdata_of_product',
    'with_lengths',
]

logger = logging.getLogger('ptychopinn.data')

OBJECT_PIXEL_SIZE_M = 5.0e-8
"""Object pixel in metres where nobody says otherwise."""
PROBE_PIXEL_SIZE_M = 1.25e-7
"""Probe pixel in metres where nobody says otherwise."""
ESTIMATED = 'estimated pixel sizes'
LENGTHS = (
    *('detector_distance_m', 'probe_energy_eV', 'object_center_x_m', 'object_center_y_m'),
    *('object_pixel_size_m', 'probe_pixel_size_m'),
)
"""What an NPZ scan says of its experiment in its metadata."""
SIGNED = ('tomography_angle_deg', 'object_center_x_m', 'object_center_y_m')
"""Numbers that may be negative."""


@dataclass(frozen=True)
class ExportMeta:
    """What a scan in pixels does not say of itself, in SI units.

    None stands for unknown: pixel sizes and centre are then taken from the scan's metadata, where an imported
    product leaves them, or else from the defaults.

    Raises
    ------
    ProductError
        If a number is not finite, a pixel size not positive, or what has no sign negative.
    """

    name: str = ''
    comments: str = ''
    detector_distance_m: float = 0.0
    """Distance from object to detector in metres; 0 where unknown."""
    probe_energy_eV: float = 0.0
    """Photon energy in electron volts; 0 where unknown."""
    exposure_time_s: float = 0.0
    """Exposure time in seconds; 0 where unknown."""
    probe_photon_count: float = 0.0
    """Photons in the probe per exposure; 0 where unknown."""
    mass_attenuation_m2_kg: float = 0.0
    """Mass attenuation in square metres per kilogram; 0 where unknown."""
    tomography_angle_deg: float = 0.0
    """Rotation of the sample in degrees."""
    object_pixel_size_m: float | None = None
    """Side of an object pixel in metres; None for the scan's own or else 5.0e-8."""
    probe_pixel_size_m: float | None = None
    """Side of a probe pixel in metres; None for the scan's own or else 1.25e-7."""
    object_center_x_m: float | None = None
    """World x of the middle of the object in metres; None for the scan's own or else 0."""
    object_center_y_m: float | None = None
    """World y of the middle of the object in metres; None for the scan's own or else 0."""

    object_pixel_width_m: InitVar[float | None] = None
    object_pixel_height_m: InitVar[float | None] = None
    probe_pixel_width_m: InitVar[float | None] = None
    probe_pixel_height_m: InitVar[float | None] = None
    """The pixel sizes as the original PtychoPINN names them: width and height are one number here."""

    def __post_init__(
        self,
        object_pixel_width_m: float | None,
        object_pixel_height_m: float | None,
        probe_pixel_width_m: float | None,
        probe_pixel_height_m: float | None,
    ) -> None:
        object.__setattr__(
            self,
            'object_pixel_size_m',
            _one_size('object', self.object_pixel_size_m, object_pixel_width_m, object_pixel_height_m),
        )
        object.__setattr__(
            self,
            'probe_pixel_size_m',
            _one_size('probe', self.probe_pixel_size_m, probe_pixel_width_m, probe_pixel_height_m),
        )
        for name, value in vars(self).items():
            if name in ('name', 'comments') or value is None:
                continue
            if not _possible(name, value):
                raise ProductError(f'{name} is {value}; expected a {_kind(name)} number.')


def _one_size(of: str, *stated: float | None) -> float | None:
    """Return the one size that is stated, whatever name it came by."""
    sizes = {value for value in stated if value is not None}
    if len(sizes) > 1:
        raise ProductError(
            f'Pixels of the {of} are said to be {" and ".join(f"{size:g}" for size in sorted(sizes))} m wide '
            'and high; only square pixels are known here, so give one size.'
        )
    return sizes.pop() if sizes else None


def _kind(name: str) -> str:
    if name.endswith('_pixel_size_m'):
        return 'positive'
    return 'finite' if name in SIGNED else 'non-negative'


def _possible(name: str, value: float) -> bool:
    kind = _kind(name)
    return math.isfinite(value) and (kind == 'finite' or value > 0 or (value == 0 and kind == 'non-negative'))


def export_product_from_rawdata(
    raw: RawData,
    out_path: Path | str,
    meta: ExportMeta | None = None,
    *,
    include_diffraction: bool = False,
    compression: Compression | None = None,
) -> None:
    """Write a scan as a product file that every Ptychodus from 1.2 on reads, atomically.

    Positions are written relative to the object's centre, so that the scan falls on its object in Ptychodus,
    and ``probe_position_indexes`` are 0…n−1. A scan without an object gets a flat one, as large as its
    bounding box plus one probe; the coordinates in the file then count from that object's corner.

    Parameters
    ----------
    raw : RawData
        The scan.
    out_path : Path
        The product file.
    meta : ExportMeta, optional
        Metadata and pixel sizes.
    include_diffraction : bool
        Whether to add the group ``/raw_data`` with patterns, pixel coordinates and scan index.
    compression : {'lzf', 'gzip'}, optional
        Filter of object, probe and positions.

    Raises
    ------
    DataValueError
        If patterns are asked for and the scan has none.
    """
    meta = meta or ExportMeta()
    if include_diffraction:
        raw.require_patterns()
    product, grid = _product(raw, meta)
    with new_hdf5_file(Path(out_path)) as file:
        write_into(file, product, compression)
        if include_diffraction:
            write_bundle(file, raw, grid)


def product_of_rawdata(raw: RawData, meta: ExportMeta | None = None) -> ProductData:
    """Return the product that :func:`export_product_from_rawdata` writes of a scan."""
    return _product(raw, meta or ExportMeta())[0]


def _product(raw: RawData, meta: ExportMeta) -> tuple[ProductData, ObjectGrid]:
    object_pixel_m = _known(meta.object_pixel_size_m, raw, 'object_pixel_size_m')
    probe_pixel_m = _known(meta.probe_pixel_size_m, raw, 'probe_pixel_size_m')
    # An imported product whose sizes were estimated brings them along, but they stay estimates.
    guessed = ESTIMATED in str(raw.metadata.get('comments', ''))
    estimated = any(
        size is None or (guessed and stated is None)
        for size, stated in (
            (object_pixel_m, meta.object_pixel_size_m),
            (probe_pixel_m, meta.probe_pixel_size_m),
        )
    )
    if object_pixel_m is None:
        object_pixel_m = OBJECT_PIXEL_SIZE_M
    if raw.objectGuess is None:
        around = ObjectGrid.around_scan(raw.xcoords, raw.ycoords, raw.N)
    else:
        around = ObjectGrid(*raw.objectGuess.shape)
    grid = ObjectGrid(
        height=around.height,
        width=around.width,
        origin_x=around.origin_x,
        origin_y=around.origin_y,
        pixel_width_m=object_pixel_m,
        pixel_height_m=object_pixel_m,
        center_x_m=_known(meta.object_center_x_m, raw, 'object_center_x_m') or 0.0,
        center_y_m=_known(meta.object_center_y_m, raw, 'object_center_y_m') or 0.0,
    )
    x_m, y_m = ProductData.positions_m(raw.xcoords, raw.ycoords, grid)
    probe, weights = in_product(raw.probeGuess[None], None, raw.probeGuess, raw.coherent)
    comments = [meta.comments]
    if estimated and ESTIMATED not in meta.comments:
        comments.append(ESTIMATED)
    product = ProductData(
        name=meta.name,
        comments='\n'.join(line for line in comments if line),
        detector_distance_m=meta.detector_distance_m or _known(None, raw, 'detector_distance_m') or 0.0,
        photon_energy_eV=meta.probe_energy_eV or _known(None, raw, 'probe_energy_eV') or 0.0,
        object_array=np.ones(grid.shape, np.complex64) if raw.objectGuess is None else raw.objectGuess,
        object_pixel_width_m=object_pixel_m,
        object_pixel_height_m=object_pixel_m,
        object_center_x_m=grid.center_x_m,
        object_center_y_m=grid.center_y_m,
        probe=probe,
        opr_weights=weights,
        probe_pixel_width_m=PROBE_PIXEL_SIZE_M if probe_pixel_m is None else probe_pixel_m,
        probe_pixel_height_m=PROBE_PIXEL_SIZE_M if probe_pixel_m is None else probe_pixel_m,
        position_x_m=x_m,
        position_y_m=y_m,
        position_indexes=np.arange(len(raw)),
        probe_photon_count=meta.probe_photon_count,
        exposure_time_s=meta.exposure_time_s,
        mass_attenuation_m2_per_kg=meta.mass_attenuation_m2_kg,
        tomography_angle_deg=meta.tomography_angle_deg,
        extras=_indexes(raw),
    )
    return product, grid


def _indexes(raw: RawData) -> ProductExtras:
    """Return what a product keeps of scan points and datasets, which its contract does not know."""
    extras = ProductExtras()
    if raw.scan_index is not None:
        extras = with_dataset(extras, 'scan_index', raw.scan_index, {})
    if raw.labels is not None and several_datasets(raw.labels):
        extras = with_dataset(extras, 'dataset_index', raw.labels, {})
    return extras


def _known(stated: float | None, raw: RawData, name: str) -> float | None:
    """Return what the caller says, else what the scan's metadata say, else None."""
    value = _in_metadata(raw.metadata, name) if stated is None else stated
    if value is None:
        return None
    if not isinstance(value, int | float) or not _possible(name, value):
        raise ProductError(
            f'{raw.source}: _metadata says {name} = {value!r}; expected a {_kind(name)} number.'
        )
    return float(value)


def _in_metadata(metadata: dict[str, Any], name: str) -> Any:
    """Return what metadata say of `name`, themselves or in the groups that the original PtychoPINN has."""
    groups = [metadata, *(metadata.get(group) for group in ('physics_parameters', 'additional_parameters'))]
    for group in groups:
        for spelled in (name, name.replace('_size_', '_width_')):
            if isinstance(group, dict) and group.get(spelled) is not None:
                return group[spelled]
    return None


def import_product_to_rawdata(in_path: Path | str) -> RawData:
    """Read a product file as a scan in object pixels.

    The patterns are those of the group ``/raw_data``; without it the scan has positions, probe and object
    only (`RawData.has_patterns` is False). Of several layers the first is taken. Pixel sizes, centre and
    metadata are in `RawData.metadata`.

    Raises
    ------
    DataFileNotFoundError
        If there is no such file.
    ProductError
        If it breaks the product contract, or its patterns do not belong to its positions.
    DataValueError
        If positions, probe or patterns hold values that no scan can have.
    """
    path = Path(in_path)
    return read_as_one([path], lambda: rawdata_of_product(path, read_product(path, extras=False))[0])


def rawdata_of_product(
    path: Path, product: ProductData, domain: str | None = None, nphotons: float | None = None
) -> tuple[RawData, ProductData]:
    """Return the scan that a product file holds, and its product with the positions at which that scan is.

    The original PtychoPINN writes positions counted from the first pixel of the object, where Ptychodus
    counts from its centre. It is known by its coordinates in pixels, which are the same but for the pixel
    size. `domain` and `nphotons` are as for :meth:`RawData.from_file`.

    Raises
    ------
    ProductError, DataValueError
        As for :func:`import_product_to_rawdata`.
    """
    probe, coherent = of_product(product.probe, product.opr_weights, str(path))
    x, y = product.positions_px()
    bundle = read_bundle(path, len(x), domain, nphotons)
    if 'diffraction' in bundle:
        product.require_far_field(str(path))
    own = bundle.pop('pixels', None)
    if own is not None and _counted_from_the_corner(product, *own):
        logger.info(
            '%s: positions count from the first pixel of the object, as the original PtychoPINN writes them; '
            'they are moved onto the object.',
            path,
        )
        x, y = own
        x_m, y_m = ProductData.positions_m(x, y, product.grid)
        product = replace(product, position_x_m=x_m, position_y_m=y_m)
    raw = RawData(
        diffraction=bundle.pop('diffraction', np.empty((0, *probe.shape[-2:]), np.float32)),
        probeGuess=probe,
        coherent=coherent,
        xcoords=x,
        ycoords=y,
        objectGuess=known_object(product, str(path)),
        scan_index=bundle.pop('scan_index', _scan_points(product)),
        metadata={**bundle.pop('metadata', {}), **product_metadata(product)},
        source=str(path),
        path=path,
        **bundle,
    )
    tell_labels(raw.source, raw.scan_index, raw.dataset_index)
    told = without_weights(product)
    return (replace(raw, assumed=(*raw.assumed, told)) if told else raw), product


def _scan_points(product: ProductData) -> npt.NDArray[np.int64]:
    """Return the numbers of the scan points; zeros where some repeat, which would name datasets."""
    indexes = product.position_indexes
    return indexes if len(np.unique(indexes)) == len(indexes) else np.zeros(len(indexes), np.int64)


def _counted_from_the_corner(
    product: ProductData, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]
) -> bool:
    """Return whether positions in metres are pixels times their size, wherever the object's centre is."""
    pairs = (
        (product.position_x_m, x, product.object_pixel_width_m),
        (product.position_y_m, y, product.object_pixel_height_m),
    )
    return all(
        len(own) == len(metres) and np.allclose(metres, own * pixel, rtol=1e-9, atol=1e-6 * pixel)
        for metres, own, pixel in pairs
    )


def known_object(product: ProductData, source: str) -> npt.NDArray[Any] | None:
    """Return the object (H, W) of a product, its first layer; None, with a warning, where it is not finite.

    A reconstruction that has diverged leaves such an object beside a good probe and good positions.
    """
    obj: npt.NDArray[Any] = product.object_array[0]
    if all_finite(obj):
        return obj
    logger.warning('%s: the object holds NaN or infinite values and is left out.', source)
    return None


def without_weights(product: ProductData) -> str:
    """Return a sentence where a product has coherent modes but no weights that say where each is; else ''."""
    count = len(product.probe)
    if count == 1 or product.opr_weights is not None:
        return ''
    return (
        f'of {count} coherent (OPR) probe modes the first is used, as there are no weights for the positions.'
    )


def with_lengths(raw: RawData, product: ProductData) -> RawData:
    """Return a scan whose metadata say what its product says of energy and lengths."""
    known = product_metadata(product)
    lengths = {name: known[name] for name in LENGTHS if known.get(name)}
    return replace(raw, metadata={**raw.metadata, **lengths})


def product_metadata(product: ProductData) -> dict[str, Any]:
    """Return what a product says of energy, lengths and itself, as :class:`ExportMeta` calls it."""
    known: dict[str, Any] = {
        'name': product.name,
        'comments': product.comments,
        'detector_distance_m': product.detector_distance_m,
        'probe_energy_eV': product.photon_energy_eV,
        'object_center_x_m': product.object_center_x_m,
        'object_center_y_m': product.object_center_y_m,
    }
    # One size stands for both sides; other pixels have none, and an export asks for it.
    if product.object_pixel_width_m == product.object_pixel_height_m:
        known['object_pixel_size_m'] = product.object_pixel_width_m
    if (
        product.probe_pixel_width_m is not None
        and product.probe_pixel_width_m == product.probe_pixel_height_m
    ):
        known['probe_pixel_size_m'] = product.probe_pixel_width_m
    return known
