"""A training run between two epochs: what is known, what is kept, and how it goes on from a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..backends.base import Backend
from ..config import TrainingConfig
from ..errors import ArchiveError, ConfigError, DataValueError
from ..events import EpochDone
from ..formats.archive import ModelArchive
from ..formats.checkpoint import Checkpoint, Progress
from ..printable import printable
from ..whole_scan.scan_model import ScanModel
from .acceptance import gives_better_images
from .schedule import Schedule
from .simulated import with_truth
from .sources import BatchSource, TrainingSource

__all__ = ['TrainingRun', 'check_resumable']

CHANGEABLE = ('nepochs', 'early_stop_patience', 'use_groups_cache')
"""Settings that may differ when a run goes on: they say when it ends, or do not change what it computes."""


class TrainingRun:
    """Weights, best weights, schedule and history of a run.

    Parameters
    ----------
    config : TrainingConfig
        With the size of the patterns.
    backend : Backend
        Built, with the weights to start from.
    source : TrainingSource
        What it trains on.
    """

    def __init__(self, config: TrainingConfig, backend: Backend, source: TrainingSource) -> None:
        self.config = config
        self.backend = backend
        self.source = source
        effective = effective_config(config, simulated=source.simulated)
        self.schedule = Schedule(effective)
        backend.prepare_training(effective)
        self.epoch = 0
        """Epochs done."""
        self.history: list[dict[str, float]] = []
        self.stale = 0
        """Epochs since the best one."""
        self.best_loss = math.inf
        self._best_weights: dict[str, npt.NDArray[np.float32]] | None = None
        self._started = backend.weights() if config.model.of_objects else None

    def judge_start(self, loss: float) -> None:
        """Take note of the loss of the weights that a run starts from: worse ones do not replace them."""
        self.best_loss, self._best_weights = loss, self.backend.weights()

    def accept(self, judging: Sequence[BatchSource], stop: Callable[[], bool]) -> None:
        """Return to the prior that the run started from if the solver makes images as good with it.

        Raises
        ------
        Cancelled
            If `stop` turned true.
        """
        scans = [scan for scan in judging if isinstance(scan, ScanModel)]
        if self._started is None or self._best_weights is None or not scans:
            return
        if not gives_better_images(self.backend, scans, self._started, self._best_weights, stop):
            self._best_weights = self._started

    @property
    def finished(self) -> bool:
        """Whether all epochs are done or the loss has stopped falling."""
        return self.epoch >= self.config.nepochs or self.stale >= self.config.early_stop_patience

    @property
    def has_best(self) -> bool:
        """Whether an epoch was completed."""
        return self.epoch > 0

    @property
    def lowest_loss(self) -> float:
        """The lowest loss of a completed epoch on the validation groups; infinite where there is none."""
        losses = (record['validation_loss'] for record in self.history if 'validation_loss' in record)
        return min(losses, default=math.inf)

    @property
    def gained(self) -> bool:
        """Whether a completed epoch was better than what the run started from."""
        return self.stale < self.epoch

    def complete(self, loss: float) -> bool:
        """Take note of a completed epoch's loss; return whether it is the best so far."""
        self.epoch += 1
        self.schedule.epoch_done(loss)
        better = loss < self.best_loss
        if better:
            self.best_loss, self._best_weights, self.stale = loss, self.backend.weights(), 0
        else:
            self.stale += 1
        return better

    def record(self, done: EpochDone) -> None:
        """Add an epoch to the history; what was not measured is left out, for JSON has no NaN."""
        values = {
            'epoch': done.epoch,
            'training_loss': done.training_loss,
            'validation_loss': done.validation_loss,
            'training_deviance': done.training_deviance,
            'validation_deviance': done.validation_deviance,
            'learning_rate': done.learning_rate,
            'seconds': round(done.seconds, 3),
            'simulated': float(done.simulated),
        }
        self.history.append({name: value for name, value in values.items() if math.isfinite(value)})

    def model(self) -> ModelArchive:
        """Return the best model so far; that of the moment where no epoch was completed."""
        reference: ScanModel = self.source.reference
        return ModelArchive(
            config=self.config,
            scale=reference.scale,
            probe=reference.scan.raw.probeGuess,
            weights=self.backend.weights() if self._best_weights is None else self._best_weights,
            backend=self.backend.name,
            history=list(self.history),
            origins=self.source.origins,
        )

    def checkpoint(self) -> Checkpoint:
        """Return all that is needed to go on."""
        progress = Progress(
            epoch=self.epoch,
            best_loss=self.best_loss,
            stale=self.stale,
            schedule=self.schedule.state(),
            data=self.source.identity,
        )
        return Checkpoint(
            model=self.model(),
            progress=progress,
            weights=self.backend.weights(),
            optimiser=self.backend.optimiser_state(),
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on where a checkpoint was taken; :func:`check_resumable` must have passed.

        Raises
        ------
        ArchiveError
            If what the optimiser remembers does not fit the network.
        """
        self.backend.set_weights(checkpoint.weights)
        try:
            self.backend.set_optimiser_state(checkpoint.optimiser)
        except (KeyError, ValueError, TypeError) as error:
            raise ArchiveError(
                f'What the optimiser remembers in the checkpoint does not fit the network '
                f'({printable(error, 200)}); train again without resuming.'
            ) from error
        self.schedule.restore(checkpoint.progress.schedule)
        self.epoch = checkpoint.progress.epoch
        self.stale = checkpoint.progress.stale
        self.best_loss = checkpoint.progress.best_loss
        self._best_weights = dict(checkpoint.model.weights)
        self.history = list(checkpoint.model.history)


PRIOR_RATE = 0.1
"""Factor of the learning rate for the prior, which has learned from many objects: at the full rate that is
lost before a scan has said what it is like."""


def effective_config(config: TrainingConfig, *, simulated: bool) -> TrainingConfig:
    """Return the configuration as a run uses it: known objects count where patterns are simulated."""
    if config.model.architecture == 'prior':
        config = replace(config, learning_rate=PRIOR_RATE * config.learning_rate)
    return with_truth(config) if simulated else config


def check_resumable(
    checkpoint: Checkpoint, config: TrainingConfig, source: TrainingSource, path: Path
) -> None:
    """Check that a run with `config` on `source` is the one that a checkpoint was taken of.

    Raises
    ------
    ConfigError
        If a setting differs that would make the rest of the run another one.
    DataValueError
        If it was taken of a run on other data.
    """
    earlier, asked = _settings(checkpoint.model.config), _settings(config)
    changed = [name for name in asked if earlier[name] != asked[name]]
    if changed:
        before = ', '.join(f'{name} {earlier[name]!r}' for name in changed)
        now = ', '.join(repr(asked[name]) for name in changed)
        raise ConfigError(
            f'{path} is of a run with {before}, but {now} was asked for; resume with the settings of that '
            'run, or start a new one without resuming.'
        )
    if checkpoint.progress.data != source.identity:
        raise DataValueError(
            f'{path} is of a run on other data; resume with the scans of that run in the same order, or '
            'start a new one without resuming.'
        )


def _settings(config: TrainingConfig) -> dict[str, Any]:
    """Return the settings that must not change, those of the network among them."""
    values = {f.name: getattr(config.model, f.name) for f in fields(config.model)}
    values |= {f.name: getattr(config, f.name) for f in fields(config)}
    return {name: value for name, value in values.items() if name not in (*CHANGEABLE, 'model')}
