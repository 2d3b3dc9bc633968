"""Calibration in the background of a live session, in slices between its frames (LIVE-30 to LIVE-32).

A sample of frames that overlap, those around the last one, is calibrated as a whole scan is. What is found
and holds for other frames makes a second image, into which the frames are taken in anew; it takes the place
of the first where it explains them better.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ..backends.base import Backend
from ..config import InferenceConfig
from ..errors import EngineError
from ..events import Event
from ..physics.geometry import ObjectGrid
from ..scan.raw_data import RawData
from ..scan.scan import Scan
from ..whole_scan.calibrate import Calibrator
from ..whole_scan.object_solver import IterationCount, ObjectSolver
from ..whole_scan.scan_model import ScanModel
from .experiment import Experiment
from .image import LiveImage

__all__ = ['LiveCalibration']

logger = logging.getLogger('ptychopinn.live')

SAMPLE = 100
"""Frames that are calibrated together."""

LEAST_OVERLAP = 4.0
"""Of these, below which they tell too little of the experiment."""

AGAIN, SOON = 2.0, 1.25
"""Times as many frames after which it is done again, and after which a sample is looked for again."""

AT_ONCE = 64
"""Frames that a second image takes in at once: less is done for each than where they come by eights."""


@dataclass
class _Trial:
    """A calibration on its way."""

    experiment: Experiment
    told: ScanModel
    """The sample as the session was told."""
    before: ScanModel
    """The sample by the experiment as it is."""
    run: Generator[Event, None, ScanModel]


class LiveCalibration:
    """Looks now and then whether the experiment is what the session takes it for.

    Parameters
    ----------
    told : Experiment
        What the session was told.
    backend : Backend
        That of the session.
    config : InferenceConfig
        Says what is calibrated.
    sample : callable
        Returns frames by their slots, with their positions as they were told.
    image : callable
        Returns an image without frames, by an experiment.
    """

    def __init__(
        self,
        told: Experiment,
        backend: Backend,
        config: InferenceConfig,
        sample: Callable[[npt.NDArray[np.int64]], RawData],
        image: Callable[[Experiment], LiveImage],
    ) -> None:
        self._told, self._backend, self._config = told, backend, config
        self._sample, self._image = sample, image
        self._next = float(SAMPLE)
        self._trial: _Trial | None = None
        self._second: LiveImage | None = None

    @property
    def rebuilding(self) -> bool:
        """Whether frames are taken into a second image."""
        return self._second is not None

    def has_work(self, frames: int) -> bool:
        """Return whether there is a slice of work to do, at so many frames in the image."""
        return self._trial is not None or self._second is not None or frames >= self._next

    def work(self, image: LiveImage) -> LiveImage | None:
        """Do a slice of work; return an image that is to take the place of the given one, if there is one."""
        if self._second is not None:
            return self._take_in(image, self._second)
        if self._trial is None:
            self._trial = self._begun(image)
        else:
            self._second = self._gone_on(self._trial)
        return None

    def _begun(self, image: LiveImage) -> _Trial | None:
        """Return a calibration that is to begin; None where the frames do not overlap enough."""
        slots, count = image.nearest(image.used[-1], SAMPLE), len(image.used)
        if len(slots) < SAMPLE or image.overlap(slots) < LEAST_OVERLAP:
            self._next = SOON * count
            return None
        self._next = AGAIN * count
        experiment, raw = image.experiment, self._sample(slots)
        y, x = experiment.place(np.stack([raw.ycoords, raw.xcoords], axis=1)).T
        scan = Scan(raw, ObjectGrid.around_scan(raw.xcoords, raw.ycoords, raw.N))
        bad = raw.bad_pixels if experiment.bad is None else ~raw.valid | experiment.bad
        changed = replace(raw, probeGuess=experiment.probe, ycoords=y, xcoords=x, bad_pixels=bad)
        before = ScanModel(
            Scan(changed, ObjectGrid.around_scan(x, y, raw.N)),
            intensity=image.intensity(slots),
            background=experiment.background,
        )
        return _Trial(experiment, ScanModel(scan), before, self._calibrated(before))

    def _calibrated(self, before: ScanModel) -> Generator[Event, None, ScanModel]:
        """Return frames as they are calibrated; an event is the end of a slice."""
        count = IterationCount(lambda: False, None)
        solver = ObjectSolver(before, self._backend, self._config, count)
        yield from solver.begin()
        calibrator = Calibrator(solver, self._backend, self._config, count)
        yield from calibrator.calibrate()
        return calibrator.solver.prepared

    def _gone_on(self, trial: _Trial) -> LiveImage | None:
        """Iterate once; return an image without frames where that was the last and something was found."""
        try:
            next(trial.run)
        except StopIteration as end:
            self._trial = None
            experiment = trial.experiment.corrected(trial.told, trial.before, end.value)
            if experiment.found == trial.experiment.found:
                return None
            logger.info('Live calibration: %s.', '; '.join(experiment.found) or 'as it was told')
            return self._image(experiment)
        except EngineError as error:
            logger.info('Live calibration was given up: %s', error)
            self._trial = None
        return None

    def _take_in(self, image: LiveImage, second: LiveImage) -> LiveImage | None:
        """Take frames into the second image; return it where it has all and explains them better."""
        done = len(second.used)
        left = image.used[done : done + AT_ONCE]
        second.take_in(np.array(left))
        if len(second.used) < len(image.used):
            return None
        self._second = None
        before, after = image.unexplained(), second.unexplained()
        logger.info('Live calibration: deviance of %.2f× noise becomes %.2f×.', before, after)
        return second if after < before else None
