"""Pixels of the detector that no model explains, and a scan without them (CAL-03, CAL-15)."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..backends.base import PhysicsBackend
from ..blocks import first_to_last, most_patterns
from ..config import InferenceConfig
from ..events import Event
from ..physics.detector import stuck_pixels, unexplained_pixels
from ..physics.likelihood import ScanPatterns
from .corrections import far_field_light
from .judgement import LIKELY
from .object_solver import IterationCount, ObjectSolver
from .paired import paired_difference

__all__ = ['pixels_at_fault', 'without_pixels_at_fault']

MOST_OF_PROBE = 0.5
"""Part of the light of the probe on pixels that are no pixels at fault: the probe is."""

PATTERNS_OF_PIXELS, THEIR_VALUES, FEWEST_OF_PIXELS = 256, 1 << 23, 32
"""Patterns whose scatter tells stuck pixels, as many values at most, and the fewest patterns all the same."""


def without_pixels_at_fault(
    solver: ObjectSolver, backend: PhysicsBackend, config: InferenceConfig, iterations: IterationCount
) -> Generator[Event, None, ObjectSolver]:
    """Return a solver that has begun without those pixels where that explains the others better."""
    bad = pixels_at_fault(solver)
    if not bad.any():
        return solver
    valid = solver.patterns.valid & ~bad
    patterns = replace(
        solver.patterns, valid=valid, held_out=_held_out_without(solver.patterns.held_out, bad)
    )
    before = backend.scan_physics(patterns).held_out_each(solver.current)
    prepared = solver.prepared.of_experiment(solver.patterns, ~solver.prepared.scan.raw.valid | bad)
    again = ObjectSolver(prepared, backend, config, iterations, patterns.held_out)
    yield from again.begin()
    if again.subsets == 1:
        yield from again.finish()
    better = paired_difference(before, again.physics.held_out_each(again.current)).score < -LIKELY
    return again if better else solver


def pixels_at_fault(solver: ObjectSolver) -> npt.NDArray[np.bool_]:
    """Return the pixels (N, N), zero frequency at N//2, that an object that has begun cannot explain."""
    flat = solver.physics.to_device(np.ones(solver.patterns.shape, np.complex64))
    bad = unexplained_pixels(solver.physics.residuals(solver.current), solver.physics.residuals(flat))
    bad |= _stuck(solver.patterns)
    lit = far_field_light(solver.prepared.probe)
    if float(lit[solver.prepared.scan.raw.valid & bad].sum()) > MOST_OF_PROBE * float(lit.sum()):
        return np.zeros_like(bad)
    return bad


def _held_out_without(held_out: npt.NDArray[np.int64], bad: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return sets (K, h) of flat indices in which bad pixels (N, N), zero frequency at N//2, are replaced by
    others of the set."""
    dropped = np.fft.ifftshift(bad).ravel()[held_out]
    kept = [row[~out] for row, out in zip(held_out, dropped, strict=True)]
    return np.stack(
        [np.resize(row, held_out.shape[1]) if len(row) else held_out[i] for i, row in enumerate(kept)]
    )


def _stuck(patterns: ScanPatterns) -> npt.NDArray[np.bool_]:
    """Return the stuck pixels (N, N) among the valid ones, zero frequency at N//2 (CAL-15)."""
    most = most_patterns(PATTERNS_OF_PIXELS, THEIR_VALUES, patterns.size, FEWEST_OF_PIXELS)
    amplitude = patterns.amplitude(first_to_last(len(patterns), most))
    return stuck_pixels(np.square(amplitude), patterns.valid & (amplitude.max(axis=0) < patterns.ceiling))
