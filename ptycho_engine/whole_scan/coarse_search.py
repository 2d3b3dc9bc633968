"""Coarse changes of an experiment where steps along the likelihood do not find what is wrong (CAL-04)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..physics.likelihood import ScanPatterns
from ..physics.probe_changes import defocused

__all__ = ['ALWAYS_FINER', 'SEARCHED', 'Change', 'changed', 'middle_patterns']

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


def middle_patterns(patterns: ScanPatterns, most: int) -> npt.NDArray[np.int64]:
    """Return the indices, in their order, of the patterns nearest to the middle of a scan.

    They overlap as those of the whole scan do, which is what tells focus and axes.
    """
    place = patterns.placement.corner + patterns.placement.remainder
    away = np.linalg.norm(place - np.median(place, axis=0), axis=1)
    return np.sort(np.argsort(away, kind='stable')[:most])
