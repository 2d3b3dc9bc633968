"""The models of the best epochs, for those who want to choose among them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..files.archive import last_stage, save_archive
from .run import TrainingRun

__all__ = ['keep_best_models']


def keep_best_models(folder: Path, run: TrainingRun, count: int) -> None:
    """Keep the models of the `count` best epochs so far as ``epoch-0007.wts.h5.zip``.

    With a count of 1 there is no such file: the best model is in the checkpoint and, in the end, wts.h5.zip.
    """
    if count < 2:
        return
    comparable = last_stage(run.history)
    ranked = sorted(comparable, key=lambda epoch: epoch.get('validation_loss', epoch['training_loss']))
    best = {int(epoch['epoch']) for epoch in ranked[:count]}
    if run.epoch in best:
        model = replace(run.model(), weights=run.backend.weights())
        save_archive(_path(folder, run.epoch), model)
    for epoch in [*run.history[: -len(comparable)], *ranked[count:]]:
        _path(folder, int(epoch['epoch'])).unlink(missing_ok=True)


def _path(folder: Path, epoch: int) -> Path:
    return folder / f'epoch-{epoch:04d}.wts.h5.zip'
