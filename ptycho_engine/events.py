"""What a run can say. Events are the only progress channel of the engine.

:func:`ptycho_engine.train` and :func:`ptycho_engine.reconstruct` are generators of events; a progress
bar, a log, a window and a test all consume the same stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = [
    'BatchDone',
    'EpochDone',
    'Event',
    'IterationDone',
    'ModelSaved',
    'PatchesDone',
]


@dataclass(frozen=True)
class Event:
    """Base of all events."""


@dataclass(frozen=True)
class BatchDone(Event):
    """One training batch is done."""

    epoch: int
    """Epoch under way, from 1."""
    n_epochs: int
    """Epochs asked for."""
    fraction: float
    """Part of this epoch that is done, in (0, 1]."""
    simulated: bool = False
    """Whether this epoch's patterns are simulated."""


@dataclass(frozen=True)
class EpochDone(Event):
    """One epoch of training is done."""

    epoch: int
    """Epoch just finished, from 1."""
    n_epochs: int
    """Epochs asked for."""
    training_loss: float
    """Weighted training loss, averaged over the epoch's groups."""
    validation_loss: float
    """The same on the validation groups; NaN where there are none."""
    training_deviance: float
    """Poisson deviance per pixel of the training groups (about 1 at the noise)."""
    validation_deviance: float
    """Poisson deviance per pixel of the validation groups; NaN where there are none."""
    learning_rate: float
    """Learning rate of the last step."""
    seconds: float
    """Wall time of this epoch."""
    best: bool
    """Whether its weights are the best so far of this stage."""
    simulated: bool = False
    """Whether this epoch's patterns are simulated."""


@dataclass(frozen=True)
class ModelSaved(Event):
    """A model archive was written."""

    path: Path
    """The archive file."""


@dataclass(frozen=True)
class PatchesDone(Event):
    """Patterns were turned into object patches."""

    done: int
    """Patterns done so far."""
    total: int
    """Patterns of the scan."""


@dataclass(frozen=True)
class IterationDone(Event):
    """One iteration of the refinement over all patterns is done."""

    iteration: int
    """Sweep just finished, from 1."""
    n_iterations: int
    """Iterations at most."""
    held_out_deviance: float
    """Poisson deviance per pixel of the pixels that are not fitted; NaN where a start was given up."""
    calibrating: bool = False
    """Whether it tries to correct what the file says of the experiment; nobody knows for how long."""
