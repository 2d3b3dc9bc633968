"""Coarse changes of an experiment where steps along the likelihood do not find what is wrong (CAL-04)."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Generator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..events import Event
from ..physics.likelihood import ScanPatterns
from ..physics.probe_changes import defocused
from .course import Course
from .held_out import scan_patterns
from .scan_model import PreparedScan

__all__ = ['SEARCHED', 'best_change', 'changed']

logger = logging.getLogger('ptychopinn.calibrate')

SAMPLE, SHARED = 64, 4.0
"""Patterns that focus and axes are told by, and those that fall on a pixel at least, or as many as before:
where patterns hardly overlap each is explained alone, whatever the experiment."""

ALWAYS_FINER = 'probe'
"""Where finer changes are tried even if no coarse one helps: less than their distance loses the focus."""

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
the phase of :func:`~..physics.probe_changes.defocused`, for the axes the angle in radians and the stretch."""


def changed(patterns: ScanPatterns, option: str, change: Change) -> ScanPatterns:
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


def best_change(
    course: Course, patterns: ScanPatterns, option: str, course_of: Callable[[PreparedScan], Course]
) -> Generator[Event, None, Change | None]:
    """Return the change that explains a sample best after a few sweeps from a flat object; None for none.

    Parameters
    ----------
    course : Course
        Of the whole scan.
    patterns : ScanPatterns
        Its patterns with the experiment as it is now.
    option : str
        A key of ``SEARCHED``.
    course_of : callable
        Makes a course of a sample, with the held-out pixels of the whole scan.
    """
    sample = course.prepared.of_experiment(patterns).part(_middle(patterns, SAMPLE))
    plain = scan_patterns(sample, None)
    least = min(course.overlap, SHARED)
    reached: dict[Change, float] = {}

    def attempt(change: Change) -> Generator[Event, None, None]:
        trial = course_of(sample.of_experiment(changed(plain, option, change)))
        if trial.overlap >= least:
            yield from trial.start()
            reached[change] = trial.physics.held_out(trial.current)

    zero, coarse, finer = SEARCHED[option]
    for change in (zero, *coarse):
        yield from attempt(change)
    reached.setdefault(zero, math.inf)
    middle = min(reached, key=reached.__getitem__)
    if middle != zero or option == ALWAYS_FINER:
        for step in finer:
            yield from attempt(tuple(a + b for a, b in zip(middle, step, strict=True)))
    logger.debug('%s %s', option, {change: round(value, 3) for change, value in reached.items()})
    best = min(reached, key=reached.__getitem__)
    return None if best == zero else best


def _middle(patterns: ScanPatterns, most: int) -> npt.NDArray[np.int64]:
    """Return the indices, in their order, of the patterns nearest to the middle of a scan.

    They overlap as those of the whole scan do, which is what tells focus and axes.
    """
    place = patterns.placement.corner + patterns.placement.remainder
    away = np.linalg.norm(place - np.median(place, axis=0), axis=1)
    return np.sort(np.argsort(away, kind='stable')[:most])
