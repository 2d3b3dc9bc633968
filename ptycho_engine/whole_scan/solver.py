"""From a flat object to the image of a scan: steps of physics and of a prior of objects, until nothing moves.

No model needs to be trained on scans for it (clauses SOLVE-01 to SOLVE-13 of ``specs/physics.md``). Where the
image does not explain the patterns, the scan is calibrated on the way (CAL-*).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..backends.base import Backend
from ..config import InferenceConfig
from ..events import Event
from ..physics.descent import Proximal
from ..physics.learned_prior import LearnedPrior, detail_gain, slow_gain
from ..scoring.scores import scanned_box
from .calibrate import Calibrator
from .course import Course, Sweeps
from .paired import paired_difference
from .scan_model import ScanModel
from .uncertainty import PHYSICS_ALONE, WITH_PRIOR, squared_parts, stated_uncertainty

__all__ = ['STRENGTHS', 'Solution', 'solve']

logger = logging.getLogger('ptychopinn.solve')

PRIOR_SWEEPS = 8
"""Sweeps with the learned prior after physics alone, at each strength that is tried."""

STRENGTHS = 0.25, 0.4
"""Of the learned prior (:class:`~..physics.learned_prior.LearnedPrior`); the better one is tried with total
variation of the slow phase too."""

WEAKEST = 0.15
"""Strength that is tried where that is best: objects unlike those of the training want less of the prior."""

UNDECIDED = 1.0
"""Standard errors over the patterns below which a difference of held-out deviances says nothing."""


@dataclass(frozen=True)
class Solution:
    """The object of a scan, and how it was found."""

    prepared: ScanModel
    """The scan as the object explains it: as it was calibrated."""
    object_array: npt.NDArray[np.complex64]
    """(H, W) on the scan's grid, in the gauge of :attr:`prepared`."""
    weight: npt.NDArray[np.float32]
    """(H, W) illumination in counts."""
    uncertainty: npt.NDArray[np.float32]
    """(H, W) in units of the object's amplitude (SOLVE-07); NaN where nothing was scanned."""
    calibrated: tuple[str, ...]
    """A phrase for each part of the experiment that was corrected."""
    suspected: tuple[str, ...]
    """What is surely not as the file says where none was (:attr:`~.remaining.Remaining.sure`)."""
    strength: float
    """Of the learned prior; 0 where it took no part in what was kept."""
    sweeps: int
    still: bool
    """Whether it ended because nothing moved any more."""
    deviance: float
    """Poisson deviance per held-out pixel."""
    held_out: npt.NDArray[np.float64]
    """(n,) the same of each pattern."""
    seconds: float

    @property
    def sentence(self) -> str:
        """What happened, for logs and comments."""
        means = 'physics and total variation'
        if self.strength:
            means = f'physics and the learned prior at strength {self.strength:g}'
        ended = 'until nothing moved' if self.still else 'which still moved a little'
        calibrated = f'; calibrated: {", ".join(self.calibrated)}' if self.calibrated else ''
        return f'{self.sweeps} sweeps of {means}, {ended} (held-out deviance {self.deviance:.4g}){calibrated}'


def solve(
    prepared: ScanModel,
    backend: Backend,
    config: InferenceConfig,
    stop: Callable[[], bool],
    preview: Callable[[npt.NDArray[np.complex64]], Event] | None = None,
    *,
    learned: bool,
    begin: npt.NDArray[np.complex64] | None = None,
) -> Generator[Event, None, Solution]:
    """Solve for the object of a scan.

    Parameters
    ----------
    backend : Backend
        Built for 'prior' where the learned prior takes part.
    preview : callable, optional
        Makes an event of the object (H, W) as it is, in the engine's gauge.
    learned : bool
        Whether the learned prior takes part; total variation alone otherwise.
    begin : (H, W) complex64, optional
        Object to begin at, in the engine's gauge; a flat one without it. Where calibration changes the scan,
        what it finds is solved from a flat object all the same.

    Yields
    ------
    SweepDone
        After every sweep.
    Event
        Now and then what `preview` makes of the object.

    Raises
    ------
    Cancelled
        If `stop` turned true.
    """
    tic = time.perf_counter()
    sweeps = Sweeps(stop, preview)
    course = Course(prepared, backend, config, sweeps)
    if begin is not None:
        course.begin_at(begin)
    prior_sweeps = (len(STRENGTHS) + 2) * course.patience * PRIOR_SWEEPS if learned else 0
    sweeps.planned = course.longest + prior_sweeps
    yield from course.begin()
    calibrator = Calibrator(course, backend, config, sweeps)
    yield from calibrator.calibrate()
    for correction in calibrator.corrections:
        logger.info('Calibrated: %s.', correction.phrase)
    course = calibrator.course
    strength, change = 0.0, None
    if learned:
        prior = _PriorTrials(course, backend, config)
        strength = yield from prior.choose()
        change = prior.change if strength else None
        held_out = prior.deviance_at(strength)
    else:
        held_out = course.physics.held_out_each(course.current)
    sweeps.planned = sweeps.done
    solution = _solution(calibrator, strength, change, held_out, sweeps.done, time.perf_counter() - tic)
    logger.info('%s. %.1f s.', solution.sentence.capitalize(), solution.seconds)
    return solution


def _solution(
    calibrator: Calibrator,
    strength: float,
    change: Any,
    held_out: npt.NDArray[np.float64],
    sweeps: int,
    seconds: float,
) -> Solution:
    course = calibrator.course
    image = course.on_grid(course.current).astype(np.complex64)
    weight = course.on_grid(course.weight).astype(np.float32)
    moved = None if change is None else course.on_grid(change)
    parts = squared_parts(image, moved, weight, course.overlap, scanned_box(course.prepared.scan))
    return Solution(
        prepared=course.prepared,
        object_array=image,
        weight=weight,
        uncertainty=stated_uncertainty(parts, WITH_PRIOR if strength else PHYSICS_ALONE),
        calibrated=tuple(correction.phrase for correction in calibrator.corrections),
        suspected=calibrator.suspected,
        strength=strength,
        sweeps=sweeps,
        still=course.still,
        deviance=float(held_out.mean()),
        held_out=held_out,
        seconds=seconds,
    )


@dataclass(frozen=True)
class _Tried:
    """An object that may be kept."""

    obj: Any
    """(H, W) on the device."""
    deviance: npt.NDArray[np.float64]
    """(n,) Poisson deviance per held-out pixel of each pattern."""


class _PriorTrials:
    """Goes on from an image of physics with the learned prior (SOLVE-03, SOLVE-04, SOLVE-09, SOLVE-10)."""

    def __init__(self, course: Course, backend: Backend, config: InferenceConfig) -> None:
        self._course, self._backend, self._config = course, backend, config
        self._plain = course.current
        self._tried = {0.0: _Tried(self._plain, course.physics.held_out_each(self._plain))}
        shape = course.patterns.shape
        self._details, self._slow = self._filter(detail_gain(shape)), self._filter(slow_gain(shape))
        self.change: Any = None
        """(H, W) modulus of what the prior changed at the first strength."""

    def choose(self) -> Generator[Event, None, float]:
        """Go on from the best image in the judgement of held-out pixels; return its strength, 0 for none."""
        for strength in STRENGTHS:
            yield from self._attempt(strength, turned=False)
        self.change = abs(self._tried[STRENGTHS[0]].obj - self._plain)
        if (yield from self._attempt(self._best() or STRENGTHS[0], turned=True)):
            yield from self._attempt(WEAKEST, turned=True)
        chosen = self._best()
        if not self._score(chosen) < -UNDECIDED and all(abs(self._score(s)) < UNDECIDED for s in self._tried):
            # Nothing is decided: the weakest one is the careful choice.
            if WEAKEST not in self._tried:
                yield from self._attempt(WEAKEST, turned=True)
            chosen = WEAKEST if self._score(WEAKEST) < UNDECIDED else 0.0
        self._course.descent.current = self._tried[chosen].obj
        each = (f'{image.deviance.mean():.4g} at {strength:g}' for strength, image in self._tried.items())
        logger.info(
            'Held-out deviance by the strength of the learned prior: %s.%s',
            ', '.join(each),
            '' if chosen else ' It does not suit this object, which stays as it was.',
        )
        return chosen

    def deviance_at(self, strength: float) -> npt.NDArray[np.float64]:
        """Return the Poisson deviance per held-out pixel of each pattern (n,) of what was kept."""
        return self._tried[strength].deviance

    def _attempt(self, strength: float, *, turned: bool) -> Generator[Event, None, bool]:
        """Go on from the image of physics; return whether that is the best so far."""
        course, smoothing = self._course, self._config.refine_smoothing
        prior = LearnedPrior(
            course.weight,
            smoothing,
            self._backend.denoise,
            self._details,
            self._slow,
            strength,
            turned=turned,
        )
        obj = yield from self._with_prior(prior)
        found = course.physics.held_out_each(obj)
        better = bool(found.mean() < min(image.deviance.mean() for image in self._tried.values()))
        if strength not in self._tried or found.mean() < self._tried[strength].deviance.mean():
            self._tried[strength] = _Tried(obj, found)
        return better

    def _with_prior(self, prior: Proximal) -> Generator[Event, None, Any]:
        """Return what a prior makes of the image of physics (H, W)."""
        self._course.go_on_from(self._plain, prior)
        for _ in range(self._course.patience * PRIOR_SWEEPS):
            yield from self._course.sweep()
        return self._course.current

    def _best(self) -> float:
        return min(self._tried, key=lambda strength: float(self._tried[strength].deviance.mean()))

    def _score(self, strength: float) -> float:
        return paired_difference(self._tried[0.0].deviance, self._tried[strength].deviance).score

    def _filter(self, gain: npt.NDArray[np.float64]) -> Callable[[Any], Any]:
        """Return what multiplies the Fourier transform of complex values (H, W) by a gain (H, W)."""
        physics = self._course.physics
        on_device = physics.to_device(gain.astype(np.complex64))
        return lambda values: (
            physics.filtered(values.real, on_device) + 1j * physics.filtered(values.imag, on_device)
        )
