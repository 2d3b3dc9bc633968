"""What is wrong with a scan that is near photon noise, by the forces on its experiment (DOCTOR-06, CAL-10).

Such faults hardly show in how well a scan is explained: the object follows them. A part of the scan is solved
and, where forces are left, calibrated as a reconstruction does it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..config import InferenceConfig
from ..events import Event
from ..physics.likelihood import ScanPatterns, ScanPhysics
from ..physics.scan_likelihood import NumpyScanPhysics
from ..scan.raw_data import RawData
from ..scan.scan import Scan
from ..whole_scan.calibrate import Calibrator
from ..whole_scan.corrections import Correction, linear_map
from ..whole_scan.held_out import fit_on_device
from ..whole_scan.object_solver import IterationCount, ObjectSolver
from ..whole_scan.remaining import remaining
from ..whole_scan.scan_model import ScanModel

__all__ = ['Pulled', 'pulled']

GLANCES = 20, 20
"""Iterations before each look at the forces: they are those of noise long before nothing moves any more, and
what is wrong makes them large from the beginning."""
GAINED = 0.75
"""Part of these iterations with the gain of the low-frequency phase."""


@dataclass(frozen=True)
class Pulled:
    """What a part of a scan says of its experiment."""

    corrections: tuple[Correction, ...]
    """What calibration corrected, one for each part."""
    suspected: tuple[str, ...]
    """What is surely not as the file says where nothing was corrected (:mod:`~..whole_scan.remaining`)."""
    axes: npt.NDArray[np.float64] | None
    """(2, 2) map of the positions [y, x] that was found; None where it is none, or not of all of them."""
    before: float
    """Held-out deviance relative to photon noise, as the file says."""
    after: float
    """The same with what was corrected."""


class _NumpyBackend:
    """Needs no framework."""

    def scan_physics(self, patterns: ScanPatterns) -> ScanPhysics:
        """Return the likelihood in NumPy."""
        return NumpyScanPhysics(patterns)


def pulled(part: RawData, calibrate: str = 'auto') -> Pulled:
    """Solve a small part of a scan, in memory and without an object, and correct what its forces tell.

    Parameters
    ----------
    calibrate : str
        As in :class:`~..config.InferenceConfig`; 'off' to look at the forces alone.

    Raises
    ------
    DataValueError
        If the patterns are dark, or the probe has no intensity on the valid pixels.
    """
    config, iterations, backend = (
        InferenceConfig(calibrate=calibrate),
        IterationCount(lambda: False, None),
        _NumpyBackend(),
    )
    solver = ObjectSolver(ScanModel(Scan.from_raw(part)), backend, config, iterations)
    _take(solver.begin())
    if solver.subsets == 1 and _soon_quiet(solver):
        ratio = _times_noise(solver)
        return Pulled((), (), None, ratio, ratio)
    calibrator = Calibrator(solver, backend, config, iterations)
    _take(calibrator.calibrate())
    found = calibrator.solver
    raw, new = solver.prepared.scan.raw, found.prepared.scan.raw
    moved = np.stack([new.ycoords - raw.ycoords, new.xcoords - raw.xcoords])
    return Pulled(
        calibrator.corrections,
        calibrator.suspected,
        linear_map(np.stack([raw.ycoords, raw.xcoords]), moved) if moved.any() else None,
        _times_noise(solver),
        _times_noise(found),
    )


def _soon_quiet(solver: ObjectSolver) -> bool:
    """Return whether all forces are those of noise after some iterations from flat."""
    taken, gained = 0, GAINED * sum(GLANCES)
    for count in GLANCES:
        for _ in range(count):
            taken += 1
            solver.descent.phase_gain = max(0.0, 1 - taken / gained)
            _take(solver.iterate())
        if not remaining(solver.patterns, solver.physics, solver.current).speaks:
            return True
    return False


def _take(steps: Iterable[Event]) -> None:
    """Take all steps of a solver."""
    for _ in steps:
        pass


def _times_noise(solver: ObjectSolver) -> float:
    fit = fit_on_device(solver.patterns, solver.physics, solver.current)
    return fit.deviance / fit.noise
