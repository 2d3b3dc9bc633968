"""Our runs, waiting and running, in the order in which Ptychodus will come to them. Knows no Qt."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

__all__ = ['QueuedRun', 'RunQueue']

Kind = Literal['Train', 'Infer', 'Reconstruct']
"""What is written on the button that has started it."""


@dataclass(eq=False)
class QueuedRun:
    """One run, from the click to its end."""

    kind: Kind
    product: str
    """Name of the product that it works on."""
    after: QueuedRun | None = None
    """The training whose model it uses; None for the model that is loaded."""
    made: Path | None = None
    """The model that a training has left."""
    _stopped: threading.Event = field(default_factory=threading.Event)

    @property
    def stopped(self) -> bool:
        """Whether Stop was pressed since it was queued."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """Make it end, or never begin."""
        self._stopped.set()

    def __str__(self) -> str:
        return f'{self.kind} on {self.product}'


class RunQueue:
    """What runs and what waits, safe for use from any thread.

    Ptychodus' own queue cannot be looked into, and its Stop ends the run of the moment only.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: list[QueuedRun] = []
        self._listeners: list[Callable[[], None]] = []

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener`, in whatever thread it happens, when a run is queued, stopped or over."""
        self._listeners.append(listener)

    def _changed(self) -> None:
        for listener in self._listeners:
            listener()

    def add(self, kind: Kind, product: str) -> QueuedRun:
        """Queue a run; an inference will use the model of the last training before it."""
        with self._lock:
            after = self._training() if kind == 'Infer' else None
            run = QueuedRun(kind, product, after)
            self._runs.append(run)
        self._changed()
        return run

    def remove(self, run: QueuedRun) -> None:
        """Take a run out that is over, or was refused."""
        with self._lock:
            if run not in self._runs:
                return
            self._runs.remove(run)
        self._changed()

    def stop(self) -> list[QueuedRun]:
        """Stop the first run and forget the waiting ones, which are returned."""
        with self._lock:
            for run in self._runs:
                run.stop()
            waiting = self._runs[1:]
            del self._runs[1:]
        self._changed()
        return waiting

    def training(self) -> QueuedRun | None:
        """Return the last training that runs or waits."""
        with self._lock:
            return self._training()

    def _training(self) -> QueuedRun | None:
        trainings = [run for run in self._runs if run.kind == 'Train' and not run.stopped]
        return trainings[-1] if trainings else None

    def sentence(self) -> str:
        """Return what runs and what will follow; empty where nothing does."""
        with self._lock:
            names = [str(run) for run in self._runs]
            first_stops = bool(self._runs) and self._runs[0].stopped
        if not names:
            return ''
        return '; then: '.join([f'{"Stopping" if first_stops else "Now"}: {names[0]}', *names[1:]]) + '.'
