"""The training driver, one for every backend."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..backends.base import Backend, StepResult, create_backend
from ..config import PyTorchExecutionConfig, TrainingConfig
from ..config.precedence import with_execution
from ..data.scan import Scan
from ..errors import DataValueError
from ..events import BatchDone, EpochDone, Event, ModelSaved
from ..files.archive import ARCHIVE_NAME, ModelArchive, save_archive
from ..network.plan import initial_weights, training_plan
from .schedule import learning_rate_at
from .sources import GroupedScan, MeasuredScans, TrainingSource, with_pattern_size

__all__ = ['train']

logger = logging.getLogger('ptychopinn.train')


@dataclass
class _Mean:
    """Running averages weighted by batch size."""

    loss: float = 0.0
    deviance: float = 0.0
    count: int = 0

    def add(self, result: StepResult, count: int) -> None:
        self.loss += result.loss * count
        self.deviance += result.deviance * count
        self.count += count

    def value(self) -> StepResult:
        if self.count == 0:
            return StepResult(math.nan, math.nan)
        return StepResult(self.loss / self.count, self.deviance / self.count)


def train(
    scans: Sequence[Scan] | TrainingSource,
    config: TrainingConfig,
    output_dir: Path | str,
    *,
    execution: PyTorchExecutionConfig | None = None,
    should_stop: Callable[[], bool] | None = None,
    initial: ModelArchive | None = None,
) -> Iterator[Event]:
    """Train a network and write ``output_dir/wts.h5.zip``; iterate to make it run.

    Parameters
    ----------
    scans : sequence of Scan, or TrainingSource
        What to train on.
    config : TrainingConfig
        ``config.model.N = 0`` takes the size of the patterns.
    output_dir : Path
        Made where it is missing.
    execution : PyTorchExecutionConfig, optional
        Device and precision.
    should_stop : callable, optional
        Asked after every batch; once true, the best weights so far are saved and the run ends.
    initial : ModelArchive, optional
        A model to continue from.

    Yields
    ------
    BatchDone, EpochDone
        As they come.
    ModelSaved
        Last.

    Raises
    ------
    EngineError
        With a sentence, before anything is written.
    """
    stop = should_stop or (lambda: False)
    config = with_execution(config, execution)
    if isinstance(scans, Sequence):
        if not scans:
            raise DataValueError('There is no scan to train on.')
        config = with_pattern_size(config, scans[0].raw.N)
        source: TrainingSource = MeasuredScans(scans, config)
    else:
        source = scans
        config = with_pattern_size(config, source.reference.scan.raw.N)
    reference = source.reference
    backend = _start(config, len(reference.probe), execution, initial)
    logger.info(
        'Training %s (%s) on %d patterns of %d×%d pixels with the %s backend.',
        config.model.architecture,
        config.model.model_type,
        len(reference),
        config.model.N,
        config.model.N,
        backend.name,
    )

    history: list[dict[str, float]] = []
    best_weights = backend.weights()
    best_loss = math.inf
    stale = 0
    validation = source.validation()
    rng = np.random.default_rng([config.seed, 1])
    step = 0
    for epoch in range(1, config.nepochs + 1):
        tic = time.perf_counter()
        batches = _shuffled(source.training(epoch), config.batch_size, rng)
        total_steps = len(batches) * config.nepochs
        mean = _Mean()
        rate = config.learning_rate
        for number, (grouped, groups) in enumerate(batches, start=1):
            batch = grouped.prepared.batch(groups)
            rate = learning_rate_at(config, step, total_steps)
            mean.add(backend.train_step([batch], rate), len(batch))
            step += 1
            yield BatchDone(epoch, config.nepochs, number / len(batches))
            if stop():
                break
        training = mean.value()
        if not math.isfinite(training.loss):
            logger.warning('The loss is no longer finite; keeping the best weights so far.')
            break
        held_out = _evaluate(backend, validation, config.batch_size, stop)
        done = EpochDone(
            epoch=epoch,
            n_epochs=config.nepochs,
            training_loss=training.loss,
            validation_loss=held_out.loss if held_out else math.nan,
            training_deviance=training.deviance,
            validation_deviance=held_out.deviance if held_out else math.nan,
            learning_rate=rate,
            seconds=time.perf_counter() - tic,
        )
        _log_epoch(done)
        history.append(_record(done))
        if stop():
            # An epoch cut short has no validation to compare; it counts only where there is no other.
            if best_loss == math.inf:
                best_weights = backend.weights()
            yield done
            logger.info('Stopped on request in epoch %d.', epoch)
            break
        judged = held_out.loss if held_out else training.loss
        if judged < best_loss:
            best_loss, best_weights, stale = judged, backend.weights(), 0
        else:
            stale += 1
        yield done
        if stale >= config.early_stop_patience:
            logger.info('No better loss for %d epochs; stopping early.', stale)
            break

    archive = ModelArchive(
        config=config,
        scale=reference.scale,
        probe=reference.scan.raw.probeGuess,
        weights=best_weights,
        backend=backend.name,
        history=history,
    )
    path = Path(output_dir) / ARCHIVE_NAME
    save_archive(path, archive)
    logger.info('Saved the model to %s.', path)
    yield ModelSaved(path)


def _start(
    config: TrainingConfig,
    probe_modes: int,
    execution: PyTorchExecutionConfig | None,
    initial: ModelArchive | None,
) -> Backend:
    """Make the backend with fresh weights, or with those of a model to continue from."""
    if initial is not None and initial.config.model != config.model:
        raise DataValueError(
            f'The model to continue from is {initial.config.model}, but {config.model} was asked for; they '
            'must be the same network.'
        )
    plan = training_plan(config, probe_modes)
    weights = initial_weights(plan, config.seed)
    if initial is not None:
        # What the earlier model did not train, such as a probe, starts fresh.
        weights.update({name: initial.weights[name] for name in weights if name in initial.weights})
    backend = create_backend(config.backend, execution)
    backend.build(plan, weights)
    backend.prepare_training(config)
    return backend


def _shuffled(
    grouped: list[GroupedScan], batch_size: int, rng: np.random.Generator
) -> list[tuple[GroupedScan, npt.NDArray[np.int32]]]:
    """Cut groups into batches of one scan each and shuffle groups and batches."""
    batches = []
    for item in grouped:
        order = rng.permutation(len(item.groups))
        for start in range(0, len(order), batch_size):
            batches.append((item, item.groups[order[start : start + batch_size]]))
    return [batches[k] for k in rng.permutation(len(batches))]


def _evaluate(
    backend: Backend,
    validation: list[GroupedScan],
    batch_size: int,
    stop: Callable[[], bool],
) -> StepResult | None:
    """Return the mean over the validation groups; None where there are none or the run was stopped."""
    if not validation or stop():
        return None
    mean = _Mean()
    for item in validation:
        for batch in item.prepared.batches(item.groups, batch_size):
            if stop():
                return None
            mean.add(backend.evaluate(batch), len(batch))
    return mean.value()


def _log_epoch(done: EpochDone) -> None:
    logger.info(
        'Epoch %d/%d: training deviance %.4g, validation deviance %.4g, loss %.4g, %.1f s',
        done.epoch,
        done.n_epochs,
        done.training_deviance,
        done.validation_deviance,
        done.training_loss,
        done.seconds,
    )


def _record(done: EpochDone) -> dict[str, float]:
    """Return an epoch as plain numbers; what was not measured is left out, for JSON has no NaN."""
    values = {
        'epoch': done.epoch,
        'training_loss': done.training_loss,
        'validation_loss': done.validation_loss,
        'training_deviance': done.training_deviance,
        'validation_deviance': done.validation_deviance,
        'learning_rate': done.learning_rate,
        'seconds': round(done.seconds, 3),
    }
    return {name: value for name, value in values.items() if math.isfinite(value)}
