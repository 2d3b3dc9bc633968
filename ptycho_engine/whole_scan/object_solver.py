"""The way of an object from a flat one to where nothing moves any more (SOLVE-01, SOLVE-02, SOLVE-08)."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Generator, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ..backends.base import PhysicsBackend
from ..config import InferenceConfig
from ..errors import Cancelled
from ..events import Event, IterationDone
from ..network.plan import SIDE_MULTIPLE
from ..physics.descent import AcceleratedDescent, Proximal, smoothing_prior
from ..physics.likelihood import ScanPatterns, ScanPhysics
from ..physics.newton import NewtonStep
from ..physics.preconditioner import illumination_variance, phase_preconditioner
from ..progress import RateLimiter
from .held_out import scan_patterns
from .scan_model import ScanModel, on_grid
from .subsets import SPARSE_OVERLAP, most_subsets, overlap_of

__all__ = ['IterationCount', 'ObjectSolver']

logger = logging.getLogger('ptychopinn.solve')

PHASE_GAIN_ITERATIONS = 60
"""Iterations over which the gain of the low-frequency phase falls to nothing: it hastens the first steps,
and later what turns the low-frequency phase is noise."""

MOST_ITERATIONS = 150
"""Iterations after which it ends at the latest."""

STILL = 4e-4
"""Root mean square of the change of an iteration, for an amplitude of 1, below which nothing moves any
more."""

NEWTON_OVERLAP, LEAST_SUBSETS = 4.0, 4
"""Patterns that fall on a pixel from which on steps of Newton's kind are taken, and the subsets of the
iteration before them where the rule for dense scans asks for fewer. With fewer patterns momentum goes
further."""

NEWTON_STEPS, MOST_STEPS, NEWTON_ITERATIONS = 5, 12, 4
"""Steps of Newton's kind on a dense scan at least and at most, and the iterations of conjugate gradients in
each, which cost as much as iterations. Many short steps go further than a few that are taken to their end, as
their model holds near an object only."""

LAST_STEPS = 3
"""Of these from an image that is near the end."""

NEWTON_GAINS = 2e-3
"""Part of the held-out deviance that a step must take away for more than the least of them to follow:
incoherent modes hold the low-frequency phase so weakly that it takes long."""

SETTLING_ITERATIONS = 3
"""Iterations with the exact total variation after them."""

START_ITERATIONS = 8
"""That tell two experiments apart, where subsets are not taken."""

SPARSE_PATIENCE = 3
"""How many times as many iterations a sparse scan is given, whose patterns hardly share pixels: the
low-frequency phase of a patch comes from its neighbours, one after another."""

RUNAWAY = 2.0
"""Growth of the held-out deviance from which on subsets were too small."""


class IterationCount:
    """Counts the iterations of a run, over however many solvers, and tells of them.

    Parameters
    ----------
    stop : callable
        Whether to end.
    preview : callable, optional
        Makes an event of the object (H, W) as it is, in the engine's scale.
    """

    def __init__(
        self, stop: Callable[[], bool], preview: Callable[[npt.NDArray[np.complex64]], Event] | None
    ) -> None:
        self._stop, self._preview = stop, preview
        self._limiter = RateLimiter()
        self.done = 0
        self.planned = 0
        """Until the end, as far as is known."""
        self.after = 0
        """Of these, what comes after the solver without the prior."""
        self.calibrating = False
        """Whether the experiment is being corrected."""

    def expect(self, more: int) -> None:
        """Plan anew: so many iterations, and those that come after them."""
        self.planned = self.done + more + self.after

    def may_go_on(self) -> None:
        """Raise :class:`Cancelled` where the run is to end."""
        if self._stop():
            raise Cancelled('The reconstruction was stopped.')

    def one_more(self, value: float, image: Callable[[], npt.NDArray[Any]]) -> Iterator[Event]:
        """Tell of an iteration, or of what costs as much, and of the object now and then."""
        self.done += 1
        self.planned = max(self.planned, self.done)
        yield IterationDone(self.done, self.planned, value, self.calibrating)
        if self._preview is not None:
            preview = self._preview
            yield from self._limiter.show(lambda: preview(image().astype(np.complex64)))


class ObjectSolver:
    """A descent on its way, with all that it needs.

    Parameters
    ----------
    held_out : (K, h) int, optional
        Pixels that judge; None to draw them.
    """

    def __init__(
        self,
        prepared: ScanModel,
        backend: PhysicsBackend,
        config: InferenceConfig,
        iterations: IterationCount,
        held_out: npt.NDArray[np.int64] | None = None,
    ) -> None:
        self.prepared, self._config, self._count = prepared, config, iterations
        self.patterns: ScanPatterns = scan_patterns(
            prepared, config.seed, multiple=SIDE_MULTIPLE, held_out=held_out
        )
        self.physics: ScanPhysics = backend.scan_physics(self.patterns)
        self._everything = np.arange(len(self.patterns))
        flat = self.physics.to_device(np.ones(self.patterns.shape, np.complex64))
        self.weight: Any = self.physics.evaluate(flat, self._everything, 'poisson').weight
        """(H, W) illumination in counts, on the device."""
        light = self.physics.to_host(self.weight)
        self.overlap = overlap_of(light, self.patterns.peak_illumination)
        self.subsets = most_subsets(self.overlap, len(self.patterns))
        """Into which an iteration may be cut."""
        if self.overlap >= NEWTON_OVERLAP and len(self.patterns) >= LEAST_SUBSETS:
            self.subsets = max(self.subsets, LEAST_SUBSETS)
        variance = illumination_variance(self.patterns.averaged_probe)
        self.gain: Any = self.physics.to_device(
            phase_preconditioner(variance, self.patterns.shape).astype(np.complex64)
        )
        self.variation = smoothing_prior(self.weight, config.refine_smoothing)
        self.patience = SPARSE_PATIENCE if self.overlap < SPARSE_OVERLAP else 1
        """Times as many iterations a sparse scan is given."""
        self._phase_gain_iterations, self._most_iterations = (
            self.patience * PHASE_GAIN_ITERATIONS,
            self.patience * MOST_ITERATIONS,
        )
        self._first: Any = flat
        self.descent = self._begin()
        self._taken = 0
        self._hurried = False
        self.finished = False
        """Whether :meth:`finish` was called."""
        self.still = False
        """Whether it ended because nothing moved any more."""

    @property
    def current(self) -> Any:
        """The object (H, W) as it is, on the device."""
        return self.descent.current

    @property
    def longest(self) -> int:
        """Iterations that :meth:`begin` and :meth:`finish` take at most."""
        return self._most_iterations

    def start(self) -> Generator[Event, None, None]:
        """Take the first few iterations from a flat object, which tell two experiments apart."""
        yield from self.begin()
        if self.subsets == 1:
            for _ in range(START_ITERATIONS):
                yield from self.iterate()

    def descend(self) -> Generator[Event, None, None]:
        """Find the object with total variation alone."""
        yield from self.begin()
        yield from self.finish()

    def begin(self) -> Generator[Event, None, None]:
        """Take the first steps from a flat object, by subsets where the scan allows them."""
        if self.subsets > 1 and not (yield from self.by_subsets()):
            self.subsets = 1

    def finish(self, *, patiently: bool = True, hopeless: float = math.inf) -> Generator[Event, None, None]:
        """Go on to the end from where :meth:`begin` led.

        Parameters
        ----------
        patiently : bool
            Whether many iterations follow where steps of Newton's kind do not help, as where the scan is not
            what its file says. It is not :attr:`finished` then.
        hopeless : float
            Held-out deviance per pixel: where steps of Newton's kind will not lead below it they end, to go
            on from there if this is called again.
        """
        if self.subsets > 1 and not self._hurried:
            ended = yield from self._by_newton(hopeless=hopeless)
            if ended is None:
                return
            self._hurried, self.finished = True, ended
        if not self.finished and (patiently or self.subsets == 1):
            yield from self._by_momentum()
            self.finished = True

    def resume(self, image: npt.NDArray[np.complex64]) -> Generator[Event, None, None]:
        """Go on to the end from an image (H, W) on the scan's grid that is near it."""
        self.finished = True
        self.begin_at(image)
        start = self.current
        self.go_on_from(start, self.variation)
        if not (yield from self._by_newton(LAST_STEPS)):
            self.go_on_from(start, self.variation)
            for _ in range(SETTLING_ITERATIONS):
                yield from self.iterate()
            self.still = True

    def begin_at(self, obj: npt.NDArray[np.complex64]) -> None:
        """Begin at an object (H, W) on the scan's grid, in the engine's scale, in place of a flat one."""
        canvas = np.ones(self.patterns.shape, np.complex64)
        on_grid(canvas, self.prepared)[:] = obj
        self._first = self.physics.to_device(canvas)
        self.descent = self._begin()

    def _begin(self) -> AcceleratedDescent:
        return AcceleratedDescent(self.physics, self._first, self.variation, self.gain)

    def go_on_from(self, obj: Any, prior: Proximal | None) -> None:
        """Let the next iterations start at an object (H, W), without the gain of the low-frequency phase."""
        self.descent = AcceleratedDescent(self.physics, obj, prior, self.gain)
        self.descent.phase_gain = 0.0

    def by_subsets(self) -> Generator[Event, None, bool]:
        """Iterate once with the most subsets that the scan allows, once with half of them, down to two.

        Starts again from the beginning and returns False where the subsets are too small.
        """
        first = math.inf
        count = self.subsets
        while count > 1:
            value = yield from self.iterate(count)
            first = value if math.isinf(first) else first
            if not value <= RUNAWAY * first:
                logger.info(
                    'Steps on parts of the scan do not converge; starting again with steps on all of it.'
                )
                self.descent = self._begin()
                return False
            count //= 2
        return True

    def _by_newton(
        self, steps: int = NEWTON_STEPS, hopeless: float = math.inf
    ) -> Generator[Event, None, bool | None]:
        """Take steps of Newton's kind; False where held-out pixels are against it, None if hopeless."""
        obj, smoothing = self.descent.current, self._config.refine_smoothing
        iterations = self._count
        reached: list[float] = []
        unneeded = self._most_iterations - self._taken - steps * (NEWTON_ITERATIONS + 1) - SETTLING_ITERATIONS
        iterations.planned -= unneeded
        while True:
            iterations.may_go_on()
            step = NewtonStep(self.physics, obj, self.weight, smoothing, self.gain, len(self.patterns))
            value = self._per_pixel(step.held_out)
            reached.append(value)
            taken = len(reached) - 1
            if taken == MOST_STEPS or (taken >= steps and not value < (1 - NEWTON_GAINS) * reached[-2]):
                break
            if _limit(reached) > hopeless:
                iterations.planned += unneeded
                return None
            for _ in range(NEWTON_ITERATIONS):
                yield from self._told(value)
                iterations.may_go_on()
                step.improve()
            obj = step.reached
            self.descent.current = obj
            yield from self._told(value)
        if not reached[-1] <= reached[0]:
            iterations.planned += unneeded
            return False
        self.go_on_from(obj, self.variation)
        for _ in range(SETTLING_ITERATIONS):
            yield from self.iterate()
        self.still = True
        return True

    def _by_momentum(self) -> Generator[Event, None, None]:
        """Iterate over the whole scan until nothing moves any more."""
        for number in range(1, self._most_iterations + 1):
            self.descent.phase_gain = max(0.0, 1 - number / self._phase_gain_iterations)
            yield from self.iterate()
            if number >= self._phase_gain_iterations and self.descent.change < STILL:
                self.still = True
                self._count.planned -= self._most_iterations - self._taken
                break

    def iterate(self, count: int = 1) -> Generator[Event, None, float]:
        """Step once for each of so many subsets; return the held-out deviance per pixel on the way."""
        self._count.may_go_on()
        subsets = [self._everything]
        if count > 1:
            rng = np.random.default_rng([self._config.seed, self._taken + 1])
            subsets = np.array_split(rng.permutation(self._everything), count)
        value = self._per_pixel(self.descent.iterate(subsets))
        yield from self._told(value)
        return value

    def iterate_further(self, count: int) -> Generator[Event, None, None]:
        """Iterate so often over the whole scan, from where it is."""
        self._count.expect(count)
        for _ in range(count):
            yield from self.iterate()

    def _per_pixel(self, deviance: float) -> float:
        return float(deviance / (len(self.patterns) * self.patterns.held_out.shape[1]))

    def _told(self, value: float) -> Iterator[Event]:
        self._taken += 1
        yield from self._count.one_more(value, lambda: self.on_grid(self.current))

    def on_grid(self, canvas: Any) -> npt.NDArray[Any]:
        """Return what lies on the scan's grid (H, W) of an array of the device."""
        return on_grid(self.physics.to_host(canvas), self.prepared)


def _limit(reached: list[float]) -> float:
    """Return where falling values lead to if each fall is the same part of the one before; -inf for a few."""
    if len(reached) < 3:
        return -math.inf
    before, last = reached[-3] - reached[-2], reached[-2] - reached[-1]
    if last >= before:
        return -math.inf
    return reached[-1] - max(last, 0.0) * last / (before - last)
