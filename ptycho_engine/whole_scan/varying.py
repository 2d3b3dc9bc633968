"""A probe that drifts while a scan goes on: how it is told, and where its modes begin (CAL-18, CAL-19)."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..physics.coherent import CoherentModes, coherent_modes
from ..physics.likelihood import ScanPatterns, ScanPhysics
from .judgement import Trial
from .remaining import SETS, probe_scatter

__all__ = ['DRIFTS', 'GROWING', 'drifts', 'main_modes', 'probe_drift', 'with_stretches']

logger = logging.getLogger('ptychopinn.calibrate')

STRETCHES = SETS
"""Stretches of a scan whose forces on the probe are compared, and knots between which it may change."""

DRIFTS = 2.0
"""Scatter of these forces, in units of that of as many sets from all over the scan, from which on the probe
drifts. Drifting ones reach 2.7 to 4.6, other faults 1.5 at most, but patterns off the middle more."""

GROWING = (1,) * 12
"""Subsets of the iterations with a probe of its own at each knot."""

MOST_VARYING, LITTLE = 3, 1e-3
"""Coherent modes that are kept at most, and the part of the light below which one is noise."""


def drifts(state: Trial, by_chance: float | None = None) -> bool:
    """Return whether the probe of a state drifts; `by_chance` as :func:`probe_drift` has it."""
    state.physics.set_experiment(state.patterns)
    drift = probe_drift(state.patterns, state.physics, state.current, by_chance)
    logger.debug('drift of the probe: %.3g', drift)
    return drift >= DRIFTS


def probe_drift(
    patterns: ScanPatterns, physics: ScanPhysics, obj: npt.ArrayLike, by_chance: float | None = None
) -> float:
    """Return how much the forces on the probe differ from one stretch of the scan to the next.

    At an object (H, W) of the device; by chance it is about 1. 1 as well where there are too few patterns.

    Parameters
    ----------
    by_chance : float, optional
        Their scatter over sets from all over the scan at the same object and experiment
        (:attr:`~.remaining.Remaining.probe_scatter`); found here without it.
    """
    if len(patterns) < 2 * STRETCHES:
        return 1.0
    everything = np.arange(len(patterns))

    def scatter(order: npt.NDArray[np.int64]) -> float:
        sets = [np.sort(part) for part in np.array_split(order, STRETCHES)]
        forces = [physics.experiment_gradient(obj, part, unbiased=True).probe for part in sets]
        return probe_scatter(np.stack(forces), sets)

    if by_chance is None:
        by_chance = scatter(np.random.default_rng(0).permutation(everything))
    return scatter(everything) / max(by_chance, 1e-30)


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
