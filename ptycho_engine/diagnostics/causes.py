"""What may be wrong with a scan, and what becomes of its fit where one thing after another is undone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt
from scipy import fft

from ..physics.detector import stuck_pixels
from .changes import (
    POSITIONS,
    Change,
    affine_map,
    bad_pixels,
    fftshifted_patterns,
    multiplied_positions,
    orders,
    orientations_of_patterns,
    orientations_of_positions,
    orientations_of_probe,
    propagated_probe,
    rolled_patterns,
    saturated_values,
    shift_of,
    with_offset,
)
from .pixels import suspects, tied_pixels
from .position_unit import find_unit
from .probe_place import cornered_probe
from .slips import Slip, find_slip, later_slip
from .trial_fit import Free, Judgement, TrialFit
from .trials import NEAR, Reading, Trials, off_centre

__all__ = ['CALIBRATED', 'CLEAR', 'PLACE', 'Cause', 'Causes', 'Found', 'gains']

Matrix = npt.NDArray[np.float64]

CLEAR = 0.8
"""Part of the ratio to noise that a clear cause, or a better one than another, leaves at most."""
PIXEL_ROUNDS = 5
"""Most looks at the pixels that stand out."""
LEAST_GAIN, SURE = 0.015, 4.0
"""Part by which the deviance must fall, and in how many standard errors, for a cause to be named."""
SCREENING_ITERATIONS, FINALISTS, HOPELESS = 14, 3, 1.1
"""Iterations in which all of many changes are tried, how many are tried in earnest at most, and below which
ratio to noise then, relative to that of none; a clearly better one leaves them no chance either."""
FREE_ITERATIONS = 24, 60
"""Iterations with other things free beside the object: to see whether it matters, and to find them."""
LARGEST_MAP = 0.4
"""Largest change of a step, relative to it, by a map of the positions that is no unit and no orientation."""
COARSE_TURNS, COARSE_STRETCHES = (0.08, 0.16, 0.24), (0.8, 0.87, 0.93, 1.07, 1.15, 1.25)
"""Angles in radians, of both signs, and factors that are tried first."""
AFFINE_PATTERNS = 49, 147
"""Patterns with whose middle a map of the positions is refined; the larger a part, the better it tells."""
STEPS = (0.0, 0.25, 0.5, 0.75)
"""Parts of a pixel by which positions are moved along each axis to see what suits the object."""
EARLY, HARMLESS_SHIFT = 8, 3
"""Iterations after which patterns off centre by so many pixels show; later a phase ramp explains it."""
PLAUSIBLE = 2.0
"""Ratio to noise up to which another unit of the positions makes sense of a scan."""
CURVATURES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Phases in radians at the edge of the patterns that a probe may be out of focus by, of both signs."""
FOCUS_FACTOR, FOCUS_RAD, FOCUS_TRIALS = 2.0, 0.02, 12
"""Factor about the best of these within which the focus is then looked for, in radians how closely, and in
how many fits at most."""
PLACE = '{SCAN}'
"""Where a remedy names the scan."""
CALIBRATED = f'ptychopinn reconstruct {PLACE} finds it by itself (--calibrate auto)'
"""What to do about what a file does not hold."""
ROUNDED = 1e-5
"""Part by which the root of whole counts in single precision may be off, squared."""
TIED = 4
"""Pixels of one pattern that share the largest value of all from which on they are saturated."""


@dataclass(frozen=True)
class Cause:
    """One thing that is wrong with a scan."""

    key: str
    """Its name for programs."""
    sentence: str
    """What is wrong; begins with a small letter, without a full stop."""
    remedy: str
    """What to do, with PLACE for the scan, without a full stop; empty where a repair of the file does it."""
    change: Change | None
    """What undoes it; None where the file cannot hold that."""
    before: float
    """Held-out deviance relative to noise before."""
    after: float
    """And when it is undone."""
    certain: bool = False
    """Whether the file shows it, whatever the deviance."""

    @property
    def clear(self) -> bool:
        """Whether it makes much of a difference, or is certain."""
        return self.certain or self.after < CLEAR * self.before


@dataclass(frozen=True)
class Found:
    """A cause, the scan without it, and the fit of that."""

    cause: Cause
    reading: Reading
    fit: TrialFit
    sure: bool = False
    """Whether something else than the deviance has told it."""
    aligned: bool = False
    """Whether its positions, where it moves them, were moved by parts of a pixel too."""


@dataclass(frozen=True)
class Causes:
    """Looks for one kind of cause after another in a scan as it is read so far."""

    trials: Trials
    reading: Reading

    def undone(self, change: Change, judged: Judgement, fit: TrialFit | None = None) -> Found:
        """Return the scan with a change, and its fit, which is made where it is not given."""
        reading = self.reading.then(change)
        fit = fit or self.trials.fit(reading)
        cause = Cause(change.key, change.sentence, '', change, judged.ratio, fit.judge().ratio)
        return Found(cause, reading, fit)

    def aligned(self, found: Found) -> Found:
        """Return a change of positions with the offset by parts of a pixel that fits best."""
        change = found.cause.change
        if change is None or change.kind != POSITIONS or found.aligned:
            return found
        dy = self._best_offset([with_offset(change, step, 0) for step in STEPS])
        dx = self._best_offset([with_offset(change, STEPS[dy], step) for step in STEPS])
        if dy or dx:
            moved = with_offset(change, STEPS[dy], STEPS[dx])
            reading = self.reading.then(moved)
            fit = self.trials.fit(reading)
            cause = replace(found.cause, change=moved, after=fit.judge().ratio)
            if cause.after < found.cause.after:
                found = replace(found, cause=cause, reading=reading, fit=fit)
        return replace(found, aligned=True)

    def placed(self, found: Found) -> Found:
        """Return an order that is shifted, from where it begins if that is not the beginning of the scan."""
        change = found.cause.change
        if change is None or not shift_of(change):
            return found
        slip = later_slip(self.trials, self.reading, change)
        return found if slip is None else self._slipped(slip)

    def _best_offset(self, changes: Sequence[Change]) -> int:
        """Return the index of the change that fits best, 0 where it hardly makes a difference."""
        ratios = [
            self.trials.fit(self.reading.then(change), SCREENING_ITERATIONS, self.trials.screened)
            .judge()
            .ratio
            for change in changes
        ]
        best = int(np.argmin(ratios))
        return best if ratios[best] < (1 - LEAST_GAIN) * ratios[0] else 0

    def _glances(self, changes: Iterable[Change], iterations: int) -> list[float]:
        """Return the ratios to noise of short fits of the middle of few patterns with each change."""
        size = self.trials.middle(self.reading)
        readings = map(self.reading.then, changes)
        return [self.trials.fit_middle(reading, size, iterations).judge().ratio for reading in readings]

    def _freed(
        self, free: Free, judged: Judgement, sentence: Callable[[TrialFit], str], remedy: str
    ) -> Iterator[Found]:
        """Yield what it brings to fit something that the file does not hold."""
        if free in self.reading.free:
            return
        reading = self.reading.freeing(free)
        fit = self.trials.fit(reading, FREE_ITERATIONS[1] if free in ('probe', 'positions') else 40)
        yield Found(Cause(free, sentence(fit), remedy, None, judged.ratio, fit.judge().ratio), reading, fit)

    def corner(self, judged: Judgement) -> Iterator[Found]:
        """Yield a probe whose middle is in the corners of its frame, unless the scan agrees better so."""
        change = cornered_probe(self.trials.raw)
        if change is None:
            return
        found = self.undone(change, judged)
        if found.cause.after < judged.ratio:
            yield replace(found, cause=replace(found.cause, certain=True))

    def centres(self, fit: TrialFit, judged: Judgement) -> Iterator[Found]:
        """Yield patterns whose middle is not that of the array."""
        shift, size = off_centre(fit.raw), fit.raw.N
        largest = max(abs(step) for step in shift)
        if largest == 0 or (largest < HARMLESS_SHIFT and judged.ratio <= NEAR):
            return
        corner = all(abs(abs(step) - size // 2) <= 1 for step in shift)
        change = fftshifted_patterns(size) if corner else rolled_patterns(*shift)
        if largest >= HARMLESS_SHIFT:
            readings = self.reading, self.reading.then(change)
            before, after = (
                self.trials.fit(reading, EARLY, self.trials.screened).judge() for reading in readings
            )
            if not after.ratio < CLEAR * before.ratio:
                return
            judged = before if before.ratio > judged.ratio else judged
        yield self.undone(change, judged)

    def pixels(self, fit: TrialFit, judged: Judgement) -> Iterator[Found]:
        """Yield pixels that are saturated, stuck or far from what is predicted."""
        tied = tied_pixels(fit.counts, fit.valid, TIED)
        if tied.any() and np.isinf(fit.ceiling):
            yield from self._limited(fit, tied)
        # They are at fault whatever the fit says, which may follow a row of them.
        stuck = stuck_pixels(fit.counts, fit.valid & (fit.counts.max(axis=0) < fit.ceiling**2))
        mask = np.zeros_like(fit.valid)
        found: Found | None = None
        for _ in range(PIXEL_ROUNDS):
            so_far = found.fit if found else fit
            # One that was not shown a pixel tells whether it is innocent, once no others spoil it.
            sought = fit.valid if so_far.judge().ratio <= NEAR else fit.valid & ~mask
            predicted = so_far.predicted()
            counts = np.where(so_far.telling(), fit.counts, predicted)
            more = suspects(counts, predicted, sought & ~stuck) | stuck | (mask & ~sought)
            if (more == mask).all() or not more.any():
                mask = more
                break
            mask = more
            tried = self._without(fit, mask, stuck, judged)
            if not (tried.cause.clear or gains(fit.judge(~mask), tried.fit.judge()) or stuck.any()):
                # Whatever is wrong, it is not they.
                break
            found = tried
        if found is not None and mask.any():
            yield replace(found, sure=bool(stuck.any()))

    def _limited(self, fit: TrialFit, tied: npt.NDArray[np.bool_]) -> Iterator[Found]:
        """Yield what becomes of the fit where pixels (n, N, N) say that there were so many counts at least.

        It is sure if more is predicted for them then; for the largest of true counts it is less.
        """
        counts = float(np.square(fit.raw.diffraction[:, fit.raw.valid], dtype=np.float64).max())
        whole = float(np.rint(counts))
        counts = whole if abs(counts - whole) < ROUNDED * counts else counts
        change = saturated_values(counts, int(tied.sum(axis=(1, 2)).max()))
        found = self.trials.fit(self.reading.then(change))
        beyond = float((found.predicted() - fit.counts)[tied].sum(dtype=np.float64))
        if beyond > SURE * np.sqrt(fit.counts[tied].sum(dtype=np.float64)):
            yield replace(self.undone(change, fit.judge(found.telling()), found), sure=True)

    def _without(
        self, fit: TrialFit, mask: npt.NDArray[np.bool_], stuck: npt.NDArray[np.bool_], judged: Judgement
    ) -> Found:
        """Return what becomes of the fit without the pixels of a mask (N, N), some of them stuck."""
        dead = int((mask & (fit.counts.sum(axis=0) == 0)).sum())
        change = bad_pixels(fft.fftshift(mask), dead, int(stuck.sum()))
        found = self.trials.fit(self.reading.then(change))
        # Without its worst pixels any scan looks better: all must be well then, or the others better.
        well = found.judge().ratio <= NEAR
        return self.undone(change, judged if well else fit.judge(~mask), found)

    def intensities(self, fit: TrialFit, judged: Judgement) -> Iterator[Found]:
        """Yield a beam whose intensity varies."""
        return self._freed(
            'intensities',
            judged,
            lambda fit: (
                'the intensity of the beam differs from pattern to pattern, by a factor of '
                f'{fit.intensity.max() / fit.intensity.min():.2g} between the strongest and the weakest'
            ),
            f'the file of a scan cannot hold that, but {CALIBRATED}',
        )

    def background(self, fit: TrialFit, judged: Judgement) -> Iterator[Found]:
        """Yield counts that are in every pixel."""
        return self._freed(
            'background',
            judged,
            lambda fit: f'about {fit.background:.2g} counts in every pixel are background',
            'counts less a background are no counts any more, so that no file can be written without it, but '
            f'{CALIBRATED}',
        )

    def affine(self, fit: TrialFit, judged: Judgement) -> Iterator[Found]:
        """Yield axes of the scan that are stretched, turned or sheared."""
        if min(np.ptp(fit.raw.xcoords), np.ptp(fit.raw.ycoords)) < 1:
            return
        short, long = FREE_ITERATIONS
        size = self.trials.middle(self.reading)
        matrix = self._coarse_map(size)
        if matrix is None:
            trial = self.trials.fit(self.reading.freeing('affine'), short)
            if not trial.judge().mean < (1 - LEAST_GAIN / 2) * judged.mean:
                return
            matrix = trial.run(long - short).matrix
        for count in AFFINE_PATTERNS:
            reading = self.reading.then(affine_map(matrix)).freeing('affine')
            found = self.trials.fit_middle(reading, size, long, count)
            matrix = found.matrix @ matrix
        for change in (_stretched, _turned):
            matrix = change(self.trials.told_by_held_out(partial(self._mapped, matrix, change))) @ matrix
        if np.linalg.svd(matrix - np.eye(2), compute_uv=False)[0] < LARGEST_MAP:
            yield self.undone(affine_map(matrix), judged)

    def _coarse_map(self, size: int) -> Matrix | None:
        """Return the best of some turns and stretches of the scan; None where none is better than it is.

        From afar forces do not tell: the object follows the positions.
        """
        turns = [_turned(sign * angle) for angle in COARSE_TURNS for sign in (1, -1)]
        tried = [*turns, *(_stretched(factor - 1) for factor in COARSE_STRETCHES)]
        readings = [self.reading, *(self.reading.then(affine_map(matrix)) for matrix in tried)]
        fits = (self.trials.fit_middle(reading, size, SCREENING_ITERATIONS) for reading in readings)
        none, *ratios = (fit.judge().ratio for fit in fits)
        best = int(np.argmin(ratios))
        return tried[best] if ratios[best] < (1 - LEAST_GAIN) * none else None

    def _mapped(self, matrix: Matrix, change: Callable[[float], Matrix], part: float) -> Reading:
        return self.reading.then(affine_map(change(part) @ matrix))

    def orientations(self, fit: TrialFit, judged: Judgement) -> Iterator[Found]:
        """Yield what is turned, mirrored or in another order."""
        changes = [
            *orientations_of_patterns(),
            *orientations_of_positions(),
            *orientations_of_probe(),
            *orders(len(self.trials.whole(self.reading))),
        ]
        yield from self._screened(changes, judged)

    def defocus(self, fit: TrialFit, judged: Judgement) -> Iterator[Found]:
        """Yield a probe out of focus."""
        curvatures = [sign * value for value in CURVATURES for sign in (1, -1)]
        # It takes long to import, and is hardly ever needed.
        from scipy.optimize import minimize_scalar

        ratios = self._glances(map(propagated_probe, curvatures), SCREENING_ITERATIONS)
        best = curvatures[int(np.argmin(ratios))]

        def ratio(curvature: float) -> float:
            return self.trials.fit(self.reading.then(propagated_probe(curvature))).judge().ratio

        around = sorted(best * factor for factor in (1 / FOCUS_FACTOR, FOCUS_FACTOR))
        found = minimize_scalar(
            ratio, bounds=around, method='bounded', options={'xatol': FOCUS_RAD, 'maxiter': FOCUS_TRIALS}
        )
        yield self.undone(propagated_probe(float(found.x)), judged)

    def _screened(self, changes: Sequence[Change], judged: Judgement) -> Iterator[Found]:
        """Yield the best of some changes, after a short trial of all and of none."""
        size = self.trials.middle(self.reading)
        as_is = self.trials.fit_middle(self.reading, size, SCREENING_ITERATIONS).judge().ratio
        ratios = self._glances(changes, SCREENING_ITERATIONS)
        most = min(HOPELESS * as_is, min(ratios) / CLEAR)
        for index in np.argsort(ratios, kind='stable')[:FINALISTS]:
            if ratios[index] < most:
                yield self.undone(changes[index], judged)

    def scales(self, fit: TrialFit | None, judged: Judgement) -> Iterator[Found]:
        """Yield another unit of the positions; `fit` is None where nothing overlaps as they are."""
        factor = find_unit(self.trials, self.reading)
        if factor is None:
            return
        if factor > 2 or factor < 0.5:
            found = self.undone(multiplied_positions(factor), judged)
            # Whatever else is wrong: positions that are all in one place explain some of it too.
            if found.cause.after <= PLAUSIBLE:
                yield found

    def slips(self, fit: TrialFit, judged: Judgement) -> Iterator[Found]:
        """Yield patterns that are missing among the others, or too many."""
        slip = find_slip(self.trials, self.reading)
        if slip is not None:
            yield self._slipped(slip)

    def _slipped(self, slip: Slip) -> Found:
        """Return the scan without a slip, and the fit of the patterns about it."""
        before = self.trials.fit_around(self.reading, slip.place).judge()
        fit = self.trials.fit_around(self.reading.then(slip.change), slip.place)
        return replace(self.undone(slip.change, before, fit), sure=True)

    def probe(self, fit: TrialFit, judged: Judgement) -> Iterator[Found]:
        """Yield another probe."""
        return self._freed(
            'probe',
            judged,
            lambda fit: 'the probe is not that of the scan',
            CALIBRATED,
        )

    def positions(self, fit: TrialFit, judged: Judgement) -> Iterator[Found]:
        """Yield single positions that are off."""
        return self._freed(
            'positions',
            judged,
            lambda fit: (
                'single positions are off by about '
                f'{float(np.sqrt(np.square(fit.moved).sum(axis=1).mean())):.1g} px'
            ),
            CALIBRATED,
        )


def gains(before: Judgement, after: Judgement) -> bool:
    """Return whether the same pixels are surely predicted better."""
    if len(before.deviance) != len(after.deviance):
        return False
    gain = before.deviance - after.deviance
    error = float(gain.std()) / np.sqrt(len(gain))
    return bool(gain.mean() > max(LEAST_GAIN * before.mean, SURE * error))


def _stretched(part: float) -> Matrix:
    return (1 + part) * np.eye(2)


def _turned(angle: float) -> Matrix:
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
