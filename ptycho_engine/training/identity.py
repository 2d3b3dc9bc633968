"""A short text that tells whether a run trains on the same data as an earlier one."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..blocks import first_to_last
from ..formats.origin import ScanOrigin
from ..scan.neighbours import nearest_distances
from ..whole_scan.scan_model import ScanModel

__all__ = ['combined', 'scan_identity', 'scan_origin']

SAMPLE = 64
"""Patterns of a scan that are hashed whole; the others enter by the mean counts of the scan."""


def scan_identity(prepared: ScanModel) -> str:
    """Return a sha256 of a scan: positions, probe, mask, mean counts, some patterns, and labels if used."""
    raw = prepared.scan.raw
    digest = hashlib.sha256()
    chosen = first_to_last(len(raw), SAMPLE)
    parts: list[npt.NDArray[Any] | None] = [raw.xcoords, raw.ycoords, raw.probeGuess, raw.diffraction[chosen]]
    parts += [raw.bad_pixels, raw.labels]
    if raw.coherent is not None:
        parts += [raw.coherent.modes, raw.coherent.weights]
    if prepared.has_truth:
        parts.append(raw.objectGuess if raw.Y is None else raw.Y[chosen])
    for part in parts:
        array = np.ascontiguousarray(np.zeros(0) if part is None else part)
        digest.update(f'{array.dtype.str}{array.shape}'.encode())
        digest.update(array.tobytes())
    # Six digits: the last ones of a sum may differ between machines.
    digest.update(f'{prepared.scale.mean_counts:.6e}'.encode())
    return digest.hexdigest()


def scan_origin(prepared: ScanModel) -> ScanOrigin:
    """Return what a model says of a scan that it was trained on."""
    raw = prepared.scan.raw
    distances = nearest_distances(np.stack([raw.xcoords, raw.ycoords], axis=1))
    return ScanOrigin(
        name=Path(raw.source).name if raw.path is None else raw.path.resolve().name,
        patterns=len(raw),
        mean_counts=prepared.scale.mean_counts,
        step_px=float(np.median(distances)) if len(distances) else None,
        identity=scan_identity(prepared),
    )


def combined(*parts: object) -> str:
    """Return one sha256 for several identities and settings."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()
