"""The object of a scan and how it was obtained."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from ..files.product import ProductData
from ..files.product_extras import with_dataset
from ..physics.geometry import ObjectGrid
from .report import QualityReport

__all__ = ['Reconstruction']

UNCERTAINTY_DATASET = 'ptychopinn_object_uncertainty'
"""Name of the uncertainty map at the root of a product file; Ptychodus passes over what it does not know."""


@dataclass(frozen=True)
class Reconstruction:
    """The object of a scan and how it was obtained."""

    object_array: npt.NDArray[np.complex64]
    """(H, W) complex object on the scan's grid, in the gauge of the scan's own probe."""
    weight: npt.NDArray[np.float32]
    """(H, W) illumination that went into each pixel, in counts; 0 where nothing was scanned."""
    grid: ObjectGrid
    uncertainty: npt.NDArray[np.float32]
    """(H, W) standard deviation in units of the object's amplitude: of overlapping predictions, or after a
    refinement of the patterns' own wishes; NaN where nothing was scanned."""
    deviance: float = float('nan')
    """Poisson deviance per pixel of the patterns that the object predicts."""
    n_patterns: int = 0
    """Patterns that went in."""
    seconds: float = 0.0
    losses: list[tuple[int, float]] = field(default_factory=list)
    """(epoch, training deviance) of the model's training."""
    comments: str = ''
    """One line on how the result came about, for the product."""
    backend: str = ''
    """Framework that ran the network."""
    quality: QualityReport | None = None
    """Figures that need no truth; None while the object is still being made."""
    probe: npt.NDArray[np.complex64] | None = None
    """(P, N, N) probe with the model's correction, where the model has learned one."""

    def to_product(self, product: ProductData) -> ProductData:
        """Return `product` with this object, its loss history and a comment; all else is kept."""
        comments = '\n'.join(line for line in (product.comments, self.comments) if line)
        dtype = np.result_type(product.object_array.dtype, np.complex64)
        probe = product.probe
        if self.probe is not None:
            probe = probe.copy()
            probe[0] = self.probe
        return replace(
            product,
            probe=probe,
            object_array=self.object_array[np.newaxis].astype(dtype),
            object_layer_spacing_m=np.empty(0),
            comments=comments,
            loss_epochs=np.array([epoch for epoch, _ in self.losses], np.int64),
            loss_values=np.array([value for _, value in self.losses], np.float64),
            extras=with_dataset(
                product.extras,
                UNCERTAINTY_DATASET,
                self.uncertainty,
                {'description': 'standard deviation of the object, in units of its amplitude; NaN: unknown'},
            ),
        )
