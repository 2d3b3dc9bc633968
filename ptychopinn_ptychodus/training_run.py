"""A training as the parent sees it: where its data come from, and how it is followed to its end."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ptychodus.api.product import LossValue
from ptychodus.api.reconstruct import ReconstructInput, TrainOutput

from ptycho_engine.config import TrainingConfig
from ptycho_engine.errors import ArchiveNotFoundError, ConfigError, DataFileNotFoundError
from ptycho_engine.formats.archive import CHECKPOINT_NAME
from ptycho_engine.io.atomic import remove_leftovers
from ptycho_engine.io.preflight import require_writable
from ptycho_engine.scan.scan import find_training_scans

from .child import Child, ChildDied
from .child_end import Message
from .choices import require_backend
from .model_folder import MODELS, held_models
from .run_context import HEARTBEAT_S, TICK_S, WORKER, RunContext, TimeLeft, raise_failure
from .session import Session
from .settings import ADOPTABLE
from .training_start import NO_DATA
from .worker import ScanPayload, TrainJob

if TYPE_CHECKING:
    from ptycho_engine.events import EpochDone

__all__ = ['TRAINING_GOAL', 'TrainingRun']

logger = logging.getLogger('ptychopinn')

FINISH_S, FINISH_BATCHES = 10.0, 3.0
"""How long a stopped training may take to save its best model: so many seconds, or so many times as long as
its longest batch, which it ends first."""
TRAINING_GOAL = 1000
"""Progress of a training is told in thousandths."""


@dataclass
class _Progress:
    """What is known of a running training."""

    started: bool = False
    saved: bool = False
    fraction: float = 0.0
    longest_s: float = 0.0
    """Longest time between two batches."""
    last: float = field(default_factory=time.monotonic)
    """When the last one was done, or the run began."""
    epochs_told: int = 0
    simulated: int = 0
    """Last epoch on simulated objects."""
    training: list[LossValue] = field(default_factory=list)
    validation: list[LossValue] = field(default_factory=list)

    def add_batch(self, fraction: float) -> None:
        """Take note of a batch, after which so much of the training is done."""
        now = time.monotonic()
        if self.started:
            self.longest_s = max(self.longest_s, now - self.last)
        self.started, self.fraction, self.last = True, fraction, now

    def add_epoch(self, event: EpochDone) -> None:
        if event.simulated:
            self.simulated = event.epoch
        for losses, value in (
            (self.training, event.training_deviance),
            (self.validation, event.validation_deviance),
        ):
            # The loss plot has a logarithmic axis.
            if math.isfinite(value) and value > 0:
                losses.append(LossValue(event.epoch, value))

    def output(self) -> TrainOutput:
        # The last step is the model's.
        done = min(int(self.fraction * TRAINING_GOAL), TRAINING_GOAL - 1)
        return TrainOutput(list(self.training), list(self.validation), progress=done)


class TrainingRun:
    """One training of a 'pinn' or 'supervised' model, with the settings as they are now.

    Raises
    ------
    EngineError
        If a setting, the model to continue from or the data to train on are wrong.
    """

    def __init__(
        self, session: Session, model_type: str, context: RunContext, input_path: Path, output_path: Path
    ) -> None:
        self._session = session
        self._context = context
        # Before anything else: a folder of raw data is often read-only.
        require_writable(output_path, MODELS)
        settings = session.settings
        config = settings.training_config(model_type)
        require_backend(config.backend)
        start = settings.start_from()
        initial = self._model_to_continue(config) if start == 'model' else None
        for remark in settings.remarks(model_type):
            logger.warning('%s', remark)
        held = held_models(output_path)
        if held and start != 'checkpoint':
            logger.info(
                '%s holds an earlier model (%s), which this run replaces.', output_path, ', '.join(held)
            )
        inputs, current = self._sources(input_path)
        self._patterns = None if current is None else current.diffraction_patterns
        self._job = TrainJob(
            inputs=inputs,
            scan=None if current is None else ScanPayload.of(current),
            output_path=output_path,
            config=config,
            execution=settings.execution_config(),
            initial=initial,
            resume=start == 'checkpoint',
            simulate=settings.train_on() == 'simulation',
        )
        self._time_left = TimeLeft()

    def _model_to_continue(self, config: TrainingConfig) -> Path:
        model = self._session.memory.current
        if model is None:
            raise ArchiveNotFoundError(
                'There is no model to continue training from; load one, or set "Start from" to scratch.'
            )
        differences = model.network_differences(config.model)
        if differences:
            if ADOPTABLE.issuperset(differences):
                remedy = 'press "Use its settings"'
            elif 'model_type' in differences:
                remedy = 'choose the algorithm that it was trained with'
            else:
                remedy = 'continue its training by ptychopinn train --start-from'
            raise ConfigError(
                'The loaded model is another network than the settings ask for '
                f'({", ".join(differences.values())}); {remedy}, or set "Start from" to scratch.'
            )
        return model.path

    def _sources(self, folder: Path) -> tuple[tuple[Path, ...], ReconstructInput | None]:
        """Return the files and folders to train on, and the current product if it is to be trained on."""
        # Late, for what simulates takes long to load, and Ptychodus imports this when it starts.
        from ptycho_engine.simulate.template import find_templates

        settings = self._session.settings
        others = settings.more_training_data()
        choice = settings.train_on()
        find = find_templates if choice == 'simulation' else find_training_scans
        for path in others:
            if not find(path):
                raise DataFileNotFoundError(
                    f'{path}, named in PtychoPINNEngine.MoreTrainingData, holds no training data: expected '
                    '*.npz or *.h5 files as written by "Export Training Data", or diffraction.h5 with '
                    'product.h5.'
                )
        found = [] if choice == 'product' or folder == NO_DATA else find(folder)
        if found:
            logger.info('Training on what %s holds: %s.', folder, ', '.join(path.name for path in found))
            return (folder, *others), None
        current = self._context.reconstruct_input
        if choice == 'folder' or current is None:
            raise DataFileNotFoundError(
                f'{folder} holds no training data: expected diffraction.h5 and product.h5, or *.npz '
                'files as written by "Export Training Data", or a product with its dataset in Ptychodus.'
            )
        logger.info(
            'Training on the current product%s.',
            '' if choice == 'product' or folder == NO_DATA else f'; {folder} holds no data',
        )
        return tuple(others), current

    def follow(self) -> Iterator[TrainOutput]:
        """Run it; yield a heartbeat, at which Ptychodus looks for Stop, and the end."""
        progress = _Progress()
        told = time.monotonic()
        with Child(f'{WORKER}:run_training', self._job, self._patterns) as child:
            try:
                for message in child.messages(TICK_S):
                    self._note(message, progress)
                    if self._context.stop_requested():
                        self._finish_early(child, progress)
                        return
                    if time.monotonic() - told >= HEARTBEAT_S:
                        told = time.monotonic()
                        self._tell(progress)
                        yield progress.output()
            except ChildDied as error:
                raise self._with_checkpoint(error) from None
            except GeneratorExit:
                # Ptychodus saw Stop at its own look after a yield.
                self._finish_early(child, progress)
                raise
        self._tell(progress)
        yield TrainOutput(list(progress.training), list(progress.validation), progress=TRAINING_GOAL)

    def _with_checkpoint(self, error: ChildDied) -> ChildDied:
        """Remove what a run that was killed has half written, and say what is left of it."""
        remove_leftovers(self._job.output_path)
        checkpoint = self._job.output_path / CHECKPOINT_NAME
        if not checkpoint.is_file():
            return error
        return ChildDied(
            f'{error} {checkpoint} holds the best model so far: open it with "Load Model...", or go on from '
            'its last whole epoch with "Start from" set to checkpoint.'
        )

    def _tell(self, progress: _Progress) -> None:
        """Show what is new since the last look."""
        if progress.started:
            self._context.show_time_left(self._time_left.text(progress.fraction))
        if len(progress.training) > progress.epochs_told:
            progress.epochs_told = len(progress.training)
            self._context.show_log()
            self._context.show_losses(progress.training, progress.validation, progress.simulated)

    def _note(self, message: Message | None, progress: _Progress) -> None:
        match message:
            case ('progress', fraction):
                progress.add_batch(fraction)
            case ('epoch', event):
                progress.add_epoch(event)
            case ('speed', key, seconds):
                self._session.speeds.note(key, seconds)
            case ('model_saved', path):
                progress.saved = True
                self._context.model_made(Path(path))
                self._context.in_window(lambda: self._load(Path(path)))
            case ('model_beside', _):
                # The engine has said where it lies; the earlier model stays the loaded one.
                progress.saved = True
            case _:
                raise_failure(message)

    def _load(self, path: Path) -> None:
        model = self._session.memory.open(path)
        logger.info('The model is saved and loaded. %s', model.sentence)

    def _finish_early(self, child: Child, progress: _Progress) -> None:
        """Let a stopped training save its best model; one that has not begun has nothing to save."""
        if not progress.started:
            logger.info('The training was stopped before its first batch; there is no new model.')
            return
        logger.info('The training is stopped; the best model so far is kept.')
        child.request_stop()
        timeout_s = max(FINISH_S, FINISH_BATCHES * progress.longest_s)
        for message in child.messages(TICK_S, timeout_s=timeout_s):
            self._note(message, progress)
        if not progress.saved:
            logger.warning(
                'The training did not end its last batch within %.0f s; its model was not saved. '
                '"Start from: checkpoint" goes on from its last whole epoch, if there was one.',
                timeout_s,
            )
        self._tell(progress)
