"""How well an object predicts the patterns of a scan, and the factor with which it does so best."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..arrays import require_finite_result
from ..blocks import block_length, blocks, evenly_spread, most_patterns
from ..physics.forward import deviance, informative, predict_intensity
from ..physics.noise import noise_deviance
from ..whole_scan.scan_model import ScanModel
from .result import Reconstruction

__all__ = ['Fit', 'judge_fit', 'with_fit']

HELD_OUT_PATTERNS = 512
HELD_OUT_PIXELS = 512 * 128**2
"""At most so many patterns and pixels are compared with the prediction; enough for three digits."""

NOISE_PATTERNS = 32
"""Of these, so many tell what photon noise leaves."""


class Fit(NamedTuple):
    """How well an object predicts the patterns of a scan."""

    factor: float
    """Factor of the object that makes the predicted total counts right."""
    deviance: float
    """Poisson deviance per valid pixel after it."""
    noise: float
    """What photon noise leaves of that; NaN where the patterns are no counts."""
    counts: float
    """Mean counts per valid pixel."""


def with_fit(
    prepared: ScanModel,
    result: Reconstruction,
    object_array: npt.NDArray[np.complex64],
    probe: npt.NDArray[np.complex64] | None,
    position_shift: npt.NDArray[np.float64] | None = None,
    judged: int = HELD_OUT_PATTERNS,
) -> tuple[Reconstruction, Fit]:
    """Return `result` with an object times the factor that makes the counts right, and how well it fits.

    `probe`, in the engine's scale, and `position_shift` belong to the object; None where they are the scan's.
    """
    calibrated = prepared.calibrated(probe, position_shift)
    new = None if probe is None else calibrated.scan.raw
    fit = judge_fit(calibrated, object_array, judged)
    amplitude = fit.factor
    fitted = replace(
        result,
        probe=None if new is None else new.probeGuess,
        coherent=None if new is None else new.coherent,
        position_shift=position_shift,
        object_array=(object_array * np.float32(amplitude)).astype(np.complex64),
        uncertainty=(result.uncertainty * np.float32(amplitude)).astype(np.float32),
        deviance=fit.deviance,
    )
    require_finite_result(fitted.object_array, fitted.probe, fitted.position_shift)
    return fitted, fit


def judge_fit(
    prepared: ScanModel, object_array: npt.NDArray[np.complex64], most: int = HELD_OUT_PATTERNS
) -> Fit:
    """Return the factor that makes the predicted total counts right, and how well they are predicted then.

    On scans of more than `most` patterns an evenly spread part of them is judged.
    """
    raw = prepared.scan.raw
    chosen = evenly_spread(len(raw), most_patterns(most, HELD_OUT_PIXELS, raw.N))
    dark = np.float32(0) if prepared.background is None else prepared.background.astype(np.float32)
    padded = prepared.pad(object_array / np.float32(prepared.scale.probe_scale))
    valid = prepared.valid
    probe = prepared.illumination.probe
    rate = np.empty((len(chosen), raw.N, raw.N), np.float32)
    count = np.empty_like(rate)
    for part in blocks(len(chosen), block_length(raw.N, len(probe))):
        members = chosen[part]
        subpixel_shift = prepared.placement.subpixel_shift[members]
        varying = None if prepared.coherent is None else prepared.coherent.at(members)
        rate[part] = predict_intensity(prepared.cut(padded, members), probe, subpixel_shift, varying)
        if prepared.intensity is not None:
            rate[part] *= prepared.intensity[members, None, None].astype(np.float32)
        count[part] = np.square(prepared.amplitude(members))
    own = (count - dark)[:, valid].sum(dtype=np.float64)
    factor = max(own, 0.0) / max(rate[:, valid].sum(dtype=np.float64), 1e-30)
    rate = rate * np.float32(factor) + dark
    seen = valid & informative(count, rate, raw.ceiling / prepared.scale.unit)
    values = [
        deviance(count[part], rate[part], seen[part]) for part in blocks(len(chosen), block_length(raw.N))
    ]
    noise = math.nan
    if raw.counted and prepared.scale.unit == 1:
        few = evenly_spread(len(chosen), NOISE_PATTERNS)
        noise = float(noise_deviance(rate[few][seen[few]]).mean())
    return Fit(
        factor=float(np.sqrt(factor)),
        deviance=float(np.concatenate(values).mean()),
        noise=noise,
        counts=float(count[:, valid].mean()),
    )
