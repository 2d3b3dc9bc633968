"""What can be said of a result without knowing the truth: agreement of patches, and a line for the log."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..scoring.scores import fourier_ring_correlation, frc50
from ..whole_scan.stitch import add_patches, weakest_weight

__all__ = ['PatchAgreement', 'QualityReport', 'half_set_resolution', 'is_far', 'measure_quality']

ComplexImage = npt.NDArray[np.complex64]

FAR_FITTED, FAR_HELD_OUT, FAR_ALONE = 1.5, 2.0, 3.0
"""Times the deviance of photon noise beyond which an image is far from it: for all pixels and for those that
were not fitted, both, or for all pixels alone, as those of single hot ones."""
UNEXPLAINED = 0.02
"""Relative error of the predicted counts that is no matter however many there are."""

SMALLEST_BOX = 16
"""Side in pixels of a scanned region below which no ring correlation is given."""


class PatchAgreement:
    """How far overlapping predictions spread, and which half of the scan illuminated a pixel how much.

    Parameters
    ----------
    shape : (H, W)
        Size of the object.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self._power = np.zeros(shape)
        self._odd = np.zeros(shape)

    def add(
        self,
        weighted: npt.NDArray[np.complexfloating[Any, Any]],
        weight: npt.NDArray[np.floating[Any]],
        corner: npt.NDArray[np.int64],
        odd: npt.NDArray[np.bool_],
    ) -> None:
        """Add patches times weights (n, N, N), the weights, corners (n, 2) and whether each is odd (n,)."""
        power = np.abs(weighted) ** 2 / np.maximum(weight, np.finfo(np.float32).tiny)
        add_patches(self._power, power, corner)
        add_patches(self._odd, weight[odd], corner[odd])

    @property
    def odd_weight(self) -> npt.NDArray[np.float64]:
        """(H, W) illumination of the odd half."""
        return self._odd

    def spread(
        self, obj: npt.NDArray[np.complexfloating[Any, Any]], weight: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float32]:
        """Return the weighted standard deviation (H, W) of the patches around their mean `obj` (QUALITY-04).

        In units of the amplitude of `obj`; NaN where nothing was scanned. Multiplying a patch by a unit
        factor does not change it, so patches may be added before they are synchronised.
        """
        floor = weakest_weight(weight)
        variance = self._power / np.maximum(weight, 1e-30) - np.abs(obj) ** 2
        known = weight > floor
        return np.where(known, np.sqrt(np.maximum(variance, 0)), np.nan).astype(np.float32)


def half_set_resolution(odd: ComplexImage, even: ComplexImage, box: tuple[slice, slice]) -> float:
    """Return FRC50, in cycles per pixel, between the images (H, W) of two halves of the scan (QUALITY-05).

    NaN where the scanned region is too small.
    """
    a, b = odd[box], even[box]
    if min(a.shape) < SMALLEST_BOX:
        return math.nan
    # The halves have a factor each, which a correlation would count as disagreement of the mean only.
    return frc50(*fourier_ring_correlation(a, b))


@dataclass(frozen=True)
class QualityReport:
    """Figures of a result that need no truth."""

    deviance: float
    """Poisson deviance per valid pixel; about 1 at the noise, less where most pixels are dark."""
    frc50: float
    """Cycles per pixel up to which the network's images of odd and even groups agree; NaN if unknown."""
    coverage: float
    """Part of the scanned box that received light."""
    uncertainty: float
    """Median over the scanned box of the uncertainty, in units of the object's amplitude."""
    refinement: str
    """What became of the refinement; empty where there was none."""
    noise: float = math.nan
    """What photon noise alone leaves of the deviance; NaN where the patterns are no counts."""
    held_out: float = math.nan
    """Poisson deviance per pixel of those that were not fitted; NaN where all were."""
    far: bool = False
    """Whether physics was to explain the patterns down to photon noise, and is far from it."""
    suspected: str = ''
    """What else the forces that are left at the image tell to be wrong (CAL-10); empty for nothing."""
    likely: str = ''
    """Why it is far from noise, or near it only with much that is not as in the file, as a quick trial of
    orientations and orders tells; empty for nothing."""
    fix: str = ''
    """The command that corrects it; empty where nothing is likely."""
    only_with: str = ''
    """What, far from what the file says, an image near noise takes; empty for nothing."""

    @property
    def doubt(self) -> str:
        """A sentence on an image that is not what the patterns say; empty where nothing speaks against it."""
        cause = '; ptychopinn doctor looks for the cause'
        if self.likely:
            cause = f'. Most likely {self.likely}: {self.fix} corrects it'
        if not self.far and self.only_with:
            return f'the patterns are explained only with {self.only_with}{cause}'
        if not self.far and not self.suspected:
            return ''
        if not self.far:
            return (
                f'the image is near photon noise, but what it leaves of the patterns is none: it pulls at '
                f'{self.suspected}, where something is not as the file says; ptychopinn doctor looks for the '
                'cause'
            )
        found = self.deviance if math.isnan(self.held_out) else max(self.held_out, self.deviance)
        return (
            f'the image is far above photon noise ({found:.3g} where {self.noise:.2g} is noise): patterns, '
            f'probe and positions do not agree{cause}'
        )

    @property
    def sentence(self) -> str:
        """One line for the log and the product's comments."""
        parts = [_deviance_in_words(self.deviance), f'coverage {self.coverage:.1%}']
        if math.isfinite(self.frc50):
            parts.append(f'odd/even FRC50 of the network {self.frc50:.3g}/px')
        if math.isfinite(self.uncertainty):
            parts.append(f'median uncertainty {self.uncertainty:.2g}')
        if self.refinement:
            parts.append(self.refinement)
        if self.doubt:
            parts.append(self.doubt)
        return '; '.join(parts) + '.'


def is_far(deviance: float, held_out: float, noise: float, counts: float) -> bool:
    """Return whether an image that physics made is far from photon noise (DOUBT-03).

    Parameters
    ----------
    deviance, held_out : float
        Per pixel, of all valid ones and of those that were not fitted; NaN where unknown.
    noise : float
        What photon noise leaves of either; NaN where unknown.
    counts : float
        Mean counts per pixel.
    """
    # Pixels that were not fitted are far off in any sparse scan, fitted ones in none that agrees with itself.
    far = deviance > FAR_FITTED * noise and not held_out <= FAR_HELD_OUT * noise
    return bool((far or deviance > FAR_ALONE * noise) and deviance - noise > UNEXPLAINED**2 * counts)


def _deviance_in_words(value: float) -> str:
    if math.isfinite(value):
        return f'deviance {value:.4g} per pixel'
    return 'its deviance is no finite number, so that nothing can be said of how well it fits'


def measure_quality(
    deviance: float,
    resolution: float,
    weight: npt.NDArray[np.floating[Any]],
    uncertainty: npt.NDArray[np.float32],
    box: tuple[slice, slice],
    refinement: str,
    noise: float = math.nan,
    held_out: float = math.nan,
    far: bool = False,
    suspected: str = '',
) -> QualityReport:
    """Gather the figures of a result.

    Parameters
    ----------
    deviance : float
        Of the patterns that the object predicts.
    resolution : float
        :func:`half_set_resolution`.
    weight : (H, W) float
        Illumination.
    uncertainty : (H, W) float
        NaN where unknown.
    box : (rows, columns)
        The scanned region.
    refinement : str
        How the object was found or refined; empty where it is the network's.
    noise, held_out : float
        As in :class:`QualityReport`.
    far : bool
        :func:`is_far`.
    suspected : str
        As in :class:`QualityReport`.
    """
    inside = weight[box]
    known = uncertainty[box][np.isfinite(uncertainty[box])]
    return QualityReport(
        deviance=deviance,
        frc50=resolution,
        coverage=float((inside > weakest_weight(weight)).mean()) if inside.size else 0.0,
        uncertainty=float(np.median(known)) if known.size else math.nan,
        refinement=refinement,
        noise=noise,
        held_out=held_out,
        far=far,
        suspected=suspected,
    )
