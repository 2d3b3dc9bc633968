"""What calibration corrected of an experiment, in words (CAL-06)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from ..physics.probe_changes import shifted_on_detector
from ..scan.centring import off_probe
from .scan_model import ScanModel

__all__ = ['phrases']

AXES_SHARE = 0.3
"""Part of the moves of positions up to which what is no linear map of them is not worth words."""


def phrases(before: ScanModel, after: ScanModel) -> Iterator[str]:
    """Yield a phrase for each part of an experiment that is another after calibration."""
    masked = int((before.good & ~after.good).sum())
    if masked:
        yield f'{masked} bad pixel{"s" if masked > 1 else ""} of the detector left out'
    if after.background is not None:
        yield f'a background of {after.background.mean():.3g} counts per pixel'
    if after.intensity is not None:
        least, most = after.intensity.min(), after.intensity.max()
        yield f'beam intensities from {least:.2g} to {most:.2g} of their mean'
    if not np.array_equal(before.scan.raw.probeGuess, after.scan.raw.probeGuess):
        yield from _of_the_probe(before.illumination.probe, after.illumination.probe)
    moved = np.stack(
        [after.scan.raw.ycoords - before.scan.raw.ycoords, after.scan.raw.xcoords - before.scan.raw.xcoords]
    )
    if moved.any():
        yield _moves(np.stack([before.scan.raw.ycoords, before.scan.raw.xcoords]), moved)


def _of_the_probe(old: npt.NDArray[np.complex64], new: npt.NDArray[np.complex64]) -> Iterator[str]:
    """Put another probe (P, N, N) into words."""
    far_field = np.fft.fftshift((np.abs(np.fft.fft2(new)) ** 2).sum(axis=0))
    back, _ = off_probe(far_field, old)
    y, x = -back[0], -back[1]
    if y or x:
        yield f'patterns off the middle of the detector by {y} px along y, {x} px along x (a tilted probe)'
    if len(old) != len(new):
        yield f'{len(new)} incoherent modes of the probe'
    else:
        old = shifted_on_detector(old, (y, x))
        likeness = abs(np.vdot(old, new)) / (np.linalg.norm(old) * np.linalg.norm(new))
        yield f'the probe (overlap with that of the file {likeness:.2f})'


def _moves(place: npt.NDArray[np.float64], moved: npt.NDArray[np.float64]) -> str:
    """Put moves (2, n) of positions [y, x] into words: those of the axes, where they are most of them."""
    length = np.sqrt((moved**2).sum(axis=0).mean())
    place = place - place.mean(axis=1, keepdims=True)
    matrix = moved @ np.linalg.pinv(place)
    if np.sqrt(((moved - matrix @ place) ** 2).sum(axis=0).mean()) > AXES_SHARE * length:
        return f'positions by {length:.2g} px (root mean square)'
    linear = np.eye(2) + matrix
    turned = np.rad2deg(np.arctan2(linear[0, 1] - linear[1, 0], np.trace(linear)))
    rows, columns = 100 * np.linalg.norm(linear, axis=0)
    axes = f'turned by {turned:.2g}°, steps {columns:.4g} % as long along x and {rows:.4g} % along y'
    return f'the axes of the scan ({axes}; positions by {length:.2g} px, root mean square)'
