"""How densely the patterns of a scan overlap (REF-12)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ['SPARSE_OVERLAP', 'overlap_of']

SPARSE_OVERLAP = 1.2
"""Patterns that fall on a pixel below which each has a patch for itself: noise explains it as well as the
object does, and no neighbour holds its phase."""

DENSEST = 0.25
"""Part of the light that falls where a scan counts as densest."""

OVERLAP_BINS = 1024
"""Numbers of patterns on a pixel that are told apart."""


def overlap_of(weight: npt.NDArray[Any], brightest: float) -> float:
    """Return how many patterns fall on a pixel where the scan is densest.

    A quarter of the light falls where more do. A part of a scan, of which more is edge, has about the overlap
    of the whole.

    Parameters
    ----------
    weight : (H, W) float
        Illumination of the whole scan, in counts.
    brightest : float
        Largest illumination of one pattern.
    """
    relative = np.ravel(weight) / brightest
    light, edges = np.histogram(
        relative, bins=OVERLAP_BINS, range=(0, float(relative.max())), weights=relative
    )
    beyond = np.cumsum(light[::-1])[::-1]
    return float(edges[np.flatnonzero(beyond >= DENSEST * beyond[0])[-1]])
