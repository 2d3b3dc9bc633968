"""What a training leaves in its folder: the checkpoint, the one before it, and models."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import ArchiveError
from ..formats.archive import ARCHIVE_NAME, CHECKPOINT_NAME, PREVIOUS_CHECKPOINT_NAME, save_archive
from ..formats.checkpoint import Checkpoint, load_checkpoint
from ..io.atomic import atomic_path, make_folder, new_temporary, put_in_place
from ..io.staging import staged
from .state import TrainingRun

__all__ = [
    'STOPPED_NAME',
    'find_checkpoint',
    'keep_best_models',
    'replace_checkpoint',
    'save_model',
]

logger = logging.getLogger('ptychopinn.train')

STOPPED_NAME = 'wts.stopped.h5.zip'
"""The model of a run that was stopped in its first epoch, where an earlier run has left a model."""


def find_checkpoint(folder: Path) -> tuple[Path, Checkpoint | None]:
    """Return the checkpoint to go on from, and where it lies; None where there is none.

    Raises
    ------
    ArchiveError
        If it is damaged, and there is no other that was put aside.
    """
    path, previous = folder / CHECKPOINT_NAME, folder / PREVIOUS_CHECKPOINT_NAME
    if path.is_file():
        try:
            return path, load_checkpoint(path)
        except ArchiveError as error:
            if not previous.is_file():
                raise
            trouble = str(error)
    elif previous.is_file():
        trouble = f'There is no {path}.'
    else:
        logger.warning('There is no %s to resume from; starting from the beginning.', path)
        return path, None
    checkpoint = load_checkpoint(previous)
    logger.warning('%s Going on from %s instead.', trouble, previous)
    return previous, checkpoint


def replace_checkpoint(folder: Path, save: Callable[[Path], None], *, put_aside: bool) -> None:
    """Replace the checkpoint by what `save` writes. The old one stays until the new one is complete.

    With `put_aside` a checkpoint of an earlier run is kept under another name: it may be all that is left of
    that run.
    """
    path, previous = folder / CHECKPOINT_NAME, folder / PREVIOUS_CHECKPOINT_NAME
    make_folder(folder)
    with new_temporary(folder) as fresh:
        save(fresh)
        if put_aside and path.is_file():
            with new_temporary(folder) as aside:
                _duplicate(path, aside)
                put_in_place(aside, previous)
            logger.info('The checkpoint of an earlier run is now %s.', previous)
        put_in_place(fresh, path)


def save_model(folder: Path, run: TrainingRun, copies: Sequence[str]) -> Path:
    """Write the best model of a run, under all its names together; return the first.

    That of a run without a whole epoch does not replace an earlier model, and has no copies then.
    """
    model = run.model()
    path = folder / ARCHIVE_NAME
    if not run.has_best:
        if any((folder / name).exists() for name in (ARCHIVE_NAME, *copies)):
            stopped = folder / STOPPED_NAME
            save_archive(stopped, model)
            logger.warning(
                'The training was stopped in its first epoch: %s stays the earlier model, and the unfinished '
                'one is %s.',
                path,
                stopped,
            )
            return stopped
        logger.warning('The training was stopped in its first epoch; its model has hardly learned anything.')
    if not copies:
        save_archive(path, model)
        return path
    make_folder(folder)
    with staged(folder) as staging:
        first = staging.path(ARCHIVE_NAME)
        save_archive(first, model)
        for name in copies:
            with atomic_path(staging.path(name)) as temporary:
                shutil.copyfile(first, temporary)
    return path


def _duplicate(path: Path, other: Path) -> None:
    """Give a file a second name, or copy it where the file system has no such links."""
    try:
        os.link(path, other)
    except OSError:
        shutil.copyfile(path, other)


def keep_best_models(folder: Path, run: TrainingRun, count: int) -> None:
    """Keep the models of the `count` best epochs so far as ``epoch-0007.wts.h5.zip``.

    With a count of 1 there is no such file: the best model is in the checkpoint and, in the end, wts.h5.zip.
    """
    if count < 2:
        return
    ranked = sorted(run.history, key=lambda epoch: epoch.get('validation_loss', epoch['training_loss']))
    best = {int(epoch['epoch']) for epoch in ranked[:count]}
    if run.epoch in best:
        model = replace(run.model(), weights=run.backend.weights())
        save_archive(_path_of_epoch(folder, run.epoch), model)
    for epoch in ranked[count:]:
        _path_of_epoch(folder, int(epoch['epoch'])).unlink(missing_ok=True)


def _path_of_epoch(folder: Path, epoch: int) -> Path:
    return folder / f'epoch-{epoch:04d}.wts.h5.zip'
