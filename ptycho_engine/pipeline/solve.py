"""From a flat object to the image of a scan: steps of physics and of a prior of objects, until nothing moves.

No model needs to be trained on scans for it (clauses SOLVE-01 to SOLVE-08 of ``specs/physics.md``).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..backends.base import Backend
from ..config import InferenceConfig
from ..errors import Cancelled
from ..events import Event, SweepDone
from ..network.plan import SIDE_MULTIPLE
from ..physics.descent import AcceleratedDescent, Proximal, smoothing_prior
from ..physics.experiment import ExperimentRefinement
from ..physics.learned_prior import LearnedPrior, detail_gain, slow_gain
from ..physics.newton import NewtonStep
from ..physics.refinement import ScanPatterns, ScanPhysics
from ..physics.slow_phase import illumination_variance, slow_phase_gain
from .held_out import scan_patterns
from .overlap import SPARSE_OVERLAP, overlap_of
from .prepared import PreparedScan
from .progress import Pace
from .quality import scanned_box
from .refine import on_grid
from .subsets import most_subsets
from .uncertainty import PHYSICS_ALONE, WITH_PRIOR, squared_parts, stated_uncertainty

__all__ = ['Solution', 'solve']

logger = logging.getLogger('ptychopinn.solve')

TURNED_SWEEPS = 60
"""Sweeps over which the gain of the slow phase falls to nothing: it hastens the first steps, and later what
turns the slow phase is noise."""

MOST_SWEEPS = 150
"""Sweeps after which it ends at the latest."""

STILL = 4e-4
"""Root mean square of the change of a sweep, for an amplitude of 1, below which nothing moves any more."""

NEWTON_OVERLAP, LEAST_SUBSETS = 4.0, 4
"""Patterns that fall on a pixel from which on steps of Newton's kind are taken, and the subsets of the sweep
before them where the rule for dense scans asks for fewer. With fewer patterns momentum goes further."""

NEWTON_STEPS, NEWTON_ITERATIONS = 2, 12
"""Steps of Newton's kind on a dense scan, and the iterations of conjugate gradients in each, which cost as
much as sweeps."""

SETTLING_SWEEPS = 3
"""Sweeps with the exact total variation after them."""

PRIOR_SWEEPS = 8
"""Sweeps with the learned prior after that, at each strength that is tried."""

STRENGTHS = 0.25, 0.4
"""Of the learned prior (:class:`~..physics.learned_prior.LearnedPrior`); the better one is tried with total
variation of the slow phase too."""

WEAKEST = 0.15
"""Strength that is tried where that is best: objects unlike those of the training want less of the prior."""

SPARSE_PATIENCE = 3
"""How many times as many sweeps a sparse scan is given, whose patterns hardly share pixels: the slow phase
of a patch comes from its neighbours, one after another."""

RUNAWAY = 2.0
"""Growth of the held-out deviance from which on subsets were too small."""


@dataclass(frozen=True)
class Solution:
    """The object of a scan, and how it was found."""

    object_array: npt.NDArray[np.complex64]
    """(H, W) on the scan's grid, in the engine's gauge."""
    weight: npt.NDArray[np.float32]
    """(H, W) illumination in counts."""
    uncertainty: npt.NDArray[np.float32]
    """(H, W) in units of the object's amplitude (SOLVE-07); NaN where nothing was scanned."""
    probe: npt.NDArray[np.complex64] | None
    """(P, N, N) refined probe in the engine's gauge; None where it is the scan's."""
    position_shift: npt.NDArray[np.float64] | None
    """(n, 2) [dy, dx] in pixels that were added to the positions; None where nothing was."""
    strength: float
    """Of the learned prior; 0 where it took no part in what was kept."""
    sweeps: int
    still: bool
    """Whether it ended because nothing moved any more."""
    deviance: float
    """Poisson deviance per held-out pixel."""
    seconds: float

    @property
    def sentence(self) -> str:
        """What happened, for logs and comments."""
        means = 'physics and total variation'
        if self.strength:
            means = f'physics and the learned prior at strength {self.strength:g}'
        ended = 'until nothing moved' if self.still else 'which still moved a little'
        what = ['the probe'] if self.probe is not None else []
        if self.position_shift is not None:
            moved = np.sqrt(np.square(self.position_shift).sum(axis=1).mean())
            what.append(f'positions by {moved:.2g} px (root mean square)')
        calibrated = f', with {" and ".join(what)}' if what else ''
        return f'{self.sweeps} sweeps of {means}, {ended} (held-out deviance {self.deviance:.4g}){calibrated}'


def solve(
    prepared: PreparedScan,
    backend: Backend,
    config: InferenceConfig,
    stop: Callable[[], bool],
    preview: Callable[[npt.NDArray[np.complex64]], Event] | None = None,
    *,
    learned: bool,
) -> Generator[Event, None, Solution]:
    """Solve for the object of a scan from a flat one.

    Parameters
    ----------
    backend : Backend
        Built for 'prior' where the learned prior takes part.
    preview : callable, optional
        Makes an event of the object (H, W) as it is, in the engine's gauge.
    learned : bool
        Whether the learned prior takes part; total variation alone otherwise.

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
    course = _Course(prepared, backend, config, stop, preview, learned)
    yield from course.descend()
    strength = 0.0
    if learned:
        strength = yield from course.add_prior(backend)
    solution = course.solution(strength, time.perf_counter() - tic)
    logger.info('%s. %.1f s.', solution.sentence.capitalize(), solution.seconds)
    return solution


@dataclass(frozen=True)
class _Tried:
    """An object that may be kept."""

    obj: Any
    """(H, W) on the device."""
    deviance: float
    """Poisson deviance per held-out pixel."""


class _Course:
    """A descent on its way, with all that it needs."""

    def __init__(
        self,
        prepared: PreparedScan,
        backend: Backend,
        config: InferenceConfig,
        stop: Callable[[], bool],
        preview: Callable[[npt.NDArray[np.complex64]], Event] | None,
        learned: bool,
    ) -> None:
        self._prepared, self._config, self._stop, self._preview = prepared, config, stop, preview
        self._patterns: ScanPatterns = scan_patterns(prepared, config.seed, multiple=SIDE_MULTIPLE)
        self._physics: ScanPhysics = backend.scan_physics(self._patterns)
        self._pace = Pace()
        self._everything = np.arange(len(self._patterns))
        shape = self._patterns.shape
        flat = self._physics.to_device(np.ones(shape, np.complex64))
        self._weight = self._physics.evaluate(flat, self._everything, 'poisson').weight
        light = self._physics.to_host(self._weight)
        self._overlap = overlap_of(light, self._patterns.brightest)
        self._most = most_subsets(self._overlap, len(self._patterns))
        if self._overlap >= NEWTON_OVERLAP and len(self._patterns) >= LEAST_SUBSETS:
            self._most = max(self._most, LEAST_SUBSETS)
        variance = illumination_variance(self._patterns.probe)
        self._gain = self._physics.to_device(slow_phase_gain(variance, shape).astype(np.complex64))
        self._variation = smoothing_prior(self._weight, config.refine_smoothing)
        patience = SPARSE_PATIENCE if self._overlap < SPARSE_OVERLAP else 1
        self._turned_sweeps, self._most_sweeps = patience * TURNED_SWEEPS, patience * MOST_SWEEPS
        self._prior_sweeps = patience * PRIOR_SWEEPS
        self._planned = self._most_sweeps + ((len(STRENGTHS) + 2) * self._prior_sweeps if learned else 0)
        self._experiment = ExperimentRefinement(
            self._physics, self._patterns, probe=config.refine_probe, positions=config.refine_positions
        )
        self._descent = self._start_flat()
        self._change: Any = None
        self._sweeps = 0
        self._still = False

    def _filter(self, gain: npt.NDArray[np.float64]) -> Callable[[Any], Any]:
        """Return what multiplies the Fourier transform of complex values (H, W) by a gain (H, W)."""
        physics = self._physics
        on_device = physics.to_device(gain.astype(np.complex64))
        return lambda values: (
            physics.filtered(values.real, on_device) + 1j * physics.filtered(values.imag, on_device)
        )

    def descend(self) -> Generator[Event, None, None]:
        """Find the object with total variation alone."""
        calibrated = self._config.refine_probe or self._config.refine_positions
        if self._most > 1 and (yield from self._by_subsets()) and not calibrated:
            found = yield from self._by_newton()
            if found:
                return
        yield from self._by_momentum(calibrated)

    def _start_flat(self) -> AcceleratedDescent:
        flat = self._physics.to_device(np.ones(self._patterns.shape, np.complex64))
        return AcceleratedDescent(self._physics, flat, self._variation, self._gain)

    def _go_on_from(self, obj: Any, prior: Proximal | None) -> None:
        """Let the next sweeps start at an object (H, W), without the gain of the slow phase."""
        self._descent = AcceleratedDescent(self._physics, obj, prior, self._gain)
        self._descent.turning = 0.0

    def _by_subsets(self) -> Generator[Event, None, bool]:
        """Sweep once with the most subsets that the scan allows, once with half of them, down to two.

        Starts again from a flat object and returns False where the subsets are too small.
        """
        first = math.inf
        count = self._most
        while count > 1:
            value = yield from self._sweep(count)
            first = value if math.isinf(first) else first
            if not value <= RUNAWAY * first:
                logger.info('Parts of the scan are too small for steps of their own; starting again without.')
                self._descent = self._start_flat()
                return False
            count //= 2
        return True

    def _by_newton(self) -> Generator[Event, None, bool]:
        """Take steps of Newton's kind; return False where held-out pixels are against it."""
        obj, smoothing = self._descent.current, self._config.refine_smoothing
        count = len(self._patterns)
        before, planned = self._physics.held_out(obj), self._planned
        steps = NEWTON_STEPS * (NEWTON_ITERATIONS + 1) + SETTLING_SWEEPS
        self._planned += self._sweeps + steps - self._most_sweeps
        for _ in range(NEWTON_STEPS):
            self._may_go_on()
            step = NewtonStep(self._physics, obj, self._weight, smoothing, self._gain, count)
            value = self._per_pixel(step.held_out)
            for _ in range(NEWTON_ITERATIONS):
                yield from self._swept(value)
                self._may_go_on()
                step.improve()
            obj = step.reached
            self._descent.current = obj
            yield from self._swept(value)
        if not self._physics.held_out(obj) <= before:
            self._planned = planned
            return False
        self._go_on_from(obj, self._variation)
        for _ in range(SETTLING_SWEEPS):
            yield from self._sweep(1)
        self._still = True
        return True

    def _by_momentum(self, calibrated: bool) -> Generator[Event, None, None]:
        """Sweep over the whole scan until nothing moves any more."""
        for number in range(1, self._most_sweeps + 1):
            self._descent.turning = max(0.0, 1 - number / self._turned_sweeps)
            yield from self._sweep(1)
            if calibrated:
                self._experiment.step(self._descent.current)
            if number >= self._turned_sweeps and self._descent.change < STILL:
                self._still = True
                self._planned -= self._most_sweeps - self._sweeps
                break

    def add_prior(self, backend: Backend) -> Generator[Event, None, float]:
        """Go on with the learned prior; return its strength in what held-out pixels are for, 0 for none.

        Probe and positions stay as they are, so that they belong to each of the images.
        """
        plain = self._descent.current
        tried = {0.0: _Tried(plain, self._physics.held_out(plain))}
        shape, weight, smoothing = self._patterns.shape, self._weight, self._config.refine_smoothing
        details, slow = self._filter(detail_gain(shape)), self._filter(slow_gain(shape))

        def attempt(strength: float, *, turned: bool) -> Generator[Event, None, bool]:
            """Go on from the image of physics; return whether that is the best so far."""
            prior = LearnedPrior(weight, smoothing, backend.denoise, details, slow, strength, turned=turned)
            obj = yield from self._with_prior(plain, prior)
            found = self._physics.held_out(obj)
            better = found < min(image.deviance for image in tried.values())
            if strength not in tried or found < tried[strength].deviance:
                tried[strength] = _Tried(obj, found)
            return better

        def best() -> float:
            return min(tried, key=lambda strength: tried[strength].deviance)

        for strength in STRENGTHS:
            yield from attempt(strength, turned=False)
        self._change = abs(tried[STRENGTHS[0]].obj - plain)
        if (yield from attempt(best() or STRENGTHS[0], turned=True)):
            yield from attempt(WEAKEST, turned=True)
        chosen = best()
        self._descent.current = tried[chosen].obj
        self._planned = self._sweeps
        logger.info(
            'Held-out deviance by the strength of the learned prior: %s.%s',
            ', '.join(f'{image.deviance:.4g} at {strength:g}' for strength, image in tried.items()),
            '' if chosen else ' It does not suit this object, which stays as it was.',
        )
        return chosen

    def _with_prior(self, plain: Any, prior: Proximal) -> Generator[Event, None, Any]:
        """Return what a prior makes of an object (H, W)."""
        self._go_on_from(plain, prior)
        for _ in range(self._prior_sweeps):
            yield from self._sweep(1)
        return self._descent.current

    def _sweep(self, count: int) -> Generator[Event, None, float]:
        """Step once for each of so many subsets; return the held-out deviance per pixel on the way."""
        self._may_go_on()
        subsets = [self._everything]
        if count > 1:
            rng = np.random.default_rng([self._config.seed, self._sweeps + 1])
            subsets = np.array_split(rng.permutation(self._everything), count)
        value = self._per_pixel(self._descent.sweep(subsets))
        yield from self._swept(value)
        return value

    def _may_go_on(self) -> None:
        if self._stop():
            raise Cancelled('The reconstruction was stopped.')

    def _per_pixel(self, deviance: float) -> float:
        return float(deviance / (len(self._patterns) * self._patterns.held_out.shape[1]))

    def _swept(self, value: float) -> Iterator[Event]:
        """Tell of a sweep, or of what costs as much, and of the object now and then."""
        self._sweeps += 1
        yield SweepDone(self._sweeps, self._planned, value)
        if self._preview is not None:
            preview = self._preview
            yield from self._pace.show(lambda: preview(self._on_grid(self._descent.current)))

    def _on_grid(self, canvas: Any) -> npt.NDArray[np.complex64]:
        return on_grid(self._physics.to_host(canvas), self._prepared).astype(np.complex64)

    def solution(self, strength: float, seconds: float) -> Solution:
        """Return what has been reached."""
        obj = self._descent.current
        found, start = self._experiment.patterns, self._patterns
        config = self._config
        image = self._on_grid(obj)
        weight = on_grid(self._physics.to_host(self._weight), self._prepared).astype(np.float32)
        change = on_grid(self._physics.to_host(self._change), self._prepared) if strength else None
        box = scanned_box(self._prepared.scan)
        parts = squared_parts(image, change, weight, self._overlap, box)
        return Solution(
            object_array=image,
            weight=weight,
            uncertainty=stated_uncertainty(parts, WITH_PRIOR if strength else PHYSICS_ALONE),
            probe=found.probe if config.refine_probe else None,
            position_shift=found.placement.remainder - start.placement.remainder
            if config.refine_positions
            else None,
            strength=strength,
            sweeps=self._sweeps,
            still=self._still,
            deviance=self._physics.held_out(obj),
            seconds=seconds,
        )
