"""The record of a Ptychodus product: object, probe, positions, metadata and losses, in SI units."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DataValueError, ProductError
from ..physics.geometry import ObjectGrid, pixel_to_world, world_to_pixel
from .product_extras import ProductExtras

__all__ = ['ProductData']


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
    """Width of an object pixel in metres."""
    object_pixel_height_m: float
    """Height of an object pixel in metres."""
    probe: npt.NDArray[np.complexfloating[Any, Any]]
    """(coherent modes, incoherent modes, N, N) complex probe."""
    position_x_m: npt.NDArray[np.float64]
    """(n,) x of the probe positions in metres."""
    position_y_m: npt.NDArray[np.float64]
    """(n,) y of the probe positions in metres."""
    position_indexes: npt.NDArray[np.int64]
    """(n,) scan-point index that joins positions to patterns."""
    object_center_x_m: float = 0.0
    """World x of the middle of the object in metres."""
    object_center_y_m: float = 0.0
    """World y of the middle of the object in metres."""
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
    """Photons in the probe per exposure; 0 where unknown."""
    exposure_time_s: float = 0.0
    """Exposure time in seconds; 0 where unknown."""
    mass_attenuation_m2_per_kg: float = 0.0
    """Mass attenuation in square metres per kilogram; 0 where unknown."""
    tomography_angle_deg: float = 0.0
    """Rotation of the sample in degrees."""
    focus_object_distance_m: float = 0.0
    """Distance from focus to object in metres; 0 for a parallel beam."""
    tilt_angle_deg: float = 0.0
    """Tilt of the sample in degrees."""
    far_field: bool = True
    """Whether the detector is in the far field."""
    polarization: str | None = None
    """``left_circular``, ``right_circular`` or None where it was not recorded."""
    loss_epochs: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """(m,) epochs of the loss history; empty where there is none."""
    loss_values: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """(m,) losses at those epochs."""
    extras: ProductExtras = field(default_factory=ProductExtras)
    """What the file holds beyond the contract; written back as it was."""

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
        set_(self, 'object_layer_spacing_m', np.asarray(self.object_layer_spacing_m, dtype=np.float64))
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
        self._validate_modes_and_layers(n)
        for name in ('object_pixel_width_m', 'object_pixel_height_m'):
            if not getattr(self, name) > 0:
                raise ProductError(
                    f'The product "{self.name}" has {name} = {getattr(self, name)}; expected a positive '
                    'length in metres.'
                )

    def require_far_field(self, source: str) -> None:
        """Check that the detector is in the far field (DIR-08).

        Raises
        ------
        DataValueError
            If it is in the near field.
        """
        if not self.far_field:
            raise DataValueError(
                f'{source}: far_field of the product is False, but the near field (a Fresnel or holographic '
                'scan) is not modelled; set it to True if the detector is in the far field, or use a solver '
                'of Ptychodus that knows the near field.'
            )

    def _validate_modes_and_layers(self, n: int) -> None:
        layers, modes = len(self.object_array), len(self.probe)
        if self.object_layer_spacing_m.shape != (layers - 1,):
            raise ProductError(
                f'The product "{self.name}" has an object of {layers} layers and layer spacings of shape '
                f'{self.object_layer_spacing_m.shape}; expected {(layers - 1,)}, one between two layers.'
            )
        if self.opr_weights is not None and (
            self.opr_weights.ndim != 2 or self.opr_weights.shape[1] != modes
        ):
            raise ProductError(
                f'The product "{self.name}" has OPR weights of shape {self.opr_weights.shape}; expected '
                f'({n}, {modes}), one for each position and coherent mode.'
            )
        if self.position_photon_counts is not None and len(self.position_photon_counts) != n:
            raise ProductError(
                f'The product "{self.name}" has {len(self.position_photon_counts)} photon counts but {n} '
                'positions; they must match.'
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
