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
from ..io.members import arrays_bytes, json_bytes, parse_arrays, parse_object
from ..io.sealed_zip import open_sealed, write_sealed
from ..network.plan import training_plan
from .archive import CHECKPOINT_FORMAT, ModelArchive, model_head, model_members, read_model, read_weights

__all__ = ['Checkpoint', 'Progress', 'load_checkpoint', 'save_checkpoint']

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
    """Identity of what it trains on (:attr:`~..pipeline.sources.TrainingSource.identity`)."""
    simulated_epochs: int = 0
    """Epochs on simulated objects that the run was planned with, before those on measured scans."""


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
        'current.h5': arrays_bytes(checkpoint.weights),
        'optimiser.h5': arrays_bytes(checkpoint.optimiser),
    }
    write_sealed(path, CHECKPOINT_FORMAT, model_head(checkpoint.model), members)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises
    ------
    ArchiveError
        If it is damaged or none of ours. The file is left as it is.
    """
    with open_sealed(path, [CHECKPOINT_FORMAT]) as file:
        model = read_model(file)
        plan = training_plan(model.config, len(model.probe))
        weights = read_weights(file, 'current.h5', plan)
        return Checkpoint(
            model=model,
            progress=_progress(parse_object(file.read('progress.json'), path), path),
            weights=weights,
            optimiser=_optimiser_state(file.read('optimiser.h5'), weights, path),
        )


def _progress(values: dict[str, Any], path: Path) -> Progress:
    try:
        progress = Progress(
            epoch=int(values['epoch']),
            best_loss=float(values['best_loss']),
            stale=int(values['stale']),
            schedule={str(name): float(value) for name, value in values['schedule'].items()},
            data=str(values['data']),
            simulated_epochs=int(values.get('simulated_epochs', 0)),
        )
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise ArchiveError(f'{path} is a damaged checkpoint ({error!r}); train again without it.') from error
    counts = progress.epoch - 1, progress.stale, progress.simulated_epochs
    if min(counts) < 0 or not math.isfinite(progress.best_loss):
        raise ArchiveError(
            f'{path} is a damaged checkpoint (epoch {progress.epoch}); train again without it.'
        )
    return progress


def _optimiser_state(
    data: bytes, weights: Mapping[str, npt.NDArray[np.float32]], path: Path
) -> dict[str, npt.NDArray[np.float32]]:
    """Read the optimiser's state; an array belongs to a weight and is of its size, or is a few numbers."""

    def check(found: dict[str, tuple[int, ...]]) -> None:
        for name, shape in found.items():
            weight = weights.get(name.rpartition('/')[0])
            allowed = SMALL if weight is None else max(weight.size, SMALL)
            if math.prod(shape) > allowed:
                raise ArchiveError(
                    f"{path} is a damaged checkpoint (the optimiser's {name} has shape {shape}); train again "
                    'without it.'
                )

    return parse_arrays(data, path, check)
