"""The object of a scan and how it was obtained."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..arrays import require_finite_result
from ..events import Event
from ..formats.product import ProductData
from ..formats.product_extras import with_uncertainty
from ..physics.coherent import CoherentModes, in_product
from ..physics.geometry import ObjectGrid
from .picture import illuminated_box, object_figure, png_of
from .report import QualityReport

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ['PartialObject', 'Reconstructed', 'Reconstruction']


@dataclass(frozen=True)
class Reconstruction:
    """The object of a scan and how it was obtained."""

    object_array: npt.NDArray[np.complex64]
    """(H, W) complex object on the scan's grid, in the scale of the scan's own probe."""
    weight: npt.NDArray[np.float32]
    """(H, W) illumination that went into each pixel, in counts; 0 where nothing was scanned."""
    grid: ObjectGrid
    uncertainty: npt.NDArray[np.float32]
    """(H, W) standard deviation in units of the object's amplitude: of overlapping predictions, or after a
    refinement its standard error from the scatter of the gradients of single patterns; NaN where nothing was
    scanned."""
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
    """(P, N, N) probe that belongs to the object, in the scan's scale, the mean over positions where it
    varies; None where it is the scan's own."""
    coherent: CoherentModes | None = None
    """How that probe varies over the scan; None where it does not, or is the scan's own."""
    position_shift: npt.NDArray[np.float64] | None = None
    """(n, 2) [dy, dx] in pixels that a refinement added to the positions; None where it added nothing."""
    intensity: npt.NDArray[np.float64] | None = None
    """(n,) relative intensity of the beam in each exposure, where calibration found it."""
    background: npt.NDArray[np.float64] | None = None
    """(N, N) counts per pixel beside the object's, where calibration found them."""
    bad_pixels: npt.NDArray[np.bool_] | None = None
    """(N, N) True where pixels are bad, those of the scan too, where calibration left some out."""

    @property
    def results(self) -> dict[str, Any]:
        """How the object came about, in values that JSON knows; what could not be measured is None.

        ``backend``, ``comments``, ``n_patterns``, ``seconds``, ``quality`` (the fields of
        :class:`~.report.QualityReport`), ``loss_epochs`` and ``loss_values``.
        """
        quality = {} if self.quality is None else asdict(self.quality)
        return {
            'backend': self.backend,
            'comments': self.comments,
            'n_patterns': self.n_patterns,
            'seconds': round(self.seconds, 3),
            'quality': {
                name: value if isinstance(value, str) or math.isfinite(value) else None
                for name, value in quality.items()
            },
            'loss_epochs': [epoch for epoch, _ in self.losses],
            'loss_values': [value for _, value in self.losses],
        }

    def plot(self, box: tuple[slice, slice] | None = None) -> Figure:
        """Return a figure of amplitude, phase, uncertainty and illumination; needs Matplotlib.

        Parameters
        ----------
        box : (rows, columns), optional
            Part of the object that is shown; the illuminated one if not given.
        """
        return object_figure(
            self.object_array,
            self.weight,
            self.uncertainty,
            self.comments,
            box or illuminated_box(self.weight),
        )

    def _repr_png_(self) -> bytes:
        """Return what a notebook shows of it."""
        return png_of(self.plot())

    def to_product(self, product: ProductData) -> ProductData:
        """Return `product` with this object, its loss history and a comment.

        Probe and positions are replaced where new ones belong to the object; all else is kept.

        Raises
        ------
        DivergedError
            If object, probe or positions are not finite.
        """
        require_finite_result(self.object_array, self.probe, self.position_shift)
        comments = '\n'.join(line for line in (product.comments, self.comments) if line)
        dtype = np.result_type(product.object_array.dtype, np.complex64)
        probe, weights = product.probe, product.opr_weights
        if self.probe is not None:
            probe, weights = in_product(probe, weights, self.probe, self.coherent)
        x_m, y_m = product.position_x_m, product.position_y_m
        if self.position_shift is not None:
            dy, dx = self.position_shift.T
            x_m = x_m + dx * product.object_pixel_width_m
            y_m = y_m + dy * product.object_pixel_height_m
        return replace(
            product,
            probe=probe,
            opr_weights=weights,
            position_x_m=x_m,
            position_y_m=y_m,
            object_array=self.object_array[np.newaxis].astype(dtype),
            object_layer_spacing_m=np.empty(0),
            comments=comments,
            loss_epochs=np.array([epoch for epoch, _ in self.losses], np.int64),
            loss_values=np.array([value for _, value in self.losses], np.float64),
            extras=with_uncertainty(product.extras, self.uncertainty),
        )


@dataclass(frozen=True)
class PartialObject(Event):
    """The object as far as it is stitched, for a live view."""

    reconstruction: Reconstruction


@dataclass(frozen=True)
class Reconstructed(Event):
    """The reconstruction is complete."""

    reconstruction: Reconstruction
