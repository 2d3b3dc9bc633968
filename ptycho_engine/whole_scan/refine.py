"""Refinement: iterations of physics over all positions, from the network's object or from a flat one.

Both starts are tried, the better goes on, and the object that best predicts the held-out pixels is kept, the
start included (clauses REF-04 to REF-06 of ``specs/physics.md``).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ..backends.base import Backend
from ..config import InferenceConfig
from ..errors import Cancelled
from ..events import Event, IterationDone
from ..physics.calibration import ExperimentRefinement
from ..physics.descent import AcceleratedDescent, Descent, RegularisedPIE, smoothing_prior
from ..physics.likelihood import ScanPatterns, ScanPhysics
from ..physics.preconditioner import illumination_variance, phase_preconditioner
from ..progress import RateLimiter
from .held_out import is_near, scan_patterns
from .ramp import with_ramp_of
from .refinement import Refinement, in_words
from .scan_model import ScanModel, on_grid
from .subsets import (
    SPARSE_OVERLAP,
    DescentRun,
    fewer_subsets,
    most_subsets,
    overlap_of,
    subsets_in_iteration,
)
from .uncertainty import standard_error

__all__ = ['refine']

logger = logging.getLogger('ptychopinn.refine')

RPIE_PATTERNS = 16
"""Patterns that rPIE applies together."""

PATIENCE = 20
"""Iterations over the whole scan without a better held-out deviance after which refinement ends."""

GENTLE = 0.1
"""Factor of the gain of the low-frequency phase (REF-03) from a network's object on scans that are not
dense: what turns the low-frequency phase of a good object there is noise."""

BETTER = 1e-4
"""Relative fall of the held-out deviance that counts."""

NETWORK, FLAT = 'network', 'flat'
EDGE_PRESERVING = 'network (with the edge-preserving prior)'
"""Name of the run whose total variation is half that of the difference to the network's object."""
FULL_UPDATE = (
    'network (with the full low-frequency update)',
    'network (with the edge-preserving prior and the full low-frequency update)',
)
"""Names of these two runs with the whole gain of the low-frequency phase."""
CLEARLY = 1e-3
"""By how much lower the held-out deviance of those must be: these pixels hardly see how much noise there is
in a low-frequency phase, but do see a wrong one, unless patterns hardly overlap."""

FEW_COUNTS = 600.0
"""Where fewer counts fall on a pixel, a mean of the refined object and the network's is tried."""

AMPLITUDE_SHARES, PHASE_SHARES = (0.2, 0.5, 0.8, 1.0), (0.1, 0.4, 0.7, 1.0)
"""Of the refined object in that mean; the held-out pixels choose. A network may lack what varies slowly in
the phase, which refinement corrects, and may know details better than few counts do."""


@dataclass
class _Best:
    """What has predicted the held-out pixels best so far."""

    obj: Any
    value: float
    patterns: ScanPatterns
    """With the probe and the positions that belong to the object."""

    def offer(self, obj: Any, value: float, patterns: ScanPatterns) -> bool:
        """Take an object if it is better; return whether by so much that it counts."""
        counts = value < (1 - BETTER) * self.value
        if value < self.value:
            self.obj, self.value, self.patterns = obj, value, patterns
        return counts


@dataclass(frozen=True)
class _Refinement:
    """What every iteration of a refinement needs."""

    prepared: ScanModel
    patterns: ScanPatterns
    physics: ScanPhysics
    config: InferenceConfig
    stop: Callable[[], bool]
    preview: Callable[[npt.NDArray[np.complex64]], Event] | None
    limiter: RateLimiter = field(default_factory=RateLimiter)

    @property
    def accelerated(self) -> bool:
        """Whether the descent is accelerated, and not rPIE's."""
        return self.config.refine_method != 'rpie'

    @property
    def judged(self) -> int:
        """Pixels that judge."""
        return int(len(self.patterns) * self.patterns.held_out.shape[1])

    def iterate(self, run: DescentRun, number: int) -> tuple[float, Any]:
        """Do one iteration; return the held-out deviance per pixel, and the object it belongs to or None."""
        if self.stop():
            raise Cancelled('The refinement was stopped.')
        total, obj = run.iterate(number, len(self.patterns), self.config.seed)
        return total / self.judged, obj

    def show(self, run: DescentRun) -> Iterator[Event]:
        """Yield now and then what the preview makes of a run."""
        if self.preview is not None:
            preview = self.preview
            yield from self.limiter.show(
                lambda: preview(
                    on_grid(self.physics.to_host(run.current), self.prepared).astype(np.complex64)
                )
            )


def refine(
    prepared: ScanModel,
    backend: Backend,
    start: npt.NDArray[np.complex64],
    config: InferenceConfig,
    stop: Callable[[], bool],
    preview: Callable[[npt.NDArray[np.complex64]], Event] | None = None,
) -> Generator[Event, None, Refinement]:
    """Refine an object (H, W), given in the engine's scale on the scan's grid.

    Yields
    ------
    IterationDone
        After every iteration.
    Event
        Now and then what `preview` makes of the object (H, W) as it is, in the engine's scale.

    Raises
    ------
    Cancelled
        If `stop` turned true.
    """
    tic = time.perf_counter()
    patterns = scan_patterns(prepared, config.seed)
    physics = backend.scan_physics(patterns)
    refinement = _Refinement(prepared, patterns, physics, config, stop, preview)
    padded = prepared.pad(start)
    warm = physics.to_device(padded)
    first = physics.evaluate(warm, np.arange(len(patterns)), 'poisson')
    before = first.held_out / refinement.judged
    light, learned = physics.to_host(first.weight), bool((padded != 1).any())
    overlap = overlap_of(light, patterns.peak_illumination)
    starts, most = _starts(refinement, padded, warm, first.weight, overlap=overlap, learned=learned)
    best = _Best(warm, before if math.isfinite(before) else math.inf, patterns)
    trial = 0
    if len(starts) > 1:
        trial = _trial_length(config.refine_iterations, most if refinement.accelerated else 1)
        chosen, run = yield from _trial(refinement, starts, trial, best)
    else:
        chosen, run = NETWORK, starts[NETWORK]()
    experiment = ExperimentRefinement(
        physics, patterns, probe=config.refine_probe, positions=config.refine_positions
    )
    iterations = yield from _go_on(refinement, run, trial, experiment, best)
    if iterations == trial and (config.refine_probe or config.refine_positions):
        logger.warning(
            'It took all %d iterations to choose a start, so that probe and positions are as they were; give '
            'more refine_iterations.',
            iterations,
        )
    averaged, scarce = False, overlap * patterns.peak_illumination < FEW_COUNTS
    if learned and scarce and refinement.accelerated and chosen != FLAT:
        # Where refinement did not help, what it ended with still errs in another way.
        refined, found = best.obj, best.patterns
        if refined is warm:
            refined, found = run.current, experiment.patterns
        physics.set_experiment(found)
        mean, value = _mean(physics, refined, warm, light)
        if value < (1 - BETTER) * best.value:
            averaged, best = True, _Best(mean, value, found)
    kept, found = best.obj is not warm, best.patterns
    moved = found.placement.subpixel_shift - patterns.placement.subpixel_shift
    physics.set_experiment(found)
    result = Refinement(
        object_array=on_grid(physics.to_host(best.obj), prepared).astype(np.complex64),
        probe=found.probe if kept and config.refine_probe and iterations > trial else None,
        position_shift=moved if kept and config.refine_positions and iterations > trial else None,
        uncertainty=standard_error(physics, best.obj, prepared),
        start=FLAT if chosen == FLAT else NETWORK,
        kept=kept,
        averaged=averaged,
        iterations=iterations,
        deviance_before=before,
        deviance_after=best.value if kept else before,
        seconds=time.perf_counter() - tic,
    )
    logger.info('%s. %.1f s.', result.sentence.capitalize(), result.seconds)
    return result


def _starts(
    refinement: _Refinement,
    padded: npt.NDArray[np.complex64],
    warm: Any,
    weight: Any,
    *,
    overlap: float,
    learned: bool,
) -> tuple[dict[str, Callable[[], DescentRun]], int]:
    """Return what begins each run to try, by name, and the largest number of subsets.

    Parameters
    ----------
    padded, warm : (H, W) complex
        The network's object, here and on the device.
    weight : (H, W) float
        Illumination of the scan, on the device.
    overlap : float
        Patterns that fall on a pixel where the scan is densest.
    learned : bool
        Whether that object is a network's, and not flat.
    """
    patterns, physics, config = refinement.patterns, refinement.physics, refinement.config
    variance = illumination_variance(patterns.averaged_probe)
    gain = phase_preconditioner(variance, patterns.shape).astype(np.complex64)
    full = physics.to_device(gain)

    def descent(obj: Any, turn: Any = full, reference: Any | None = None) -> Descent:
        if not refinement.accelerated:
            return RegularisedPIE(physics, obj, patterns.peak_illumination)
        prior = smoothing_prior(weight, config.refine_smoothing, reference)
        return AcceleratedDescent(physics, obj, prior, turn)

    iterations = config.refine_iterations
    if refinement.accelerated:
        most = most_subsets(overlap, len(patterns))
        planned, near = iterations, fewer_subsets(most)
    else:
        # rPIE takes a few patterns at a time to the end: for it every iteration is within the first third.
        most = near = -(-len(patterns) // RPIE_PATTERNS)
        planned = 3 * iterations

    def from_network(method: Callable[[Any], Descent]) -> Callable[[], DescentRun]:
        return lambda: DescentRun(method, warm, planned, near)

    def from_flat() -> DescentRun:
        flat = physics.to_device(np.ones(patterns.shape, np.complex64))
        return DescentRun(descent, flat, planned, most)

    starts = {NETWORK: from_network(descent)}
    if refinement.accelerated and most == 1 and learned:
        gentle = partial(descent, turn=physics.to_device(np.complex64(GENTLE) * gain))
        # Of few patterns a good network knows the edges better than they do.
        starts = {
            NETWORK: from_network(gentle),
            EDGE_PRESERVING: from_network(partial(gentle, reference=warm)),
        }
        if overlap >= SPARSE_OVERLAP:
            starts[FULL_UPDATE[0]] = from_network(descent)
            starts[FULL_UPDATE[1]] = from_network(partial(descent, reference=warm))
    if refinement.accelerated and is_near(patterns, padded):
        logger.info("The network's object predicts the held-out pixels well enough; no flat start is tried.")
    else:
        starts[FLAT] = from_flat
    return starts, most


def _trial(
    refinement: _Refinement, starts: Mapping[str, Callable[[], DescentRun]], length: int, best: _Best
) -> Generator[Event, None, tuple[str, DescentRun]]:
    """Let each run do some iterations; offer the best of them and return it and its name.

    One after the other, for each holds several objects: only the best is kept.
    """
    reached: dict[str, float] = {}
    chosen, ahead, lowest, done = '', None, math.inf, 0
    for name, begin in starts.items():
        run = begin()
        for number in range(1, length + 1):
            lowest = float(np.nanmin([refinement.iterate(run, number)[0], lowest]))
            done += 1
            if done % len(starts) == 0:
                yield IterationDone(done // len(starts), refinement.config.refine_iterations, lowest)
            yield from refinement.show(ahead or run)
        reached[name] = refinement.physics.held_out(run.current)
        if ahead is None or _judged(name, reached[name]) < _judged(chosen, reached[chosen]):
            chosen, ahead = name, run
    assert ahead is not None
    logger.info(
        'After %d iterations the held-out deviance is %s; the %s start goes on.',
        length,
        ', '.join(f'{in_words(value)} from the {name} start' for name, value in reached.items()),
        chosen,
    )
    best.offer(ahead.current, reached[chosen], refinement.patterns)
    return chosen, ahead


def _judged(name: str, value: float) -> float:
    """Return the held-out deviance by which a run is chosen."""
    if math.isnan(value):
        return math.inf
    return value * (1 + CLEARLY) if name in FULL_UPDATE else value


def _go_on(
    refinement: _Refinement, run: DescentRun, done: int, experiment: ExperimentRefinement, best: _Best
) -> Generator[Event, None, int]:
    """Do the iterations that are left after `done`, as long as they help; return how many there were in
    all."""
    physics, config = refinement.physics, refinement.config
    calibrates = config.refine_probe or config.refine_positions
    stale = 0
    for number in range(done + 1, config.refine_iterations + 1):
        done = number
        value, obj = refinement.iterate(run, number)
        if calibrates:
            experiment.step(run.current)
        if calibrates or not refinement.accelerated:
            obj = run.current
            value = physics.held_out(obj)
        yield IterationDone(number, config.refine_iterations, value)
        yield from refinement.show(run)
        if obj is None:
            continue
        stale = 0 if best.offer(obj, value, experiment.patterns) else stale + 1
        if stale >= PATIENCE:
            break
    best.offer(run.current, physics.held_out(run.current), experiment.patterns)
    return done


def _mean(physics: ScanPhysics, refined: Any, warm: Any, light: npt.NDArray[np.float32]) -> tuple[Any, float]:
    """Return the best mean of a refined object (H, W) and the network's, and its held-out deviance (REF-10).

    One errs towards noise and the other towards what the network has learned: their mean errs less. Modulus
    and phase hardly depend on each other, so the share of the phase is chosen first.
    """
    target = physics.to_host(refined)
    learned = with_ramp_of(target, physics.to_host(warm), light)

    def mean(amplitude_share: float, phase_share: float) -> tuple[Any, float]:
        amplitude = np.abs(learned + amplitude_share * (target - learned))
        phase = np.angle(learned + phase_share * (target - learned))
        obj = physics.to_device((amplitude * np.exp(1j * phase)).astype(np.complex64))
        return obj, physics.held_out(obj)

    phase_share = min(PHASE_SHARES, key=lambda share: mean(1.0, share)[1])
    means = (mean(share, phase_share) for share in AMPLITUDE_SHARES)
    return min(means, key=lambda pair: pair[1])


def _trial_length(iterations: int, most: int) -> int:
    """Iterations that both starts get: until subsets are gone, since their noise would hide the
    difference."""
    alone = next(
        s
        for s in range(1, iterations + 1)
        if s == iterations or subsets_in_iteration(s, iterations, most) == 1
    )
    return max(alone, math.ceil(iterations / 3))
