"""The trainable reconstructor: what Ptychodus calls to train, load, reconstruct, export and save."""

from __future__ import annotations

import logging
import math
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ptychodus.api.product import LossValue, Product
from ptychodus.api.reconstruct import (
    ReconstructInput,
    ReconstructOutput,
    TrainableReconstructor,
    TrainOutput,
)

from ptycho_engine import errors
from ptycho_engine.data.scan import find_training_scans
from ptycho_engine.errors import ArchiveNotFoundError, DataFileNotFoundError, EngineError
from ptycho_engine.files.atomic import atomic_path
from ptycho_engine.files.product import write_product

from .child import Child, Message
from .compat import result_files
from .conversion import Outcome, output_product, product_data, raw_data
from .settings import ReconstructorSettings
from .worker import MODEL_FILE, ReconstructJob, ScanPayload, TrainJob

if TYPE_CHECKING:
    from ptycho_engine.events import EpochDone

__all__ = ['PtychoPINNReconstructor', 'RunContext']

logger = logging.getLogger('ptychopinn')

TICK_S = 0.1
"""How long a wait for the child may last before Stop is looked at."""
HEARTBEAT_S = 0.3
"""Time between two progress reports; the window draws once a second."""
FINISH_S = 10.0
"""How long a stopped training may take to save its best model."""
TRAINING_GOAL = 1000
"""Progress of a training is told in thousandths."""


@dataclass
class RunContext:
    """What a run should know of its host; the default serves callers without one."""

    reconstruct_input: ReconstructInput | None = None
    """The product and dataset chosen in Ptychodus."""
    output_file: Path | None = None
    """Where batch mode wants the result, exactly; None in the window."""
    delivered: bool = False
    """Set by the run: whether it has given an object, if only a part."""

    def stop_requested(self) -> bool:
        """Return whether the user pressed Stop or closed the program."""
        return False

    def show_progress(self, done: int, goal: int) -> None:
        """Move the progress bar without yielding."""

    def show_log(self) -> None:
        """Bring new log lines into the window, which otherwise looks only when the bar moves."""


@dataclass
class _TrainingProgress:
    """What is known of a running training."""

    started: bool = False
    done: int = 0
    epochs_told: int = 0
    training: list[LossValue] = field(default_factory=list)
    validation: list[LossValue] = field(default_factory=list)

    def add_epoch(self, event: EpochDone) -> None:
        for losses, value in (
            (self.training, event.training_deviance),
            (self.validation, event.validation_deviance),
        ):
            if math.isfinite(value):
                losses.append(LossValue(event.epoch, value))

    def output(self) -> TrainOutput:
        return TrainOutput(list(self.training), list(self.validation), progress=self.done)


class PtychoPINNReconstructor(TrainableReconstructor):
    """One entry of the algorithm menu.

    Parameters
    ----------
    name : str
        'PINN' or 'Supervised'.
    settings : ReconstructorSettings
        The settings groups that decide how to train and reconstruct.
    """

    def __init__(self, name: str, settings: ReconstructorSettings) -> None:
        super().__init__()
        self._name = name
        self._settings = settings
        self._model_path: Path | None = None
        self._goal = TRAINING_GOAL
        self.context = RunContext()

    @property
    def name(self) -> str:
        """The name in the algorithm menu."""
        return self._name

    @property
    def model_path(self) -> Path | None:
        """The archive that is loaded, if any."""
        return self._model_path

    def get_progress_goal(self) -> int:
        """Return the progress at the end of the run; never 0, which would hide bar and Stop."""
        return self._goal

    # Models

    def is_model_loaded(self) -> bool:
        """Return whether :meth:`reconstruct` has a model to use."""
        return self._model_path is not None

    def get_model_file_filter(self) -> str:
        """Return the filter of the file dialog."""
        return 'PtychoPINN Models (*.zip)'

    def get_model_file_extension(self) -> str:
        """Return the extension with which batch mode looks for ``model<extension>``."""
        return Path(MODEL_FILE).suffix

    def load_model_from_file(self, file_path: Path) -> None:
        """Choose a model; it is checked here, and read by the child of each run.

        Raises
        ------
        ArchiveError
            If there is no such archive or it is damaged; the model loaded before stays.
        """
        from ptycho_engine.files.archive import read_manifest

        manifest = read_manifest(file_path)
        self._model_path = Path(file_path).resolve()
        logger.info(
            'Model %s: %s for %d×%d patterns, grid size %d.',
            file_path,
            manifest.model_type,
            manifest.n,
            manifest.n,
            manifest.gridsize,
        )

    def save_model(self, file_path: Path) -> None:
        """Copy the loaded model.

        Raises
        ------
        ArchiveNotFoundError
            If none is loaded.
        """
        if self._model_path is None:
            raise ArchiveNotFoundError('There is no model to save; train or load one first.')
        if Path(file_path).resolve() != self._model_path:
            with atomic_path(Path(file_path)) as temporary:
                shutil.copyfile(self._model_path, temporary)

    # Reconstruction

    def check_ready(self, parameters: ReconstructInput) -> None:
        """Check what can be known before a child is started.

        Raises
        ------
        EngineError
            If there is no model, the model is of another pattern size, or a setting is wrong.
        """
        from ptycho_engine.files.archive import read_manifest

        if self._model_path is None:
            raise ArchiveNotFoundError('No model is loaded; train one, or choose "Load Model...".')
        height, width = parameters.diffraction_patterns.shape[-2:]
        if height != width:
            raise errors.DataValueError(
                f'The patterns are {height}×{width} pixels; PtychoPINN needs square ones. Crop them in the '
                'diffraction settings of Ptychodus.'
            )
        size = read_manifest(self._model_path).n
        if size != width:
            raise errors.ArchiveError(
                f'The model {self._model_path} is for {size}×{size} patterns, but these are '
                f'{width}×{width}. Crop or pad the patterns, or train a model on patterns of this size.'
            )
        self._settings.inference_config()
        self._settings.execution_config()

    def reconstruct(self, parameters: ReconstructInput) -> Iterator[ReconstructOutput]:
        """Reconstruct every position; yield the result last, and before it what is stitched so far.

        Raises
        ------
        EngineError
            With the sentence that says what is wrong.
        """
        context = self.context
        self._goal = total = max(len(parameters.diffraction_patterns), 1)
        self.check_ready(parameters)
        assert self._model_path is not None
        started = time.monotonic()
        job = ReconstructJob(
            _payload(parameters),
            self._model_path,
            self._settings.inference_config(),
            self._settings.execution_config(),
            # In batch mode every yield would leave a numbered file.
            partial_objects=context.output_file is None,
        )
        with Child(f'{_WORKER}:run_reconstruction', job, parameters.diffraction_patterns) as child:
            done = 0
            for message in child.messages(TICK_S):
                if context.stop_requested():
                    logger.info('The reconstruction was stopped; there is no result.')
                    return
                match message:
                    case ('patches', int(done), _):
                        # The last step belongs to the result.
                        context.show_progress(min(done, total - 1), total)
                    case ('partial', outcome):
                        product = output_product(parameters.product, outcome)
                        context.delivered = True
                        yield ReconstructOutput(product, progress=min(done, total - 1))
                    case ('result', outcome):
                        product = self._deliver(parameters.product, outcome, context)
                        logger.info('Reconstructed %d patterns in %.1f s.', total, time.monotonic() - started)
                        context.delivered = True
                        yield ReconstructOutput(product, progress=total)
                        return
                    case _:
                        _raise_failure(message)
        raise EngineError('The PtychoPINN process ended without a result.')

    def _deliver(self, product: Product, outcome: Outcome, context: RunContext) -> Product:
        losses = tuple(
            (epoch, value)
            for epoch, value in outcome.losses
            # The loss plot has a logarithmic axis.
            if math.isfinite(value) and value > 0
        )
        remarks = [f'Model: {self._model_path}'] if self._model_path else []
        result = output_product(product, Outcome(outcome.object_array, losses, outcome.comments), remarks)
        if context.output_file is not None:
            for path in result_files(context.output_file):
                write_product(path, product_data(result))
        return result

    # Training

    def get_training_data_file_filter(self) -> str:
        """Return the filter of the export dialog."""
        return 'PtychoPINN Training Data (*.npz)'

    def export_training_data(self, file_path: Path, parameters: ReconstructInput) -> None:
        """Write patterns (amplitude), positions in object pixels, probe and object as an NPZ file (DATA-001).

        Raises
        ------
        EngineError
            If the data cannot be used for training.
        """
        raw_data(parameters).to_file(file_path, compressed=False)

    def train(self, input_path: Path, output_path: Path) -> Iterator[TrainOutput]:
        """Train on the files in `input_path`, or on the current product where it holds none.

        Leaves ``wts.h5.zip`` and an identical ``model.zip`` in `output_path` and loads it. Stop ends training
        within a batch, and the best model so far is saved and loaded.

        Raises
        ------
        EngineError
            With the sentence that says what is wrong.
        """
        self._goal = TRAINING_GOAL
        model_type = self._name.casefold()
        config = self._settings.training_config(model_type)
        execution = self._settings.execution_config()
        for remark in self._settings.remarks(model_type):
            logger.warning('%s', remark)
        scan, patterns = None, None
        if not find_training_scans(input_path):
            current = self._current_input(Path(input_path))
            logger.info('%s holds no training data; training on the current product.', input_path)
            scan, patterns = _payload(current), current.diffraction_patterns
        job = TrainJob(Path(input_path), scan, Path(output_path), config, execution)
        with Child(f'{_WORKER}:run_training', job, patterns) as child:
            yield from self._follow_training(child)

    def _current_input(self, input_path: Path) -> ReconstructInput:
        current = self.context.reconstruct_input
        if current is None:
            raise DataFileNotFoundError(
                f'{input_path} holds no training data: expected diffraction.h5 and product.h5, or *.npz '
                'files as written by "Export Training Data", or a product with its dataset in Ptychodus.'
            )
        return current

    def _follow_training(self, child: Child) -> Iterator[TrainOutput]:
        progress = _TrainingProgress()
        told = time.monotonic()
        try:
            for message in child.messages(TICK_S):
                self._note(message, progress)
                if self.context.stop_requested():
                    self._finish_early(child, progress)
                    return
                if time.monotonic() - told >= HEARTBEAT_S:
                    told = time.monotonic()
                    if len(progress.training) > progress.epochs_told:
                        progress.epochs_told = len(progress.training)
                        self.context.show_log()
                    yield progress.output()
        except GeneratorExit:
            # Ptychodus saw Stop at its own look after a yield.
            self._finish_early(child, progress)
            raise
        progress.done = TRAINING_GOAL
        yield progress.output()

    def _note(self, message: Message | None, progress: _TrainingProgress) -> None:
        match message:
            case ('progress', fraction):
                progress.started = True
                # The last step is the model's.
                progress.done = min(int(fraction * TRAINING_GOAL), TRAINING_GOAL - 1)
            case ('epoch', event):
                progress.add_epoch(event)
            case ('model_saved', path):
                self._model_path = Path(path).resolve()
                logger.info('The model is saved as %s and loaded.', path)
            case _:
                _raise_failure(message)

    def _finish_early(self, child: Child, progress: _TrainingProgress) -> None:
        """Let a stopped training save its best model; one that has not begun has nothing to save."""
        if not progress.started:
            logger.info('The training was stopped before its first batch; there is no new model.')
            return
        logger.info('The training is stopped; the best model so far is kept.')
        child.request_stop()
        for message in child.messages(TICK_S, timeout_s=FINISH_S):
            self._note(message, progress)


_WORKER = 'ptychopinn_ptychodus.worker'


def _payload(parameters: ReconstructInput) -> ScanPayload:
    """Return all of a scan but its patterns, in a form that a child can take."""
    return ScanPayload(product_data(parameters.product), parameters.bad_pixels, 'the current product')


def _raise_failure(message: Message | None) -> None:
    match message:
        case ('failed', name, sentence):
            kind = getattr(errors, name, EngineError)
            raise kind(sentence)
