"""What can be done with the chosen product now, and why not. Knows no Qt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ptycho_engine.errors import EngineError

from .algorithm import Algorithm
from .chosen_product import scan_facts, why_no_scan
from .loaded_model import ScanFacts
from .readiness import NOTHING_TO_TRAIN, scan_obstacle, training_obstacle
from .reconstructor import PtychoPINNReconstructor
from .session import Session

__all__ = ['Offers']


class Offers:
    """Answers for the buttons and the panel.

    Parameters
    ----------
    session : Session
        The settings, the loaded model and the queue of runs.
    chosen_item : callable
        Returns the chosen product of the list, None for none.
    ours : callable
        Returns the chosen algorithm if it is ours, else None.
    """

    def __init__(
        self,
        session: Session,
        chosen_item: Callable[[], Any | None],
        ours: Callable[[], Algorithm | None],
    ) -> None:
        self._session = session
        self._chosen_item = chosen_item
        self._ours = ours
        self._scan: ScanFacts | None = None
        self._scan_is_known = False

    def forget_scan(self) -> None:
        """Look at the chosen product anew when it is next asked for."""
        self._scan_is_known = False

    def scan(self) -> ScanFacts | None:
        """Return what is known of the chosen product, or None where it cannot be worked on."""
        if not self._scan_is_known:
            # Kept, because the panel asks at every change of a setting.
            item = self._chosen_item()
            self._scan = None if item is None else scan_facts(item)
            self._scan_is_known = True
        return self._scan

    def why_no_scan(self) -> str:
        """Return what is missing where :meth:`scan` is None."""
        return why_no_scan(self._chosen_item())

    def why_no_training(self) -> str | None:
        """Return why *Train* is grey, or None where it is not."""
        ours = self._ours()
        if ours is None:
            return None
        if not isinstance(ours, PtychoPINNReconstructor):
            return f'{NOTHING_TO_TRAIN}.'
        pending = self._session.queue.training()
        if pending is not None:
            return f'{pending} is not over; wait for it, or press Stop.'
        return training_obstacle(
            self._session.settings, ours.name.casefold(), self.scan(), self.why_no_scan()
        )

    def why_no_inference(self) -> str | None:
        """Return why *Infer* or *Reconstruct* is grey, or None where it is not."""
        ours, scan = self._ours(), self.scan()
        if ours is None:
            return None
        if scan is None:
            return self.why_no_scan()
        if isinstance(ours, PtychoPINNReconstructor) and self._session.queue.training() is not None:
            # It will use the model of that training, whatever that is for.
            return scan_obstacle(scan, any_size=True)
        model = ours.model
        any_size = model is not None and model.of_objects
        return scan_obstacle(scan, any_size=any_size) or ours.why_not_ready(scan)

    def why_not_train_and_infer(self) -> str | None:
        """Return why *Train and infer* is grey, or None where it is not."""
        if self.model_serves():
            return self.why_no_inference()
        obstacle = self.why_no_training()
        if obstacle is None and self._session.settings.train_on() == 'folder':
            obstacle = '"Train on" is set to folder, so press Train, which asks for it.'
        return obstacle

    def model_serves(self) -> bool:
        """Return whether the loaded model is for the chosen product, so that training would be a waste."""
        ours, scan = self._ours(), self.scan()
        model = self._session.memory.current
        if ours is None or scan is None or model is None:
            return False
        settings = self._session.settings
        if not model.is_trained_for(scan):
            return False
        try:
            config = settings.training_config(ours.name.casefold())
            return settings.start_from() == 'scratch' and not model.network_differences(config.model)
        except EngineError:
            return False
