"""What is wrong with the model of an experiment, found by the image that it leads to (CAL-*).

Each part is tried beside the object, from where the image is, and the one that helps held-out pixels most is
kept before the others are tried again: what one part explains better is not left to another.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from dataclasses import replace

import numpy as np

from ..backends.base import PhysicsBackend
from ..config import InferenceConfig
from ..events import Event
from ..physics.calibration import ExperimentRefinement
from ..physics.descent import AcceleratedDescent
from ..physics.probe_changes import with_more_modes
from .coarse_search import SEARCHED, best_change, changed
from .corrections import Correction, corrections
from .held_out import fit_on_device
from .judgement import (
    FAR,
    HOPELESS,
    LIKELY,
    MANY_SUBSETS,
    OPTIONS,
    PLAINLY,
    UNEVEN,
    Judge,
    Trial,
    forces_left,
    hardly_any,
)
from .object_solver import IterationCount, ObjectSolver
from .paired import limited_difference, paired_difference
from .pixels_at_fault import without_pixels_at_fault
from .remaining import Remaining
from .scan_model import ScanModel
from .varying import GROWING, drifts, main_modes, with_stretches

__all__ = ['Calibrator']

logger = logging.getLogger('ptychopinn.calibrate')

SURE = 2.0
"""Standard errors over the patterns by which the corrected experiment must lower the held-out deviance. What
is tried has been told from noise already, by the forces that are left (:mod:`~.remaining`)."""

TRIAL = 4, 4, 4, 2, 1
"""Subsets of each iteration with a part beside the object, before parts are compared."""

REFINED = (4,) * 8 + (2,) * 3 + (1,) * 4
"""Subsets of the iterations of a round with all parts that were kept."""

WITHOUT_SUBSETS = 3
"""Times as many iterations where the scan is too sparse for subsets."""

MOMENTUM, PROBE_GAIN = 0.85, 2.0
"""Of the experiment, from one subset to the next (:class:`~..physics.calibration.ExperimentRefinement`)."""

SETTLED = 40
"""Iterations after which forces must still speak: those of large patterns fade long after the steps do."""

MOST_ROUNDS, LEAST_GONE = 8, 0.005
"""Rounds, and what one must take away, in units of photon noise, for another to follow."""

VARYING, STRETCHED = 'varying probe', 'a probe for each stretch'
"""They belong to the probe, and are tried where it drifts."""

OF_PROBE = frozenset({'probe', 'modes', VARYING})
"""With what the probe moves."""

FEW_COUNTS = 12.0
"""Mean counts of a pixel below which a wrong focus may leave nothing but noise, so that it is looked for."""

FEW_NUMBERS = frozenset({'background', UNEVEN, 'axes'})
"""Parts so small that they cannot follow noise: they are kept if held-out pixels are not against them."""

TAKEN_AT_LEAST = 0.6
"""Part of what is beyond noise that an uneven background must take away: it explains some of any fault that
washes patterns out, as a stage that moves does."""

SLIGHTLY, LARGELY, MOST_FURTHER = 0.08, 0.3, 3
"""Where the best part takes away more than the first but less than the second in a trial, so many go on
before they are compared."""


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
            self.solver = yield from without_pixels_at_fault(first, self._backend, self._config, self._count)
        if not self.solver.finished:
            plainly = self._unexplained(self.solver) > PLAINLY and self.solver.subsets >= MANY_SUBSETS
            if not plainly:
                yield from self.solver.finish(patiently=False, hopeless=HOPELESS * self._judge.noise)
        if parts:
            state = yield from self._by_rounds(self._state(self.solver), parts)
            # Trials that did not help have left theirs there.
            self.solver.physics.set_experiment(self.solver.patterns)
            self._count.calibrating = False
            if self._kept:
                yield from self._solve_again(state)
        if not self.solver.finished:
            self._forces = None
            yield from self.solver.finish()
        if not self._kept:
            yield from self._suspect()
        self.corrections = tuple(corrections(first.prepared, self.solver.prepared))

    def _suspect(self) -> Generator[Event, None, None]:
        """Note what is surely not as the file says, and is so still when the image has settled."""
        solver = self.solver
        forces = self._forces or forces_left(solver, self._unexplained(solver))
        if forces.sure and forces.unexplained <= FAR:
            yield from solver.iterate_further(SETTLED)
            forces = forces_left(solver, self._unexplained(solver))
        self.suspected = forces.sure

    def _unexplained(self, of: Trial | ObjectSolver) -> float:
        """Return the deviance that an object leaves, in units of photon noise."""
        fit = fit_on_device(of.patterns, of.physics, of.current)
        self._judge = Judge(fit.noise)
        return fit.unexplained

    def _state(self, solver: ObjectSolver) -> Trial:
        obj = solver.current
        return Trial(solver, solver.patterns, solver.physics, obj, solver.physics.held_out_each(obj))

    def _by_rounds(self, state: Trial, parts: tuple[str, ...]) -> Generator[Event, None, Trial]:
        """Keep the part that helps most, again and again, until none does or noise is reached."""
        left = [option for option, part in OPTIONS.items() if part in parts]
        anyway = self._config.calibrates_anyway
        while True:
            unexplained = self._unexplained(state)
            state.physics.set_experiment(state.patterns)
            forces = self._forces = forces_left(state, unexplained)
            if 'probe' in parts and unexplained > FAR and state.patterns.coherent is None:
                varied = yield from self._varied(state, left, forces, unexplained)
                if varied is not None:
                    self._kept.append(VARYING)
                    state = yield from self._to_the_end(varied)
                    continue
            tells = forces.allows if unexplained > FAR else forces.speaks_of
            worth = [option for option in left if anyway or tells(option)]
            if 'axes' in worth:
                # Another focus magnifies what a pattern shows, and pulls at the axes too.
                worth = [option for option in left if option in worth or option == 'probe']
            self._near_noise = unexplained <= FAR
            # An object makes up for a wrong probe, and a probe for modes: what pulls may be their doing.
            may_hide = left if 'probe' in left else [option for option in left if option == 'modes']
            if worth and self._near_noise:
                worth = [option for option in left if option in worth or option in may_hide]
            elif not worth and 'probe' in self._unsearched and forces.counts < FEW_COUNTS and 'probe' in left:
                worth = ['probe']
            if UNEVEN in left and UNEVEN not in worth and 'background' in self._kept:
                # An even one has taken away what pulls at the mean.
                worth = [UNEVEN, *worth]
            others = [option for option in may_hide if option not in worth and not self._near_noise]
            logger.debug('%.3f of noise, %s: %s', unexplained, forces, worth)
            if worth or others:
                self._tell(unexplained)
                again = len(REFINED) + state.solver.longest
                self._count.expect((len(worth) + len(others) + 1) * len(TRIAL) + again)
            found = yield from self._tried(state, worth, others, forces)
            if not found:
                break
            best = self._judge.best(found)
            self._kept.append(best)
            left.remove(best)
            if best == 'single positions' and 'axes' in left:
                # They move with the axes, and their forces scatter no more.
                left.remove('axes')
            if best == 'modes' and 'probe' in left:
                # It moves with them.
                left.remove('probe')
            anyway = False
            state = yield from self._to_the_end(found[best])
            logger.debug('kept %s: %.4g', best, state.left)
        return state

    def _tell(self, unexplained: float) -> None:
        """Say once that the experiment is looked at, which takes much longer than an image."""
        if not self._count.calibrating:
            self._count.calibrating = True
            near = ', yet its patterns pull at the experiment' if unexplained <= FAR else ''
            logger.info(
                'The image leaves %.3g times photon noise%s: looking for the cause.', unexplained, near
            )

    def _varied(
        self, state: Trial, left: list[str], forces: Remaining, unexplained: float
    ) -> Generator[Event, None, Trial | None]:
        """Return what a probe that varies leads to, if it drifts and that explains most (CAL-18, CAL-19)."""
        if not drifts(state, forces.probe_scatter):
            return None
        self._tell(unexplained)
        unsearched = [option for option in left if option in self._unsearched]
        coarse = yield from self._searched(state, unsearched, forces)
        if not all(map(drifts, coarse.values())):
            return None
        patterns = with_stretches(state.patterns)
        begun = replace(state, patterns=patterns, physics=self._backend.scan_physics(patterns))
        found = yield from self._refined(begun, [*self._kept, STRETCHED], GROWING)
        varied = yield from self._refined(found, [*self._kept, VARYING], REFINED)
        logger.debug('a probe that varies: %.4g', varied.left)
        return varied if self._judge.likely(state, varied) and self._judge.settled(state, [varied]) else None

    def _tried(
        self, state: Trial, options: list[str], others: list[str], forces: Remaining
    ) -> Generator[Event, None, dict[str, Trial]]:
        """Return what each option leads to that helps; `others` are tried where `options` do little."""
        if not options and not others:
            return {}
        alike = yield from self._refined(state, self._kept, TRIAL)
        logger.debug('no other: %.4g', alike.left)
        found = yield from self._begun(alike, state, options, forces)
        if others and not self._judge.most_taken(alike, found.values()) > LARGELY:
            # An object may make up for a wrong probe so well that nothing pulls at it any more.
            found |= yield from self._begun(alike, state, others, forces)
        most = self._judge.most_taken(alike, found.values())
        if len(found) > 1 and SLIGHTLY < most < LARGELY:
            # Too little to tell them apart: the best ones go on.
            alike = yield from self._refined(alike, self._kept, REFINED)
            for option in sorted(found, key=lambda option: found[option].left)[MOST_FURTHER:]:
                del found[option]
            for option, trial in found.items():
                found[option] = yield from self._refined(trial, [*self._kept, option], REFINED)
                logger.debug('further %s: %.4g', option, found[option].left)
        return {option: trial for option, trial in found.items() if self._judge.helps(alike, trial)}

    def _begun(
        self, alike: Trial, state: Trial, options: list[str], forces: Remaining
    ) -> Generator[Event, None, dict[str, Trial]]:
        """Return what the first steps with each option lead to, where held-out pixels are for it."""
        # A background is as well explained by a probe that lights all the detector: it comes first.
        backgrounds = [option for option in options if OPTIONS[option] == 'background']
        found = yield from self._compared(alike, dict.fromkeys(backgrounds, state))
        if not self._judge.settled(alike, found.values()):
            begun = yield from self._searched(state, [o for o in options if o in self._unsearched], forces)
            self._unsearched -= begun.keys()
            rest = [option for option in options if option not in (*backgrounds, *begun)]
            found |= yield from self._compared(alike, begun | dict.fromkeys(rest, state))
        return found

    def _compared(self, alike: Trial, begun: dict[str, Trial]) -> Generator[Event, None, dict[str, Trial]]:
        """Try options, each from its state, until one settles it; return what those lead to that help."""
        found: dict[str, Trial] = {}
        for option, start in begun.items():
            trial = yield from self._attempt(start, option)
            if start.solver is not alike.solver and self._near_noise:
                # Of few photons a part that moves makes more noise than a coarse change leaves to it.
                plain = yield from self._refined(start, self._kept, TRIAL)
                trial = min((trial, plain), key=lambda tried: tried.left)
            logger.debug('%s: %.4g', option, trial.left)
            if option == UNEVEN and not self._judge.taken(alike, trial) > TAKEN_AT_LEAST:
                continue
            if self._judge.likely(alike, trial):
                found[option] = trial
                if self._judge.settled(alike, found.values()):
                    break
        return found

    def _attempt(self, state: Trial, option: str) -> Generator[Event, None, Trial]:
        """Go on from a state with a part beside those that were kept."""
        if option == 'modes':
            patterns = replace(state.patterns, probe=with_more_modes(state.patterns.probe))
            state = replace(state, patterns=patterns, physics=self._backend.scan_physics(patterns))
        return (yield from self._refined(state, [*self._kept, option], TRIAL))

    def _refined(
        self, state: Trial, options: list[str], subsets: tuple[int, ...]
    ) -> Generator[Event, None, Trial]:
        """Iterate with some parts of the experiment moving beside the object."""
        solver, patterns, physics = state.solver, state.patterns, state.physics
        physics.set_experiment(patterns)
        stretched = STRETCHED in options
        of_probe = not stretched and not OF_PROBE.isdisjoint(options)
        varies = (of_probe or stretched) and patterns.coherent is not None
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
            weights_stay=stretched,
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
            patterns = main_modes(patterns)
            physics.set_experiment(patterns)
        return Trial(solver, patterns, physics, found, physics.held_out_each(found))

    def _searched(
        self, state: Trial, options: list[str], forces: Remaining
    ) -> Generator[Event, None, dict[str, Trial]]:
        """Return the state that the best coarse change leads to, by its option, where one helps."""

        def solver_of(prepared: ScanModel) -> ObjectSolver:
            return ObjectSolver(prepared, self._backend, self._config, self._count, state.patterns.held_out)

        if not options:
            return {}
        best = yield from best_change(state.solver, state.patterns, options, forces.axes_force, solver_of)
        if best is None:
            return {}
        solver = solver_of(state.solver.prepared.of_experiment(changed(state.patterns, best)))
        yield from solver.start()
        return {best.part: self._state(solver)}

    def _to_the_end(self, state: Trial) -> Generator[Event, None, Trial]:
        """Go on with all that was kept until little changes."""
        for _ in range(MOST_ROUNDS):
            further = yield from self._refined(state, self._kept, REFINED)
            gone = state.left - further.left
            logger.debug('further: %.4g', further.left)
            state = further if gone > 0 else state
            if not gone > LEAST_GONE * self._judge.noise:
                break
        return state

    def _solve_again(self, state: Trial) -> Generator[Event, None, None]:
        """Go on to the end as if the file had said what was found."""
        patterns = state.patterns
        if hardly_any(patterns.background):
            # Other parts that were found after it have taken its place.
            patterns = replace(patterns, background=None)
        prepared = state.solver.prepared.of_experiment(patterns)
        again = ObjectSolver(prepared, self._backend, self._config, self._count, patterns.held_out)
        self._count.expect(again.longest)
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
