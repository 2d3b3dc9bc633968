"""From a flat object to the image of a scan: steps of physics and of a prior of objects, until nothing moves.

No model needs to be trained on scans for it (clauses SOLVE-01 to SOLVE-13 of ``specs/physics.md``). Where the
image does not explain the patterns, the scan is calibrated on the way (CAL-*).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..backends.base import Backend, Weights
from ..config import InferenceConfig
from ..events import Event
from ..physics.descent import Proximal
from ..physics.learned_prior import LearnedPrior, detail_filters
from ..scoring.scores import scanned_box
from .calibrate import Calibrator
from .object_solver import IterationCount, ObjectSolver
from .paired import paired_difference
from .scan_model import ScanModel
from .uncertainty import PHYSICS_ALONE, WITH_PRIOR, squared_parts, stated_uncertainty

__all__ = ['STRENGTHS', 'Solution', 'held_out_with_each', 'solve']

logger = logging.getLogger('ptychopinn.solve')

PRIOR_ITERATIONS = 8
"""Iterations with the learned prior after physics alone, at each strength that is tried."""

STRENGTHS = 0.25, 0.4
"""Of the learned prior (:class:`~..physics.learned_prior.LearnedPrior`); the better one is tried with total
variation of the low-frequency phase too."""

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
    """(H, W) on the scan's grid, in the scale of :attr:`prepared`."""
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
    iterations: int
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
        return (
            f'{self.iterations} iterations of {means}, {ended} (held-out deviance {self.deviance:.4g})'
            f'{calibrated}'
        )


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
        Makes an event of the object (H, W) as it is, in the engine's scale.
    learned : bool
        Whether the learned prior takes part; total variation alone otherwise.
    begin : (H, W) complex64, optional
        Object to begin at, in the engine's scale; a flat one without it. Where calibration changes the scan,
        what it finds is solved from a flat object all the same.

    Yields
    ------
    IterationDone
        After every iteration.
    Event
        Now and then what `preview` makes of the object.

    Raises
    ------
    Cancelled
        If `stop` turned true.
    """
    tic = time.perf_counter()
    iterations = IterationCount(stop, preview)
    solver = ObjectSolver(prepared, backend, config, iterations)
    if begin is not None:
        solver.begin_at(begin)
    if learned:
        iterations.after = (len(STRENGTHS) + 2) * solver.patience * PRIOR_ITERATIONS
    iterations.expect(solver.longest)
    yield from solver.begin()
    calibrator = Calibrator(solver, backend, config, iterations)
    yield from calibrator.calibrate()
    for correction in calibrator.corrections:
        logger.info('Calibrated: %s.', correction.phrase)
    solver = calibrator.solver
    strength, change = 0.0, None
    if learned:
        prior = _PriorTrials(solver, backend, config)
        strength = yield from prior.choose()
        change = prior.change if strength else None
        held_out = prior.deviance_at(strength)
    else:
        held_out = solver.physics.held_out_each(solver.current)
    iterations.planned = iterations.done
    solution = _solution(calibrator, strength, change, held_out, iterations.done, time.perf_counter() - tic)
    logger.info('%s. %.1f s.', solution.sentence.capitalize(), solution.seconds)
    return solution


def held_out_with_each(
    prepared: ScanModel, backend: Backend, priors: Sequence[Weights], stop: Callable[[], bool]
) -> Generator[Event, None, list[npt.NDArray[np.float64]]]:
    """Return the deviance (n,) per held-out pixel of each pattern that the image with each prior leaves.

    All go on from one image of physics; each is that of :func:`solve` without calibration.

    Parameters
    ----------
    backend : Backend
        Built for 'prior'; it is left with the last one.
    priors : sequence of mapping of str to ndarray
        Canonical weights.
    stop : callable
        Asked before each iteration.

    Raises
    ------
    Cancelled
        If `stop` turned true.
    """
    config = InferenceConfig(calibrate='off')
    solver = ObjectSolver(prepared, backend, config, IterationCount(stop, None))
    yield from solver.descend()
    plain, left = solver.current, []
    for weights in priors:
        backend.set_weights(weights)
        solver.go_on_from(plain, None)
        trials = _PriorTrials(solver, backend, config)
        strength = yield from trials.choose()
        left.append(trials.deviance_at(strength))
    return left


def _solution(
    calibrator: Calibrator,
    strength: float,
    change: Any,
    held_out: npt.NDArray[np.float64],
    iterations: int,
    seconds: float,
) -> Solution:
    solver = calibrator.solver
    image = solver.on_grid(solver.current).astype(np.complex64)
    weight = solver.on_grid(solver.weight).astype(np.float32)
    moved = None if change is None else solver.on_grid(change)
    parts = squared_parts(image, moved, weight, solver.overlap, scanned_box(solver.prepared.scan))
    return Solution(
        prepared=solver.prepared,
        object_array=image,
        weight=weight,
        uncertainty=stated_uncertainty(parts, WITH_PRIOR if strength else PHYSICS_ALONE),
        calibrated=tuple(correction.phrase for correction in calibrator.corrections),
        suspected=calibrator.suspected,
        strength=strength,
        iterations=iterations,
        still=solver.still,
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

    def __init__(self, solver: ObjectSolver, backend: Backend, config: InferenceConfig) -> None:
        self._solver, self._backend, self._config = solver, backend, config
        self._plain = solver.current
        self._tried = {0.0: _Tried(self._plain, solver.physics.held_out_each(self._plain))}
        self._high_pass, self._low_pass = detail_filters(solver.physics, solver.patterns.shape)
        self.change: Any = None
        """(H, W) modulus of what the prior changed at the first strength."""

    def choose(self) -> Generator[Event, None, float]:
        """Go on from the best image in the judgement of held-out pixels; return its strength, 0 for none."""
        for strength in STRENGTHS:
            yield from self._attempt(strength, phase_update=False)
        self.change = abs(self._tried[STRENGTHS[0]].obj - self._plain)
        if (yield from self._attempt(self._best() or STRENGTHS[0], phase_update=True)):
            yield from self._attempt(WEAKEST, phase_update=True)
        chosen = self._best()
        if not self._score(chosen) < -UNDECIDED and all(abs(self._score(s)) < UNDECIDED for s in self._tried):
            # Nothing is decided: the weakest one is the careful choice.
            if WEAKEST not in self._tried:
                yield from self._attempt(WEAKEST, phase_update=True)
            chosen = WEAKEST if self._score(WEAKEST) < UNDECIDED else 0.0
        self._solver.descent.current = self._tried[chosen].obj
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

    def _attempt(self, strength: float, *, phase_update: bool) -> Generator[Event, None, bool]:
        """Go on from the image of physics; return whether that is the best so far."""
        solver, smoothing = self._solver, self._config.refine_smoothing
        prior = LearnedPrior(
            solver.weight,
            smoothing,
            self._backend.denoise,
            self._high_pass,
            self._low_pass,
            strength,
            phase_update=phase_update,
        )
        obj = yield from self._with_prior(prior)
        found = solver.physics.held_out_each(obj)
        better = bool(found.mean() < min(image.deviance.mean() for image in self._tried.values()))
        if strength not in self._tried or found.mean() < self._tried[strength].deviance.mean():
            self._tried[strength] = _Tried(obj, found)
        return better

    def _with_prior(self, prior: Proximal) -> Generator[Event, None, Any]:
        """Return what a prior makes of the image of physics (H, W)."""
        self._solver.go_on_from(self._plain, prior)
        for _ in range(self._solver.patience * PRIOR_ITERATIONS):
            yield from self._solver.iterate()
        return self._solver.current

    def _best(self) -> float:
        return min(self._tried, key=lambda strength: float(self._tried[strength].deviance.mean()))

    def _score(self, strength: float) -> float:
        return paired_difference(self._tried[0.0].deviance, self._tried[strength].deviance).score
