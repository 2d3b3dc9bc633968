"""Training of the learned prior that comes with the package: on simulated objects alone, resumable.

No scan, no probe and no physics take part, so that what it learns holds for all of them.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..backends.base import why_unavailable
from ..config import ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ..errors import ArchiveError, BackendUnavailableError, Cancelled, ConfigError
from ..events import BatchDone, EpochDone, Event, ModelSaved
from ..formats.archive import ARCHIVE_NAME, ModelArchive, save_archive
from ..formats.checkpoint import Checkpoint, Progress, save_checkpoint
from ..formats.packaged import of_objects
from ..io.folder_lock import sole_writer
from ..network.plan import build_plan, initial_weights
from ..simulate.noisy_images import NoisyBatch, NoisyImages
from .saving import find_checkpoint, replace_checkpoint

if TYPE_CHECKING:
    from ..backends.pytorch.denoiser import DenoiserTraining

__all__ = ['EPOCH_STEPS', 'train_universal', 'universal_config']

logger = logging.getLogger('ptychopinn.train')

EPOCH_STEPS = 250
"""Batches between two checkpoints."""

JUDGED_BATCHES = 16
"""Batches that judge each epoch; no training of the same seed sees them."""
JUDGED_FROM = 1 << 40
"""Number of the first of them."""

WARM_UP_STEPS = 200
SHOWN_EVERY = 25
"""Batches between two signs of life."""


def universal_config(nepochs: int, seed: int) -> TrainingConfig:
    """Return the recipe of the prior; of it only its length and the seed are chosen."""
    return TrainingConfig(
        model=ModelConfig(architecture='prior'),
        nepochs=nepochs,
        optimizer='adam',
        learning_rate=2e-3,
        adam_beta2=0.99,
        gradient_clip_val=1.0,
        lr_min_ratio=1e-3,
        seed=seed,
    )


def train_universal(
    nepochs: int,
    output_dir: Path | str,
    *,
    seed: int = 0,
    execution: PyTorchExecutionConfig | None = None,
    should_stop: Callable[[], bool] | None = None,
    resume: bool = False,
) -> Iterator[Event]:
    """Train the learned prior of objects and write ``output_dir/wts.h5.zip``; iterate to make it run.

    An epoch is ``EPOCH_STEPS`` batches. After each one a checkpoint is written; a run that goes on from it
    gives what it would have given without the break. The learning rate falls by a cosine to the last epoch.

    Yields
    ------
    BatchDone, EpochDone
        As they come; losses are errors in units of the noise, and there is no deviance.
    ModelSaved
        Last.

    Raises
    ------
    BackendUnavailableError
        If PyTorch is not installed.
    ConfigError
        If the checkpoint is that of another training.
    FolderInUseError
        If another process writes into `output_dir`.
    Cancelled
        If `should_stop` turned true before the first epoch was done.
    """
    reason = why_unavailable('pytorch')
    if reason:
        raise BackendUnavailableError(reason)
    folder = Path(output_dir)
    config = universal_config(nepochs, seed)
    with sole_writer(folder, 'a training'):
        run = _Run(config, folder, execution or PyTorchExecutionConfig())
        if resume:
            run.resume()
        yield from run.epochs(should_stop or (lambda: False))


class _Run:
    """A training with its history."""

    def __init__(self, config: TrainingConfig, folder: Path, execution: PyTorchExecutionConfig) -> None:
        from ..backends.pytorch.denoiser import DenoiserTraining

        self._config, self._folder = config, folder
        plan = build_plan(config.model)
        weights = initial_weights(plan, config.seed)
        self._training: DenoiserTraining = DenoiserTraining(plan, weights, config, execution)
        self._images = NoisyImages(config.seed)
        self._history: list[dict[str, float]] = []
        self._own_checkpoint = False

    @property
    def _identity(self) -> str:
        return f'objects of seed {self._config.seed}'

    def resume(self) -> None:
        """Go on from the checkpoint in the folder, where there is one."""
        path, checkpoint = find_checkpoint(self._folder)
        if checkpoint is None:
            return
        if checkpoint.progress.data != self._identity:
            raise ConfigError(
                f'{path} belongs to a training on {checkpoint.progress.data}, not on {self._identity}; give '
                'that seed to go on with it, or another --output.'
            )
        self._training.go_on(checkpoint.weights, checkpoint.model.weights, checkpoint.optimiser)
        self._history = list(checkpoint.model.history)
        self._own_checkpoint = True
        logger.info('Resuming after epoch %d.', len(self._history))

    def epochs(self, stop: Callable[[], bool]) -> Iterator[Event]:
        """Train what is left of the epochs and save the model."""
        total = self._config.nepochs
        judged = [NoisyImages(self._config.seed).batch(JUDGED_FROM + k) for k in range(JUDGED_BATCHES)]
        for epoch in range(len(self._history) + 1, total + 1):
            tic, losses = time.perf_counter(), []
            for step in range((epoch - 1) * EPOCH_STEPS, epoch * EPOCH_STEPS):
                if stop():
                    break
                rate = self._rate(step)
                losses.append(self._training.step(self._images.batch(step), rate, step))
                if len(losses) % SHOWN_EVERY == 0:
                    yield BatchDone(epoch, total, len(losses) / EPOCH_STEPS)
            if len(losses) < EPOCH_STEPS:
                # The checkpoint of the epoch before is what a run goes on from.
                logger.info('Stopped on request in epoch %d.', epoch)
                break
            yield self._done(epoch, float(np.mean(losses)), judged, rate, time.perf_counter() - tic)
        if not self._history:
            raise Cancelled('The training was stopped before its first epoch was done; no model was written.')
        path = self._folder / ARCHIVE_NAME
        save_archive(path, self._model())
        yield ModelSaved(path)

    def _rate(self, step: int) -> float:
        config = self._config
        part = step / (config.nepochs * EPOCH_STEPS)
        falling = config.lr_min_ratio + (1 - config.lr_min_ratio) * (1 + math.cos(math.pi * part)) / 2
        return config.learning_rate * min((step + 1) / WARM_UP_STEPS, 1) * falling

    def _done(
        self, epoch: int, loss: float, judged: list[NoisyBatch], rate: float, seconds: float
    ) -> EpochDone:
        error = float(np.mean([self._training.judge(batch) for batch in judged]))
        done = EpochDone(
            epoch=epoch,
            n_epochs=self._config.nepochs,
            training_loss=loss,
            validation_loss=error,
            training_deviance=math.nan,
            validation_deviance=math.nan,
            learning_rate=rate,
            seconds=seconds,
            best=True,
            simulated=True,
        )
        self._history.append(
            {
                'epoch': epoch,
                'training_loss': loss,
                'validation_loss': error,
                'learning_rate': rate,
                'seconds': seconds,
            }
        )
        logger.info(
            'Epoch %d/%d: error of the noise %.4g, on objects kept apart %.4g, %.1f s',
            epoch,
            self._config.nepochs,
            loss,
            error,
            seconds,
        )
        try:
            replace_checkpoint(self._folder, self._save, put_aside=not self._own_checkpoint)
            self._own_checkpoint = True
        except (OSError, ArchiveError) as trouble:
            logger.warning('No checkpoint was written in epoch %d (%s); training goes on.', epoch, trouble)
        return done

    def _model(self) -> ModelArchive:
        model = of_objects('prior', weights=self._training.averaged_weights(), backend='pytorch')
        return replace(model, config=self._config, history=self._history)

    def _save(self, path: Path) -> None:
        progress = Progress(
            epoch=len(self._history),
            best_loss=self._history[-1]['validation_loss'],
            stale=0,
            schedule={},
            data=self._identity,
        )
        weights, state = self._training.weights(), self._training.state()
        save_checkpoint(path, Checkpoint(self._model(), progress, weights, state))
