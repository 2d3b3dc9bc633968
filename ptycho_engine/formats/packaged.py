"""The models that need no training: the learned prior that comes with the package, and physics alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..config import ModelConfig, TrainingConfig
from ..errors import ArchiveError
from ..physics.scaling import ScaleRecord
from .archive import ModelArchive, find_archive, load_archive
from .provenance import file_record

__all__ = ['NO_MODEL', 'PACKAGED_PRIOR', 'load_model', 'model_record', 'of_objects']

PACKAGED_PRIOR = Path(__file__).parents[1] / 'network' / 'prior.zip'
"""The learned prior of objects; ``ptychopinn train --universal`` makes such a file."""

NO_MODEL = 'none'
"""In place of a model: physics and total variation, without a network."""


def load_model(model: Path | str | None = None) -> ModelArchive:
    """Read a model: the packaged prior for None, physics alone for ``'none'``, else the archive of that name.

    Raises
    ------
    ArchiveNotFoundError, ArchiveError
        As :func:`~.archive.load_archive`; where the packaged prior is damaged, the sentence says so.
    """
    if model is None:
        return _packaged_prior()
    return of_objects('physics') if str(model) == NO_MODEL else load_archive(model)


def _packaged_prior() -> ModelArchive:
    try:
        archive = load_archive(PACKAGED_PRIOR)
        if archive.config.model.architecture != 'prior':
            raise ArchiveError(
                f'{PACKAGED_PRIOR} is a model of the architecture {archive.config.model.architecture!r}.'
            )
    except ArchiveError as error:
        raise ArchiveError(
            'The learned prior that comes with PtychoPINN cannot be used; install the package again. '
            f'({error})'
        ) from error
    return archive


def of_objects(architecture: str, **contents: object) -> ModelArchive:
    """Return an archive of 'prior' or 'physics', which know no scan; `contents` are further fields."""
    return ModelArchive(
        config=TrainingConfig(model=ModelConfig(architecture=architecture)),
        scale=ScaleRecord(1.0, 1.0, 1.0),
        probe=np.empty((1, 0, 0), np.complex64),
        **{'weights': {}, 'backend': '', **contents},  # type: ignore[arg-type]
    )


def model_record(model: Path | None) -> dict[str, Any]:
    """Return the record of a model in the provenance of a result; `model` is as for :func:`load_model`.

    Raises
    ------
    ArchiveNotFoundError, DataValueError
        If there is none, or it cannot be read.
    """
    if model is None or model == PACKAGED_PRIOR:
        return {'kind': 'learned prior of the package', **file_record(PACKAGED_PRIOR)}
    if str(model) == NO_MODEL:
        return {'kind': 'none'}
    return {'kind': 'trained model', **file_record(find_archive(model))}
