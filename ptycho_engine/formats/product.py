"""Ptychodus product files (HDF5): a reader for every release, a writer that every release reads.

Names and meanings are stated in ``specs/data_contracts.md`` (PRODUCT-*).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import numpy.typing as npt

from ..arrays import as_index
from ..errors import DataFileNotFoundError, EngineError, ProductError
from ..io.damage import DAMAGE, first_line
from ..io.hdf5 import Hdf5Group, open_hdf5
from ..io.hdf5_writing import new_hdf5_file
from ..printable import printable
from .product_data import ProductData
from .product_extras import ProductExtras, collect_extras, kept_texts, write_extras
from .product_text import ATTRIBUTE_LIMIT_BYTES, read_text, write_text

__all__ = [
    'Compression',
    'ProductData',
    'is_hdf5_name',
    'read_product',
    'write_into',
    'write_product',
]

Compression = Literal['lzf', 'gzip']
"""Filters that every HDF5 and every Ptychodus release can undo."""

MOST_NUMBERS = 1 << 24
"""Of one kind in a product: positions, OPR weights, losses."""

LARGE_OBJECT, SPARSEST = 1 << 26, 64
"""Pixels of a layer of the object: the first, or so many times those of all patterns side by side."""

FORMAT_ID = 'ptychodus-product'
FORMAT_VERSION = 1
BUNDLE = 'raw_data'
"""Group with the patterns that a product belongs to, where it has them."""

ENERGY = ('photon_energy_eV', 'probe_energy_eV')
ATTENUATION = ('mass_attenuation_m2_per_kg', 'mass_attenuation_m2_kg')
LAYER_SPACING = ('object_layer_spacing_m', 'object_layer_distance_m')
LOSSES = ('loss_values', 'costs')
OPTIONAL_NUMBERS = (
    'probe_photon_count',
    'exposure_time_s',
    'tomography_angle_deg',
    'focus_object_distance_m',
    'tilt_angle_deg',
)
TEXTS = ('name', 'comments', 'polarization')
KNOWN_ATTRIBUTES = frozenset(
    (
        *('format_id', 'format_version', 'detector_object_distance_m'),
        *ENERGY,
        *ATTENUATION,
        *OPTIONAL_NUMBERS,
        *TEXTS,
        'far_field',
    )
)
KNOWN_ITEMS = frozenset(
    (
        *('object', 'probe', 'opr_weights', 'probe_photon_counts', 'loss_epochs'),
        *('probe_position_indexes', 'probe_position_x_m', 'probe_position_y_m'),
        *LAYER_SPACING,
        *LOSSES,
    )
)


def is_hdf5_name(path: Path) -> bool:
    """Return whether a file is HDF5 by its name, as products and diffraction files are."""
    return path.suffix.casefold() in ('.h5', '.hdf5')


def read_product(path: Path | str, *, extras: bool = True) -> ProductData:
    """Read a product file written by any Ptychodus release since 1.0, or by :func:`write_product`.

    Parameters
    ----------
    path : Path
        The product file.
    extras : bool
        Whether to keep what the contract does not name, so that writing the product preserves it.

    Raises
    ------
    DataFileNotFoundError
        If there is no such file.
    ProductError
        If it is not HDF5 or breaks the product contract.
    """
    path = Path(path)
    if not path.exists():
        raise DataFileNotFoundError(f'{path}: there is no such file; give the path of a product file.')
    try:
        with open_hdf5(path) as file:
            return _read(file, path, extras)
    except EngineError as error:
        # A whole sentence already.
        raise error if isinstance(error, ProductError) else ProductError(str(error)) from error
    except DAMAGE as error:
        raise ProductError(f'{path} is not a readable HDF5 file ({first_line(error)}).') from error


def _read(file: Hdf5Group, path: Path, with_extras: bool) -> ProductData:
    attributes = file.attrs
    obj = _dataset(file, ('object',), path)
    probe = _dataset(file, ('probe',), path)
    of_object, of_probe = file.attributes_of('object'), file.attributes_of('probe')
    positions = _positions(file, path)
    area = math.prod(probe.shape[-2:])
    weights = _array(file, ('opr_weights',), path)
    if weights is None and 'opr_weights' in of_probe:
        weights = np.asarray(of_probe['opr_weights'])
    values = _array(file, LOSSES, path)
    epochs = _array(file, ('loss_epochs',), path)
    if values is None:
        values, epochs = np.empty(0), np.empty(0)
    fields: dict[str, Any] = {
        'name': read_text(file, 'name', 'Unnamed'),
        'comments': read_text(file, 'comments'),
        'detector_distance_m': _number(attributes, ('detector_object_distance_m',), None, path),
        'photon_energy_eV': _number(attributes, ENERGY, None, path),
        'object_array': _image(obj, path, LARGE_OBJECT, SPARSEST * len(positions['position_x_m']) * area),
        'object_pixel_width_m': _number(of_object, ('pixel_width_m',), None, path, 'object'),
        'object_pixel_height_m': _number(of_object, ('pixel_height_m',), None, path, 'object'),
        'object_center_x_m': _number(of_object, ('center_x_m',), None, path, 'object'),
        'object_center_y_m': _number(of_object, ('center_y_m',), None, path, 'object'),
        'object_layer_spacing_m': _layer_spacing(file, obj, path),
        'probe': _image(probe, path),
        'probe_pixel_width_m': _optional(of_probe, 'pixel_width_m', path),
        'probe_pixel_height_m': _optional(of_probe, 'pixel_height_m', path),
        'opr_weights': weights,
        **positions,
        'position_photon_counts': _array(file, ('probe_photon_counts',), path),
        'mass_attenuation_m2_per_kg': _number(attributes, ATTENUATION, 0.0, path),
        'far_field': bool(attributes.get('far_field', True)),
        'polarization': read_text(file, 'polarization') if 'polarization' in attributes else None,
        'loss_epochs': np.arange(len(values)) if epochs is None else epochs,
        'loss_values': values,
        'extras': (
            collect_extras(file, path, KNOWN_ATTRIBUTES, KNOWN_ITEMS, TEXTS)
            if with_extras
            else ProductExtras()
        ),
        **{name: _number(attributes, (name,), 0.0, path) for name in OPTIONAL_NUMBERS},
    }
    try:
        return ProductData(**fields)
    except ProductError as error:
        raise ProductError(f'{path}: {error}') from None


def _number(
    attributes: Any, names: tuple[str, ...], default: float | None, source: Path, owner: str = 'file'
) -> float:
    for name in names:
        if name in attributes:
            try:
                value = float(np.asarray(attributes[name]).item())
            except (TypeError, ValueError):
                value = np.nan
            if not np.isfinite(value):
                raise ProductError(
                    f'{source}: the attribute {name!r} of the {owner} is {attributes[name]!r}; expected '
                    'a finite number.'
                )
            return value
    if default is None:
        raise ProductError(
            f'{source}: the {owner} lacks the attribute {" or ".join(repr(n) for n in names)}, which every '
            'product needs; save the product again with Ptychodus.'
        )
    return default


def _optional(attributes: Any, name: str, source: Path) -> float | None:
    return _number(attributes, (name,), None, source, 'probe') if name in attributes else None


def _dataset(file: Hdf5Group, names: tuple[str, ...], source: Path) -> Any:
    for name in names:
        item = file.get(name)
        if isinstance(item, h5py.Dataset):
            return item
    raise ProductError(
        f'{source} lacks the dataset {" or ".join(repr(n) for n in names)}; found '
        f'{", ".join(sorted(map(printable, file))) or "nothing"}.'
    )


def _image(dataset: Any, source: Path, *most: int) -> npt.NDArray[Any]:
    if dataset.dtype.kind != 'c':
        raise ProductError(
            f'{source}: {dataset.name.strip("/")!r} is of type {dataset.dtype}; expected complex numbers.'
        )
    if most and math.prod(dataset.shape[-2:]) > max(most):
        raise ProductError(
            f'{source}: {dataset.name.strip("/")!r} has shape {dataset.shape}; expected at most {max(most)} '
            'pixels for so few positions.'
        )
    return np.asarray(dataset[()])


def _array(file: Hdf5Group, names: tuple[str, ...], source: Path) -> npt.NDArray[Any] | None:
    """Return the first of some optional datasets of real numbers, or None."""
    name = next((n for n in names if isinstance(file.get(n), h5py.Dataset)), None)
    if name is None:
        return None
    dataset = file.dataset(name)
    if dataset.dtype.kind not in 'iufb':
        raise ProductError(f'{source}: {name!r} is of type {dataset.dtype}; expected real numbers.')
    if dataset.size > MOST_NUMBERS:
        raise ProductError(f'{source}: {name!r} has shape {dataset.shape}; no scan has so many positions.')
    return np.asarray(dataset[()])


def _positions(file: Hdf5Group, path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read the positions, which must be equally many, once that is known."""
    names = ('probe_position_indexes', 'probe_position_x_m', 'probe_position_y_m')
    shapes = {name: _dataset(file, (name,), path).shape for name in names}
    for name, shape in shapes.items():
        if len(shape) != 1:
            raise ProductError(f'{path}: {name!r} has shape {shape}; expected one entry per position.')
    if len(set(shapes.values())) > 1:
        counts = ', '.join(f'{shape[0]} of {name}' for name, shape in shapes.items())
        raise ProductError(f'{path}: there are {counts}; they must match.')
    arrays = (_array(file, (name,), path) for name in names)
    fields = ('position_indexes', 'position_x_m', 'position_y_m')
    found = {field: array for field, array in zip(fields, arrays, strict=True) if array is not None}
    index = 'position_indexes'
    return {**found, index: as_index(found[index], f'{path}: probe_position_indexes')}


def _layer_spacing(file: Hdf5Group, obj: Any, source: Path) -> npt.NDArray[Any]:
    layers = obj.shape[0] if obj.ndim == 3 else 1
    spacing = _array(file, LAYER_SPACING, source)
    if spacing is None:
        spacing = np.empty(0)
    # The oldest files give each layer a distance, the last being infinite.
    return np.ravel(spacing)[: layers - 1] if LAYER_SPACING[0] not in file else np.ravel(spacing)


def write_product(path: Path | str, product: ProductData, *, compression: Compression | None = None) -> None:
    """Write a product file that Ptychodus 1.2 to 1.7 read, atomically.

    Both names are written where releases differ: photon and probe energy, both spellings of the mass
    attenuation, OPR weights as a dataset and, where small enough, as an attribute of the probe. Extras are
    written back, and texts with the bytes that they were read with.

    Parameters
    ----------
    path : Path
        Where to write; an earlier file is replaced once the new one is whole.
    product : ProductData
        What to write.
    compression : {'lzf', 'gzip'}, optional
        Filter of the arrays; None writes them plain, which is fastest.
    """
    with new_hdf5_file(Path(path)) as file:
        write_into(file, product, compression)


def write_into(file: h5py.File, product: ProductData, compression: Compression | None = None) -> None:
    """Write a product into an open, empty HDF5 file."""

    def dataset(name: str, array: npt.NDArray[Any]) -> Any:
        # HDF5 cannot cut an empty array into chunks, and filters work on chunks.
        return file.create_dataset(name, data=array, compression=compression if array.size else None)

    # The large arrays come first: behind the attributes they would start on the boundary of a page, from
    # where the processor copies at half the speed.
    obj = dataset('object', product.object_array)
    obj.attrs['center_x_m'] = product.object_center_x_m
    obj.attrs['center_y_m'] = product.object_center_y_m
    obj.attrs['pixel_width_m'] = product.object_pixel_width_m
    obj.attrs['pixel_height_m'] = product.object_pixel_height_m
    dataset('object_layer_spacing_m', product.object_layer_spacing_m)

    probe = dataset('probe', product.probe)
    width, height = product.probe_pixel_width_m, product.probe_pixel_height_m
    probe.attrs['pixel_width_m'] = product.object_pixel_width_m if width is None else width
    probe.attrs['pixel_height_m'] = product.object_pixel_height_m if height is None else height
    if product.opr_weights is not None:
        dataset('opr_weights', product.opr_weights)
        if product.opr_weights.nbytes <= ATTRIBUTE_LIMIT_BYTES:
            probe.attrs['opr_weights'] = product.opr_weights

    dataset('probe_position_indexes', product.position_indexes)
    dataset('probe_position_x_m', product.position_x_m)
    dataset('probe_position_y_m', product.position_y_m)
    if product.position_photon_counts is not None:
        dataset('probe_photon_counts', product.position_photon_counts)
    dataset('loss_epochs', product.loss_epochs)
    dataset('loss_values', product.loss_values)
    root: dict[str, Any] = {
        'format_id': FORMAT_ID,
        'format_version': FORMAT_VERSION,
        'detector_object_distance_m': product.detector_distance_m,
        **dict.fromkeys(ENERGY, product.photon_energy_eV),
        **dict.fromkeys(ATTENUATION, product.mass_attenuation_m2_per_kg),
        **{name: getattr(product, name) for name in OPTIONAL_NUMBERS},
        'far_field': product.far_field,
    }
    file.attrs.update(root)
    kept = kept_texts(product.extras, TEXTS)
    for name in TEXTS:
        text = getattr(product, name)
        # What was no plain text and has not changed since comes with the extras, as it was.
        if text is not None and kept.get(name) != text:
            write_text(file, name, text)
    write_extras(file, product.extras)
