"""Ptychodus product files (HDF5): a reader for every release, a writer that every release reads.

Names and meanings are stated in ``specs/data_contracts.md`` (PRODUCT-*).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from ..errors import DataFileNotFoundError, ProductError
from ..physics.geometry import ObjectGrid, pixel_to_world, world_to_pixel
from .atomic import atomic_path

__all__ = ['ProductData', 'read_product', 'write_product']

ATTRIBUTE_LIMIT_BYTES = 60_000
"""HDF5 keeps attributes below 64 KiB in compact storage; larger ones cannot be written."""


@dataclass(frozen=True)
class ProductData:
    """Everything a product file holds, in SI units.

    Raises
    ------
    ProductError
        If shapes contradict each other or arrays are of the wrong kind.
    """

    name: str
    comments: str
    detector_distance_m: float
    """Distance from object to detector in metres."""
    photon_energy_eV: float
    """Photon energy in electron volts."""
    object_array: npt.NDArray[np.complexfloating[Any, Any]]
    """(layers, H, W) complex object."""
    object_pixel_width_m: float
    object_pixel_height_m: float
    probe: npt.NDArray[np.complexfloating[Any, Any]]
    """(coherent modes, incoherent modes, N, N) complex probe."""
    position_x_m: npt.NDArray[np.float64]
    """(n,) x of the probe positions in metres."""
    position_y_m: npt.NDArray[np.float64]
    """(n,) y of the probe positions in metres."""
    position_indexes: npt.NDArray[np.int64]
    """(n,) scan-point index that joins positions to patterns."""
    object_center_x_m: float = 0.0
    object_center_y_m: float = 0.0
    object_layer_spacing_m: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """(layers - 1,) distances between layers in metres."""
    probe_pixel_width_m: float | None = None
    """Width of a probe pixel in metres; None for the object's."""
    probe_pixel_height_m: float | None = None
    """Height of a probe pixel in metres; None for the object's."""
    opr_weights: npt.NDArray[np.floating[Any]] | None = None
    """(n, coherent modes) weights of the coherent modes at each position."""
    position_photon_counts: npt.NDArray[np.float64] | None = None
    """(n,) photons of the probe at each position."""
    probe_photon_count: float = 0.0
    exposure_time_s: float = 0.0
    mass_attenuation_m2_per_kg: float = 0.0
    tomography_angle_deg: float = 0.0
    focus_object_distance_m: float = 0.0
    tilt_angle_deg: float = 0.0
    far_field: bool = True
    polarization: str | None = None
    loss_epochs: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    loss_values: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0))

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        obj = np.asarray(self.object_array)
        probe = np.asarray(self.probe)
        for name, array in (('object', obj), ('probe', probe)):
            if not np.iscomplexobj(array):
                raise ProductError(
                    f'The product "{self.name}" has a {name} of type {array.dtype}; expected complex.'
                )
        if obj.ndim == 2:
            obj = obj[np.newaxis]
        while probe.ndim < 4:
            probe = probe[np.newaxis]
        if obj.ndim != 3 or probe.ndim != 4:
            raise ProductError(
                f'The product "{self.name}" has object shape {obj.shape} and probe shape {probe.shape}; '
                'expected (layers, H, W) and (coherent, incoherent, N, N).'
            )
        set_(self, 'object_array', obj)
        set_(self, 'probe', probe)
        set_(self, 'position_x_m', np.asarray(self.position_x_m, dtype=np.float64))
        set_(self, 'position_y_m', np.asarray(self.position_y_m, dtype=np.float64))
        set_(self, 'position_indexes', np.asarray(self.position_indexes, dtype=np.int64))
        set_(self, 'loss_epochs', np.asarray(self.loss_epochs, dtype=np.int64))
        set_(self, 'loss_values', np.asarray(self.loss_values, dtype=np.float64))
        n = len(self.position_indexes)
        if len(self.position_x_m) != n or len(self.position_y_m) != n:
            raise ProductError(
                f'The product "{self.name}" has {n} position indexes, {len(self.position_x_m)} x and '
                f'{len(self.position_y_m)} y coordinates; they must match.'
            )
        if len(self.loss_epochs) != len(self.loss_values):
            raise ProductError(
                f'The product "{self.name}" has {len(self.loss_epochs)} loss epochs but '
                f'{len(self.loss_values)} loss values; they must match.'
            )
        for name in ('object_pixel_width_m', 'object_pixel_height_m'):
            if not getattr(self, name) > 0:
                raise ProductError(
                    f'The product "{self.name}" has {name} = {getattr(self, name)}; expected a positive '
                    'length in metres.'
                )

    @property
    def grid(self) -> ObjectGrid:
        """The object's pixel grid."""
        height, width = self.object_array.shape[-2:]
        return ObjectGrid(
            height=height,
            width=width,
            pixel_width_m=self.object_pixel_width_m,
            pixel_height_m=self.object_pixel_height_m,
            center_x_m=self.object_center_x_m,
            center_y_m=self.object_center_y_m,
        )

    def positions_px(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return x (columns) and y (rows) of the positions in object pixels."""
        height, width = self.object_array.shape[-2:]
        return (
            world_to_pixel(self.position_x_m, self.object_center_x_m, self.object_pixel_width_m, width),
            world_to_pixel(self.position_y_m, self.object_center_y_m, self.object_pixel_height_m, height),
        )

    @staticmethod
    def positions_m(
        x: npt.ArrayLike, y: npt.ArrayLike, grid: ObjectGrid
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return x and y in metres of positions given in pixels of `grid`.

        Raises
        ------
        ProductError
            If the grid has no pixel size.
        """
        if grid.pixel_width_m is None or grid.pixel_height_m is None:
            raise ProductError('A product needs a pixel size in metres; the scan has none.')
        return (
            pixel_to_world(np.asarray(x) - grid.origin_x, grid.center_x_m, grid.pixel_width_m, grid.width),
            pixel_to_world(np.asarray(y) - grid.origin_y, grid.center_y_m, grid.pixel_height_m, grid.height),
        )


def _number(attributes: Any, names: tuple[str, ...], default: float | None, source: Path) -> float:
    for name in names:
        if name in attributes:
            value = float(attributes[name])
            if not np.isfinite(value):
                raise ProductError(f'{source}: the attribute {name!r} is {value}; expected a number.')
            return value
    if default is None:
        raise ProductError(
            f'{source} lacks the attribute {" or ".join(repr(n) for n in names)}, which every product '
            'needs; save the product again with Ptychodus.'
        )
    return default


def _text(attributes: Any, name: str, default: str) -> str:
    value = attributes.get(name, default)
    return value.decode('utf-8', errors='replace') if isinstance(value, bytes) else str(value)


def _dataset(file: h5py.File, names: tuple[str, ...], source: Path) -> Any:
    for name in names:
        item = file.get(name)
        if isinstance(item, h5py.Dataset):
            return item
    raise ProductError(
        f'{source} lacks the dataset {" or ".join(repr(n) for n in names)}; found '
        f'{", ".join(sorted(file)) or "nothing"}.'
    )


def read_product(path: Path | str) -> ProductData:
    """Read a product file written by any Ptychodus release since 1.0, or by :func:`write_product`.

    Raises
    ------
    DataFileNotFoundError
        If there is no such file.
    ProductError
        If it is not HDF5 or breaks the product contract.
    """
    path = Path(path)
    if not path.is_file():
        raise DataFileNotFoundError(f'{path}: there is no such file; give the path of a product file.')
    try:
        with h5py.File(path, 'r') as file:
            return _read(file, path)
    except OSError as error:
        raise ProductError(f'{path} is not a readable HDF5 file ({error}).') from error


def _read(file: h5py.File, path: Path) -> ProductData:
    attributes = file.attrs
    obj = _dataset(file, ('object',), path)
    probe = _dataset(file, ('probe',), path)
    weights = file.get('opr_weights')
    opr_weights = weights[()] if isinstance(weights, h5py.Dataset) else probe.attrs.get('opr_weights')
    values_name = next((n for n in ('loss_values', 'costs') if n in file), None)
    values = file[values_name][()] if values_name else np.empty(0)
    epochs = file['loss_epochs'][()] if 'loss_epochs' in file else np.arange(len(values))
    photon_counts = file.get('probe_photon_counts')
    spacing_name = next((n for n in ('object_layer_spacing_m', 'object_layer_distance_m') if n in file), None)
    n_layers = 1 if obj.ndim == 2 else obj.shape[0]
    spacing = np.ravel(file[spacing_name][()])[: n_layers - 1] if spacing_name else np.empty(0)
    return ProductData(
        name=_text(attributes, 'name', 'Unnamed'),
        comments=_text(attributes, 'comments', ''),
        detector_distance_m=_number(attributes, ('detector_object_distance_m',), None, path),
        photon_energy_eV=_number(attributes, ('photon_energy_eV', 'probe_energy_eV'), None, path),
        object_array=obj[()],
        object_pixel_width_m=_number(obj.attrs, ('pixel_width_m',), None, path),
        object_pixel_height_m=_number(obj.attrs, ('pixel_height_m',), None, path),
        object_center_x_m=_number(obj.attrs, ('center_x_m',), None, path),
        object_center_y_m=_number(obj.attrs, ('center_y_m',), None, path),
        object_layer_spacing_m=np.asarray(spacing, dtype=np.float64),
        probe=probe[()],
        probe_pixel_width_m=_optional(probe.attrs, 'pixel_width_m'),
        probe_pixel_height_m=_optional(probe.attrs, 'pixel_height_m'),
        opr_weights=None if opr_weights is None else np.asarray(opr_weights),
        position_indexes=_dataset(file, ('probe_position_indexes',), path)[()],
        position_x_m=_dataset(file, ('probe_position_x_m',), path)[()],
        position_y_m=_dataset(file, ('probe_position_y_m',), path)[()],
        position_photon_counts=(photon_counts[()] if isinstance(photon_counts, h5py.Dataset) else None),
        probe_photon_count=_number(attributes, ('probe_photon_count',), 0.0, path),
        exposure_time_s=_number(attributes, ('exposure_time_s',), 0.0, path),
        mass_attenuation_m2_per_kg=_number(
            attributes, ('mass_attenuation_m2_per_kg', 'mass_attenuation_m2_kg'), 0.0, path
        ),
        tomography_angle_deg=_number(attributes, ('tomography_angle_deg',), 0.0, path),
        focus_object_distance_m=_number(attributes, ('focus_object_distance_m',), 0.0, path),
        tilt_angle_deg=_number(attributes, ('tilt_angle_deg',), 0.0, path),
        far_field=bool(attributes.get('far_field', True)),
        polarization=_text(attributes, 'polarization', '') or None,
        loss_epochs=epochs,
        loss_values=values,
    )


def _optional(attributes: Any, name: str) -> float | None:
    return float(attributes[name]) if name in attributes else None


def write_product(path: Path | str, product: ProductData) -> None:
    """Write a product file that Ptychodus 1.2 to 1.7 read, atomically.

    Both names are written where releases differ: photon and probe energy, both spellings of the mass
    attenuation, OPR weights as a dataset and, where small enough, as an attribute of the probe.
    """
    path = Path(path)
    with atomic_path(path) as temporary, h5py.File(temporary, 'w') as file:
        root: dict[str, Any] = {
            'format_id': 'ptychodus-product',
            'format_version': 1,
            'name': product.name,
            'comments': product.comments,
            'detector_object_distance_m': product.detector_distance_m,
            'photon_energy_eV': product.photon_energy_eV,
            'probe_energy_eV': product.photon_energy_eV,
            'probe_photon_count': product.probe_photon_count,
            'exposure_time_s': product.exposure_time_s,
            'mass_attenuation_m2_per_kg': product.mass_attenuation_m2_per_kg,
            'mass_attenuation_m2_kg': product.mass_attenuation_m2_per_kg,
            'tomography_angle_deg': product.tomography_angle_deg,
            'focus_object_distance_m': product.focus_object_distance_m,
            'tilt_angle_deg': product.tilt_angle_deg,
            'far_field': product.far_field,
        }
        if product.polarization is not None:
            root['polarization'] = product.polarization
        file.attrs.update(root)

        obj = file.create_dataset('object', data=product.object_array)
        obj.attrs['center_x_m'] = product.object_center_x_m
        obj.attrs['center_y_m'] = product.object_center_y_m
        obj.attrs['pixel_width_m'] = product.object_pixel_width_m
        obj.attrs['pixel_height_m'] = product.object_pixel_height_m
        spacing = np.asarray(product.object_layer_spacing_m, dtype=np.float64)
        file.create_dataset('object_layer_spacing_m', data=spacing)

        probe = file.create_dataset('probe', data=product.probe)
        probe.attrs['pixel_width_m'] = product.probe_pixel_width_m or product.object_pixel_width_m
        probe.attrs['pixel_height_m'] = product.probe_pixel_height_m or product.object_pixel_height_m
        if product.opr_weights is not None:
            file.create_dataset('opr_weights', data=product.opr_weights)
            if product.opr_weights.nbytes <= ATTRIBUTE_LIMIT_BYTES:
                probe.attrs['opr_weights'] = product.opr_weights

        file.create_dataset('probe_position_indexes', data=product.position_indexes)
        file.create_dataset('probe_position_x_m', data=product.position_x_m)
        file.create_dataset('probe_position_y_m', data=product.position_y_m)
        if product.position_photon_counts is not None:
            file.create_dataset('probe_photon_counts', data=product.position_photon_counts)
        file.create_dataset('loss_epochs', data=product.loss_epochs)
        file.create_dataset('loss_values', data=product.loss_values)
