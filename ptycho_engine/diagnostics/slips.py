"""A pattern that is missing among the others of a scan, or too many: the later ones are out of step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..errors import DataValueError
from ..scan.raw_data import RawData
from .changes import Change, slipped
from .trials import Reading, Trials, is_too_little

__all__ = ['find_slip', 'likely_slip']

PLACES = 11
"""Places along the scan that are tried first."""
ITERATIONS, FINALISTS = 14, 2
"""Of each trial, and how many of the best ones are followed."""
PLAINLY, LEFT_OVER = 0.95, 0.6
"""Parts of the ratio to noise, and of what it is above 1, that patterns about a slip have left at most."""


def find_slip(trials: Trials, reading: Reading) -> Change | None:
    """Return the slip of a scan; None where there is none (DOCTOR-10).

    Raises
    ------
    DataValueError
        As for :class:`~.trial_fit.TrialFit`.
    """
    count = len(trials.whole(reading))
    if count < 2 * PLACES:
        return None

    def ratio(about: int, *changes: Change) -> float:
        changed = replace(reading, changes=(*reading.changes, *changes))
        return trials.fit_around(changed, about, ITERATIONS).judge().ratio

    def left(index: int, missing: bool, about: int) -> float:
        """Return the part of the ratio to noise of the patterns about a place that a slip leaves of it."""
        if about not in given:
            given[about] = ratio(about)
        return ratio(about, slipped(count, index, missing=missing)) / given[about]

    given: dict[int, float] = {}
    places = np.rint(np.linspace(0, count, PLACES + 2)[1:-1]).astype(int).tolist()
    kinds = [(index, missing) for index in places for missing in (True, False)]
    found = []
    for index, missing in sorted(kinds, key=lambda kind: left(kind[0], kind[1], kind[0]))[:FINALISTS]:
        step = places[0]
        while step > 1:
            step = (step + 1) // 2
            near = [place for place in (index, index - step, index + step) if 0 < place < count]
            parts = [left(place, missing, index) for place in near]
            index = near[int(np.argmin(parts))]
        found.append((left(index, missing, index), index, missing))
    part, index, missing = min(found)
    before = ratio(index)
    plain = part < PLAINLY and part * before - 1 < LEFT_OVER * (before - 1)
    return slipped(count, index, missing=missing) if plain else None


def likely_slip(raw: RawData) -> str:
    """Return the slip of a scan in words, as :func:`~.trials.likely_reading` an order; empty for none."""
    if not raw.counted or is_too_little(raw):
        return ''
    try:
        change = find_slip(Trials(replace(raw, objectGuess=None, Y=None)), Reading())
    except DataValueError:
        return ''
    return '' if change is None else change.sentence
