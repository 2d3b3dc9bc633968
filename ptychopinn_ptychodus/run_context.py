"""What a run knows of the program that hosts it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from ptychodus.api.product import LossValue
from ptychodus.api.reconstruct import ReconstructInput

from ptycho_engine import errors
from ptycho_engine.errors import EngineError

from .child_end import Message
from .forecast import spoken_time
from .live import LiveImage

__all__ = ['HEARTBEAT_S', 'TICK_S', 'WORKER', 'RunContext', 'TimeLeft', 'raise_failure']

WORKER = 'ptychopinn_ptychodus.worker'
"""Module of the child's entry points."""

TICK_S = 0.1
"""How long a wait for the child may last before Stop is looked at."""
HEARTBEAT_S = 0.3
"""Time between two progress reports; the window draws once a second."""


@dataclass
class RunContext:
    """What a run should know of its host; the default serves callers without one."""

    reconstruct_input: ReconstructInput | None = None
    """The product and dataset chosen in Ptychodus."""
    output_file: Path | None = None
    """Where batch mode wants the result, exactly; None in the window."""
    model_file: Path | None = None
    """The model of the training that was queued before; None for the loaded one."""
    delivered: bool = False
    """Set by the run: whether it has given its result."""

    def stop_requested(self) -> bool:
        """Return whether the user pressed Stop or closed the program."""
        return False

    def model_made(self, path: Path) -> None:
        """Take note of the model that a training has left."""

    def show_progress(self, done: int, goal: int) -> None:
        """Move the progress bar without yielding."""

    def show_time_left(self, text: str) -> None:
        """Show how long the run will take."""

    def show_log(self) -> None:
        """Bring new log lines into the window, which otherwise looks only when the bar moves."""

    def show_losses(
        self, training: Sequence[LossValue], validation: Sequence[LossValue], simulated: int
    ) -> None:
        """Plot the deviances of a running training.

        Its first `simulated` epochs are on simulated objects.
        """

    @property
    def shows_images(self) -> bool:
        """Whether anybody looks at the object while it is being made."""
        return False

    def show_image(self, image: LiveImage) -> None:
        """Show the object of a running reconstruction, when there is time for it."""

    def show_waiting_image(self) -> None:
        """Show the image for which there was no time before, if there is time now."""

    def keep_map(self, uncertainty: npt.NDArray[np.float32]) -> None:
        """Keep the map (H, W) of a result's uncertainty, in units of its amplitude, to be looked at."""

    def in_window(self, task: Callable[[], None]) -> None:
        """Run `task` in the window's thread, because it changes what the window shows."""
        task()


@dataclass
class TimeLeft:
    """How long a run will take, from how long the part that is done has taken."""

    _started: float = 0.0
    _first: float = 0.0
    _told: str = field(default='', init=False)

    def text(self, fraction: float) -> str:
        """Return what to show when `fraction` of the run is done."""
        now = time.monotonic()
        if not self._started:
            # Importing the framework and the first batch, which may compile, say nothing about the rest.
            self._started, self._first = now, fraction
        gained = fraction - self._first
        if gained <= 0 or now - self._started < 1:
            return self._told
        self._told = f'about {spoken_time((now - self._started) * (1 - fraction) / gained)} left'
        return self._told


def raise_failure(message: Message | None) -> None:
    """Raise what the child reports as a user's mistake; other messages are left alone."""
    match message:
        case ('failed', name, sentence):
            kind = getattr(errors, name, EngineError)
            raise kind(sentence)
