"""Objects and maps as pictures of 8 bits, made without Qt, so that any thread may make them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ['Picture', 'map_picture', 'object_pictures']

EDGE_PERCENT = 1.0
"""Part of the pixels at either end of the range that the colours do not tell apart."""
SAMPLED = 40_000
"""Pixels from which a range is taken."""


@dataclass(frozen=True)
class Picture:
    """A picture with its title, which says what its darkest and brightest colour stand for."""

    levels: npt.NDArray[np.uint8]
    """(h, w) uint8, from the darkest colour to the brightest."""
    colormap: str
    """Matplotlib's name of the colours."""
    title: str


def object_pictures(array: npt.NDArray[np.complexfloating[Any, Any]]) -> tuple[Picture, Picture]:
    """Return amplitude and phase, in radians about its mean, of an object (h, w)."""
    mean = array.mean()
    phase = np.angle(array * (np.conj(mean) / (abs(mean) or 1)).astype(array.dtype))
    return (
        map_picture(np.abs(array), 'Amplitude', 'gray'),
        map_picture(phase, 'Phase', 'viridis', unit=' rad'),
    )


def map_picture(
    values: npt.NDArray[np.floating[Any]],
    name: str,
    colormap: str,
    unit: str = '',
) -> Picture:
    """Return real values (h, w) as a picture; where they are not finite it is as dark as can be."""
    every = max(values.size // SAMPLED, 1)
    known = values.reshape(-1)[::every]
    known = known[np.isfinite(known)]
    if not known.size:
        return Picture(np.zeros(values.shape, np.uint8), colormap, name)
    low, high = (float(x) for x in np.percentile(known, (EDGE_PERCENT, 100 - EDGE_PERCENT)))
    # A constant picture is neither black nor white.
    start, span = (low, high - low) if high > low else (low - 0.5, 1.0)
    levels = np.nan_to_num((values - start) * (255 / span), nan=0.0, posinf=255, neginf=0)
    title = f'{name}, {low:.3g} to {high:.3g}{unit}'
    return Picture(np.clip(levels, 0, 255).astype(np.uint8), colormap, title)
