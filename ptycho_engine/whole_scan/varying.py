"""A probe that drifts while a scan goes on: how it is told, and where its modes begin (CAL-18, CAL-19)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..physics.coherent import CoherentModes, coherent_modes
from ..physics.likelihood import ScanPatterns, ScanPhysics

__all__ = ['DRIFTS', 'GROWING', 'main_modes', 'probe_drift', 'with_stretches']

STRETCHES = 13
"""Stretches of a scan whose forces on the probe are compared, and knots between which it may change."""

DRIFTS = 2.0
"""Scatter of these forces, in units of that of as many sets from all over the scan, from which on the probe
drifts. Drifting ones reach 2.7 to 4.6, other faults 1.5 at most, but patterns off the middle more."""

GROWING = (1,) * 12
"""Subsets of the iterations with a probe of its own at each knot."""

MOST_VARYING, LITTLE = 3, 1e-3
"""Coherent modes that are kept at most, and the part of the light below which one is noise."""


def probe_drift(patterns: ScanPatterns, physics: ScanPhysics, obj: npt.ArrayLike) -> float:
    """Return how much the forces on the probe differ from one stretch of the scan to the next.

    At an object (H, W) of the device; by chance it is about 1. 1 as well where there are too few patterns.
    """
    count = len(patterns)
    if count < 2 * STRETCHES:
        return 1.0
    anywhere = np.random.default_rng(0).permutation(count)
    scatter = []
    for order in (np.arange(count), anywhere):
        sets = [np.sort(part) for part in np.array_split(order, STRETCHES)]
        forces = np.stack(
            [physics.experiment_gradient(obj, part, unbiased=True).probe / len(part) for part in sets]
        )
        scatter.append(float((np.abs(forces - forces.mean(axis=0)) ** 2).sum()))
    return scatter[0] / max(scatter[1], 1e-30)


def with_stretches(patterns: ScanPatterns) -> ScanPatterns:
    """Return patterns whose probe may be another one at each knot, and changes evenly between them."""
    size, knots = patterns.size, np.arange(STRETCHES)
    at = np.linspace(0, STRETCHES - 1, len(patterns))
    weights = np.maximum(1 - np.abs(at[:, None] - knots), 0)
    modes = np.zeros((STRETCHES, size, size), patterns.probe.dtype)
    return replace(patterns, coherent=CoherentModes(modes, weights))


def main_modes(patterns: ScanPatterns) -> ScanPatterns:
    """Return patterns with the coherent modes that vary most alone, in the form of OPR-02."""
    varying = patterns.coherent
    assert varying is not None
    probe, found = coherent_modes(patterns.probe, varying.modes, varying.weights)
    if found is not None:
        kept = np.flatnonzero(np.square(found.weights).mean(axis=0) > LITTLE)[:MOST_VARYING]
        found = CoherentModes(found.modes[kept], found.weights[:, kept]) if len(kept) else None
    return replace(patterns, probe=probe, coherent=found)
