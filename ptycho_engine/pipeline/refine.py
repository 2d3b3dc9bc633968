"""Refinement: iterations of physics over all positions, from the network's object or from a flat one.

Both starts are tried, the better goes on, and the object that best predicts the held-out pixels is kept, the
start included (clauses REF-04 to REF-06 of ``specs/physics.md``).
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
from scipy import fft

from ..backends.base import Backend
from ..blocks import block_length, blocks, evenly_spread
from ..config import InferenceConfig
from ..errors import Cancelled
from ..events import Event, SweepDone
from ..physics.descent import AcceleratedDescent, Descent, RegularisedPIE
from ..physics.experiment import ExperimentRefinement
from ..physics.forward import cut_patches, deviance, predict_intensity
from ..physics.geometry import PatchPlacement
from ..physics.noise import noise_deviance
from ..physics.refinement import ScanPatterns, ScanPhysics, draw_held_out
from ..physics.slow_phase import illumination_variance, slow_phase_gain
from .prepared import PreparedScan
from .progress import Pace
from .ramp import with_ramp_of
from .stitch import weakest_weight
from .subsets import fewer_subsets, most_subsets, overlap_of, subsets_in_sweep

__all__ = ['HELD_OUT_FRACTION', 'DescentRun', 'Refinement', 'refine', 'scan_patterns']

logger = logging.getLogger('ptychopinn.refine')

HELD_OUT_FRACTION = 0.02
"""Part of the good pixels that judges and is not fitted."""

RPIE_PATTERNS = 16
"""Patterns that rPIE applies together."""

PATIENCE = 20
"""Sweeps over the whole scan without a better held-out deviance after which refinement ends."""

BETTER = 1e-4
"""Relative fall of the held-out deviance that counts."""

BELIEVED = 'network (its edges believed)'
"""Name of the run whose total variation is half that of the difference to the network's object."""

LEAST_NOISE, MOST_NOISE, EXPLAINED = 0.8, 1.05, 0.01
"""A network's object is near the best there is, so that no other start is worth its time, if its held-out
deviance is at most so many times that of photon noise, or if beyond noise it predicts counts to within such a
part of them. If it is far less than noise, the numbers are not of photons, and noise is no measure."""

COMPARED_PATTERNS = 128
"""Patterns, evenly spread, that this is judged by."""

SPARSE_OVERLAP, ALIKE = 1.5, 1.15
"""Where fewer patterns fall on a pixel, and the network's object is no worse than so many times the refined
one in held-out deviance, their mean is taken."""

MEAN_CURVATURE = 0.5
"""Of the likelihood along a pixel, in units of its illumination: counts say how long a wave at the detector
is but not its phase, and so pin down one of two directions."""

RUNAWAY = 2.0
"""A run whose held-out deviance grows by this factor starts again without subsets."""


@dataclass(frozen=True)
class Refinement:
    """An object after refinement and how it came about."""

    object_array: npt.NDArray[np.complex64]
    """(H, W) complex64 on the scan's grid, in the engine's gauge."""
    probe: npt.NDArray[np.complex64] | None
    """(P, N, N) refined probe in the engine's gauge; None where it is the scan's."""
    position_shift: npt.NDArray[np.float64] | None
    """(n, 2) [dy, dx] in pixels that the refinement added to the positions; None where it added nothing."""
    uncertainty: npt.NDArray[np.float32]
    """(H, W) standard error in units of the object's amplitude, engine's gauge; NaN where nothing was
    scanned."""
    start: str
    """'network' or 'flat': the start that went on."""
    kept: bool
    """Whether the refined object is better than the network's on the held-out pixels."""
    averaged: bool
    """Whether the object is the mean of the refined one and the network's."""
    sweeps: int
    """Sweeps of the start that went on."""
    deviance_before: float
    """Poisson deviance per held-out pixel of the network's object."""
    deviance_after: float
    """The same of :attr:`object_array`; never above `deviance_before`."""
    seconds: float

    @property
    def sentence(self) -> str:
        """What happened, for logs and comments."""
        change = f'held-out deviance {self.deviance_before:.4g} → {self.deviance_after:.4g}'
        if not self.kept:
            return f'refinement did not improve on the network and was dropped ({change})'
        mean = ', averaged with the network' if self.averaged else ''
        return (
            f'refined by {self.sweeps} sweeps from the {self.start} start{mean} ({change}){self._calibrated}'
        )

    @property
    def _calibrated(self) -> str:
        what = ['the probe'] if self.probe is not None else []
        if self.position_shift is not None:
            moved = np.sqrt(np.square(self.position_shift).sum(axis=1).mean())
            what.append(f'positions by {moved:.2g} px (root mean square)')
        return f', with {" and ".join(what)}' if what else ''


def scan_patterns(
    prepared: PreparedScan, seed: int | None, fraction: float = HELD_OUT_FRACTION, *, multiple: int = 1
) -> ScanPatterns:
    """Return the patterns of a scan on a canvas that holds every patch whole.

    Parameters
    ----------
    seed : int, optional
        Of the pixels that are held out; None to fit them all.
    fraction : float
        Part of the good pixels that is held out.
    multiple : int
        The sides of the canvas are multiples of this; it grows at its end.
    """
    raw, good, margin = prepared.scan.raw, prepared.good, prepared.margin
    height, width = (-(-(side + 2 * margin) // multiple) * multiple for side in prepared.scan.grid.shape)

    def amplitude(chosen: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        return np.where(good, raw.diffraction[chosen], np.float32(0))

    return ScanPatterns(
        probe=prepared.illumination.probe,
        good=good,
        placement=PatchPlacement(prepared.placement.corner + margin, prepared.placement.remainder),
        shape=(height, width),
        amplitude=amplitude,
        held_out=np.empty((1, 0), np.int64) if seed is None else draw_held_out(good, fraction, seed),
    )


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


class DescentRun:
    """One start and how far it has come."""

    def __init__(self, make: Callable[[Any], Descent], start: Any, sweeps: int, most: int) -> None:
        self._make = make
        self._start = start
        self._descent = make(start)
        self._sweeps = sweeps
        self._most = most
        self._first = math.inf

    @property
    def current(self) -> Any:
        """The object (H, W) after the last step, on the device."""
        return self._descent.current

    def sweep(self, number: int, n: int, seed: int) -> tuple[float, Any]:
        """Do one sweep; return the sum of the held-out deviance, and the object it belongs to or None."""
        count = subsets_in_sweep(number, self._sweeps, self._most)
        order = np.random.default_rng([seed, number]).permutation(n)
        total = self._descent.sweep(np.array_split(order, min(count, n)))
        if math.isinf(self._first):
            self._first = total
        if not total <= RUNAWAY * self._first and self._most > 1:
            self._most = 1
            self._descent = self._make(self._start)
            return math.nan, None
        return total, self._descent.judged if count == 1 else None


def refine(
    prepared: PreparedScan,
    backend: Backend,
    start: npt.NDArray[np.complex64],
    config: InferenceConfig,
    stop: Callable[[], bool],
    preview: Callable[[npt.NDArray[np.complex64]], Event] | None = None,
) -> Generator[Event, None, Refinement]:
    """Refine an object (H, W), given in the engine's gauge on the scan's grid.

    Yields
    ------
    SweepDone
        After every sweep.
    Event
        Now and then what `preview` makes of the object (H, W) as it is, in the engine's gauge.

    Raises
    ------
    Cancelled
        If `stop` turned true.
    """
    tic = time.perf_counter()
    patterns = scan_patterns(prepared, config.seed)
    physics = backend.scan_physics(patterns)
    everything = np.arange(len(patterns))
    judged = len(patterns) * patterns.held_out.shape[1]
    padded = prepared.pad(start)
    warm = physics.to_device(padded)
    first = physics.evaluate(warm, everything, 'poisson')
    before = first.held_out / judged

    variance = illumination_variance(patterns.probe)
    gain = physics.to_device(slow_phase_gain(variance, patterns.shape).astype(np.complex64))

    def descent(obj: Any, reference: Any | None = None) -> Descent:
        if config.refine_method == 'rpie':
            return RegularisedPIE(physics, obj, patterns.brightest)
        return AcceleratedDescent(physics, obj, first.weight, config.refine_smoothing, gain, reference)

    sweeps = config.refine_iterations
    accelerated = config.refine_method != 'rpie'
    light = physics.to_host(first.weight)
    if accelerated:
        most = most_subsets(light, patterns.brightest, len(patterns))
    else:
        most = -(-len(patterns) // RPIE_PATTERNS)
    flat = physics.to_device(np.ones(patterns.shape, np.complex64))
    # rPIE takes a few patterns at a time to the end: for it every sweep is within the first third.
    planned = sweeps if accelerated else 3 * sweeps
    near = fewer_subsets(most) if accelerated else most
    runs = {'network': DescentRun(descent, warm, planned, near)}
    if accelerated and _is_near(patterns, padded):
        logger.info("The network's object predicts the held-out pixels well enough; no flat start is tried.")
    else:
        runs['flat'] = DescentRun(descent, flat, planned, most)
    if accelerated and most == 1 and (start != 1).any():
        # Of few patterns a good network knows the edges better than they do.
        runs[BELIEVED] = DescentRun(lambda obj: descent(obj, warm), warm, planned, near)
    best = _Best(warm, before, patterns)
    pace = Pace()

    def show(run: DescentRun) -> Iterator[Event]:
        if preview is not None:
            yield from pace.show(
                lambda: preview(_cropped(physics.to_host(run.current), prepared).astype(np.complex64))
            )

    trial = _trial_length(sweeps, most if accelerated else 1) if len(runs) > 1 else 0
    for done in range(1, trial + 1):
        values = []
        for run in runs.values():
            if stop():
                raise Cancelled('The refinement was stopped.')
            values.append(run.sweep(done, len(patterns), config.seed)[0] / judged)
        yield SweepDone(done, sweeps, float(np.nanmin([*values, math.inf])))
        ahead = list(runs.values())[int(np.argmin(np.nan_to_num(values, nan=math.inf)))]
        yield from show(ahead)
    chosen = 'network'
    if trial:
        reached = {name: physics.held_out(run.current) for name, run in runs.items()}
        chosen = min(reached, key=lambda name: reached[name] if reached[name] == reached[name] else math.inf)
        logger.info(
            'After %d sweeps the held-out deviance is %s; the %s start goes on.',
            trial,
            ', '.join(f'{value:.4g} from the {name} start' for name, value in reached.items()),
            chosen,
        )
        best.offer(runs[chosen].current, reached[chosen], patterns)
    run = runs[chosen]
    experiment = ExperimentRefinement(
        physics, patterns, probe=config.refine_probe, positions=config.refine_positions
    )
    calibrates = config.refine_probe or config.refine_positions
    stale, done = 0, trial
    for done in range(trial + 1, sweeps + 1):
        if stop():
            raise Cancelled('The refinement was stopped.')
        total, obj = run.sweep(done, len(patterns), config.seed)
        value = total / judged
        if calibrates:
            experiment.step(run.current)
        if calibrates or not accelerated:
            obj = run.current
            value = physics.held_out(obj)
        yield SweepDone(done, sweeps, value)
        yield from show(run)
        if obj is None:
            continue
        stale = 0 if best.offer(obj, value, experiment.patterns) else stale + 1
        if stale >= PATIENCE:
            break
    best.offer(run.current, physics.held_out(run.current), experiment.patterns)
    kept, found = best.obj is not warm, best.patterns
    moved = found.placement.remainder - patterns.placement.remainder
    physics.set_experiment(found.probe, found.placement.remainder)
    averaged = False
    near_enough = chosen != 'flat' and before < ALIKE * best.value
    sparse = BELIEVED in runs and overlap_of(light, patterns.brightest) < SPARSE_OVERLAP
    if kept and near_enough and sparse:
        mean, value = _mean(physics, best.obj, warm, light)
        averaged = value < before
        if averaged:
            best = _Best(mean, value, found)
    result = Refinement(
        object_array=_cropped(physics.to_host(best.obj), prepared).astype(np.complex64),
        probe=found.probe if kept and config.refine_probe else None,
        position_shift=moved if kept and config.refine_positions else None,
        uncertainty=_standard_error(physics, best.obj, prepared),
        start='network' if chosen == BELIEVED else chosen,
        kept=kept,
        averaged=averaged,
        sweeps=done,
        deviance_before=before,
        deviance_after=best.value,
        seconds=time.perf_counter() - tic,
    )
    logger.info('%s. %.1f s.', result.sentence.capitalize(), result.seconds)
    return result


def _is_near(patterns: ScanPatterns, obj: npt.NDArray[np.complex64]) -> bool:
    """Return whether an object (H, W) predicts held-out pixels about as well as any could (REF-05)."""
    chosen = evenly_spread(len(patterns), COMPARED_PATTERNS)
    held_out = patterns.held_out[chosen % len(patterns.held_out)][:, None]
    rate, counts = (np.empty(held_out.shape) for _ in range(2))
    for part in blocks(len(chosen), block_length(patterns.size, len(patterns.probe))):
        members = chosen[part]
        placement = PatchPlacement(patterns.placement.corner[members], patterns.placement.remainder[members])
        patches = cut_patches(obj, placement, patterns.size)
        predicted = predict_intensity(patches, patterns.probe, placement.remainder)
        for images, values in ((predicted, rate), (np.square(patterns.amplitude(members)), counts)):
            ordered = fft.ifftshift(images, axes=(-2, -1)).reshape(len(members), 1, -1)
            values[part] = np.take_along_axis(ordered, held_out[part], axis=-1)
    found = deviance(counts, rate, np.ones(rate.shape[1:], bool)).mean()
    noise = noise_deviance(rate).mean()
    # A deviance beyond noise is about (k - r)^2 / r.
    most = max(MOST_NOISE * noise, noise + EXPLAINED**2 * counts.mean())
    return bool(LEAST_NOISE * noise < found < most)


def _mean(physics: ScanPhysics, refined: Any, warm: Any, light: npt.NDArray[np.float32]) -> tuple[Any, float]:
    """Return the mean of a refined object (H, W) and the network's, and its held-out deviance.

    One errs towards noise and the other towards what the network has learned: their mean errs less.
    """
    target = physics.to_host(refined)
    turned = with_ramp_of(target, physics.to_host(warm), light)
    mean = physics.to_device(((target + turned) / 2).astype(np.complex64))
    return mean, physics.held_out(mean)


def _trial_length(sweeps: int, most: int) -> int:
    """Sweeps that both starts get: until subsets are gone, since their noise would hide the difference."""
    alone = next(s for s in range(1, sweeps + 1) if s == sweeps or subsets_in_sweep(s, sweeps, most) == 1)
    return max(alone, math.ceil(sweeps / 3))


def _cropped(canvas: npt.NDArray[Any], prepared: PreparedScan) -> npt.NDArray[Any]:
    margin = prepared.margin
    height, width = prepared.scan.grid.shape
    return canvas[margin : margin + height, margin : margin + width]


def _standard_error(physics: ScanPhysics, obj: Any, prepared: PreparedScan) -> npt.NDArray[np.float32]:
    """Return how well the patterns agree on each pixel (REF-06)."""
    power, weight = (_cropped(physics.to_host(a), prepared) for a in physics.gradient_power(obj))
    known = weight > weakest_weight(weight)
    curvature = np.maximum(MEAN_CURVATURE * weight, 1e-30)
    return np.where(known, np.sqrt(power) / curvature, np.nan).astype(np.float32)
