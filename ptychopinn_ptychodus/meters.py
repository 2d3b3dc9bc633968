"""How long the steps of a run take, measured in the child while it runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ptycho_engine.config import InferenceConfig, ModelConfig, PyTorchExecutionConfig, TrainingConfig

from .speeds import inference_key, refinement_key, solution_key, training_key

if TYPE_CHECKING:
    from ptycho_engine.scan.scan import Scan

__all__ = ['InferenceMeter', 'TrainingMeter']

Speed = tuple[str, float]
"""A key of :class:`~.speeds.SpeedBook` and the seconds."""

FIRST, FIRST_OF_PRIOR = 2, 6
"""Epochs at the beginning that are measured: the first may compile kernels, and those of a prior make the
images that it learns from too, so that a short run is known by them and a longer one by what comes after."""


class TrainingMeter:
    """Seconds per training step, validation included."""

    def __init__(self, config: TrainingConfig, execution: PyTorchExecutionConfig, scan: Scan) -> None:
        self._key = training_key(config, scan.raw.N, execution, len(scan.raw.probeGuess))
        self._told = FIRST_OF_PRIOR if config.model.of_objects else FIRST
        self._steps = 0
        self._epochs = 0

    def count(self) -> None:
        """Count one training step."""
        self._steps += 1

    def epoch(self, seconds: float) -> Iterator[Speed]:
        """Yield the speed of the first epochs and of every tenth."""
        if self._steps and (self._epochs < self._told or self._epochs % 10 == 0):
            yield self._key, seconds / self._steps
        self._steps = 0
        self._epochs += 1


class InferenceMeter:
    """Seconds per pattern of network and solution, and per pattern and iteration of the refinement."""

    def __init__(
        self, model: ModelConfig, config: InferenceConfig, execution: PyTorchExecutionConfig, scan: Scan
    ) -> None:
        modes = len(scan.raw.probeGuess)
        self._solves = model.of_objects
        self._solution = solution_key(model, scan.raw.N, config, execution, modes)
        self._network = inference_key(model, config, execution, modes)
        self._refinement = refinement_key(scan.raw.N, config, execution, modes)
        self._n = len(scan.raw)
        self._first: tuple[int, float] | None = None
        self._done = self._iterations = 0
        self._calibrated = False
        self._predicted = self._refined = time.perf_counter()

    def patches(self, done: int) -> None:
        """Take note of patterns that are predicted."""
        self._done, self._predicted = done, time.perf_counter()
        if self._first is None:
            # The first batch takes longer; the parent measures it with the start of the process.
            self._first = done, self._predicted

    def iterate(self, number: int, calibrating: bool = False) -> None:
        """Take note of an iteration that is done; one that calibrates says nothing about other scans."""
        self._calibrated |= calibrating
        self._refined, self._iterations = time.perf_counter(), number
        if self._solves and number == 1:
            # The first takes longer, as the first batch of a network does.
            self._predicted = self._refined

    def speeds(self) -> Iterator[Speed]:
        """Yield what was measured; to be called when the result is there."""
        if self._solves:
            if self._iterations > 1 and not self._calibrated:
                yield self._solution, (time.perf_counter() - self._predicted) / self._n
            return
        if self._first is not None and self._done > self._first[0]:
            yield self._network, (self._predicted - self._first[1]) / (self._done - self._first[0])
        if self._iterations:
            yield self._refinement, (self._refined - self._predicted) / (self._iterations * self._n)
