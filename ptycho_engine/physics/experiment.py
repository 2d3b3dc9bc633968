"""Probe and scan positions, refined beside the object (clauses REF-07 and REF-08 of ``specs/physics.md``)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .descent import step_curvature
from .geometry import PatchPlacement
from .refinement import ScanPatterns, ScanPhysics

__all__ = ['ExperimentRefinement']

MOMENTUM = 0.9
"""Part of the last move that is made again: single steps are short, as the object has learned the errors."""

POSITION_GAIN = 8.0
"""Times the Gauss-Newton step of a position at a fixed object. The object follows, so that more is gained."""

LARGEST_MOVE = 0.1
"""Pixels of that Gauss-Newton step, at most."""

FARTHEST_MOVE = 0.125
"""Distance from where the scan says that a position may end along an axis, relative to a pattern's side."""

STIFFNESS = 1e-3
"""Added to the curvature of a position, relative to the largest of the scan; a blank patch does not move."""


class ExperimentRefinement:
    """Moves probe and positions of a scan on, one step after each sweep of the object.

    Parameters
    ----------
    physics : ScanPhysics
        Takes each new probe and the new positions.
    patterns : ScanPatterns
        Probe and positions as the scan has them.
    probe, positions : bool
        Which of them to refine.
    """

    def __init__(self, physics: ScanPhysics, patterns: ScanPatterns, *, probe: bool, positions: bool) -> None:
        self._physics = physics
        self._start = patterns.placement
        self.patterns = patterns
        """With probe and positions as they are now."""
        self._probe_move: Any = 0 if probe else None
        self._position_move: Any = 0 if positions else None

    def step(self, obj: Any) -> None:
        """Move probe and positions to where they fit the object (H, W) better.

        The power of the probe and the mean position stay: a factor and a shift may as well be the object's.
        """
        found = self._physics.experiment_gradient(obj)
        if self._probe_move is not None:
            self._move_probe(found.probe, found.probe_weight)
        if self._position_move is not None:
            self._move_positions(found.force, found.curvature)
        self._physics.set_experiment(self.patterns.probe, self.patterns.placement.remainder)

    def _move_probe(self, gradient: npt.NDArray[Any], weight: npt.NDArray[Any]) -> None:
        old = self.patterns.probe
        step = gradient / step_curvature(weight, weight.max())
        self._probe_move = MOMENTUM * self._probe_move - step
        probe = old + self._probe_move
        probe *= np.linalg.norm(old) / max(float(np.linalg.norm(probe)), 1e-30)
        self.patterns = replace(self.patterns, probe=probe.astype(old.dtype))

    def _move_positions(self, force: npt.NDArray[np.float64], curvature: npt.NDArray[np.float64]) -> None:
        old, size = self.patterns.placement, self.patterns.size
        step = POSITION_GAIN * _gauss_newton(force, curvature)
        self._position_move = MOMENTUM * self._position_move - step
        farthest = FARTHEST_MOVE * size
        away = np.clip(old.remainder + self._position_move - self._start.remainder, -farthest, farthest)
        remainder = self._start.remainder + away - away.mean(axis=0)
        self.patterns = replace(self.patterns, placement=PatchPlacement(old.corner, remainder))


def _gauss_newton(
    force: npt.NDArray[np.float64], curvature: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return steps (n, 2) for forces (n, 2) and curvatures (n, 2, 2), cut to LARGEST_MOVE."""
    stiff = STIFFNESS * np.trace(curvature, axis1=-2, axis2=-1).max() * np.eye(2)
    step = np.linalg.solve(curvature + stiff, force[..., None])[..., 0]
    length = np.linalg.norm(step, axis=-1, keepdims=True)
    return np.asarray(step * np.minimum(1, LARGEST_MOVE / np.maximum(length, 1e-30)))
