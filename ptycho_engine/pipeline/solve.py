"""From a flat object to the image of a scan: steps of physics and of a prior of objects, until nothing moves.

No model needs to be trained on scans for it (clauses SOLVE-01 to SOLVE-05 of ``specs/physics.md``).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from ..backends.base import Backend
from ..config import InferenceConfig
from ..errors import Cancelled
from ..events import Event, SweepDone
from ..network.plan import SIDE_MULTIPLE
from ..physics.descent import AcceleratedDescent, Proximal, smoothing_prior
from ..physics.experiment import ExperimentRefinement
from ..physics.learned_prior import LearnedPrior, detail_gain
from ..physics.refinement import ScanPatterns, ScanPhysics
from ..physics.slow_phase import illumination_variance, slow_phase_gain
from .held_out import scan_patterns
from .overlap import overlap_of
from .prepared import PreparedScan
from .progress import Pace
from .quality import scanned_box
from .refine import on_grid
from .subsets import most_subsets
from .uncertainty import PHYSICS_ALONE, WITH_PRIOR, squared_parts, stated_uncertainty

__all__ = ['Solution', 'solve']

logger = logging.getLogger('ptychopinn.solve')

SWEEPS_AT_EACH = 3
"""Sweeps with as many subsets as a dense scan allows, then as many with half of them, down to one."""

TURNED_SWEEPS = 60
"""Sweeps over which the gain of the slow phase falls to nothing: it hastens the first steps, and later what
turns the slow phase is noise."""

MOST_SWEEPS = 150
"""Sweeps after which it ends at the latest."""

STILL = 4e-4
"""Root mean square of the change of a sweep, for an amplitude of 1, below which nothing moves any more."""

PRIOR_SWEEPS = 30
"""Sweeps with the learned prior after that, at each strength that is tried."""

STRENGTHS = 0.25, 0.4, 0.15
"""Of the learned prior (:class:`~..physics.learned_prior.LearnedPrior`), tried in this order: the last only
where the second is no better than the first. Objects unlike those it was trained on want less of it."""

SLOW_PX = 3.0
"""Standard deviation in pixels of a Gaussian: phase that varies over more is taken from the image before the
learned prior. Patterns hold it so weakly that a little of the denoiser's error in each sweep adds up."""

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
        variance = illumination_variance(self._patterns.probe)
        self._gain = self._physics.to_device(slow_phase_gain(variance, shape).astype(np.complex64))
        self._variation = smoothing_prior(self._weight, config.refine_smoothing)
        self._planned = MOST_SWEEPS + (len(STRENGTHS) * PRIOR_SWEEPS if learned else 0)
        self._experiment = ExperimentRefinement(
            self._physics, self._patterns, probe=config.refine_probe, positions=config.refine_positions
        )
        self._descent = AcceleratedDescent(self._physics, flat, self._variation, self._gain)
        self._change: Any = None
        self._sweeps = 0
        self._still = False

    def _details(self) -> Callable[[Any], Any]:
        """Return what takes the details (H, W) of a change (H, W) of the object."""
        physics = self._physics
        gain = physics.to_device(detail_gain(self._patterns.shape).astype(np.complex64))
        return lambda change: physics.filtered(change.real, gain) + 1j * physics.filtered(change.imag, gain)

    def descend(self) -> Generator[Event, None, None]:
        """Sweep with total variation until nothing moves any more."""
        first = math.inf
        for number in range(1, MOST_SWEEPS + 1):
            count = max(self._most >> ((number - 1) // SWEEPS_AT_EACH), 1)
            self._descent.turning = max(0.0, 1 - number / TURNED_SWEEPS)
            value = yield from self._sweep(count)
            if count == 1 and (self._config.refine_probe or self._config.refine_positions):
                self._experiment.step(self._descent.current)
            first = value if math.isinf(first) else first
            if not value <= RUNAWAY * first and self._most > 1:
                logger.info('Parts of the scan are too small for steps of their own; starting again without.')
                self._most, first = 1, math.inf
                flat = self._physics.to_device(np.ones(self._patterns.shape, np.complex64))
                self._descent = AcceleratedDescent(self._physics, flat, self._variation, self._gain)
            if number >= TURNED_SWEEPS and self._descent.change < STILL:
                self._still = True
                self._planned -= MOST_SWEEPS - self._sweeps
                break

    def add_prior(self, backend: Backend) -> Generator[Event, None, float]:
        """Go on with the learned prior; return its strength in what held-out pixels are for, 0 for none.

        Probe and positions stay as they are, so that they belong to each of the images.
        """
        plain = self._descent.current
        found = {0.0: self._physics.held_out(plain)}
        best, chosen = plain, 0.0
        details, smoothing = self._details(), self._config.refine_smoothing
        for strength in STRENGTHS:
            if strength == STRENGTHS[-1] and chosen == STRENGTHS[1]:
                break
            prior = LearnedPrior(self._weight, smoothing, backend.denoise, details, strength)
            obj = yield from self._with_prior(plain, prior)
            found[strength] = self._physics.held_out(obj)
            if strength == STRENGTHS[0]:
                self._change = abs(obj - plain)
            if found[strength] < found[chosen]:
                best, chosen = obj, strength
        self._descent.current = best
        logger.info(
            'Held-out deviance by the strength of the learned prior: %s.%s',
            ', '.join(f'{value:.4g} at {strength:g}' for strength, value in found.items()),
            '' if chosen else ' It does not suit this object, which stays as it was.',
        )
        return chosen

    def _with_prior(self, plain: Any, prior: Proximal) -> Generator[Event, None, Any]:
        """Return what a prior makes of an object (H, W), whose slow phase stays."""
        self._descent = AcceleratedDescent(self._physics, plain, prior, self._gain)
        self._descent.turning = 0.0
        for _ in range(PRIOR_SWEEPS):
            yield from self._sweep(1)
        host = self._physics.to_host
        obj = host(self._descent.current)
        return self._physics.to_device(_with_slow_phase_of(obj, host(plain), host(self._weight)))

    def _sweep(self, count: int) -> Generator[Event, None, float]:
        """Step once for each of so many subsets; return the held-out deviance per pixel on the way."""
        if self._stop():
            raise Cancelled('The reconstruction was stopped.')
        self._sweeps += 1
        subsets = [self._everything]
        if count > 1:
            order = np.random.default_rng([self._config.seed, self._sweeps]).permutation(self._everything)
            subsets = np.array_split(order, count)
        total = self._descent.sweep(subsets)
        value = float(total / (len(self._patterns) * self._patterns.held_out.shape[1]))
        yield SweepDone(self._sweeps, self._planned, value)
        if self._preview is not None:
            preview = self._preview
            yield from self._pace.show(lambda: preview(self._on_grid(self._descent.current)))
        return value

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


def _with_slow_phase_of(
    obj: npt.NDArray[np.complex64], other: npt.NDArray[np.complex64], light: npt.NDArray[np.floating[Any]]
) -> npt.NDArray[np.complex64]:
    """Return an object (H, W) turned so that its slow phase, where there is light, is that of another."""
    if not np.isfinite(obj).all():
        # Nothing that a held-out deviance would be for.
        return obj
    product = obj * other.conj()
    turn = light * product / np.maximum(np.abs(product), np.finfo(np.float32).tiny)
    slow = gaussian_filter(turn.real, SLOW_PX) + 1j * gaussian_filter(turn.imag, SLOW_PX)
    return np.asarray(obj * np.exp(-1j * np.angle(slow)), dtype=np.complex64)
