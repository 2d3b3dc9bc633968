"""An entry of the algorithm menu as Ptychodus runs it: what all have in common, and physics alone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Literal

from ptychodus.api.reconstruct import ReconstructInput, Reconstructor, ReconstructOutput

from ptycho_engine.errors import ArchiveError

from .choices import require_backend
from .inference_run import InferenceRun
from .loaded_model import LoadedModel, ScanFacts, physics_alone
from .run_context import RunContext
from .session import Session

__all__ = ['PHYSICS', 'Algorithm', 'PhysicsReconstructor']

PHYSICS = 'Physics'
"""The algorithm without a network."""


class Algorithm(Reconstructor):
    """One entry of the algorithm menu.

    Parameters
    ----------
    name : str
        'PINN', 'Supervised' or 'Physics'.
    session : Session
        The settings that decide how to train and reconstruct, and what all algorithms share.
    """

    verb: Literal['Infer', 'Reconstruct']
    """What Ptychodus writes on the button that starts :meth:`reconstruct`."""

    def __init__(self, name: str, session: Session) -> None:
        super().__init__()
        self._name = name
        self._session = session
        self._goal = 1
        self.context = RunContext()

    @property
    def name(self) -> str:
        """The name in the algorithm menu."""
        return self._name

    def get_progress_goal(self) -> int:
        """Return the progress at the end of the run; never 0, which would hide bar and Stop."""
        return self._goal

    @property
    @abstractmethod
    def model(self) -> LoadedModel | None:
        """The model that a reconstruction uses; None where it cannot be used."""

    @abstractmethod
    def why_no_model(self) -> str:
        """Return why :attr:`model` is None."""

    def why_not_ready(self, scan: ScanFacts) -> str | None:
        """Return why a scan cannot be reconstructed, in a sentence; None if it can."""
        model = self.model
        return self.why_no_model() if model is None else model.why_unusable(scan)

    def check_ready(self, parameters: ReconstructInput) -> LoadedModel:
        """Check what can be known before a child is started; return the model to use.

        Raises
        ------
        EngineError
            If the model cannot be used, or a setting is wrong.
        """
        path = self.context.model_file
        model = self.model if path is None else LoadedModel.open(path)
        if model is None:
            raise ArchiveError(self.why_no_model())
        obstacle = model.why_unusable(ScanFacts(*parameters.diffraction_patterns.shape))
        if obstacle:
            raise ArchiveError(obstacle)
        settings = self._session.settings
        require_backend(settings.inference_config(refines=not model.of_objects).backend)
        settings.execution_config()
        return model

    def reconstruct(self, parameters: ReconstructInput) -> Iterator[ReconstructOutput]:
        """Reconstruct every position; yield the result last, and before it the object as far as it is made.

        Raises
        ------
        EngineError
            With the sentence that says what is wrong.
        """
        run = InferenceRun(self._session, self.check_ready(parameters), self.context, parameters)
        self._goal = run.goal
        yield from run.follow()


class PhysicsReconstructor(Algorithm):
    """Physics with total variation, without a network: nothing to load and nothing to train."""

    verb = 'Reconstruct'

    def __init__(self, session: Session) -> None:
        super().__init__(PHYSICS, session)

    @property
    def model(self) -> LoadedModel:
        """What stands for a model."""
        return physics_alone()

    def why_no_model(self) -> str:
        """Return nothing: it needs none."""
        return ''
