"""What the files of an experiment say, each of its part: patterns, positions, probe and geometry."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..arrays import as_column
from ..errors import DataValueError
from ..patterns.frame_stack import StoredStack
from ..physics.coherent import CoherentModes
from ..physics.geometry import wavelength_m

__all__ = ['Geometry', 'MeasuredPatterns', 'MeasuredPositions', 'MeasuredProbe']

Unit = Literal['m', 'px']


@dataclass(frozen=True)
class Geometry:
    """Energy and lengths of an experiment; None for what is not known."""

    photon_energy_eV: float | None = None
    """Photon energy in electron volts."""
    detector_distance_m: float | None = None
    """From object to detector in metres."""
    detector_pixel_width_m: float | None = None
    """Width of a detector pixel in metres."""
    detector_pixel_height_m: float | None = None
    """Height of a detector pixel in metres."""
    object_pixel_m: float | None = None
    """Side of an object pixel in metres, where it does not follow from the others."""

    def or_else(self, other: Geometry) -> Geometry:
        """Return this, with what it does not say from `other`."""
        known = {
            item.name: value if (value := getattr(self, item.name)) is not None else getattr(other, item.name)
            for item in fields(self)
        }
        return Geometry(**known)

    def object_pixels(self, height: int, width: int) -> tuple[float, float] | None:
        """Return height and width in metres of an object pixel for patterns (height, width).

        In the far field a pattern of N pixels of size p at distance z samples the object at λz/(N p). None
        where too little is known.
        """
        if self.object_pixel_m is not None:
            return self.object_pixel_m, self.object_pixel_m
        energy, distance = self.photon_energy_eV, self.detector_distance_m
        if not energy or not distance or not self.detector_pixel_height_m or not self.detector_pixel_width_m:
            return None
        far = wavelength_m(energy) * distance
        return far / (height * self.detector_pixel_height_m), far / (width * self.detector_pixel_width_m)


@dataclass(frozen=True)
class MeasuredPatterns:
    """Patterns as a detector has written them."""

    counts: StoredStack
    """(n, h, w) the frames, rows and columns along y and x of the positions."""
    indexes: npt.NDArray[np.int64]
    """(n,) scan point of each."""
    bad_pixels: npt.NDArray[np.bool_] | None = None
    """(h, w) True where a pixel is bad."""
    geometry: Geometry = field(default_factory=Geometry)
    centre: tuple[int, int] | None = None
    """(row, column) of zero frequency; None for (h // 2, w // 2)."""
    said: str | None = None
    """What the numbers are, where the file says so; a word of :data:`~..config.choices.DOMAINS`."""


@dataclass(frozen=True)
class MeasuredPositions:
    """Positions of the probe on the sample."""

    x: npt.NDArray[np.float64]
    """(n,) columns."""
    y: npt.NDArray[np.float64]
    """(n,) rows."""
    indexes: npt.NDArray[np.int64]
    """(n,) scan point of each."""
    unit: Unit = 'm'
    """Metres, or pixels of the object that patterns of the detector's own size have."""

    def __post_init__(self) -> None:
        for name in ('x', 'y'):
            values = as_column(getattr(self, name), f'positions {name}')
            object.__setattr__(self, name, values)
            if not np.isfinite(values).all():
                raise DataValueError(
                    f'{np.count_nonzero(~np.isfinite(values))} of {len(values)} positions {name} are NaN or '
                    'infinite; leave those scan points out.'
                )
        if not len(self.x) == len(self.y) == len(self.indexes):
            raise DataValueError(
                f'There are {len(self.x)} positions x, {len(self.y)} y and {len(self.indexes)} indexes; they '
                'must match.'
            )


@dataclass(frozen=True)
class MeasuredProbe:
    """A probe from another file."""

    modes: npt.NDArray[np.complexfloating[Any, Any]]
    """(P, h, w) incoherent modes."""
    pixel_m: tuple[float, float] | None = None
    """Height and width of a pixel in metres; None where the file does not say."""
    coherent: CoherentModes | None = None
    """How the first mode varies over the positions of the same file."""
