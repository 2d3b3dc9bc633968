"""Ptychodus' containers <-> the engine's containers, in memory and without loss."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from ptychodus.api.geometry import PixelGeometry
from ptychodus.api.object import Object
from ptychodus.api.probe import ProbeSequence
from ptychodus.api.probe_positions import ProbePositionSequence
from ptychodus.api.product import LossValue, Product
from ptychodus.api.reconstruct import ReconstructInput

from ptycho_engine.arrays import require_finite_result
from ptycho_engine.errors import ProductError
from ptycho_engine.formats.product import ProductData
from ptycho_engine.physics.coherent import CoherentModes, in_product
from ptycho_engine.scan.raw_data import RawData
from ptycho_engine.scan.scan import raw_data_from_counts

from .compat import metadata_values, moved_positions, positions

if TYPE_CHECKING:
    from .worker import Outcome

__all__ = ['UNSIZED', 'object_pixel', 'output_product', 'product_data', 'raw_data']

UNSIZED = (
    'Ptychodus does not know how large the pixels of the object are, and so has no object: say photon energy '
    'and detector distance (Products, Edit).'
)
"""What is said of a product without them."""


def object_pixel(product: Product) -> PixelGeometry | None:
    """Return the size of the pixels of an object; None where energy or distance are unknown."""
    try:
        return product.object_.get_pixel_geometry()
    except ValueError:
        return None


def product_data(product: Product) -> ProductData:
    """Return the engine's record of a product; arrays are shared, not copied.

    Raises
    ------
    ProductError
        If shapes contradict each other, or Ptychodus does not know the size of the object's pixels.
    ValueError
        From Ptychodus, if the product lacks an object.
    """
    if object_pixel(product) is None:
        raise ProductError(UNSIZED)
    geometry = product.object_.get_geometry()
    probe_pixel = product.probes.get_pixel_geometry()
    where = positions(product)
    return ProductData(
        object_array=product.object_.get_array(),
        object_pixel_width_m=geometry.pixel_width_m,
        object_pixel_height_m=geometry.pixel_height_m,
        object_center_x_m=geometry.center_x_m,
        object_center_y_m=geometry.center_y_m,
        object_layer_spacing_m=np.asarray(product.object_.layer_spacing_m, dtype=np.float64),
        probe=product.probes.get_array(),
        probe_pixel_width_m=probe_pixel.width_m,
        probe_pixel_height_m=probe_pixel.height_m,
        opr_weights=_opr_weights(product, where.indexes),
        position_indexes=where.indexes,
        position_x_m=where.x_m,
        position_y_m=where.y_m,
        position_photon_counts=where.photon_counts,
        loss_epochs=np.array([loss.epoch for loss in product.losses], dtype=np.int64),
        loss_values=np.array([loss.value for loss in product.losses], dtype=np.float64),
        **metadata_values(product),
    )


def _opr_weights(product: Product, indexes: npt.NDArray[np.int64]) -> npt.NDArray[np.floating[Any]] | None:
    """Return one row for each position, or None where there are none or it is unknown whose they are."""
    weights = _listed_weights(product)
    if weights is None:
        return None
    if len(weights) == len(indexes):
        return weights
    # Ptychodus leaves out the positions that have no pattern, but not their rows.
    if indexes.size and indexes.min() >= 0 and indexes.max() < len(weights):
        return weights[indexes]
    return None


def _listed_weights(product: Product) -> npt.NDArray[np.floating[Any]] | None:
    """Return the rows of weights as the product lists them."""
    try:
        weights: npt.NDArray[np.floating[Any]] = product.probes.get_opr_weights()
    except ValueError:
        return None
    return weights


def raw_data(parameters: ReconstructInput, source: str = 'the current product') -> RawData:
    """Return patterns and product of a :class:`ReconstructInput` as the engine's scan, in amplitude.

    Raises
    ------
    DataValueError, ProductError
        If patterns are not square, negative, or do not match positions and probe.
    """
    return raw_data_from_counts(
        np.asarray(parameters.diffraction_patterns),
        parameters.bad_pixels,
        product_data(parameters.product),
        source,
    )


def output_product(product: Product, outcome: Outcome, remarks: Iterable[str] = ()) -> Product:
    """Return `product` with the object, losses and comments of a reconstruction.

    Probe and positions are replaced where new ones belong to the object; metadata and the object's shape,
    pixel size and centre stay as they are. The object has one layer; a product with several is told so in
    its comments.

    Raises
    ------
    ValueError
        If the new object has another shape than the old one.
    DivergedError
        If what is new is not finite.
    """
    require_finite_result(outcome.object_array, outcome.probe, outcome.position_shift)
    old = product.object_
    if outcome.object_array.shape != (old.height_px, old.width_px):
        raise ValueError(
            f'The new object has shape {outcome.object_array.shape}, the product '
            f'{(old.height_px, old.width_px)}; they must match.'
        )
    lines = [product.metadata.comments, outcome.comments, *remarks]
    if old.num_layers > 1:
        lines.append(f'PtychoPINN reconstructs one layer; the input product had {old.num_layers}.')
    return replace(
        product,
        metadata=replace(product.metadata, comments='\n'.join(line for line in lines if line)),
        object_=Object(
            np.ascontiguousarray(outcome.object_array)[np.newaxis],
            old.get_pixel_geometry(),
            old.get_center(),
        ),
        losses=[LossValue(epoch, value) for epoch, value in outcome.losses],
        probes=_with_modes(product, outcome.probe, outcome.coherent),
        probe_positions=_moved(product, outcome.position_shift),
    )


def _with_modes(
    product: Product, modes: npt.NDArray[np.complex64] | None, coherent: CoherentModes | None
) -> ProbeSequence:
    """Return the probes with other incoherent modes (P, N, N), and how these vary over the positions."""
    old = product.probes
    if modes is None:
        return old
    indexes = positions(product).indexes
    rows = _opr_weights(product, indexes)
    array, weights = in_product(old.get_array(), rows, modes, coherent)
    listed = _listed_weights(product)
    if coherent is None or weights is None:
        weights = listed
    elif listed is not None and rows is not None and len(listed) > len(rows):
        # Of positions without a pattern nothing is known but the mean.
        weights, found = np.tile(np.eye(1, weights.shape[1]), (len(listed), 1)), weights
        weights[indexes] = found
    return ProbeSequence(array, weights, old.get_pixel_geometry())


def _moved(product: Product, shift: npt.NDArray[np.float64] | None) -> ProbePositionSequence:
    """Return the positions, moved by (n, 2) [dy, dx] object pixels."""
    if shift is None:
        return product.probe_positions
    pixel = product.object_.get_pixel_geometry()
    return moved_positions(product, shift[:, 1] * pixel.width_m, shift[:, 0] * pixel.height_m)
