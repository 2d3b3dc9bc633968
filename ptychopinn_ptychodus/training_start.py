"""From the click on *Train* to the folders that a training reads from and writes to. Knows no Qt."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ptycho_engine.io.preflight import require_writable
from ptycho_engine.scan.scan import find_training_scans, load_scan

from .loaded_model import ScanFacts
from .model_folder import (
    MODELS,
    default_folder,
    free_folder,
    held_models,
    latest_checkpoint,
    require_checkpoint,
)
from .settings import ReconstructorSettings

if TYPE_CHECKING:
    from ptycho_engine.scan.scan import Scan

__all__ = ['NO_DATA', 'FolderSeen', 'Folders', 'Question', 'folders_of_product', 'look_at_folder']

NO_DATA = Path(os.devnull)
"""In place of a folder with data: train on the chosen product, whatever the folder of the model holds."""


@dataclass(frozen=True)
class Question:
    """What only the user can decide."""

    text: str
    details: str
    answers: tuple[str, ...]
    """All but *Cancel*."""


Ask = Callable[[Question], int]
"""Returns the number of the answer, or -1 for *Cancel*."""


@dataclass(frozen=True)
class Folders:
    """Where a training reads and writes."""

    data: Path
    model: Path


def folders_of_product(scan: ScanFacts, settings: ReconstructorSettings) -> Folders:
    """Return the folders of a training on the chosen product for which no folder is asked.

    The model never takes the place of another: it goes to a folder with the next number. A run that was
    stopped goes on in the folder where it was.

    Raises
    ------
    EngineError
        If there is no place for it, or no run to go on with.
    """
    default = default_folder(scan.name, scan.folder)
    if settings.start_from() == 'checkpoint':
        folder = latest_checkpoint(default)
        require_checkpoint(folder)
    else:
        folder = free_folder(default)
    require_writable(folder, MODELS)
    return Folders(NO_DATA, folder)


@dataclass(frozen=True)
class FolderSeen:
    """What there is in a folder that the user has chosen for a training."""

    folder: Path
    question: Question | None
    """What is to be asked about its data; None where it is clear what to train on."""
    held: tuple[str, ...]
    """The model files that would be replaced."""
    beside: Path
    """Where a model would go that replaces none."""

    def decide(self, ask: Ask) -> Folders | None:
        """Return the folders of the training, after the questions there are; None where the user cancels."""
        data = self.folder
        if self.question is not None:
            answer = ask(self.question)
            if answer < 0:
                return None
            data = (self.folder, NO_DATA)[answer]
        if not self.held:
            return Folders(data, self.folder)
        answer = ask(
            Question(
                f'{self.folder} holds the model of another training already ({", ".join(self.held)}).',
                f'Keep both: the new model goes to {self.beside}.\nReplace: the model that is there is lost.',
                ('Keep both', 'Replace'),
            )
        )
        return None if answer < 0 else Folders(data, (self.beside, self.folder)[answer])


def look_at_folder(folder: Path, scan: ScanFacts, settings: ReconstructorSettings) -> FolderSeen:
    """Look at a folder that the user has chosen; may take as long as the disk does.

    Raises
    ------
    EngineError
        If the folder cannot be written to, its data cannot be read, or there is no run to go on with.
    """
    require_writable(folder, MODELS)
    goes_on = settings.start_from() == 'checkpoint'
    if goes_on:
        require_checkpoint(folder)
    held = () if goes_on else tuple(held_models(folder))
    question = _question_of_data(folder, scan, settings.train_on(), of_one_size=settings.is_cnn)
    return FolderSeen(folder, question, held, free_folder(folder / 'model'))


def _question_of_data(folder: Path, scan: ScanFacts, train_on: str, *, of_one_size: bool) -> Question | None:
    """Return what is to be asked of a folder that holds the patterns of another scan.

    `of_one_size` says that the model will be for patterns of the size that it is trained on.
    """
    found = find_training_scans(folder) if train_on in ('auto', 'folder') else []
    if not found:
        return None
    first = load_scan(found[0])
    unfit = of_one_size and scan.height != first.raw.N
    if train_on == 'folder' and not unfit:
        return None
    if len(found) == 1 and _same(first, folder, scan):
        return None
    others = f' and {len(found) - 1} more' if len(found) > 1 else ''
    details = (
        f'Found: {found[0].name if found[0] != folder else "diffraction.h5 with product.h5"}{others}, '
        f'{len(first.raw)} patterns of {first.raw.N}×{first.raw.N} pixels.\nThe chosen product "{scan.name}" '
        f'has {scan.n} patterns of {scan.height}×{scan.width} pixels.'
    )
    if unfit:
        details += '\nA model of the one cannot be used on the other: their patterns differ in size.'
    here, product = "Train on the folder's data", f'Train on "{scan.name}"'
    answers = (here,) if train_on == 'folder' else (here, product)
    return Question(f'{folder} holds data of another scan than the chosen product.', details, answers)


def _same(other: Scan, folder: Path, scan: ScanFacts) -> bool:
    """Return whether the only scan of a folder is that of the chosen product."""
    if (scan.n, scan.height, scan.width) != (len(other.raw), other.raw.N, other.raw.N):
        return False
    if scan.folder is not None and scan.folder.resolve() == folder.resolve():
        return True
    if scan.sample is None:
        return False
    amplitude = np.asarray(other.raw.diffraction[:1][0], dtype=np.float64)
    return bool(np.allclose(amplitude**2, scan.sample, rtol=1e-3, atol=0.5))
