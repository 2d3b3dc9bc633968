"""What is wrong with the model of an experiment, found by the image that it leads to (CAL-*).

Each part is tried beside the object, from where the image is, and the one that helps held-out pixels most is
kept before the others are tried again: what one part explains better is not left to another.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..backends.base import Backend
from ..config import InferenceConfig
from ..events import Event
from ..physics.calibration import ExperimentRefinement
from ..physics.descent import AcceleratedDescent
from ..physics.detector import unexplained_pixels
from ..physics.likelihood import ScanPatterns, ScanPhysics
from ..physics.probe_changes import defocused, with_more_modes
from .course import Course, Sweeps
from .held_out import fit_and_noise
from .paired import paired_difference
from .scan_model import PreparedScan

__all__ = ['Calibrator']

logger = logging.getLogger('ptychopinn.calibrate')

FAR, NEAR = 1.3, 1.1
"""Deviance in units of photon noise (:attr:`~.held_out.Fit.unexplained`): up to the first, an image that was
found without calibration is taken to explain its patterns; below the second, one that was found with it."""

SURE = 4.0
"""Standard errors over the patterns by which a part must lower the held-out deviance."""

LEAST_GAIN, BY_FAR = 0.1, 0.1
"""Of what the held-out deviance is above noise, that a part must take away, and that one of more freedom must
take away beyond another."""

TRIAL_SWEEPS, FIRST_SWEEPS, FIRST_GAIN = 15, 7, 0.03
"""With each part, before they are compared; those that have taken away less after a few are left."""

FAINTEST_BACKGROUND = 0.03
"""Counts per pixel below which there is none: it is beside the likelihood's own (``BACKGROUND``)."""

FINAL_ROUNDS, FINAL_SWEEPS, FINAL_CHECK, FINAL_GAIN = 4, 40, 10, 0.02
"""With all parts that were kept, until so many take away less than that part."""

Change = tuple[float, ...]

SEARCHED: dict[str, tuple[Change, tuple[Change, ...], tuple[Change, ...]]] = {
    'probe': ((0.0,), tuple((rad,) for rad in (-9.0, -6.0, -3.0, 3.0, 6.0, 9.0)), ((-1.5,), (1.5,))),
    'axes': (
        (0.0, 0.0),
        ((-0.07, 0.0), (0.07, 0.0), (0.0, -0.07), (0.0, 0.07)),
        ((-0.035, 0.0), (0.035, 0.0), (0.0, -0.035), (0.0, 0.035)),
    ),
}
"""What is tried from a flat object: nothing, coarse changes, and changes of the best of them. For the probe
the phase of :func:`~.probe_changes.defocused`, for the axes the angle in radians and the stretch."""

AXES_SHARE = 0.3
"""Part of the moves of positions up to which what is no linear map of them is not worth words."""

OPTIONS = {
    'background': 'background',
    'intensities': 'intensities',
    'axes': 'positions',
    'probe': 'probe',
    'single positions': 'positions',
    'modes': 'modes',
}
"""What is tried, and the part of the setting that it belongs to."""


@dataclass
class _State:
    """A model of the experiment and the object that belongs to it."""

    course: Course
    """Whose canvas they lie on."""
    patterns: ScanPatterns
    physics: ScanPhysics
    current: Any
    """The object (H, W) on the device."""
    deviance: npt.NDArray[np.float64]
    """(n,) per held-out pixel."""


class Calibrator:
    """Corrects the experiment of a course that has come to its end.

    Parameters
    ----------
    course : Course
        With the scan as its file describes it.
    """

    def __init__(self, course: Course, backend: Backend, config: InferenceConfig, sweeps: Sweeps) -> None:
        self.course = course
        """That of the corrected scan, once it is calibrated."""
        self.phrases: tuple[str, ...] = ()
        """One for each part that was corrected."""
        self._backend, self._config, self._sweeps = backend, config, sweeps
        self._kept: list[str] = []
        self._unsearched = set(SEARCHED)

    def calibrate(self) -> Generator[Event, None, None]:
        """Try what may be wrong, and solve again for the object of the scan with what is kept."""
        parts, first = self._config.calibrated_parts, self.course
        anyway = self._config.calibrates_anyway
        if not parts or not (self._unexplained(first) > FAR or anyway):
            return
        if 'bad_pixels' in parts:
            yield from self._leave_out_pixels()
        state = self._state(self.course)
        if self._unexplained(state) > FAR or anyway:
            state = yield from self._by_rounds(state, parts)
        if self._kept:
            yield from self._solve_again(state)
        self._tell(first)

    def _unexplained(self, of: _State | Course) -> float:
        """Return the deviance that an object leaves, in units of photon noise."""
        fit = fit_and_noise(of.patterns, of.physics.to_host(of.current).astype(np.complex64))
        self._noise = fit.noise
        return fit.unexplained

    def _state(self, course: Course) -> _State:
        obj = course.current
        return _State(course, course.patterns, course.physics, obj, course.physics.held_out_each(obj))

    def _leave_out_pixels(self) -> Generator[Event, None, None]:
        """Mask pixels that no model explains, where the others are explained better without them."""
        course = self.course
        flat = course.physics.to_device(np.ones(course.patterns.shape, np.complex64))
        bad = unexplained_pixels(course.physics.residuals(course.current), course.physics.residuals(flat))
        if not bad.any():
            return
        raw = course.prepared.scan.raw
        patterns = replace(
            course.patterns,
            good=course.patterns.good & ~bad,
            held_out=_without(course.patterns.held_out, bad),
        )
        before = self._backend.scan_physics(patterns).held_out_each(course.current)
        prepared = course.prepared.of_experiment(course.patterns, ~raw.good | bad)
        again = Course(prepared, self._backend, self._config, self._sweeps, patterns.held_out)
        self._sweeps.planned += again.longest
        yield from again.descend()
        if paired_difference(before, again.physics.held_out_each(again.current)).score < -SURE:
            self.course = again

    def _by_rounds(self, state: _State, parts: tuple[str, ...]) -> Generator[Event, None, _State]:
        """Keep the part that helps most, again and again, until none does or noise is reached."""
        left = [option for option, part in OPTIONS.items() if part in parts]
        while left:
            found: dict[str, _State] = {}
            for option in left:
                trial = yield from self._attempt(state, option)
                logger.debug('%s: %.4g', option, trial.deviance.mean())
                if self._helps(state, trial):
                    found[option] = trial
                    if self._unexplained(trial) < NEAR:
                        # No other part is needed, and those that come first move least.
                        break
            if not found:
                break
            best = self._best(found)
            self._kept.append(best)
            left.remove(best)
            state = yield from self._to_the_end(found[best])
            level = self._unexplained(state)
            logger.debug('kept %s: %.4g, %.3f of noise', best, state.deviance.mean(), level)
            if level < NEAR:
                break
        return state

    def _best(self, found: dict[str, _State]) -> str:
        """Return the option that helps most; a later one, which moves more, only where it does so by far."""
        best = next(iter(found))
        for option, state in found.items():
            reached = float(found[best].deviance.mean())
            if float(state.deviance.mean()) < reached - BY_FAR * (reached - self._noise):
                best = option
        return best

    def _helps(self, before: _State, after: _State) -> bool:
        difference = paired_difference(before.deviance, after.deviance)
        beyond = max(float(before.deviance.mean()) - self._noise, 0.0)
        background = after.patterns.background
        if (
            before.patterns.background is None
            and background is not None
            and background.max() < FAINTEST_BACKGROUND
        ):
            return False
        return difference.score < -SURE and -difference.mean > LEAST_GAIN * beyond

    def _attempt(self, state: _State, option: str) -> Generator[Event, None, _State]:
        """Go on from a state with a part beside those that were kept."""
        if option in self._unsearched:
            self._unsearched.remove(option)
            state = yield from self._searched(state, option)
        if option == 'modes':
            patterns = replace(state.patterns, probe=with_more_modes(state.patterns.probe))
            state = replace(state, patterns=patterns, physics=self._backend.scan_physics(patterns))
        options = [*self._kept, option]
        return (yield from self._refined(state, options, TRIAL_SWEEPS, FIRST_SWEEPS, FIRST_GAIN))

    def _refined(
        self, state: _State, options: list[str], count: int, every: int, gain: float
    ) -> Generator[Event, None, _State]:
        """Sweep with some parts of the experiment moving beside the object.

        It ends early where so many sweeps take away less than a part of what is left beyond noise.
        """
        course, patterns, physics = state.course, state.patterns, state.physics
        physics.set_experiment(patterns)
        experiment = ExperimentRefinement(
            physics,
            patterns,
            probe='probe' in options or 'modes' in options,
            axes='axes' in options and 'single positions' not in options,
            positions='single positions' in options,
            intensities='intensities' in options,
            background='background' in options,
        )
        descent = AcceleratedDescent(experiment, state.current, course.variation, course.gain)
        descent.turning = 0.0
        everything, pixels = np.arange(len(patterns)), len(patterns) * patterns.held_out.shape[1]
        before = float(state.deviance.mean())
        for number in range(1, count + 1):
            self._sweeps.may_go_on()
            value = descent.sweep([everything]) / pixels
            yield from self._sweeps.swept(value, lambda: course.on_grid(descent.current))
            if number % every == 0:
                if value > before - gain * (before - self._noise):
                    break
                before = value
        found = descent.current
        return _State(course, experiment.patterns, physics, found, physics.held_out_each(found))

    def _searched(self, state: _State, option: str) -> Generator[Event, None, _State]:
        """Return the state from which a few sweeps from a flat object lead furthest.

        Steps along the likelihood do not find a focus, or axes of the scan, that are far from right.
        """
        reached: dict[Change, tuple[float, Course]] = {}

        def attempt(change: Change) -> Generator[Event, None, None]:
            prepared = state.course.prepared.of_experiment(_changed(state.patterns, option, change))
            course = Course(prepared, self._backend, self._config, self._sweeps, state.patterns.held_out)
            yield from course.start()
            reached[change] = course.physics.held_out(course.current), course

        def best() -> Change:
            return min(reached, key=lambda change: reached[change][0])

        zero, coarse, finer = SEARCHED[option]
        for change in (zero, *coarse):
            yield from attempt(change)
        middle = best()
        if middle == zero:
            return state
        for step in finer:
            yield from attempt(tuple(a + b for a, b in zip(middle, step, strict=True)))
        logger.debug('%s %s', option, {change: round(value, 3) for change, (value, _) in reached.items()})
        return self._state(reached[best()][1])

    def _to_the_end(self, state: _State) -> Generator[Event, None, _State]:
        """Sweep on with all that was kept, again and again from a fresh object, until little changes.

        An object that was found under a wrong experiment has learned its errors and holds them.
        """
        best = state
        for _ in range(FINAL_ROUNDS):
            after = yield from self._refined(state, self._kept, FINAL_SWEEPS, FINAL_CHECK, FINAL_GAIN)
            before, reached = float(best.deviance.mean()), float(after.deviance.mean())
            logger.debug('to the end: %.4g', reached)
            if reached < before:
                best = after
            if not reached < before - FINAL_GAIN * (before - self._noise) or self._unexplained(after) < NEAR:
                break
            prepared = after.course.prepared.of_experiment(after.patterns)
            course = Course(prepared, self._backend, self._config, self._sweeps, after.patterns.held_out)
            yield from course.start()
            state = self._state(course)
        return best

    def _solve_again(self, state: _State) -> Generator[Event, None, None]:
        """Solve for the object from a flat one, as if the file had said what was found."""
        prepared = state.course.prepared.of_experiment(state.patterns)
        again = Course(prepared, self._backend, self._config, self._sweeps, state.patterns.held_out)
        self._sweeps.planned += again.longest
        yield from again.descend()
        before = self.course.physics
        before.set_experiment(self.course.patterns)
        first = before.held_out_each(self.course.current)
        if paired_difference(first, again.physics.held_out_each(again.current)).score < -SURE:
            self.course = again
        else:
            self._kept.clear()

    def _tell(self, first: Course) -> None:
        """Put what was corrected into words."""
        self.phrases = tuple(_phrases(first.prepared, self.course.prepared))
        for phrase in self.phrases:
            logger.info('Calibrated: %s.', phrase)


def _changed(patterns: ScanPatterns, option: str, change: Change) -> ScanPatterns:
    """Return patterns with another focus, or with turned and stretched axes of the scan."""
    if option == 'probe':
        return replace(patterns, probe=defocused(patterns.probe, change[0]))
    angle, stretch = change
    placement = patterns.placement
    place = placement.corner + placement.remainder
    place = place - place.mean(axis=0)
    turned = (
        (1 + stretch) * place @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    )
    return replace(patterns, placement=replace(placement, remainder=placement.remainder + turned - place))


def _without(held_out: npt.NDArray[np.int64], bad: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return sets (K, h) of flat indices in which bad pixels (N, N), zero frequency at N//2, are replaced by
    others of the set."""
    dropped = np.fft.ifftshift(bad).ravel()[held_out]
    kept = [row[~out] for row, out in zip(held_out, dropped, strict=True)]
    return np.stack(
        [np.resize(row, held_out.shape[1]) if len(row) else held_out[i] for i, row in enumerate(kept)]
    )


def _phrases(before: PreparedScan, after: PreparedScan) -> Iterator[str]:
    masked = int((before.good & ~after.good).sum())
    if masked:
        yield f'{masked} bad pixel{"s" if masked > 1 else ""} of the detector left out'
    if after.background is not None:
        yield f'a background of {after.background.mean():.3g} counts per pixel'
    if after.intensity is not None:
        least, most = after.intensity.min(), after.intensity.max()
        yield f'beam intensities from {least:.2g} to {most:.2g} of their mean'
    old, new = before.illumination.probe, after.illumination.probe
    if len(old) != len(new):
        yield f'{len(new)} incoherent modes of the probe'
    elif not np.array_equal(before.scan.raw.probeGuess, after.scan.raw.probeGuess):
        likeness = abs(np.vdot(old, new)) / (np.linalg.norm(old) * np.linalg.norm(new))
        yield f'the probe (overlap with that of the file {likeness:.2f})'
    moved = np.stack(
        [after.scan.raw.ycoords - before.scan.raw.ycoords, after.scan.raw.xcoords - before.scan.raw.xcoords]
    )
    if moved.any():
        yield _moves(np.stack([before.scan.raw.ycoords, before.scan.raw.xcoords]), moved)


def _moves(place: npt.NDArray[np.float64], moved: npt.NDArray[np.float64]) -> str:
    """Put moves (2, n) of positions [y, x] into words: those of the axes, where they are most of them."""
    length = np.sqrt((moved**2).sum(axis=0).mean())
    place = place - place.mean(axis=1, keepdims=True)
    matrix = moved @ np.linalg.pinv(place)
    if np.sqrt(((moved - matrix @ place) ** 2).sum(axis=0).mean()) > AXES_SHARE * length:
        return f'positions by {length:.2g} px (root mean square)'
    linear = np.eye(2) + matrix
    turned = np.rad2deg(np.arctan2(linear[0, 1] - linear[1, 0], np.trace(linear)))
    rows, columns = 100 * np.linalg.norm(linear, axis=0)
    axes = f'turned by {turned:.2g}°, steps {columns:.4g} % as long along x and {rows:.4g} % along y'
    return f'the axes of the scan ({axes}; positions by {length:.2g} px, root mean square)'
