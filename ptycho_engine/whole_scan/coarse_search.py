"""Coarse changes of an experiment where steps along the likelihood do not find what is wrong (CAL-04)."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ..events import Event
from ..patterns.inpainting import filled_counts
from ..physics.likelihood import ScanPatterns
from ..physics.probe_changes import defocused, shifted_on_detector
from ..physics.probe_estimate import estimate_probe, likely_curvatures
from ..scan.centring import off_probe
from .held_out import fit_on_device, scan_patterns
from .object_solver import ObjectSolver
from .scan_model import ScanModel

__all__ = ['SEARCHED', 'Found', 'best_change', 'changed']

logger = logging.getLogger('ptychopinn.calibrate')

SAMPLE, SHARED = 64, 2.5
"""Patterns that focus and axes are told by, and those that fall on a pixel at least, or as many as before:
where patterns hardly overlap each is explained alone, whatever the experiment."""

OF_THE_SCAN = 0.8
"""Part of the scan's own overlap that a sample must have, at whose rim patterns have no neighbours."""

Change = tuple[float, ...]

SEARCHED: dict[str, tuple[tuple[Change, ...], tuple[tuple[Change, ...], ...]]] = {
    'axes': (
        ((-0.07, 0.0), (0.07, 0.0), (0.0, -0.07), (0.0, 0.07)),
        tuple(((-step, 0.0), (step, 0.0), (0.0, -step), (0.0, step)) for step in (0.035, 0.0175, 0.00875)),
    ),
    'probe': (tuple((rad,) for rad in (-9.0, -6.0, -3.0, -1.5, 1.5, 3.0, 6.0, 9.0)), (((-0.75,), (0.75,)),)),
}
"""What is tried from a flat object beside no change: coarse changes, then, one finer step after the other,
changes of the best so far. For the axes the angle in radians and the stretch, for the probe the phase of
:func:`~..physics.probe_changes.defocused`."""

TILT = 'tilt'
"""Of the probe, by as many pixels of the detector as the patterns lie off the middle: of every such scan."""

ESTIMATE, FINER, STILL_FAR = 'estimate', (1.08, 1 / 1.08), 3.0
"""A probe made anew from the mean pattern, of a curvature; the factors by which the best one is changed; and
the deviance of the best of all others, in units of photon noise, from which on it is tried."""


@dataclass(frozen=True)
class Found:
    """A coarse change that explains a scan better."""

    option: str
    """A key of ``SEARCHED``, ``TILT`` or ``ESTIMATE``."""
    change: Change

    @property
    def part(self) -> str:
        """The key of ``SEARCHED`` that it belongs to."""
        return 'probe' if self.option in (TILT, ESTIMATE) else self.option


def changed(patterns: ScanPatterns, found: Found) -> ScanPatterns:
    """Return patterns with another focus, or with turned and stretched axes of the scan."""
    if found.option == 'probe':
        return _with_probes(patterns, lambda modes: defocused(modes, found.change[0]))
    if found.option == TILT:
        y, x = found.change
        return _with_probes(patterns, lambda modes: shifted_on_detector(modes, (round(y), round(x))))
    if found.option == ESTIMATE:
        probe = estimate_probe(_mean_counts(patterns), found.change[0])
        power = np.linalg.norm(patterns.probe) / np.linalg.norm(probe)
        return replace(patterns, probe=(power * probe).astype(np.complex64), coherent=None)
    placement = patterns.placement
    place = placement.corner + placement.subpixel_shift
    place = place - place.mean(axis=0)
    moved = place @ _linear_change(found.change).T
    return replace(patterns, placement=replace(placement, subpixel_shift=placement.subpixel_shift + moved))


def _with_probes(
    patterns: ScanPatterns, change: Callable[[npt.NDArray[np.complex64]], npt.NDArray[np.complex64]]
) -> ScanPatterns:
    """Return patterns with a change of all modes of the probe."""
    varying = patterns.coherent
    if varying is None:
        return replace(patterns, probe=change(patterns.probe))
    count = len(patterns.probe)
    modes = change(np.concatenate([patterns.probe, varying.modes.astype(np.complex64)]))
    return replace(patterns, probe=modes[:count], coherent=replace(varying, modes=modes[count:]))


def _linear_change(change: Change) -> npt.NDArray[np.float64]:
    """Return the linear map (2, 2) that moves positions [y, x], without the identity."""
    angle, stretch = change
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return (1 + stretch) * turn - np.eye(2)


def best_change(
    solver: ObjectSolver,
    patterns: ScanPatterns,
    options: Sequence[str],
    axes_force: npt.NDArray[np.float64],
    solver_of: Callable[[ScanModel], ObjectSolver],
) -> Generator[Event, None, Found | None]:
    """Return the change that explains a sample best after a few iterations from a flat object; None for none.

    Parameters
    ----------
    solver : ObjectSolver
        Of the whole scan.
    patterns : ScanPatterns
        Its patterns with the experiment as it is now.
    options : sequence of str
        Keys of ``SEARCHED``. The one that the best coarse change is of is looked at more finely.
    axes_force : (2, 2) float
        Of the image that was found (:class:`~.remaining.Remaining`): axes are first moved the other way only.
    solver_of : callable
        Makes a solver of a sample, with the held-out pixels of the whole scan.
    """
    sample = solver.prepared.of_experiment(patterns).part(_middle(patterns, SAMPLE))
    plain = scan_patterns(sample, None)
    least = OF_THE_SCAN * min(solver.overlap, SHARED)
    reached: dict[Found | None, float] = {}
    nearest: ObjectSolver | None = None

    def attempt(found: Found | None) -> Generator[Event, None, None]:
        nonlocal nearest
        if found not in reached:
            experiment = plain if found is None else changed(plain, found)
            trial = solver_of(sample.of_experiment(experiment))
            reached[found] = math.inf
            if trial.overlap >= least:
                yield from trial.start()
                reached[found] = trial.physics.held_out(trial.current)
                if reached[found] <= min(reached.values()):
                    nearest = trial

    yield from attempt(None)
    if 'probe' in options:
        tilt = _tilt(plain)
        if any(tilt):
            yield from attempt(Found(TILT, tilt))
    for option in options:
        for change in SEARCHED[option][0]:
            if option != 'axes' or (axes_force * _linear_change(change)).sum() < 0:
                yield from attempt(Found(option, change))
    still_far = (
        nearest is not None
        and fit_on_device(nearest.patterns, nearest.physics, nearest.current).unexplained > STILL_FAR
    )
    if 'probe' in options and still_far:
        for curvature in likely_curvatures(_mean_counts(plain)):
            yield from attempt(Found(ESTIMATE, (curvature,)))
    best = min(reached, key=reached.__getitem__)
    if best is not None and best.option == ESTIMATE:
        for factor in FINER:
            yield from attempt(Found(ESTIMATE, (factor * best.change[0],)))
        best = min(reached, key=reached.__getitem__)
    for steps in SEARCHED[best.option][1] if best and best.option in SEARCHED else ():
        assert best is not None
        for step in steps:
            change = tuple(a + b for a, b in zip(best.change, step, strict=True))
            yield from attempt(replace(best, change=change))
        best = min(reached, key=reached.__getitem__)
    for found, value in reached.items():
        logger.debug('%s: %.4g', found, value)
    return best


def _mean_counts(patterns: ScanPatterns) -> npt.NDArray[np.float64]:
    """Return the mean pattern (N, N) without the background, bad pixels filled."""
    mean = patterns.mean_counts
    if patterns.background is not None:
        mean = np.maximum(mean - patterns.background, 0)
    return filled_counts(mean, ~patterns.valid)


def _tilt(patterns: ScanPatterns) -> Change:
    """Return by how many pixels [y, x] the mean pattern lies off the probe's far field."""
    back, _ = off_probe(np.where(patterns.valid, patterns.mean_counts, 0), patterns.probe, patterns.valid)
    return -back[0], -back[1]


def _middle(patterns: ScanPatterns, most: int) -> npt.NDArray[np.int64]:
    """Return the indices, in their order, of the patterns nearest to the middle of a scan.

    They overlap as those of the whole scan do, which is what tells focus and axes.
    """
    place = patterns.placement.corner + patterns.placement.subpixel_shift
    away = np.linalg.norm(place - np.median(place, axis=0), axis=1)
    return np.sort(np.argsort(away, kind='stable')[:most])
