"""The unrolled network on a whole scan: all patterns work on one object (clause NET-05).

Only the object is kept from step to step, so that memory does not grow with the number of patterns.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ..backends.base import Backend
from ..blocks import blocks
from ..errors import Cancelled
from ..network.plan import RATES, SIDE_MULTIPLE, NetworkPlan
from ..physics.descent import AcceleratedDescent, smoothing_prior
from ..physics.refinement import ScanPhysics
from ..physics.slow_phase import illumination_variance, slow_phase_gain
from ..physics.unrolled import (
    Surroundings,
    UnrolledState,
    advance,
    flat_state,
    look_ahead,
    network_features,
    physics_step,
    steps_between,
    upright,
)
from .descent_run import DescentRun
from .held_out import HELD_OUT_FRACTION, scan_patterns
from .overlap import overlap_of
from .prepared import PreparedScan
from .subsets import fewer_subsets, most_subsets, patterns_of_steps

__all__ = ['CoupledObject', 'Seen', 'WholeScan']

logger = logging.getLogger('ptychopinn.reconstruct')

Weights = Mapping[str, npt.NDArray[np.float32]]

PIXELS_AT_ONCE = 1 << 24
"""Pixels of the patterns between two looks at whether the run is to stop."""

TILE = 1024
"""Side of the part of a large object that the network sees at a time; a multiple of ``SIDE_MULTIPLE``."""

HALO = 48
"""Pixels around it that the network sees too: as far as its layers look."""


RUNAWAY_POWER = 4.0
"""Mean squared amplitude, about 1 in the engine's gauge, beyond which steps over subsets have run away."""


@dataclass(frozen=True)
class Seen:
    """What a correction is given of a whole scan."""

    before: UnrolledState
    """The object it corrects, on the canvas of :func:`~.held_out.scan_patterns`."""
    features: npt.NDArray[np.float32]
    """(F, H, W) what the network sees (NET-02)."""


@dataclass(frozen=True)
class CoupledObject:
    """The object after a step, on the scan's grid."""

    object_array: npt.NDArray[np.complex64]
    """(H, W) in the engine's gauge."""
    weight: npt.NDArray[np.float32]
    """(H, W) illumination in counts."""
    done: float
    """Part of all steps that is done, in (0, 1]."""


@dataclass(frozen=True)
class _Step:
    """One step of the network."""

    index: int | None
    """Which it is, from 0, of those in a row that have no correction; None if it has one."""
    members: npt.NDArray[np.int64]
    """The patterns it takes."""
    turns: bool
    """Whether it turns the slow phase."""


class WholeScan:
    """Runs the steps of an unrolled network over the patterns of a scan.

    Parameters
    ----------
    backend : Backend
        Built for `plan`.
    plan : NetworkPlan
        One that couples.
    weights : mapping
        Canonical weights.
    prepared : PreparedScan
    stop : callable
        Asked every few thousand patterns; once true, ``Cancelled`` is raised.
    held_out_seed : int, optional
        Of the pixels that are to judge a refinement (REF-04) or the network, which it is then not shown.
    held_out_fraction : float
        Part of the good pixels that these are.
    """

    def __init__(
        self,
        backend: Backend,
        plan: NetworkPlan,
        weights: Weights,
        prepared: PreparedScan,
        stop: Callable[[], bool],
        held_out_seed: int | None = None,
        held_out_fraction: float = HELD_OUT_FRACTION,
    ) -> None:
        self._backend = backend
        self._stop = stop
        self._physics_steps = plan.model.physics_steps
        self._rates = [weights[f'{name}/{RATES}'] for name, _ in plan.parts]
        patterns = scan_patterns(prepared, held_out_seed, held_out_fraction, multiple=SIDE_MULTIPLE)
        self._physics: ScanPhysics = backend.scan_physics(patterns)
        self._patterns = patterns
        gain = slow_phase_gain(illumination_variance(patterns.probe), patterns.shape)
        self._gain = gain.astype(np.float32)
        margin, (height, width) = prepared.margin, prepared.scan.grid.shape
        self._inner = slice(margin, margin + height), slice(margin, margin + width)

    @property
    def held_out(self) -> npt.NDArray[np.int64]:
        """(K, h) the pixels that it is not shown (:class:`~..physics.refinement.ScanPatterns`)."""
        return self._patterns.held_out

    def run(
        self,
        members: npt.NDArray[np.int64],
        most: int | None = None,
        *,
        start: UnrolledState | None = None,
        record: list[Seen] | None = None,
    ) -> Generator[CoupledObject, None, CoupledObject]:
        """Reconstruct from the given patterns; yields after each step and returns the last.

        Parameters
        ----------
        members : (m,) int
            Indices of the patterns.
        most : int, optional
            Largest number of subsets that steps without a correction take turns with (NET-10); by default
            what the overlap of the patterns allows.
        start : UnrolledState, optional
            What :attr:`Seen.before` of the first correction was, upright; by default a flat object.
        record : list, optional
            Gets what each correction saw.

        Raises
        ------
        Cancelled
            If the run is to stop.
        """
        state = start or flat_state(self._patterns.shape)
        gradient, light = self._gradient(state.obj, members)
        around = Surroundings(light, self._patterns.brightest, self._gain)
        if most is None:
            most = self.subsets_of(light, len(members))
        steps = self._steps(members, most, from_start=start is None)
        done = np.cumsum([len(step.members) for step in steps]) / sum(len(step.members) for step in steps)
        rates = iter(enumerate(self._rates))
        for number, step in enumerate(steps):
            if step.index == 0:
                state = UnrolledState(state.obj, np.zeros_like(state.change))
            if step.index is None:
                state = upright(state, around.illumination)
                seen = state.obj
            else:
                seen = look_ahead(state, step.index)
            # The first step takes all patterns, whose gradient is known.
            if number > 0:
                gradient, light = self._gradient(seen, step.members)
            if step.index is None:
                correction, rate = next(rates)
                features = network_features(state, gradient, around)
                if record is not None:
                    record.append(Seen(state, features))
                state = advance(state, features, self._correction(correction, features), rate)
            else:
                lit = replace(around, illumination=light)
                state = physics_step(state, seen, gradient, lit, turn=step.turns)
                if most > 1 and not _is_calm(state.obj, around.illumination):
                    logger.info('Steps over subsets of the patterns ran away; starting again without them.')
                    if record is not None:
                        record.clear()
                    return (yield from self.run(members, 1, start=start, record=record))
            yield CoupledObject(state.obj[self._inner], around.illumination[self._inner], float(done[number]))
        return CoupledObject(state.obj[self._inner], around.illumination[self._inner], 1.0)

    def _steps(self, members: npt.NDArray[np.int64], most: int, *, from_start: bool) -> list[_Step]:
        between = steps_between(self._physics_steps)
        steps: list[_Step] = []
        for correction in range(len(self._rates)):
            count = between if correction > 0 else self._physics_steps if from_start else 0
            for index, part in enumerate(patterns_of_steps(members, count, most)):
                # After a correction the turn would amplify what the correction took for noise (NET-10).
                turns = correction == 0 and (index == 0 or len(part) == len(members))
                steps.append(_Step(index, part, turns))
            steps.append(_Step(None, members, True))
        return steps

    def look(self, start: UnrolledState | None = None) -> list[Seen]:
        """Return what each correction sees of the whole scan.

        Raises
        ------
        Cancelled
            If the run is to stop.
        """
        record: list[Seen] = []
        for _ in self.run(np.arange(len(self._patterns)), start=start, record=record):
            pass
        return record

    def subsets_of(self, light: npt.NDArray[np.float32], n: int) -> int:
        """Return the largest number of subsets for n patterns with an illumination (H, W): about one pattern
        of each falls on a pixel (NET-10)."""
        return max(most_subsets(overlap_of(light, self._patterns.brightest), n) // 2, 1)

    def after_physics(
        self, obj: npt.NDArray[np.complex64], sweeps: int, smoothing: float
    ) -> npt.NDArray[np.complex64]:
        """Return what some sweeps of refinement (REF-03) make of an object (H, W).

        Raises
        ------
        Cancelled
            If the run is to stop.
        """
        patterns, physics = self._patterns, self._physics
        canvas = np.ones(patterns.shape, np.complex64)
        canvas[self._inner] = obj
        start = physics.to_device(canvas)
        weight = physics.evaluate(start, np.arange(len(patterns)), 'poisson').weight
        overlap = overlap_of(physics.to_host(weight), patterns.brightest)
        gain = physics.to_device(self._gain.astype(np.complex64))
        run = DescentRun(
            lambda start: AcceleratedDescent(physics, start, smoothing_prior(weight, smoothing), gain),
            start,
            sweeps,
            fewer_subsets(most_subsets(overlap, len(patterns))),
        )
        for sweep in range(1, sweeps + 1):
            if self._stop():
                raise Cancelled('The reconstruction was stopped.')
            run.sweep(sweep, len(patterns), 0)
        return np.asarray(physics.to_host(run.current)[self._inner], dtype=np.complex64)

    def _gradient(
        self, obj: npt.NDArray[np.complex64], members: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.complex64], npt.NDArray[np.float32]]:
        """Return what the modulus constraint wants of the object, and the illumination: (H, W) each."""
        seen = self._physics.to_device(obj)
        gradient = np.zeros(self._patterns.shape, np.complex64)
        light = np.zeros(self._patterns.shape, np.float32)
        for part in blocks(len(members), max(PIXELS_AT_ONCE // self._patterns.size**2, 1)):
            if self._stop():
                raise Cancelled('The reconstruction was stopped.')
            found = self._physics.evaluate(seen, members[part], 'amplitude')
            gradient -= self._physics.to_host(found.gradient)
            light += self._physics.to_host(found.weight)
        return gradient, light

    def _correction(self, step: int, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the correction (2, H, W), computed tile by tile where the object is large."""
        shape = features.shape[1:]
        if max(shape) <= TILE + 2 * HALO:
            return self._backend.correct(step, features)
        correction = np.empty((2, *shape), np.float32)
        for rows, seen_rows in _tiles(shape[0]):
            for columns, seen_columns in _tiles(shape[1]):
                seen = np.ascontiguousarray(features[:, seen_rows, seen_columns])
                found = self._backend.correct(step, seen)
                inner_rows = slice(rows.start - seen_rows.start, rows.stop - seen_rows.start)
                inner_columns = slice(columns.start - seen_columns.start, columns.stop - seen_columns.start)
                correction[:, rows, columns] = found[:, inner_rows, inner_columns]
        return correction


def _is_calm(obj: npt.NDArray[np.complex64], light: npt.NDArray[np.float32]) -> bool:
    """Return whether an object (H, W) is as bright as one in the engine's gauge may be."""
    power = float((light * (obj.real**2 + obj.imag**2)).sum(dtype=np.float64) / light.sum(dtype=np.float64))
    return power < RUNAWAY_POWER


def _tiles(length: int) -> Iterator[tuple[slice, slice]]:
    """Yield the parts of an axis, and each with its halo; all begin and end at multiples of SIDE_MULTIPLE."""
    for part in blocks(length, TILE):
        yield part, slice(max(part.start - HALO, 0), min(part.stop + HALO, length))
