"""The training driver, one for every backend."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path

from ..backends.base import Backend, StepResult, create_backend
from ..config import ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ..config.inactive import idle_settings
from ..config.model import ARCHITECTURES
from ..config.precedence import with_execution
from ..errors import ArchiveError, Cancelled, ConfigError, DataValueError, DivergedError
from ..events import BatchDone, EpochDone, Event, ModelSaved
from ..formats.archive import MODEL_FORMAT, ModelArchive
from ..formats.checkpoint import save_checkpoint
from ..formats.packaged import load_model
from ..io.folder_lock import FolderLock, sole_writer
from ..network.plan import initial_weights, training_plan
from ..progress import show_progress
from ..scan.scan import Scan
from .epoch import training_pass, validation_pass
from .loggers import log_epochs
from .physics_images import PhysicsImages
from .saving import find_checkpoint, keep_best_models, replace_checkpoint, save_model
from .sources import GroupedScan, MeasuredScans, TrainingSource, with_pattern_size
from .state import TrainingRun, check_resumable

__all__ = ['train']

logger = logging.getLogger('ptychopinn.train')


def train(
    scans: Sequence[Scan] | TrainingSource,
    config: TrainingConfig,
    output_dir: Path | str,
    *,
    execution: PyTorchExecutionConfig | None = None,
    should_stop: Callable[[], bool] | None = None,
    initial: ModelArchive | None = None,
    resume: bool = False,
    copies: Sequence[str] = (),
) -> Iterator[Event]:
    """Train a network and write ``output_dir/wts.h5.zip``; iterate to make it run.

    After each epoch ``output_dir/checkpoint.zip`` holds all that is needed to go on and the best model so
    far. It stays when the run has ended, so that a run can be made longer. A run that is stopped in its first
    epoch leaves an earlier model as it is, and writes its own as ``wts.stopped.h5.zip``.

    Parameters
    ----------
    scans : sequence of Scan, or TrainingSource
        What to train on.
    config : TrainingConfig
        ``config.model.N = 0`` takes the size of the patterns.
    output_dir : Path
        Made where it is missing.
    execution : PyTorchExecutionConfig, optional
        Device, precision, what is recorded and shown.
    should_stop : callable, optional
        Asked after every step; once true, the best weights so far are saved and the run ends.
    initial : ModelArchive, optional
        A model to start from; by default the packaged prior where a prior is trained. It stays the
        model where no epoch predicts the validation patterns better.
    resume : bool
        Go on from the checkpoint in `output_dir`, as if the run had never ended; from the one before it where
        that is missing or damaged; start from the beginning where there is none. Only `nepochs` and
        `early_stop_patience` may differ; the schedule is that of the new `nepochs`.
    copies : sequence of str
        Names besides ``wts.h5.zip`` under which the same model is to lie in `output_dir`.

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
    FolderInUseError
        If another process writes into `output_dir`.
    DivergedError
        If the loss was not finite in the first epoch: there is no model worth keeping.
    Cancelled
        If `should_stop` turned true before the first step; what `output_dir` held is left as it was.
    """
    if config.model.architecture not in ARCHITECTURES:
        raise ConfigError(
            f'ModelConfig.architecture is {config.model.architecture!r}, which is not trained; expected '
            f'{" or ".join(map(repr, ARCHITECTURES))}.'
        )
    execution = execution or PyTorchExecutionConfig()
    config, folder = with_execution(config, execution), Path(output_dir)
    earlier: list[dict[str, float]] = []
    stop = should_stop or (lambda: False)
    events = _train(scans, config, folder, execution, stop, initial, resume, copies, earlier)
    recorded = log_epochs(events, execution, config, folder, earlier)
    return show_progress(recorded, execution.enable_progress_bar)


def _train(
    scans: Sequence[Scan] | TrainingSource,
    config: TrainingConfig,
    folder: Path,
    execution: PyTorchExecutionConfig,
    stop: Callable[[], bool],
    initial: ModelArchive | None,
    resume: bool,
    copies: Sequence[str],
    earlier: list[dict[str, float]],
) -> Iterator[Event]:
    """Hold the folder and run; `earlier` receives the epochs that were done before, if any."""
    with sole_writer(folder, 'a training') as lock:
        yield from _train_in(lock, scans, config, execution, stop, initial, resume, copies, earlier)


def _train_in(
    lock: FolderLock,
    scans: Sequence[Scan] | TrainingSource,
    config: TrainingConfig,
    execution: PyTorchExecutionConfig,
    stop: Callable[[], bool],
    initial: ModelArchive | None,
    resume: bool,
    copies: Sequence[str],
    earlier: list[dict[str, float]],
) -> Iterator[Event]:
    path, checkpoint = find_checkpoint(lock.folder) if resume else (lock.folder, None)
    source, config = _source(scans, config)
    if initial is None and config.model.architecture == 'prior':
        initial = load_model()
    with closing(_start(config, len(source.reference.probe), execution, initial)) as backend:
        run = TrainingRun(config, backend, source)
        if checkpoint is not None:
            check_resumable(checkpoint, config, source, path)
            run.restore(checkpoint)
            earlier.extend(dict(record) for record in run.history)
            earlier[-1]['best'] = float(run.stale == 0)
            logger.info('Resuming after epoch %d of %d.', run.epoch, config.nepochs)
        own = checkpoint is not None
        judge = initial is not None and not own
        yield from _run(run, lock, execution, stop, copies, own_checkpoint=own, judge=judge)


def _run(
    run: TrainingRun,
    lock: FolderLock,
    execution: PyTorchExecutionConfig,
    stop: Callable[[], bool],
    copies: Sequence[str],
    *,
    own_checkpoint: bool,
    judge: bool,
) -> Iterator[Event]:
    """Go through the epochs that are left and save the model; `judge` the weights it starts from first."""
    _announce(run)
    plan = training_plan(run.config, len(run.source.reference.probe))
    images = PhysicsImages(run.backend, plan, stop)
    keep = execution.checkpoint_save_top_k
    stopped_in: int | None = None
    validation = [] if run.finished else run.source.validation()
    if judge:
        _judge_start(run, validation, images, stop)
    while not run.finished:
        if stop():
            stopped_in = run.epoch + 1
            break
        try:
            outcome = yield from _epoch(run, validation, images, stop, execution.num_workers)
        except Cancelled:
            stopped_in = run.epoch + 1
            break
        if outcome is None:
            break
        _require_folder(lock)
        if outcome.whole and keep:
            _save_checkpoint(run, lock.folder, keep, put_aside=not own_checkpoint)
            own_checkpoint = True
        yield outcome.done
        if not outcome.whole or stop():
            stopped_in = outcome.done.epoch
            break
    if stopped_in is not None:
        logger.info('Stopped on request in epoch %d.', stopped_in)
    elif run.stale >= run.config.early_stop_patience:
        logger.info('No better loss for %d epochs; stopped early.', run.stale)
    if stopped_in is None and run.gained:
        try:
            run.accept([item.prepared for item in validation], stop)
        except Cancelled:
            logger.info('Stopped on request before the images with both priors were compared.')
    if not run.history:
        # The folder may hold the model of an earlier run.
        raise Cancelled('The training was stopped before its first step; no model was written.')
    if run.has_best and not run.gained:
        logger.info(
            'What it started from predicts patterns that did not train as well (loss %.4g, trained %.4g) '
            'and is kept: there is nothing to train here.',
            run.best_loss,
            run.lowest_loss,
        )
    _require_folder(lock)
    yield ModelSaved(save_model(lock.folder, run, copies))


@dataclass(frozen=True)
class _Epoch:
    done: EpochDone
    whole: bool
    """False for an epoch that was cut short on request."""


def _epoch(
    run: TrainingRun,
    validation: list[GroupedScan],
    images: PhysicsImages,
    stop: Callable[[], bool],
    workers: int,
) -> Generator[BatchDone, None, _Epoch | None]:
    """Train and validate one epoch; None where the loss is no longer finite.

    Raises
    ------
    Cancelled
        If it is to stop before its first step.
    DivergedError
        If it is not finite in the first epoch.
    """
    epoch = run.epoch + 1
    tic = time.perf_counter()
    passed = yield from training_pass(
        run.backend,
        run.source.training(epoch),
        lambda grouped: images.training(grouped, epoch),
        run.config,
        run.schedule,
        epoch,
        stop,
        simulated=run.source.simulated,
        workers=workers,
    )
    training, held_out = passed.result, None
    if math.isfinite(training.loss) and not passed.stopped:
        held_out = _validate(run, validation, images, stop)
    judged = held_out.loss if held_out else training.loss
    if not math.isfinite(judged):
        _diverged(run, passed.learning_rate)
        return None
    # An epoch cut short has no validation to compare, and is done again on resuming.
    whole = not passed.stopped and (held_out is not None or not validation)
    best = whole and run.complete(judged)
    done = EpochDone(
        epoch=epoch,
        n_epochs=run.config.nepochs,
        training_loss=training.loss,
        validation_loss=held_out.loss if held_out else math.nan,
        training_deviance=training.deviance,
        validation_deviance=held_out.deviance if held_out else math.nan,
        learning_rate=passed.learning_rate,
        seconds=time.perf_counter() - tic,
        best=best,
        simulated=run.source.simulated,
    )
    _log_epoch(done)
    run.record(done)
    return _Epoch(done, whole)


def _validate(
    run: TrainingRun, validation: list[GroupedScan], images: PhysicsImages, stop: Callable[[], bool]
) -> StepResult | None:
    """Return the losses of the validation groups; None where there are none or the run was stopped."""
    try:
        return validation_pass(run.backend, images.validation(validation), run.config.batch_size, stop)
    except Cancelled:
        return None


def _start(
    config: TrainingConfig,
    probe_modes: int,
    execution: PyTorchExecutionConfig | None,
    initial: ModelArchive | None,
) -> Backend:
    """Make the backend with fresh weights, or with those of a model to continue from."""
    if initial is not None:
        _require_same_network(initial.config.model, config.model)
    plan = training_plan(config, probe_modes)
    if 4 * plan.n_weights > MODEL_FORMAT.size_limit:
        raise ConfigError(
            f'The network has {plan.n_weights / 1e6:.0f} million weights, more than a model file holds; '
            'lower n_filters_scale or N.'
        )
    weights = initial_weights(plan, config.seed)
    if initial is not None:
        # What the earlier model did not train, such as a probe, starts fresh.
        weights.update({name: initial.weights[name] for name in weights if name in initial.weights})
    backend = create_backend(config.backend, execution)
    backend.build(plan, weights)
    return backend


def _require_same_network(own: ModelConfig, asked: ModelConfig) -> None:
    """Check that the network of a model to continue from is the one that is asked for."""
    names = ['architecture'] if own.architecture == 'prior' else [field.name for field in fields(asked)]
    differences = [
        f'{name} {getattr(own, name)!r} instead of {getattr(asked, name)!r}'
        for name in names
        if getattr(own, name) != getattr(asked, name)
    ]
    if differences:
        raise DataValueError(
            f'The model to continue from is another network than was asked for: {", ".join(differences)}. '
            'Ask for the same network, or start from the beginning.'
        )


def _source(
    scans: Sequence[Scan] | TrainingSource, config: TrainingConfig
) -> tuple[TrainingSource, TrainingConfig]:
    """Return what to train on, and the configuration with the size of its patterns."""
    if not isinstance(scans, Sequence):
        return scans, with_pattern_size(config, scans.reference.scan.raw.N)
    if not scans:
        raise DataValueError('There is no scan to train on.')
    config = with_pattern_size(config, scans[0].raw.N)
    return MeasuredScans(scans, config), config


def _judge_start(
    run: TrainingRun, validation: list[GroupedScan], images: PhysicsImages, stop: Callable[[], bool]
) -> None:
    """Measure how good the weights are that the run starts from: worse ones are not to replace them."""
    found = _validate(run, validation, images, stop)
    if found is not None and math.isfinite(found.loss):
        run.judge_start(found.loss)
        logger.info('Before training: validation deviance %.4g, loss %.4g.', found.deviance, found.loss)


def _save_checkpoint(run: TrainingRun, folder: Path, keep: int, *, put_aside: bool) -> None:
    """Write the checkpoint, and the models of the best epochs. A full disk does not end the training."""
    try:
        replace_checkpoint(folder, lambda path: save_checkpoint(path, run.checkpoint()), put_aside=put_aside)
        keep_best_models(folder, run, keep)
    except (OSError, ArchiveError) as error:
        logger.warning('No checkpoint was written in epoch %d (%s); training goes on.', run.epoch, error)


def _require_folder(lock: FolderLock) -> None:
    """Make the output directory again where it was removed while the run went on."""
    if not lock.folder.is_dir():
        logger.warning('%s was removed while the training ran; it is made again.', lock.folder)
        lock.renew()


def _diverged(run: TrainingRun, learning_rate: float) -> None:
    """Say that the loss is no longer finite, and raise where there is nothing to keep."""
    if run.has_best:
        logger.warning('The loss is no longer finite in epoch %d; keeping the best weights.', run.epoch + 1)
        return
    raise DivergedError(
        f'The loss was not finite in the first epoch (learning_rate {learning_rate:.3g}), so that there is '
        'no model to keep; lower learning_rate or gradient_clip_val, and look at the patterns.'
    )


def _announce(run: TrainingRun) -> None:
    model = run.config.model
    what = 'simulated objects with' if run.source.simulated else f'{len(run.source.reference)}'
    for phrase in idle_settings(run.config):
        logger.warning('%s.', phrase)
    logger.info(
        'Training %s (%s) on %s patterns of %d×%d pixels with the %s backend.',
        model.architecture,
        model.model_type,
        what,
        *(run.source.reference.scan.raw.N,) * 2,
        run.backend.name,
    )


def _log_epoch(done: EpochDone) -> None:
    validated = math.isfinite(done.validation_deviance)
    logger.info(
        'Epoch %d/%d: training deviance %.4g,%s loss %.4g, %.1f s',
        done.epoch,
        done.n_epochs,
        done.training_deviance,
        f' validation deviance {done.validation_deviance:.4g},' if validated else '',
        done.training_loss,
        done.seconds,
    )
