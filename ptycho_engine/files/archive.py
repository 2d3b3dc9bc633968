"""Model archives ``wts.h5.zip``: everything a reconstruction needs, readable by every backend.

A checkpoint holds the same members and more, so that it serves as a model too (``specs/archive.md``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..config import ModelConfig, TrainingConfig
from ..config.checks import from_mapping
from ..errors import ArchiveError, ArchiveNotFoundError, ConfigError
from ..io.members import (
    array_bytes,
    arrays_bytes,
    json_bytes,
    parse_array,
    parse_arrays,
    parse_json,
    parse_object,
)
from ..io.sealed_zip import SealedZip, ZipFormat, open_sealed, write_sealed
from ..network.plan import NetworkPlan, training_plan
from ..physics.scaling import ScaleRecord
from .origin import ScanOrigin, origins_from_json, origins_to_json

__all__ = [
    'ARCHIVE_NAME',
    'CHECKPOINT_FORMAT',
    'CHECKPOINT_NAME',
    'MODEL_FORMAT',
    'Manifest',
    'ModelArchive',
    'last_stage',
    'load_archive',
    'model_head',
    'model_members',
    'read_manifest',
    'read_model',
    'read_weights',
    'save_archive',
]

ARCHIVE_NAME = 'wts.h5.zip'
CHECKPOINT_NAME = 'checkpoint.zip'

MODEL_FORMAT = ZipFormat(
    title='model',
    name='ptychopinn-model',
    version=1,
    members=('config.json', 'scale.json', 'probe.npy', 'history.json', 'wts.h5'),
    size_limit=1 << 30,
)
CHECKPOINT_FORMAT = ZipFormat(
    title='checkpoint',
    name='ptychopinn-checkpoint',
    version=1,
    members=(*MODEL_FORMAT.members, 'progress.json', 'current.h5', 'optimiser.h5'),
    # Four times the weights: best, last, and two numbers that the optimiser keeps for each.
    size_limit=4 << 30,
    compress=False,
)
MODEL_FORMATS = (MODEL_FORMAT, CHECKPOINT_FORMAT)


@dataclass(frozen=True)
class Manifest:
    """What the head of an archive says, without reading the weights."""

    path: Path
    n: int
    """Side of the patterns in pixels."""
    gridsize: int
    model_type: str
    backend: str
    """Backend that trained it."""
    engine_version: str


@dataclass(frozen=True)
class ModelArchive:
    """A trained network with what is needed to use it."""

    config: TrainingConfig
    scale: ScaleRecord
    """Scales of the scan it was trained on."""
    probe: npt.NDArray[np.complex64]
    """(P, N, N) probe it was trained with, as given."""
    weights: Mapping[str, npt.NDArray[np.float32]]
    """Canonical weights."""
    backend: str
    """Backend that trained it."""
    history: list[dict[str, float]] = field(default_factory=list)
    """One record for each epoch: epoch, losses, deviances, learning rate, seconds, whether simulated."""
    origins: tuple[ScanOrigin, ...] = ()
    """The scans it was trained on; none where an earlier release did not record them."""


def save_archive(path: Path | str, archive: ModelArchive) -> None:
    """Write an archive atomically; equal contents give equal bytes."""
    write_sealed(Path(path), MODEL_FORMAT, model_head(archive), model_members(archive))


def model_head(archive: ModelArchive) -> dict[str, object]:
    """Return what the manifest says of a model."""
    return {
        'backend': archive.backend,
        'models': ['autoencoder', 'diffraction_to_obj'],
        'trained_on': origins_to_json(archive.origins),
    }


def model_members(archive: ModelArchive) -> dict[str, bytes]:
    """Return the members of a model."""
    return {
        'config.json': json_bytes(asdict(archive.config)),
        'scale.json': json_bytes(archive.scale.to_dict()),
        'probe.npy': array_bytes(archive.probe),
        'history.json': json_bytes(archive.history),
        'wts.h5': arrays_bytes({k: np.asarray(v, np.float32) for k, v in archive.weights.items()}),
    }


def find_archive(path: Path | str) -> Path:
    """Return the archive file that `path` names: the file, or ``wts.h5.zip`` in the directory.

    Raises
    ------
    ArchiveNotFoundError
        If there is none.
    ArchiveError
        If it may not be looked for there.
    """
    path = Path(path)
    checkpoint = path / CHECKPOINT_NAME
    try:
        candidate = path / ARCHIVE_NAME if path.is_dir() else path
        found, interrupted = candidate.is_file(), checkpoint.is_file()
    except OSError as error:
        raise ArchiveError(f'{path} cannot be looked at: {error.strerror}.') from error
    if found:
        return candidate
    if interrupted:
        raise ArchiveNotFoundError(
            f'There is no model at {candidate}, for training there did not end; resume it, or give '
            f'{checkpoint} to use the best weights so far.'
        )
    raise ArchiveNotFoundError(
        f'There is no model at {candidate}: expected {ARCHIVE_NAME}, as training writes it. Train first '
        'or give the path of a model.'
    )


def _config(file: SealedZip) -> TrainingConfig:
    values = parse_object(file.read('config.json'), file.path)
    try:
        # A model that does not name these steps was trained without them.
        model = from_mapping(ModelConfig, {'physics_steps': 0, **values.pop('model')})
        return from_mapping(TrainingConfig, {**values, 'model': model})
    except (ConfigError, KeyError, TypeError, AttributeError) as error:
        raise ArchiveError(
            f'{file.path} has a configuration that this release cannot read ({error}).'
        ) from error


def read_manifest(path: Path | str) -> Manifest:
    """Check an archive's head and return what it says; weights and frameworks stay untouched.

    Raises
    ------
    ArchiveNotFoundError, ArchiveError
        If there is no archive or it is not one of ours.
    """
    path = find_archive(path)
    with open_sealed(path, MODEL_FORMATS, inside=ARCHIVE_NAME) as file:
        config = _config(file)
    return Manifest(
        path=path,
        n=config.model.N,
        gridsize=config.model.gridsize,
        model_type=config.model.model_type,
        backend=str(file.manifest.get('backend')),
        engine_version=str(file.manifest.get('engine_version')),
    )


def load_archive(path: Path | str) -> ModelArchive:
    """Read a model: the archive file, a directory that holds it, or an outer zip that holds it.

    A checkpoint of a training run is read as the best model so far.

    Raises
    ------
    ArchiveNotFoundError
        If there is none.
    ArchiveError
        If a member is missing, unknown, damaged, or of the wrong shape.
    """
    with open_sealed(find_archive(path), MODEL_FORMATS, inside=ARCHIVE_NAME) as file:
        return read_model(file)


def read_model(file: SealedZip) -> ModelArchive:
    """Read the members of a model.

    Raises
    ------
    ArchiveError
        If one is damaged or of the wrong shape.
    """
    path = file.path
    config = _config(file)
    history = parse_json(file.read('history.json'), path)
    if not isinstance(history, list):
        raise ArchiveError(f'{path} holds JSON of the wrong kind; the file is damaged.')
    try:
        scale = ScaleRecord.from_dict(parse_object(file.read('scale.json'), path))
        probe = np.asarray(parse_array(file.read('probe.npy'), path), dtype=np.complex64)
    except (KeyError, ValueError, TypeError) as error:
        if isinstance(error, ArchiveError):
            raise
        raise ArchiveError(f'{path} is damaged ({error}); copy it again or train again.') from error
    return ModelArchive(
        config=config,
        scale=scale,
        probe=probe,
        weights=read_weights(file, 'wts.h5', training_plan(config, len(probe))),
        backend=str(file.manifest.get('backend')),
        history=history,
        origins=origins_from_json(file.manifest.get('trained_on'), path),
    )


def read_weights(file: SealedZip, name: str, plan: NetworkPlan) -> dict[str, npt.NDArray[np.float32]]:
    """Read a member that holds the weights of a plan.

    Raises
    ------
    ArchiveError
        If names or shapes are not those of the plan.
    """
    expected = plan.weight_shapes()

    def check(found: dict[str, tuple[int, ...]]) -> None:
        wrong = sorted(key for key in {*found, *expected} if found.get(key) != expected.get(key))
        if wrong:
            raise ArchiveError(
                f'{file.path}: the weights do not fit the network ({len(wrong)} names or shapes differ, '
                f'first {wrong[0]}); the model is damaged or of another release.'
            )

    weights = parse_arrays(file.read(name), file.path, check)
    return {key: weights[key] for key in expected}


def last_stage(history: Sequence[Mapping[str, float]]) -> list[Mapping[str, float]]:
    """Return the records of the last stage; losses of different stages cannot be compared."""
    return [record for record in history if record.get('simulated') == history[-1].get('simulated')]
