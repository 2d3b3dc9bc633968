"""What is wrong with the model of an experiment, found by the image that it leads to (CAL-*).

Each part is tried beside the object, from where the image is, and the one that helps held-out pixels most is
kept before the others are tried again: what one part explains better is not left to another.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..backends.base import PhysicsBackend
from ..blocks import first_to_last, most_patterns
from ..config import InferenceConfig
from ..events import Event
from ..physics.calibration import ExperimentRefinement
from ..physics.coherent import coherent_modes
from ..physics.descent import AcceleratedDescent
from ..physics.detector import stuck_pixels, unexplained_pixels
from ..physics.likelihood import ScanPatterns, ScanPhysics
from ..physics.probe_changes import with_more_modes
from .coarse_search import SEARCHED, best_change, changed
from .corrections import Correction, corrections, far_field_light
from .held_out import fit_on_device
from .object_solver import IterationCount, ObjectSolver
from .paired import limited_difference, paired_difference
from .remaining import BACKGROUND_COUNTS, Remaining, remaining
from .scan_model import ScanModel

__all__ = ['Calibrator']

logger = logging.getLogger('ptychopinn.calibrate')

FAR = 1.3
"""Deviance in units of photon noise (:attr:`~.held_out.Fit.unexplained`) up to which an image is taken to
explain its patterns."""

SURE = 2.0
"""Standard errors over the patterns by which the corrected experiment must lower the held-out deviance. What
is tried has been told from noise already, by the forces that are left (:mod:`~.remaining`)."""

MOST_OF_PROBE = 0.5
"""Part of the light of the probe on pixels that are no pixels at fault: the probe is."""
LIKELY = 1.0
"""Those by which it must fall in a trial of a part, and without bad pixels, which stand out by themselves."""

LEAST_GAIN, BY_FAR = 0.02, 0.1
"""Of what the held-out deviance is above noise, that a part must take away, and that one of more freedom must
take away beyond another."""

PLAINLY, MANY_SUBSETS = 4.0, 8
"""Deviance in units of photon noise from which on an image that has only begun is wrong already, and the
subsets that it must have begun with: fewer are few steps."""

TRIAL = 4, 4, 4, 2, 1
"""Subsets of each iteration with a part beside the object, before parts are compared."""

REFINED = (4,) * 8 + (2,) * 3 + (1,) * 4
"""Subsets of the iterations of a round with all parts that were kept."""

WITHOUT_SUBSETS = 3
"""Times as many iterations where the scan is too sparse for subsets."""

MOMENTUM, PROBE_GAIN = 0.85, 2.0
"""Of the experiment, from one subset to the next (:class:`~..physics.calibration.ExperimentRefinement`)."""

MOST_ROUNDS, LEAST_GONE = 8, 0.005
"""Rounds, and what one must take away, in units of photon noise, for another to follow."""

OPTIONS = {
    'background': 'background',
    'uneven background': 'background',
    'intensities': 'intensities',
    'axes': 'positions',
    'probe': 'probe',
    'single positions': 'positions',
    'modes': 'modes',
}
"""What is tried, and the part of the setting that it belongs to."""

UNEVEN = 'uneven background'

FEW_COUNTS = 12.0
"""Mean counts of a pixel below which a wrong focus may leave nothing but noise, so that it is looked for."""

FEW_NUMBERS = frozenset({'background', UNEVEN, 'axes'})
"""Parts so small that they cannot follow noise: they are kept if held-out pixels are not against them."""

TAKEN_AT_LEAST = 0.6
"""Part of what is beyond noise that an uneven background must take away: it explains some of any fault that
washes patterns out, as a stage that moves does."""

MOSTLY = 0.7
"""Part of what is beyond noise: a part of the experiment that takes away so much is kept, as those that come
after it move more."""

PATTERNS_OF_PIXELS, THEIR_VALUES, FEWEST_OF_PIXELS = 256, 1 << 23, 32
"""Patterns whose scatter tells stuck pixels, as many values at most, and the fewest patterns all the same."""

SLIGHTLY, LARGELY, MOST_FURTHER = 0.08, 0.3, 3
"""Where the best part takes away more than the first but less than the second in a trial, so many go on
before they are compared."""


@dataclass
class _State:
    """A model of the experiment and the object that belongs to it."""

    solver: ObjectSolver
    """Whose canvas they lie on."""
    patterns: ScanPatterns
    physics: ScanPhysics
    current: Any
    """The object (H, W) on the device."""
    deviance: npt.NDArray[np.float64]
    """(n,) per held-out pixel."""


class Calibrator:
    """Brings a solver that has begun to its end, and corrects the experiment on the way.

    Parameters
    ----------
    solver : ObjectSolver
        With the scan as its file describes it.
    """

    def __init__(
        self,
        solver: ObjectSolver,
        backend: PhysicsBackend,
        config: InferenceConfig,
        iterations: IterationCount,
    ) -> None:
        self.solver = solver
        """That of the corrected scan, once it is calibrated."""
        self.corrections: tuple[Correction, ...] = ()
        """One for each part that was corrected."""
        self.suspected: tuple[str, ...] = ()
        """What the forces that are left tell to be wrong (:attr:`~.remaining.Remaining.sure`), where nothing
        was corrected."""
        self._backend, self._config, self._count = backend, config, iterations
        self._kept: list[str] = []
        self._forces: Remaining | None = None
        self._unsearched = set(SEARCHED)
        self._near_noise = False
        """Whether the image explains the patterns, though what it leaves may be no noise."""

    def calibrate(self) -> Generator[Event, None, None]:
        """Go on to the end, and correct the experiment where the patterns are not explained."""
        parts, first = self._config.calibrated_parts, self.solver
        anyway = self._config.calibrates_anyway
        if not parts or first.subsets == 1:
            yield from first.finish()
        if 'bad_pixels' in parts and (self._unexplained(first) > FAR or anyway):
            yield from self._leave_out_pixels()
        plainly = self.solver.subsets >= MANY_SUBSETS and self._unexplained(self.solver) > PLAINLY
        if not self.solver.finished and not plainly:
            yield from self.solver.finish(patiently=False)
        if parts:
            state = yield from self._by_rounds(self._state(self.solver), parts)
            # Trials that did not help have left theirs there.
            self.solver.physics.set_experiment(self.solver.patterns)
            if self._kept:
                yield from self._solve_again(state)
        if not self.solver.finished:
            self._forces = None
            yield from self.solver.finish()
        if not self._kept:
            self.suspected = self._suspected()
        self.corrections = tuple(corrections(first.prepared, self.solver.prepared))

    def _suspected(self) -> tuple[str, ...]:
        """Return what is surely not as the file says, by the image as it is."""
        if self._forces is None:
            self._forces = remaining(self.solver.patterns, self.solver.physics, self.solver.current)
            if self._forces.sure:
                self._forces = self._forces.beside(self._unexplained(self.solver))
        return self._forces.sure

    def _unexplained(self, of: _State | ObjectSolver) -> float:
        """Return the deviance that an object leaves, in units of photon noise."""
        fit = fit_on_device(of.patterns, of.physics, of.current)
        self._noise = fit.noise
        return fit.unexplained

    def _state(self, solver: ObjectSolver) -> _State:
        obj = solver.current
        return _State(solver, solver.patterns, solver.physics, obj, solver.physics.held_out_each(obj))

    def _leave_out_pixels(self) -> Generator[Event, None, None]:
        """Mask pixels that no model explains, where the others are explained better without them."""
        solver = self.solver
        flat = solver.physics.to_device(np.ones(solver.patterns.shape, np.complex64))
        bad = unexplained_pixels(solver.physics.residuals(solver.current), solver.physics.residuals(flat))
        bad |= _stuck(solver.patterns)
        raw = solver.prepared.scan.raw
        if not bad.any() or _of_probe(solver.prepared.probe, raw.valid & bad) > MOST_OF_PROBE:
            return
        patterns = replace(
            solver.patterns,
            valid=solver.patterns.valid & ~bad,
            held_out=_without(solver.patterns.held_out, bad),
        )
        before = self._backend.scan_physics(patterns).held_out_each(solver.current)
        prepared = solver.prepared.of_experiment(solver.patterns, ~raw.valid | bad)
        again = ObjectSolver(prepared, self._backend, self._config, self._count, patterns.held_out)
        yield from again.begin()
        if again.subsets == 1:
            yield from again.finish()
        if paired_difference(before, again.physics.held_out_each(again.current)).score < -LIKELY:
            self.solver = again

    def _by_rounds(self, state: _State, parts: tuple[str, ...]) -> Generator[Event, None, _State]:
        """Keep the part that helps most, again and again, until none does or noise is reached."""
        left = [option for option, part in OPTIONS.items() if part in parts]
        anyway = self._config.calibrates_anyway
        while True:
            unexplained = self._unexplained(state)
            state.physics.set_experiment(state.patterns)
            forces = self._forces = remaining(state.patterns, state.physics, state.current).beside(
                unexplained
            )
            tells = forces.allows if unexplained > FAR else forces.speaks_of
            worth = [option for option in left if anyway or tells(option)]
            if 'axes' in worth:
                # Another focus magnifies what a pattern shows, and pulls at the axes too.
                worth = [option for option in left if option in worth or option == 'probe']
            self._near_noise = unexplained <= FAR
            if worth and self._near_noise:
                # Of few photons a wrong probe explains nearly all: what pulls may be its doing.
                worth = left
            elif not worth and 'probe' in self._unsearched and forces.counts < FEW_COUNTS and 'probe' in left:
                worth = ['probe']
            if UNEVEN in left and UNEVEN not in worth and 'background' in self._kept:
                # An even one has taken away what pulls at the mean.
                worth = [UNEVEN, *worth]
            others = [option for option in left if option not in worth] if not self._near_noise else []
            logger.debug('%.3f of noise, %s: %s', unexplained, forces, worth)
            found = yield from self._tried(state, worth, others, forces)
            if not found:
                break
            best = self._best(found)
            self._kept.append(best)
            left.remove(best)
            if best == 'single positions' and 'axes' in left:
                # They move with the axes, and their forces scatter no more.
                left.remove('axes')
            anyway = False
            state = yield from self._to_the_end(found[best])
            logger.debug('kept %s: %.4g', best, state.deviance.mean())
        return state

    def _tried(
        self, state: _State, options: list[str], others: list[str], forces: Remaining
    ) -> Generator[Event, None, dict[str, _State]]:
        """Return what each option leads to that helps; `others` are tried where `options` do little."""
        if not options and not others:
            return {}
        alike = yield from self._refined(state, self._kept, TRIAL)
        logger.debug('no other: %.4g', alike.deviance.mean())
        found = yield from self._begun(alike, state, options, forces)
        if others and not self._most_taken(alike, found) > LARGELY:
            # An object may make up for a wrong probe so well that nothing pulls at it any more.
            found |= yield from self._begun(alike, state, others, forces)
        most = self._most_taken(alike, found)
        if len(found) > 1 and SLIGHTLY < most < LARGELY:
            # Too little to tell them apart: the best ones go on.
            alike = yield from self._refined(alike, self._kept, REFINED)
            for option in sorted(found, key=lambda option: float(found[option].deviance.mean()))[
                MOST_FURTHER:
            ]:
                del found[option]
            for option, trial in found.items():
                found[option] = yield from self._refined(trial, [*self._kept, option], REFINED)
                logger.debug('further %s: %.4g', option, found[option].deviance.mean())
        return {option: trial for option, trial in found.items() if self._helps(alike, trial)}

    def _begun(
        self, alike: _State, state: _State, options: list[str], forces: Remaining
    ) -> Generator[Event, None, dict[str, _State]]:
        """Return what the first steps with each option lead to, where held-out pixels are for it."""
        # A background is as well explained by a probe that lights all the detector: it comes first.
        backgrounds = [option for option in options if OPTIONS[option] == 'background']
        found = yield from self._compared(alike, dict.fromkeys(backgrounds, state))
        if not self._settled(alike, found):
            begun = yield from self._searched(state, [o for o in options if o in self._unsearched], forces)
            rest = [option for option in options if option not in (*backgrounds, *begun)]
            found |= yield from self._compared(alike, begun | dict.fromkeys(rest, state))
        return found

    def _compared(self, alike: _State, begun: dict[str, _State]) -> Generator[Event, None, dict[str, _State]]:
        """Try options, each from its state, until one settles it; return what those lead to that help."""
        found: dict[str, _State] = {}
        for option, start in begun.items():
            trial = yield from self._attempt(start, option)
            if start.solver is not alike.solver and self._near_noise:
                # Of few photons a part that moves makes more noise than a coarse change leaves to it.
                plain = yield from self._refined(start, self._kept, TRIAL)
                trial = min((trial, plain), key=lambda tried: float(tried.deviance.mean()))
            logger.debug('%s: %.4g', option, trial.deviance.mean())
            if option == UNEVEN and not self._taken(alike, trial) > TAKEN_AT_LEAST:
                continue
            if self._probably(alike, trial):
                found[option] = trial
                if self._settled(alike, found):
                    break
        return found

    def _settled(self, alike: _State, found: dict[str, _State]) -> bool:
        """Return whether one of what was found takes away most of what is beyond noise."""
        return self._most_taken(alike, found) > MOSTLY

    def _most_taken(self, alike: _State, found: dict[str, _State]) -> float:
        return max((self._taken(alike, trial) for trial in found.values()), default=0.0)

    def _taken(self, before: _State, after: _State) -> float:
        """Return the part of the deviance beyond noise that is gone."""
        beyond = max(float(before.deviance.mean()) - self._noise, 1e-30)
        return float(before.deviance.mean() - after.deviance.mean()) / beyond

    def _best(self, found: dict[str, _State]) -> str:
        """Return the option that helps most; a later one, which moves more, only where it does so by far."""
        best, *others = (option for option in OPTIONS if option in found)
        for option in others:
            state = found[option]
            reached = float(found[best].deviance.mean())
            if float(state.deviance.mean()) < reached - BY_FAR * max(reached - self._noise, 0.0):
                best = option
        return best

    def _probably(self, before: _State, after: _State) -> bool:
        """Return whether held-out pixels are predicted better."""
        if before.patterns.background is None and _hardly_any(after.patterns.background):
            return False
        return paired_difference(before.deviance, after.deviance).score < -LIKELY

    def _helps(self, before: _State, after: _State) -> bool:
        return self._probably(before, after) and self._taken(before, after) > LEAST_GAIN

    def _attempt(self, state: _State, option: str) -> Generator[Event, None, _State]:
        """Go on from a state with a part beside those that were kept."""
        if option == 'modes':
            patterns = replace(state.patterns, probe=with_more_modes(state.patterns.probe))
            state = replace(state, patterns=patterns, physics=self._backend.scan_physics(patterns))
        return (yield from self._refined(state, [*self._kept, option], TRIAL))

    def _refined(
        self, state: _State, options: list[str], subsets: tuple[int, ...]
    ) -> Generator[Event, None, _State]:
        """Iterate with some parts of the experiment moving beside the object."""
        solver, patterns, physics = state.solver, state.patterns, state.physics
        physics.set_experiment(patterns)
        of_probe = 'probe' in options or 'modes' in options
        varies = of_probe and patterns.coherent is not None
        experiment = ExperimentRefinement(
            physics,
            patterns,
            probe=of_probe,
            axes='axes' in options and 'single positions' not in options,
            positions='single positions' in options,
            intensities='intensities' in options,
            background='background' in options,
            uneven=UNEVEN in options,
            coherent=varies,
            momentum=MOMENTUM,
            probe_gain=PROBE_GAIN,
        )
        moving = experiment if options else physics
        descent = AcceleratedDescent(moving, state.current, solver.variation, solver.gain)
        descent.phase_gain = 0.0
        if solver.subsets == 1:
            subsets = (1,) * (WITHOUT_SUBSETS * len(subsets))
        rng, pixels = np.random.default_rng(self._config.seed), len(patterns) * patterns.held_out.shape[1]
        for count in subsets:
            self._count.may_go_on()
            order = rng.permutation(len(patterns)) if count > 1 else np.arange(len(patterns))
            value = descent.iterate(np.array_split(order, count)) / pixels
            yield from self._count.one_more(value, lambda: solver.on_grid(descent.current))
        found, patterns = descent.current, experiment.patterns
        if varies:
            patterns = _in_one_form(patterns)
            physics.set_experiment(patterns)
        return _State(solver, patterns, physics, found, physics.held_out_each(found))

    def _searched(
        self, state: _State, options: list[str], forces: Remaining
    ) -> Generator[Event, None, dict[str, _State]]:
        """Return the state that the best coarse change leads to, by its option, where one helps."""

        def solver_of(prepared: ScanModel) -> ObjectSolver:
            return ObjectSolver(prepared, self._backend, self._config, self._count, state.patterns.held_out)

        if not options:
            return {}
        best = yield from best_change(state.solver, state.patterns, options, forces.axes_force, solver_of)
        if best is None:
            return {}
        self._unsearched.remove(best.part)
        solver = solver_of(state.solver.prepared.of_experiment(changed(state.patterns, best)))
        yield from solver.start()
        return {best.part: self._state(solver)}

    def _to_the_end(self, state: _State) -> Generator[Event, None, _State]:
        """Go on with all that was kept until little changes."""
        for _ in range(MOST_ROUNDS):
            further = yield from self._refined(state, self._kept, REFINED)
            gone = float(state.deviance.mean() - further.deviance.mean())
            logger.debug('further: %.4g', further.deviance.mean())
            state = further if gone > 0 else state
            if not gone > LEAST_GONE * self._noise:
                break
        return state

    def _solve_again(self, state: _State) -> Generator[Event, None, None]:
        """Go on to the end as if the file had said what was found."""
        patterns = state.patterns
        if _hardly_any(patterns.background):
            # Other parts that were found after it have taken its place.
            patterns = replace(patterns, background=None)
        prepared = state.solver.prepared.of_experiment(patterns)
        again = ObjectSolver(prepared, self._backend, self._config, self._count, patterns.held_out)
        self._count.planned += again.longest
        if again.subsets > 1:
            # Its scale may be another, as background and bad pixels are not the object's.
            factor = np.linalg.norm(patterns.probe) / np.linalg.norm(again.patterns.probe)
            image = state.solver.on_grid(state.current) * np.float32(factor)
            yield from again.resume(image.astype(np.complex64))
        else:
            yield from again.descend()
        before = self.solver.physics
        before.set_experiment(self.solver.patterns)
        first = before.held_out_each(self.solver.current)
        found = again.physics.held_out_each(again.current)
        # Held-out pixels hardly see a small error of a few numbers, of which all others have told.
        enough = LIKELY if FEW_NUMBERS.issuperset(self._kept) else -SURE
        # A few patterns without light, say, whose beam was off, are all of the mean and of its scatter.
        if min(paired_difference(first, found).score, limited_difference(first, found).score) < enough:
            self.solver = again
        else:
            self._kept.clear()


def _in_one_form(patterns: ScanPatterns) -> ScanPatterns:
    """Return patterns with the same probes as OPR-02 has them."""
    varying = patterns.coherent
    assert varying is not None
    probe, varying = coherent_modes(patterns.probe, varying.modes, varying.weights)
    return replace(patterns, probe=probe, coherent=varying)


def _stuck(patterns: ScanPatterns) -> npt.NDArray[np.bool_]:
    """Return the stuck pixels (N, N) among the valid ones, zero frequency at N//2 (CAL-15)."""
    most = most_patterns(PATTERNS_OF_PIXELS, THEIR_VALUES, patterns.size, FEWEST_OF_PIXELS)
    amplitude = patterns.amplitude(first_to_last(len(patterns), most))
    return stuck_pixels(np.square(amplitude), patterns.valid & (amplitude.max(axis=0) < patterns.ceiling))


def _hardly_any(background: npt.NDArray[np.float64] | None) -> bool:
    """Return whether a background (N, N) is too little to be one."""
    return background is not None and float(background.mean()) < BACKGROUND_COUNTS


def _of_probe(probe: npt.NDArray[np.complex64], pixels: npt.NDArray[np.bool_]) -> float:
    """Return the part of the far field of a probe (P, N, N) that lies on some pixels (N, N)."""
    light = far_field_light(probe)
    return float(light[pixels].sum() / light.sum())


def _without(held_out: npt.NDArray[np.int64], bad: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return sets (K, h) of flat indices in which bad pixels (N, N), zero frequency at N//2, are replaced by
    others of the set."""
    dropped = np.fft.ifftshift(bad).ravel()[held_out]
    kept = [row[~out] for row, out in zip(held_out, dropped, strict=True)]
    return np.stack(
        [np.resize(row, held_out.shape[1]) if len(row) else held_out[i] for i, row in enumerate(kept)]
    )
