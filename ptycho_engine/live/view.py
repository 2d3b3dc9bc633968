"""What a page shows of a live session, as values that JSON knows (LIVE-16)."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .quality import UnseenCurve

__all__ = ['curve_view', 'finite', 'image_views', 'picture']

MOST_PIXELS = 512
"""Largest side of an image that is shown; a larger one is shown as means of its pixels."""

MOST_POINTS = 200
"""Of the curve."""

LIT = 0.05
"""Of the largest illumination: what has less is not shown."""

ENDS = 0.5, 99.5
"""Percentiles of the scanned region between which grey values and colours are spread."""

LEVELS = 255
"""0 stands for pixels that are not known."""


def image_views(
    obj: npt.NDArray[np.complex64], weight: npt.NDArray[np.float32], box: tuple[slice, slice]
) -> dict[str, dict[str, Any]]:
    """Return amplitude, phase and illumination as :func:`picture` makes them.

    Parameters
    ----------
    obj : (H, W) complex
    weight : (H, W) float
        Illumination in counts.
    box : (rows, columns)
        The scanned region, which sets the range of amplitudes and phases. The phase is relative to its mean.
    """
    step = -(-max(obj.shape) // MOST_PIXELS)
    inside = np.zeros(obj.shape, np.float32)
    inside[box] = 1
    obj, weight, inside = (_reduced(values, step) for values in (obj, weight, inside))
    known = weight > LIT * weight.max()
    scanned = known & (inside > 0)
    scanned = scanned if scanned.any() else known
    phase_aligned = obj * np.exp(-1j * np.angle(obj[scanned].sum(dtype=np.complex128) or 1))
    return {
        'amplitude': picture(np.abs(phase_aligned), known, scanned),
        'phase': picture(np.angle(phase_aligned), known, scanned),
        'illumination': picture(weight, weight > 0, weight > 0, low=0.0),
    }


def picture(
    values: npt.NDArray[np.floating[Any]],
    known: npt.NDArray[np.bool_],
    scanned: npt.NDArray[np.bool_],
    low: float | None = None,
) -> dict[str, Any]:
    """Return values (h, w) in base64 of h × w bytes: 0 where not known, else 1 for `low`, 255 for `high`.

    These are percentiles of the values where `scanned` (h, w), unless `low` is given.
    """
    percentiles = np.percentile(values[scanned], ENDS) if scanned.any() else (0.0, 1.0)
    low, high = float(percentiles[0]) if low is None else low, float(percentiles[1])
    span = max(high - low, 1e-12)
    levels = np.clip((values - low) / span, 0, 1) * (LEVELS - 1) + 1
    pixels = np.where(known, np.rint(levels), 0).astype(np.uint8)
    height, width = values.shape
    return {
        'height': height,
        'width': width,
        'low': low,
        'high': high,
        'pixels': base64.b64encode(pixels.tobytes()).decode('ascii'),
    }


def curve_view(curve: UnseenCurve) -> Mapping[str, list[float]]:
    """Return frames in the image, and the deviance of the next ones in units of noise, of means of points."""
    told = [point for point in curve.points if point.known]
    parts = np.array_split(np.arange(len(told)), min(len(told), MOST_POINTS)) if told else []
    frames, unseen = [], []
    for part in parts:
        points = [told[at] for at in part]
        known = [point.known for point in points]
        frames.append(float(np.average([point.frames for point in points], weights=known)))
        unseen.append(1 + float(np.average([point.excess for point in points], weights=known)))
    return {'frames': frames, 'unseen': unseen}


def finite(value: float) -> float | None:
    """Return a number, or None in place of one that JSON does not know."""
    return value if math.isfinite(value) else None


def _reduced(values: npt.NDArray[Any], step: int) -> npt.NDArray[Any]:
    """Return means over squares of `step` pixels; what is left over at the ends is cut off."""
    if step == 1:
        return values
    height, width = (side // step for side in values.shape)
    squares = values[: height * step, : width * step].reshape(height, step, width, step)
    return np.asarray(squares.mean(axis=(1, 3)))
