"""What calibration corrected of an experiment, in words (CAL-06)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..physics.coherent import CoherentModes
from ..physics.probe_changes import shifted_on_detector
from ..scan.centring import off_probe
from .scan_model import ScanModel

__all__ = ['Correction', 'became_another', 'became_twin', 'corrections', 'far_field_light', 'linear_map']

RANGE_TOLD = 0.5
"""Range of a background, relative to its mean, from which on it is told."""

SAME_LIGHT = 0.8
"""Overlap of the amplitudes on the detector of two probes from which on one may be the other, changed."""

LITTLE_IN_COMMON = 0.5
"""Overlap of the first modes of two probes, where they lie best, below which one is no change of another."""

AXES_SHARE = 0.3
"""Part of the moves of positions up to which what is no linear map of them is not worth words."""


@dataclass(frozen=True)
class Correction:
    """A part of an experiment that is another after calibration."""

    part: str
    """Of ``CALIBRATED_PARTS``."""
    phrase: str


def corrections(before: ScanModel, after: ScanModel) -> Iterator[Correction]:
    """Yield one for each part of an experiment that is another after calibration."""
    masked = int((before.valid & ~after.valid).sum())
    if masked:
        plural = 's' if masked > 1 else ''
        yield Correction('bad_pixels', f'{masked} bad pixel{plural} of the detector left out')
    if after.background is not None:
        yield Correction('background', f'a background of {_in_words(after.background)} counts per pixel')
    if after.intensity is not None:
        least, most = after.intensity.min(), after.intensity.max()
        yield Correction('intensities', f'beam intensities from {least:.2g} to {most:.2g} of their mean')
    if after.coherent is not None and after.scan.raw.coherent is not before.scan.raw.coherent:
        yield Correction('modes', _varying(after.coherent, first=before.coherent is None))
    elif not np.array_equal(before.scan.raw.probeGuess, after.scan.raw.probeGuess):
        yield from _of_the_probe(before.illumination.probe, after.illumination.probe)
    moved = np.stack(
        [after.scan.raw.ycoords - before.scan.raw.ycoords, after.scan.raw.xcoords - before.scan.raw.xcoords]
    )
    if moved.any():
        place = np.stack([before.scan.raw.ycoords, before.scan.raw.xcoords])
        yield Correction('positions', _moves(place, moved))


def _varying(found: CoherentModes, *, first: bool) -> str:
    """Put modes by which the probe varies into words."""
    varies = float(np.square(found.weights).mean(axis=0).sum())
    article = 'a' if first else 'another'
    plural = 's' if len(found) > 1 else ''
    return (
        f'{article} probe that varies over the scan ({len(found)} coherent mode{plural} beside the mean one, '
        f'with {100 * varies / (1 + varies):.2g} % of its light)'
    )


def _in_words(background: npt.NDArray[np.float64]) -> str:
    """Put the counts of a background (N, N) into words."""
    least, most = background.min(), background.max()
    mean = f'{background.mean():.3g}'
    return mean if most - least < RANGE_TOLD * background.mean() else f'{mean} ({least:.2g} to {most:.2g})'


def _of_the_probe(old: npt.NDArray[np.complex64], new: npt.NDArray[np.complex64]) -> Iterator[Correction]:
    """Put another probe (P, N, N) into words."""
    light = far_field_light(new)
    back, _ = off_probe(light, old)
    y, x = -back[0], -back[1]
    old = shifted_on_detector(old, (y, x))
    overlap = f'(overlap with that of the file {_likeness(old[0], new[0]):.2f})'
    if _likeness(np.sqrt(far_field_light(old)), np.sqrt(light)) < SAME_LIGHT:
        yield Correction('probe', f'another probe, made from the patterns {overlap}')
        return
    if y or x:
        off = f'patterns off the middle of the detector by {y} px along y, {x} px along x (a tilted probe)'
        yield Correction('probe', off)
    if len(old) != len(new):
        yield Correction('modes', f'{len(new)} incoherent modes of the probe')
    elif _are_twins(old[0], new[0]):
        yield Correction('probe', 'the probe, into that of the file inverted and conjugated')
    else:
        yield Correction('probe', f'the probe {overlap}')


def became_another(before: ScanModel, after: ScanModel) -> bool:
    """Return whether calibration has made another probe, of more modes or of little in common with the
    file's."""
    old, new = before.illumination.probe, after.illumination.probe
    return len(old) != len(new) or _overlap(old[0], new[0]) < LITTLE_IN_COMMON


def became_twin(before: ScanModel, after: ScanModel) -> bool:
    """Return whether calibration has made the probe that of the file inverted and conjugated.

    Object and probe inverted and conjugated explain the same patterns with positions of the other sign: the
    file has it so, or positions or patterns run backwards and the image is turned by 180°.
    """
    return _are_twins(before.illumination.probe[0], after.illumination.probe[0])


def _are_twins(old: npt.NDArray[np.complex64], new: npt.NDArray[np.complex64]) -> bool:
    """Return whether a mode (N, N) is another one inverted and conjugated, and not that one as well."""
    return _overlap(_twin(old), new) > SAME_LIGHT > _overlap(old, new)


def _twin(mode: npt.NDArray[np.complex64]) -> npt.NDArray[np.complex64]:
    """Return a mode (N, N) inverted and conjugated, which lights the detector alike."""
    return mode[::-1, ::-1].conj()


def _overlap(one: npt.NDArray[np.complex64], other: npt.NDArray[np.complex64]) -> float:
    """Return the overlap of two modes (N, N) where they lie best on each other."""
    product = np.fft.ifft2(np.fft.fft2(one) * np.fft.fft2(other).conj())
    return float(np.abs(product).max() / (np.linalg.norm(one) * np.linalg.norm(other)))


def far_field_light(probe: npt.NDArray[np.complex64]) -> npt.NDArray[np.floating[Any]]:
    """Return the light (N, N) of a probe (P, N, N) at the detector, zero frequency at N//2."""
    return np.fft.fftshift((np.abs(np.fft.fft2(probe)) ** 2).sum(axis=0))


def _likeness(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    """Return the overlap of two images, 1 where they are alike up to a factor."""
    return float(abs(np.vdot(one, other)) / (np.linalg.norm(one) * np.linalg.norm(other)))


def linear_map(
    place: npt.NDArray[np.float64], moved: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64] | None:
    """Return the map (2, 2) of positions (2, n) [y, x] that moves (2, n) are of; None where they are not."""
    place = place - place.mean(axis=1, keepdims=True)
    matrix = moved @ np.linalg.pinv(place)
    left, all_of_it = (np.sqrt((move**2).sum(axis=0).mean()) for move in (moved - matrix @ place, moved))
    return None if left > AXES_SHARE * all_of_it else np.eye(2) + matrix


def _moves(place: npt.NDArray[np.float64], moved: npt.NDArray[np.float64]) -> str:
    """Put moves (2, n) of positions [y, x] into words: those of the axes, where they are most of them."""
    length = np.sqrt((moved**2).sum(axis=0).mean())
    linear = linear_map(place, moved)
    if linear is None:
        return f'positions by {length:.2g} px (root mean square)'
    turned = np.rad2deg(np.arctan2(linear[0, 1] - linear[1, 0], np.trace(linear)))
    rows, columns = 100 * np.linalg.norm(linear, axis=0)
    axes = f'turned by {turned:.2g}°, steps {columns:.4g} % as long along x and {rows:.4g} % along y'
    return f'the axes of the scan ({axes}; positions by {length:.2g} px, root mean square)'
