"""Checkpoints ``checkpoint.zip``: a training run as it stands after an epoch (``specs/archive.md``)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ArchiveError
from ..io.members import OBJECT_BYTES, arrays_bytes, arrays_limit, json_bytes, parse_object
from ..io.sealed_zip import SealedZip, open_sealed, write_sealed
from ..network.plan import training_plan
from ..printable import printable
from .archive import (
    CHECKPOINT_FORMAT,
    CHECKPOINT_FORMATS,
    ModelArchive,
    model_head,
    model_members,
    read_arrays,
    read_model,
    read_weights,
)
from .stated import MOST_EPOCHS, number, text, whole_number

__all__ = ['Checkpoint', 'Progress', 'load_checkpoint', 'save_checkpoint']

SLOTS = 4
"""Arrays that an optimiser may keep for a weight."""
SMALL = 16
"""Numbers that a backend may keep for no weight in particular, such as its count of steps."""


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    epoch: int
    """Epochs done."""
    best_loss: float
    """Loss of the best weights so far, on the validation groups where there are any."""
    stale: int
    """Epochs since then."""
    schedule: Mapping[str, float]
    """What the learning-rate schedule remembers."""
    data: str
    """Identity of what it trains on (:attr:`~..training.sources.TrainingSource.identity`)."""


@dataclass(frozen=True)
class Checkpoint:
    """All that a run needs to go on as if it had never ended."""

    model: ModelArchive
    """The best model so far, with the configuration and the history."""
    progress: Progress
    weights: Mapping[str, npt.NDArray[np.float32]]
    """Canonical weights after the last epoch, float64 in a run of '64-true'."""
    optimiser: Mapping[str, npt.NDArray[np.float32]]
    """State of the optimiser, as the backend gave it."""


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically."""
    members = {
        **model_members(checkpoint.model),
        'progress.json': json_bytes(asdict(checkpoint.progress)),
        'current.safetensors': arrays_bytes(checkpoint.weights),
        'optimiser.safetensors': arrays_bytes(checkpoint.optimiser),
    }
    write_sealed(path, CHECKPOINT_FORMAT, model_head(checkpoint.model), members)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises
    ------
    ArchiveError
        If it is damaged or none of ours. The file is left as it is.
    """
    with open_sealed(path, CHECKPOINT_FORMATS) as file:
        model = read_model(file)
        plan = training_plan(model.config, len(model.probe))
        weights = read_weights(file, 'current', plan)
        return Checkpoint(
            model=model,
            progress=_progress(parse_object(file.read('progress.json', OBJECT_BYTES), path), path),
            weights=weights,
            optimiser=_optimiser_state(file, weights),
        )


def _progress(values: dict[str, Any], path: Path) -> Progress:
    what = f'{path}: progress.json'
    schedule = values.get('schedule')
    if not isinstance(schedule, dict) or len(schedule) > SMALL:
        raise ArchiveError(f'{what} holds no schedule of the learning rate; train again without it.')
    return Progress(
        epoch=whole_number(values.get('epoch'), f'{what}, epoch', 1, MOST_EPOCHS),
        best_loss=number(values.get('best_loss'), f'{what}, best_loss'),
        stale=whole_number(values.get('stale'), f'{what}, stale', 0, MOST_EPOCHS),
        schedule={
            text(name, f'{what}, schedule'): number(value, f'{what}, schedule, {printable(name, 60)}')
            for name, value in schedule.items()
        },
        data=text(values.get('data'), f'{what}, data'),
    )


def _optimiser_state(
    file: SealedZip, weights: Mapping[str, npt.NDArray[np.float32]]
) -> dict[str, npt.NDArray[np.float32]]:
    """Read the optimiser's state; an array belongs to a weight and is of its size, or is a few numbers."""
    shapes = {name: array.shape for name, array in weights.items()}

    def check(found: dict[str, tuple[int, ...]]) -> None:
        for name, shape in found.items():
            weight = weights.get(name.rpartition('/')[0])
            allowed = SMALL if weight is None else max(weight.size, SMALL)
            if math.prod(shape) > allowed:
                raise ArchiveError(
                    f"{file.path} is a damaged checkpoint (the optimiser's {printable(name, 100)} has shape "
                    f'{printable(shape, 100)}); train again without it.'
                )

    return read_arrays(file, 'optimiser', SLOTS * arrays_limit(shapes, 8), check)
