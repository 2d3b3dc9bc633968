"""Patterns that are missing among the others of a scan, or too many: the later ones are out of step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ..errors import DataValueError
from ..scan.raw_data import RawData
from .changes import LARGEST_STEP, Change, shift_of, slipped
from .trials import Reading, Trials, is_too_little

__all__ = ['Slip', 'find_slip', 'later_slip', 'likely_slip', 'root_mean_square']

PLACES = 11
"""Places along the scan that are tried first."""
SIZES = tuple(sign * size for size in range(1, LARGEST_STEP + 1) for sign in (1, -1))
"""Patterns that may be missing in a row, or too many."""
ITERATIONS, FINALISTS = 14, 2
"""Of each trial, and how many of the best ones are followed."""
MOVED, WILDLY, OF_ONE_MAP = 0.2, 0.5, 0.1
"""Steps of a scan (root mean square) by which calibration must have moved positions to make up for a slip;
from which on it may have done so in any way; and the part of the moves up to which they are of one map."""
NEIGHBOURS, TOGETHER = 3, 16.3
"""Neighbours in the scan with which they are moved alike, and what the squared correlations with these add up
to at least, times twice the number of patterns: by chance in one of a thousand scans (χ² of three)."""
PLAINLY, LEFT_OVER = 0.95, 0.6
"""Parts of the ratio to noise, and of what it is above 1, that patterns about a slip have left at most."""


@dataclass(frozen=True)
class Slip:
    """Some patterns that are missing, or too many."""

    change: Change
    """What undoes it."""
    place: int
    """The pattern from which on others are out of step."""


def find_slip(trials: Trials, reading: Reading) -> Slip | None:
    """Return the slip of a scan; None where there is none (DOCTOR-10).

    Raises
    ------
    DataValueError
        As for :class:`~.trial_fit.TrialFit`.
    """
    return _Slips(trials, reading).best(SIZES)


def later_slip(trials: Trials, reading: Reading, shift: Change) -> Slip | None:
    """Return the slip that a shift of all patterns is in truth; None where it is one from the beginning on.

    What is told by the middle of a scan may begin anywhere before it (DOCTOR-10).

    Raises
    ------
    DataValueError
        As for :class:`~.trial_fit.TrialFit`.
    """
    return _Slips(trials, reading, shift).best((-shift_of(shift),))


class _Slips:
    """Tries slips of a scan about the places where they would be.

    Parameters
    ----------
    shift : Change, optional
        What they must be better than; None for the scan as it is read.
    """

    def __init__(self, trials: Trials, reading: Reading, shift: Change | None = None) -> None:
        self._trials, self._reading = trials, reading
        self._without = () if shift is None else (shift,)
        self._count = len(trials.whole(reading))
        self._before: dict[int, float] = {}

    def best(self, sizes: Iterable[int]) -> Slip | None:
        """Return the best slip by one of some numbers of patterns; None if none is good."""
        count = self._count
        if count < 2 * PLACES:
            return None
        places = np.rint(np.linspace(0, count, PLACES + 2)[1:-1]).astype(int).tolist()
        kinds = [(place, size) for place in places for size in sizes]
        begun = sorted(kinds, key=lambda kind: self._left(kind[0], kind[1], kind[0]))[:FINALISTS]
        part, place, size = min(self._closer(place, size, places[0]) for place, size in begun)
        before = self._ratio(place, *self._without)
        plain = part < PLAINLY and part * before - 1 < LEFT_OVER * (before - 1)
        return Slip(slipped(count, place, size), place) if plain else None

    def _closer(self, place: int, size: int, step: int) -> tuple[float, int, int]:
        """Return the best slip within about `step` patterns of a place: what it leaves, where, how many."""
        while step > 1:
            step = (step + 1) // 2
            last = self._count - abs(size)
            near = [other for other in (place, place - step, place + step) if 0 < other <= last]
            place = near[int(np.argmin([self._left(other, size, place) for other in near]))]
        return self._left(place, size, place), place, size

    def _left(self, place: int, size: int, about: int) -> float:
        """Return the part of the ratio to noise of the patterns about a place that a slip leaves of it."""
        if about not in self._before:
            self._before[about] = self._ratio(about, *self._without)
        return self._ratio(about, slipped(self._count, place, size)) / self._before[about]

    def _ratio(self, about: int, *changes: Change) -> float:
        changed = replace(self._reading, changes=(*self._reading.changes, *changes))
        return self._trials.fit_around(changed, about, ITERATIONS).judge().ratio


def likely_slip(raw: RawData, moved: npt.NDArray[np.float64]) -> str:
    """Return the slip that calibration has made up for, in words; empty for none (DOUBT-07).

    Parameters
    ----------
    moved : (n, 2) float
        [y, x] by which it has moved the positions, in steps of the scan.
    """
    if not raw.counted or is_too_little(raw) or not _may_be_slip(raw, moved):
        return ''
    try:
        slip = find_slip(Trials(replace(raw, objectGuess=None, Y=None)), Reading())
    except DataValueError:
        return ''
    return '' if slip is None else slip.change.sentence


def root_mean_square(vectors: npt.NDArray[np.float64]) -> float:
    """Return the root mean square length of vectors (n, 2)."""
    return float(np.sqrt(np.square(vectors).sum(axis=1).mean()))


def _may_be_slip(raw: RawData, moved: npt.NDArray[np.float64]) -> bool:
    """Return whether positions were moved far, and as their neighbours in the scan were.

    Other axes move all by one linear map; what is off by chance moves each by itself.
    """
    size = root_mean_square(moved)
    place = np.stack([np.ones(len(raw)), raw.ycoords, raw.xcoords], axis=1)
    beyond_axes = moved - place @ np.linalg.lstsq(place, moved, rcond=None)[0]
    if size < MOVED or root_mean_square(beyond_axes) < OF_ONE_MAP * size:
        return False
    away = moved - moved.mean(axis=0)
    power = np.square(away).sum()
    alike = sum(((away[lag:] * away[:-lag]).sum() / power) ** 2 for lag in range(1, NEIGHBOURS + 1))
    return bool(size > WILDLY or 2 * len(raw) * alike > TOGETHER)
