"""Fits of a small part of a scan, read in one way or another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import numpy as np
from scipy import fft

from ..errors import DataValueError
from ..physics.probe import relative_intensity
from ..scan.centring import off_probe
from ..scan.neighbours import nearest_distances
from ..scan.pretreatment import crop_scan
from ..scan.raw_data import RawData
from ..scan.scan import Scan
from .changes import (
    BACKWARDS,
    Change,
    changed,
    orders,
    orientations_of_patterns,
    orientations_of_positions,
    orientations_of_probe,
)
from .forces import pulled
from .trial_fit import Free, TrialFit

__all__ = [
    'FEWEST_PATTERNS',
    'NEAR',
    'SCREENED_PATTERNS',
    'SLACK',
    'SLOW',
    'Reading',
    'Trials',
    'disagreement',
    'is_too_little',
    'likely_reading',
    'median_step',
    'off_centre',
    'probe_width',
]

PATTERNS, SCREENED_PATTERNS, LEAST_PATTERNS = 49, 25, 16
"""Neighbouring patterns of the part that is fitted, of one that is fitted in a hurry, and the fewest of
either."""
PULLING_PATTERNS, LEAST_PULLING = 169, 36
"""The same of the part whose forces are looked at (:mod:`.forces`): the wider it is, the more axes show."""
MORE_PATTERNS = 36
"""Patterns that are fitted where fewer do not come near noise."""
FEWEST_PATTERNS = 9
"""Patterns of a scan below which nothing is tried."""
WIDEST_STEP = 1.5
"""Steps of the scan, relative to the probe's width, beyond which patterns tell nothing of each other."""
REFERENCE_SIZE = 64
"""Pixels of a side of patterns of which so many are taken; of larger ones there are fewer."""
ITERATIONS, LONGER = 40, 160
SLOW = 2.0
"""How many times its limit a ratio may be that more iterations might still bring below."""

MIDDLES, LOST = 32, 0.005
"""Pixels by which the middle of larger patterns, on which much is tried, is made larger, and part of their
light that may lie outside it."""

CLOSE_RANGE, CLOSE, CLOSE_TRIALS = 0.08, 0.002, 10
"""Size of a relative change of positions up to which held-out pixels tell it, how closely, and in how many
fits at most."""
CLOSE_GAIN = 0.015
"""Part by which their deviance must fall for it."""

GLANCE, GLANCED_SIZE, PLAINLY = 14, 128, 0.8
"""Iterations in which each orientation and order is tried, pixels of a side of the patterns, or of their
middle, and the part of the ratio to noise that the one which a run names leaves at most."""

EMPTY = 0.01
"""A pattern with less than this part of the median counts is empty, which is said elsewhere."""

NEAR = 1.25
"""Held-out deviance relative to photon noise up to which a scan is near noise, whatever it is."""
SLACK = 1.3
"""The same relative to that of a simulated scan of its kind."""


@dataclass(frozen=True)
class Reading:
    """A way to read a scan: changes of what is in its file, and what is fitted beside the object."""

    changes: tuple[Change, ...] = ()
    free: frozenset[Free] = frozenset()

    def then(self, change: Change) -> Reading:
        """Return this with one more change."""
        return replace(self, changes=(*self.changes, change))

    def freeing(self, free: Free) -> Reading:
        """Return this with one more thing that is fitted."""
        return replace(self, free=self.free | {free})


class Trials:
    """Fits of parts of one scan."""

    def __init__(self, raw: RawData) -> None:
        self.raw = raw
        self.patterns, self.screened = (
            _as_many(count, raw.N, LEAST_PATTERNS) for count in (PATTERNS, SCREENED_PATTERNS)
        )
        self.pulling = _as_many(PULLING_PATTERNS, raw.N, LEAST_PULLING)
        """Patterns that are looked at for forces."""
        self._reachable: WeakKeyDictionary[TrialFit, float] = WeakKeyDictionary()

    def whole(self, reading: Reading) -> RawData:
        """Return the scan with the changes that read no pattern."""
        return changed(self.raw, (change for change in reading.changes if change.whole))

    def fit(self, reading: Reading, iterations: int = ITERATIONS, count: int | None = None) -> TrialFit:
        """Fit a part of the scan, `count` patterns or as many as usual.

        Raises
        ------
        DataValueError
            If these patterns are dark, or the probe has no intensity on the valid pixels.
        """
        return TrialFit(self.part(reading, count or self.patterns), reading.free).run(iterations)

    def middle(self, reading: Reading) -> int:
        """Return the side of the middle of the patterns, read so, that holds nearly all their light.

        It is that of the patterns up to 64×64 pixels, and 64 at least.
        """
        part = self.part(reading, self.screened)
        light = np.square(part.diffraction, dtype=np.float64).sum(axis=0) * part.valid
        for size in range(REFERENCE_SIZE, part.N, MIDDLES):
            start = part.N // 2 - size // 2
            inner = slice(start, start + size)
            if light[inner, inner].sum() >= (1 - LOST) * light.sum():
                return size
        return part.N

    def fit_middle(
        self, reading: Reading, size: int, iterations: int, count: int = SCREENED_PATTERNS
    ) -> TrialFit:
        """Fit the middle `size`×`size` pixels of few patterns, as many as of so small ones.

        Its ratio to noise can be compared with that of another reading in the same middle alone.
        """
        part = self.part(reading, _as_many(count, size, LEAST_PATTERNS))
        if size < part.N:
            part = crop_scan(Scan.from_raw(part), size).raw
        return TrialFit(part, reading.free).run(iterations)

    def fit_around(self, reading: Reading, index: int, iterations: int = ITERATIONS) -> TrialFit:
        """Fit as many patterns as usual that follow each other, about one of an index."""
        raw = self.whole(reading)
        first = int(np.clip(index - self.patterns // 2, 0, max(len(raw) - self.patterns, 0)))
        part = compact_part(raw.select(np.arange(first, min(first + self.patterns, len(raw)))), self.patterns)
        part = changed(part, (change for change in reading.changes if not change.whole))
        return TrialFit(part, reading.free).run(iterations)

    def told_by_held_out(self, reading_of: Callable[[float], Reading]) -> float:
        """Return the small number, 0 for none, by whose reading held-out pixels are told best (DOCTOR-11).

        Where forces on positions have led to, as the object follows wrong ones.
        """
        # It takes long to import, and is hardly ever needed.
        from scipy.optimize import minimize_scalar

        def ratio(number: float) -> float:
            return self.fit(reading_of(number)).judge().ratio

        found = minimize_scalar(
            ratio,
            bounds=(-CLOSE_RANGE, CLOSE_RANGE),
            method='bounded',
            options={'xatol': CLOSE, 'maxiter': CLOSE_TRIALS},
        )
        return float(found.x) if found.fun < (1 - CLOSE_GAIN) * ratio(0.0) else 0.0

    def ends(self, reading: Reading) -> list[tuple[float, bool]]:
        """Return the ratio to noise of the first and of the last patterns, and whether it is far from noise.

        Without those that are dark; none where they are the patterns of the middle.
        """
        count = len(self.whole(reading))
        found = []
        for index in (0, count - 1) if count >= 2 * self.patterns else ():
            try:
                found.append(self._end(self.fit_around(reading, index)))
            except DataValueError:
                continue
        return found

    def _end(self, fit: TrialFit) -> tuple[float, bool]:
        ratio, limit = fit.judge().ratio, self.limit(fit)
        if limit < ratio <= SLOW * limit:
            # Patterns from all over a scan in random order hold each other little.
            ratio = fit.run(LONGER - ITERATIONS).judge().ratio
        return ratio, ratio > limit

    def part(self, reading: Reading, count: int) -> RawData:
        """Return so many neighbouring patterns with all changes, in memory."""
        part = compact_part(self.whole(reading), count)
        return changed(part, (change for change in reading.changes if not change.whole))

    def limit(self, fit: TrialFit) -> float:
        """Return up to which ratio a fit is near noise; where need be, a simulated scan of its kind tells."""
        return NEAR if fit.judge().ratio <= NEAR else max(NEAR, SLACK * self.reachable(fit))

    def reachable(self, fit: TrialFit) -> float:
        """Return the ratio to noise of a simulated scan of the same kind."""
        if fit not in self._reachable:
            self._reachable[fit] = _simulated(fit).judge().ratio
        return self._reachable[fit]

    def as_given(self) -> tuple[TrialFit, float]:
        """Return the fit of the scan as it is, and up to which ratio that is near noise.

        Few large patterns may hold each other too little to tell, and many photons take long to explain;
        more patterns and iterations are then tried before it is called far from noise.

        Raises
        ------
        DataValueError
            As for :meth:`fit`.
        """
        fit = self.fit(Reading())
        limit = self.limit(fit)
        if not limit < fit.judge().ratio <= SLOW * limit:
            return fit, limit
        if self.patterns < MORE_PATTERNS:
            larger = self.fit(Reading(), count=MORE_PATTERNS)
            larger_limit = self.limit(larger)
            if larger.judge().ratio <= larger_limit:
                return larger, larger_limit
        longer = self.fit(Reading(), LONGER, max(self.patterns, MORE_PATTERNS))
        return (longer, NEAR) if longer.judge().ratio <= NEAR else (fit, limit)


def disagreement(raw: RawData) -> str:
    """Return what speaks against a scan after a quick reconstruction; empty for nothing (DOUBT-03).

    Empty too where there is too little of the scan, or no counts, to tell (DOCTOR-01, DOCTOR-06).
    """
    if not raw.counted or is_too_little(raw):
        return ''
    trials, given = Trials(raw), Reading()
    try:
        fit, limit = trials.as_given()
        ratio = fit.judge().ratio
        if ratio > limit:
            likely = likely_reading(raw)
            return (
                f'a quick reconstruction is far from photon noise ({ratio:.3g} times its deviance), so that '
                f'patterns, probe and positions do not agree{f" (most likely {likely})" if likely else ""}'
            )
        suspected = pulled(trials.part(given, trials.pulling), 'off').suspected
    except DataValueError:
        # The middle of the scan may be dark where the rest is not.
        return ''
    if not suspected:
        return ''
    return (
        f'what a quick reconstruction leaves of the patterns pulls at {", ".join(suspected)}, where '
        'something is not as the file says'
    )


def likely_reading(raw: RawData, *, backwards: bool = False) -> str:
    """Return in words which orientation or order of a scan far from noise explains it; empty for none.

    Quicker than a diagnosis, and for scans of any size: the middle of large patterns is enough. `backwards`
    tries only what another probe may make up for.
    """
    if not raw.counted or is_too_little(raw):
        return ''
    bare = replace(raw, objectGuess=None, Y=None)
    if bare.N > GLANCED_SIZE:
        bare = crop_scan(Scan.from_raw(bare), GLANCED_SIZE).raw
    trials = Trials(bare)
    changes = [
        *orientations_of_patterns(),
        *orientations_of_positions(),
        *orientations_of_probe(),
        *orders(len(bare)),
    ]
    if backwards:
        changes = [change for change in changes if change.key in BACKWARDS]
    try:
        before = trials.fit(Reading()).judge().ratio
        ratios = [
            trials.fit(Reading().then(change), GLANCE, trials.screened).judge().ratio for change in changes
        ]
        best = changes[int(np.argmin(ratios))]
        fit = trials.fit(Reading().then(best))
        after, limit = fit.judge().ratio, trials.limit(fit)
    except DataValueError:
        # As in `disagreement`.
        return ''
    return best.sentence if after < PLAINLY * before and after < SLOW * limit else ''


def is_too_little(raw: RawData) -> bool:
    """Return whether patterns are too few, or too far apart, to tell of each other."""
    return len(raw) < FEWEST_PATTERNS or median_step(raw) > WIDEST_STEP * probe_width(raw)


def compact_part(raw: RawData, count: int) -> RawData:
    """Return the patterns nearest to the middle of a scan, in memory, without empty ones."""
    middle = np.median(raw.xcoords), np.median(raw.ycoords)
    distance = np.maximum(np.abs(raw.xcoords - middle[0]), np.abs(raw.ycoords - middle[1]))
    part = raw.select(np.sort(np.argsort(distance, kind='stable')[:count]))
    part = replace(part, diffraction=np.asarray(part.diffraction[:]), objectGuess=None, Y=None)
    light = np.square(part.diffraction).sum(axis=(1, 2))
    lit = light > EMPTY * np.median(light)
    return part if lit.all() or not lit.any() else part.select(np.flatnonzero(lit))


def _as_many(count: int, size: int, least: int) -> int:
    """Return how many patterns of `size` pixels a side are taken where of small ones there are `count`."""
    return int(np.clip(count * (REFERENCE_SIZE / size) ** 2, least, count))


def _simulated(fit: TrialFit) -> TrialFit:
    """Return the fit of what a fit predicts with photon noise by its probe and positions."""
    rng = np.random.default_rng(1)
    counts = fft.fftshift(rng.poisson(np.maximum(fit.predicted(), 0)), axes=(-2, -1))
    raw = replace(
        fit.raw,
        diffraction=np.sqrt(counts).astype(np.float32),
        probeGuess=fit.probe,
        xcoords=fit.raw.xcoords + fit.moved[:, 1],
        ycoords=fit.raw.ycoords + fit.moved[:, 0],
        metadata={},
    )
    return TrialFit(raw, fit.free & {'intensities', 'background'}).run(ITERATIONS)


def off_centre(part: RawData) -> tuple[int, int]:
    """Return by how many [rows, columns] patterns must be rolled to lie where the probe's far field does."""
    counts = np.square(part.diffraction, dtype=np.float64).mean(axis=0) * part.valid
    return off_probe(counts, part.probeGuess)[0]


def median_step(raw: RawData) -> float:
    """Return the median distance of a position to its nearest neighbour, in pixels."""
    return float(np.median(nearest_distances(np.stack([raw.xcoords, raw.ycoords], axis=1))))


def probe_width(raw: RawData) -> float:
    """Return the diameter in pixels of a disk with the probe's effective area, (ΣI)² / ΣI²."""
    intensity = relative_intensity(raw.probeGuess)
    area = float(intensity.sum() ** 2 / (intensity**2).sum())
    return 2 * float(np.sqrt(area / np.pi))
