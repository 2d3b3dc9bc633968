"""Whether patterns, probe and positions agree down to photon noise, and what would make them.

The physics solver runs on a small part of the scan from a flat object, and the deviance of pixels that it
was not shown is held against what photon noise leaves (clauses DOCTOR-* of ``specs/data_contracts.md``).
Where that is far, or something else surely fits better, every known mistake is undone in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import DataValueError
from ..scan.raw_data import RawData
from ..whole_scan.remaining import LEAST_PATTERNS
from .causes import CALIBRATED, CLEAR, Cause, Causes, Found, gains
from .changes import Change, affine_map
from .forces import pulled
from .trial_fit import Judgement, TrialFit
from .trials import FEWEST_PATTERNS, NEAR, SLACK, SLOW, Reading, Trials, is_too_little

__all__ = ['Diagnosis', 'diagnose']

ROUNDS = 3
"""Most causes that are looked for one after another."""
EXPLAINED = 1.12
"""Ratio to noise up to which a cause explains a scan, so that nothing that may pass for it is looked for."""
MILD = 2.5
"""Ratio to noise up to which wrong axes of the scan are likelier than patterns that are turned."""


@dataclass(frozen=True)
class Diagnosis:
    """How well a scan can be explained."""

    ratio: float
    """Held-out deviance of the scan as given, relative to photon noise."""
    near: bool
    """Whether that is near noise."""
    causes: tuple[Cause, ...]
    explained: float
    """The ratio when all causes are undone."""
    solved: bool
    """Whether that is near noise."""
    suspected: tuple[str, ...] = ()
    """What forces tell to be wrong all the same, though nothing that was tried explains it (DOCTOR-06)."""

    @property
    def changes(self) -> tuple[Change, ...]:
        """How a repaired file differs."""
        return tuple(cause.change for cause in self.causes if cause.change is not None)


def diagnose(raw: RawData) -> Diagnosis | None:
    """Try a scan as it is and, where that is far from photon noise, every way to read it otherwise.

    None where there is too little of it to tell, nothing overlaps, or the middle of the scan is dark.
    """
    if len(raw) < FEWEST_PATTERNS:
        return None
    try:
        return _Search(raw).run()
    except DataValueError:
        return None


_Step = Callable[[TrialFit, Judgement], Iterator[Found]]


class _Search:
    """Goes from cause to cause, the best one first."""

    def __init__(self, raw: RawData) -> None:
        self._trials = Trials(raw)
        self.causes = Causes(self._trials, Reading())
        """What is looked for in the scan as it is read so far."""
        self._changes_midway = False
        """Whether one end of the scan is near noise and another part is not."""

    def run(self) -> Diagnosis | None:
        causes: list[Cause] = []
        if is_too_little(self._trials.raw):
            found = next(self.causes.scales(None, _hopeless()), None)
            if found is None:
                return None
            ratio, near, limit = float('inf'), False, NEAR
        else:
            fit, limit = self._trials.as_given()
            ratio = fit.judge().ratio
            near = ratio <= limit
            ends = self._trials.ends(Reading())
            self._changes_midway = len({far for _, far in ends} | {not near}) > 1
            if near:
                ratio = self._worst(ends, ratio)
                near = not self._changes_midway
            found = next(self.causes.corner(fit.judge()), None)
        if found is not None:
            causes.append(found.cause)
            self.causes, fit = replace(self.causes, reading=found.reading), found.fit
            limit = self._trials.limit(fit)
        while len(causes) < ROUNDS:
            found = self._next(fit, limit)
            if found is None:
                break
            causes.append(found.cause)
            self.causes, fit = replace(self.causes, reading=found.reading), found.fit
            limit = self._trials.limit(fit)
        explained = fit.judge().ratio
        solved = explained <= limit
        if not solved and not np.isfinite(ratio):
            return None
        suspected: tuple[str, ...] = ()
        if solved and not causes:
            # What undoes a cause is found roughly, and forces would tell of that.
            causes, suspected = self._by_forces(fit.judge())
        if self._changes_midway and not suspected and (not causes or self.causes.reading.changes):
            ends = self._trials.ends(self.causes.reading)
            explained = self._worst(ends, explained)
            solved = solved and not any(far for _, far in ends)
        return Diagnosis(ratio, near, tuple(causes), explained, solved, suspected)

    @staticmethod
    def _worst(ends: list[tuple[float, bool]], ratio: float) -> float:
        """Return the largest ratio to noise that is far from it at an end of the scan, or else another."""
        return max((there for there, far in ends if far), default=ratio)

    def _by_forces(self, judged: Judgement) -> tuple[list[Cause], tuple[str, ...]]:
        """Return the causes that forces on the experiment lead to, and what else they pull at (DOCTOR-06)."""
        found = pulled(self._trials.part(self.causes.reading, self._trials.pulling))
        causes = []
        for correction in found.corrections:
            if correction.part == 'positions' and found.axes is not None:
                causes.append(self.causes.aligned(self.causes.undone(affine_map(found.axes), judged)).cause)
                continue
            sentence = f'not as the file says: {correction.phrase}'
            causes.append(Cause(correction.part, sentence, CALIBRATED, None, found.before, found.after))
        return causes, found.suspected

    def _next(self, fit: TrialFit, limit: float) -> Found | None:
        """Return the next cause: the first that surely explains the scan, else the best of its like."""
        judged = fit.judge()
        best: Found | None = None
        for steps in self._steps(judged.ratio, limit):
            for step in steps:
                for found in step(fit, judged):
                    after = found.cause.after
                    if not (found.sure or found.cause.clear or gains(judged, found.fit.judge())):
                        continue
                    if best is None or after < (CLEAR if best.cause.after > NEAR else 1) * best.cause.after:
                        best = found
                if best is not None:
                    best = self.causes.placed(self.causes.aligned(best))
                    if best.cause.after <= EXPLAINED * self._reachable(best):
                        return best
            if best is not None and best.cause.after <= max(NEAR, SLACK * self._reachable(best)):
                return best
        return best

    def _reachable(self, found: Found) -> float:
        """Return which ratio to noise is about the least for what would explain a scan of this kind."""
        # Of few large patterns even a right one is far above 1.
        unclear = not found.cause.clear or not EXPLAINED < found.cause.after < SLOW * NEAR
        return 1.0 if unclear else max(1.0, self._trials.reachable(found.fit))

    def _steps(self, ratio: float, limit: float) -> Sequence[Sequence[_Step]]:
        """Return what is looked for, the simplest first, beside each other what may pass for each other."""
        steps = self._usual_steps(ratio, limit)
        if self._changes_midway and not self.causes.reading.changes:
            steps = ((self.causes.slips,), *steps)
        return steps

    def _usual_steps(self, ratio: float, limit: float) -> Sequence[Sequence[_Step]]:
        """Return these of a scan that is alike from one end to the other."""
        causes = self.causes
        if ratio <= limit and len(self._trials.raw) >= LEAST_PATTERNS:
            # Between that and the limit it may be the scan, or chance.
            return (causes.centres, causes.pixels), (() if ratio <= NEAR else (causes.orientations,))
        if ratio <= limit:
            # Forces say nothing of so few.
            return ((causes.centres, causes.pixels, causes.intensities, causes.background, causes.affine),)
        of_light = causes.background, causes.intensities
        mild = ratio < MILD
        return (
            (causes.centres, causes.pixels),
            (*of_light, causes.affine, causes.orientations)
            if mild
            else (causes.orientations, *of_light, causes.affine),
            (causes.scales,),
            (causes.slips,),
            (causes.defocus,),
            (causes.probe,),
            (causes.positions,),
        )


def _hopeless() -> Judgement:
    return Judgement(np.full(1, np.inf), 1.0, 1.0)
