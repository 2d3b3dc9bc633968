"""Where in its frame the light of a probe is, which no trial is needed to tell."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..physics.probe import relative_intensity
from ..scan.raw_data import RawData
from .changes import PROBE, Change

__all__ = ['RIM_LIGHT', 'cornered_probe', 'rim_light']

FloatArray = npt.NDArray[np.float64]

CORNER, AT_EDGES = 1 / 8, (0.31, 0.15)
"""Part of a side within which the middle of a probe, its edges joined, lies about an edge, and how much it
must gather there (:func:`_at_edges`): along one axis, and along the other one for that too. A ring as wide as
the frame has 0.304."""
RIM_LIGHT = 0.1
"""Part of the light of a probe at the rim from which on its frame is too small for it."""


def cornered_probe(raw: RawData) -> Change | None:
    """Return the shift of a probe whose middle is in the corners of its frame, or on two of its edges.

    None where it is not: most of its light, edges joined, then lies about an edge.
    """
    intensity = relative_intensity(raw.probeGuess)
    at_edges = [_at_edges(intensity.sum(axis=1 - axis)) for axis in (0, 1)]
    if max(at_edges) < AT_EDGES[0]:
        return None
    axes = tuple(axis for axis in (0, 1) if at_edges[axis] > AT_EDGES[1])

    def shifted(probe: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.fft.fftshift(probe, axes=tuple(axis - 2 for axis in axes))

    def change(raw: RawData) -> RawData:
        coherent = raw.coherent
        if coherent is not None:
            coherent = replace(coherent, modes=shifted(coherent.modes))
        return replace(raw, probeGuess=shifted(raw.probeGuess), coherent=coherent, path=None)

    where = 'in the corners' if len(axes) > 1 else 'on two edges'
    of_axes = 'their two axes' if len(axes) > 1 else 'their rows' if axes == (0,) else 'their columns'
    return Change(
        PROBE,
        'probe fftshift',
        f'the middle of the probe is {where} of its frame; its modes want numpy.fft.fftshift over {of_axes}',
        change,
        whole=True,
    )


def _at_edges(profile: FloatArray) -> float:
    """Return how much a probe whose light is this along one axis (N,) gathers about the ends of it.

    It is 1 for all of it at the very ends, about 0 for one that fills the axis, and 0 for one whose middle,
    with the ends joined, is elsewhere.
    """
    turn = np.exp(2j * np.pi * (np.arange(len(profile)) + 0.5) / len(profile))
    mean = (profile * turn).sum() / profile.sum()
    return float(abs(mean)) if abs(np.angle(mean)) < 2 * np.pi * CORNER else 0.0


def rim_light(intensity: FloatArray) -> float:
    """Return the part of a probe's intensity (N, N) in the outermost sixteenth of each side."""
    rim = max(len(intensity) // 16, 1)
    return 1 - float(intensity[rim:-rim, rim:-rim].sum() / intensity.sum())
