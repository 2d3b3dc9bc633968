"""Folders that models go to: the default one, whether one holds a model, whether it can be written to."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

from ptycho_engine.errors import ArchiveNotFoundError, EngineError
from ptycho_engine.formats.archive import ARCHIVE_NAME, CHECKPOINT_NAME, PREVIOUS_CHECKPOINT_NAME
from ptycho_engine.io.preflight import require_writable

from .worker import MODEL_FILE

__all__ = [
    'MODELS',
    'default_folder',
    'free_folder',
    'held_models',
    'is_writable',
    'latest_checkpoint',
    'likely_folder',
    'require_checkpoint',
]

CHECKPOINTS = (CHECKPOINT_NAME, PREVIOUS_CHECKPOINT_NAME)
MODELS = (ARCHIVE_NAME, MODEL_FILE, *CHECKPOINTS)
"""What a training leaves in its folder."""


def held_models(folder: Path) -> list[str]:
    """Return the names of the models and checkpoints that a folder holds."""
    return [name for name in MODELS if (folder / name).is_file()]


def default_folder(product: str, beside: Path | None) -> Path:
    """Return where the model of a product goes by itself; a folder that holds a model already may be it.

    Parameters
    ----------
    product : str
        Name of the product.
    beside : Path, optional
        Folder of its patterns. Where that cannot be written to, or is not known, the model goes to the user's
        data folder.
    """
    return _folder(product, beside, is_writable)


def likely_folder(product: str, beside: Path | None) -> Path:
    """Return what :func:`default_folder` will most likely return, without trying to write."""
    return _folder(product, beside, lambda folder: os.access(folder, os.W_OK))


def _folder(product: str, beside: Path | None, can_write: Callable[[Path], bool]) -> Path:
    name = re.sub(r'[^\w.+-]+', '_', product).strip('._') or 'product'
    if beside is not None and can_write(beside):
        return beside / f'{name}_model'
    return _user_data_folder() / 'models' / name


def free_folder(folder: Path) -> Path:
    """Return `folder`, or the first of its name with a number that holds no model."""
    return next(candidate for candidate in _numbered(folder) if not held_models(candidate))


def latest_checkpoint(folder: Path) -> Path:
    """Return the last of `folder` and its numbered fellows that holds a checkpoint; `folder` for none."""
    found = folder
    for candidate in _numbered(folder):
        if not held_models(candidate):
            return found
        if _holds_checkpoint(candidate):
            found = candidate
    return found


def _numbered(folder: Path) -> Iterator[Path]:
    yield folder
    yield from (folder.with_name(f'{folder.name}-{number}') for number in count(2))


def _user_data_folder() -> Path:
    if sys.platform == 'win32':
        base = os.environ.get('LOCALAPPDATA') or Path.home() / 'AppData' / 'Local'
    elif sys.platform == 'darwin':
        base = Path.home() / 'Library' / 'Application Support'
    else:
        base = os.environ.get('XDG_DATA_HOME') or Path.home() / '.local' / 'share'
    return Path(base) / 'ptychopinn'


def is_writable(folder: Path) -> bool:
    """Return whether a model can be saved in a folder, which may have to be made first; nothing is left."""
    try:
        require_writable(folder, MODELS)
    except EngineError:
        return False
    return True


def require_checkpoint(folder: Path) -> None:
    """Check that a folder holds a run that can be gone on with.

    Raises
    ------
    ArchiveNotFoundError
        If not.
    """
    if _holds_checkpoint(folder):
        return
    ended = ' The run there has come to its end.' if held_models(folder) else ''
    raise ArchiveNotFoundError(
        f'"Start from" is set to checkpoint, but {folder} holds no {CHECKPOINT_NAME}.{ended} Choose the '
        'folder of a training that was stopped, or set "Start from" to scratch (PtychoPINNEngine.StartFrom).'
    )


def _holds_checkpoint(folder: Path) -> bool:
    return any((folder / name).is_file() for name in CHECKPOINTS)
