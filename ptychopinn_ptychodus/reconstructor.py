"""The trainable reconstructor: what Ptychodus calls to train, load, reconstruct, export and save."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

from ptychodus.api.reconstruct import ReconstructInput, TrainableReconstructor, TrainOutput

from ptycho_engine.errors import ArchiveNotFoundError
from ptycho_engine.io.atomic import atomic_path

from .algorithm import Algorithm
from .conversion import raw_data
from .loaded_model import LoadedModel
from .model_folder import require_checkpoint
from .session import Session
from .training_run import TRAINING_GOAL, TrainingRun
from .worker import MODEL_FILE

__all__ = ['PtychoPINNReconstructor']

logger = logging.getLogger('ptychopinn')


class PtychoPINNReconstructor(Algorithm, TrainableReconstructor):
    """An algorithm with a network: 'PINN' or 'Supervised'."""

    verb = 'Infer'

    def __init__(self, name: str, session: Session) -> None:
        super().__init__(name, session)
        self._goal = TRAINING_GOAL

    # Models

    @property
    def model(self) -> LoadedModel | None:
        """The model that the user, the last training or the settings have loaded; else the packaged prior."""
        return self._session.memory.in_use

    def why_no_model(self) -> str:
        """Return why the model that is named cannot be used."""
        return self._session.memory.problem

    def is_model_loaded(self) -> bool:
        """Return whether :meth:`reconstruct` has a model to use."""
        return self.model is not None

    def get_model_file_filter(self) -> str:
        """Return the filter of the file dialog."""
        return 'PtychoPINN Models (*.zip)'

    def get_model_file_extension(self) -> str:
        """Return the extension with which batch mode looks for ``model<extension>``."""
        return Path(MODEL_FILE).suffix

    def load_model_from_file(self, file_path: Path) -> None:
        """Choose a model, check it, say what it is and how it differs from the current data, and remember it.

        Raises
        ------
        ArchiveError
            If there is no such archive or it is damaged; the model loaded before stays.
        """
        model = self._session.memory.open(file_path)
        logger.info('Model %s', model.sentence)
        scan = self._session.window.current_scan()
        remark = scan and (model.why_unusable(scan) or model.remark(scan))
        if remark:
            logger.warning('%s', remark)

    def save_model(self, file_path: Path) -> None:
        """Copy the loaded model.

        Raises
        ------
        ArchiveNotFoundError
            If none is loaded.
        """
        model = self._session.memory.current
        if model is None:
            raise ArchiveNotFoundError('There is no model to save; train or load one first.')
        if Path(file_path).resolve() != model.path:
            with atomic_path(Path(file_path)) as temporary:
                shutil.copyfile(model.path, temporary)
        logger.info('The model is saved as %s.', file_path)

    # Training

    def check_trainable(self, output_path: Path) -> None:
        """Check what can be known of a training before a child is started.

        Raises
        ------
        EngineError
            If a setting is wrong, or there is no run to go on with. Whether the folder can be written to is
            tried when the run begins.
        """
        self._session.settings.training_config(self._name.casefold())
        if self._session.settings.start_from() == 'checkpoint':
            require_checkpoint(output_path)

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
        """Train on the current product, or on what `input_path` and the settings name.

        Leaves ``wts.h5.zip`` and an identical ``model.zip`` in `output_path` and loads it. Stop ends training
        within a batch, and the best model so far is saved and loaded.

        Raises
        ------
        EngineError
            With the sentence that says what is wrong.
        """
        self._goal = TRAINING_GOAL
        run = TrainingRun(
            self._session, self._name.casefold(), self.context, Path(input_path), Path(output_path)
        )
        yield from run.follow()
