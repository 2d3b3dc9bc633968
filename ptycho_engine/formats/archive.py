"""Model archives ``wts.h5.zip``: everything a reconstruction needs, readable by every backend.

A checkpoint holds the same members and more, so that it serves as a model too (``specs/archive.md``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..config import ModelConfig, TrainingConfig
from ..config.checks import from_mapping
from ..config.model import REMOVED
from ..errors import ArchiveError, ArchiveNotFoundError, ConfigError
from ..io.members import (
    ARRAY_START,
    LIST_BYTES,
    OBJECT_BYTES,
    array_bytes,
    array_shape,
    arrays_bytes,
    arrays_limit,
    json_bytes,
    parse_array,
    parse_arrays,
    parse_hdf5_arrays,
    parse_list,
    parse_object,
)
from ..io.sealed_zip import SealedZip, ZipFormat, open_sealed, write_sealed
from ..network.plan import NetworkPlan, training_plan
from ..physics.scaling import ScaleRecord
from ..printable import printable
from .foreign_model import foreign_model
from .origin import ScanOrigin, origins_from_json, origins_to_json
from .stated import LARGEST_COUNTS, number, record, text

__all__ = [
    'ARCHIVE_NAME',
    'CHECKPOINT_FORMAT',
    'CHECKPOINT_FORMATS',
    'CHECKPOINT_NAME',
    'MODEL_FORMAT',
    'PREVIOUS_CHECKPOINT_NAME',
    'Manifest',
    'ModelArchive',
    'load_archive',
    'model_head',
    'model_members',
    'read_arrays',
    'read_manifest',
    'read_model',
    'read_weights',
    'save_archive',
]

ARCHIVE_NAME = 'wts.h5.zip'
CHECKPOINT_NAME = 'checkpoint.zip'
PREVIOUS_CHECKPOINT_NAME = 'checkpoint.previous.zip'
"""Where the checkpoint of an earlier run in the same folder is put aside."""

DESCRIPTION = ('config.json', 'scale.json', 'probe.npy', 'history.json')
MODELS = ['autoencoder', 'diffraction_to_obj']
MODEL_FORMAT = ZipFormat(
    title='model',
    name='ptychopinn-model',
    version=2,
    members=(*DESCRIPTION, 'wts.safetensors'),
    size_limit=1 << 30,
)
CHECKPOINT_FORMAT = ZipFormat(
    title='checkpoint',
    name='ptychopinn-checkpoint',
    version=2,
    members=(*MODEL_FORMAT.members, 'progress.json', 'current.safetensors', 'optimiser.safetensors'),
    # Four times the weights: best, last, and two numbers that the optimiser keeps for each.
    size_limit=4 << 30,
)
MODEL_FORMAT_1 = replace(MODEL_FORMAT, version=1, members=(*DESCRIPTION, 'wts.h5'))
CHECKPOINT_FORMAT_1 = replace(
    CHECKPOINT_FORMAT,
    version=1,
    members=(*MODEL_FORMAT_1.members, 'progress.json', 'current.h5', 'optimiser.h5'),
)
"""Weights as HDF5, as versions before 0.2 wrote them; read, and not written any more."""
CHECKPOINT_FORMATS = (CHECKPOINT_FORMAT, CHECKPOINT_FORMAT_1)
MODEL_FORMATS = (MODEL_FORMAT, MODEL_FORMAT_1, *CHECKPOINT_FORMATS)

PROBE_BYTES = 1 << 29
MOST_MODES = 1000
MOST_RECORDS = 50_000
"""Of a history; of a longer one the last are kept."""
LONGEST_REASON = 400
LARGEST_SIDE = 1 << 15


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
    """(P, N, N) probe it was trained with, as given; (1, 0, 0) where it was trained on objects alone."""
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
        'models': MODELS,
        'trained_on': origins_to_json(archive.origins),
    }


def model_members(archive: ModelArchive) -> dict[str, bytes]:
    """Return the members of a model."""
    return {
        'config.json': json_bytes(asdict(archive.config)),
        'scale.json': json_bytes(archive.scale.to_dict()),
        'probe.npy': array_bytes(archive.probe),
        'history.json': json_bytes(archive.history[-MOST_RECORDS:]),
        'wts.safetensors': arrays_bytes({k: np.asarray(v, np.float32) for k, v in archive.weights.items()}),
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
            f'There is no model at {candidate}: training there did not end; resume it, or give '
            f'{checkpoint} to use the best weights so far.'
        )
    raise ArchiveNotFoundError(
        f'There is no model at {candidate}: expected {ARCHIVE_NAME}, as training writes it. Train first '
        'or give the path of a model.'
    )


def _config(file: SealedZip) -> TrainingConfig:
    values = parse_object(file.read('config.json', OBJECT_BYTES), file.path)
    try:
        network = values.pop('model')
        if network.get('architecture') == REMOVED:
            raise ArchiveError(
                f'{file.path} is a model of version 0.1 ({REMOVED!r}), which this release does not run; '
                'reconstruct without a model, which gives a better image, or train a new one.'
            )
        model = from_mapping(ModelConfig, _without(network, 'physics_steps', 'unrolled_steps'))
        if not (model.of_objects and model.N == 0) and not 0 < model.N <= LARGEST_SIDE:
            raise ConfigError(f'ModelConfig.N is {model.N}')
        return from_mapping(TrainingConfig, {**_without(values, 'simulated_epochs'), 'model': model})
    except (ConfigError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ArchiveError(
            f'{file.path} has a configuration that this release cannot read '
            f'({printable(error, LONGEST_REASON)}).'
        ) from error


def _without(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Return settings without those of version 0.1 that are no more and change nothing in a model."""
    return {name: value for name, value in values.items() if name not in names}


def read_manifest(path: Path | str) -> Manifest:
    """Check an archive's head and return what it says; weights and frameworks stay untouched.

    Raises
    ------
    ArchiveNotFoundError, ArchiveError
        If there is no archive or it is not one of ours.
    """
    path = find_archive(path)
    with _opened(path) as file:
        config = _config(file)
    return Manifest(
        path=path,
        n=config.model.N,
        gridsize=config.model.gridsize,
        model_type=config.model.model_type,
        backend=_named(file, 'backend'),
        engine_version=_named(file, 'engine_version'),
    )


def _named(file: SealedZip, key: str) -> str:
    """Return a name that the manifest states, safe to be shown."""
    return text(file.manifest.get(key), f'{file.path}: {key} of the manifest')


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
    with _opened(find_archive(path)) as file:
        return read_model(file)


@contextmanager
def _opened(path: Path) -> Iterator[SealedZip]:
    """Open a model; one of another program is told by name."""
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open_sealed(path, MODEL_FORMATS, inside=ARCHIVE_NAME))
        except ArchiveError as error:
            told = foreign_model(path)
            if told is None:
                raise
            raise ArchiveError(told) from error
        yield file


def read_model(file: SealedZip) -> ModelArchive:
    """Read the members of a model.

    Raises
    ------
    ArchiveError
        If one is damaged or of the wrong shape.
    """
    path = file.path
    config = _config(file)
    probe = _probe(file, config.model)
    if file.manifest.get('models') != MODELS:
        raise ArchiveError(f'{path}: models of the manifest is not {MODELS}; the file is damaged.')
    return ModelArchive(
        config=config,
        scale=_scale(file),
        probe=probe,
        weights=read_weights(file, 'wts', training_plan(config, len(probe))),
        backend=_named(file, 'backend'),
        history=_history(file),
        origins=origins_from_json(file.manifest.get('trained_on'), path),
    )


def _probe(file: SealedZip, model: ModelConfig) -> npt.NDArray[np.complex64]:
    def check(shape: tuple[int, ...]) -> None:
        # A network of objects is for patterns of any size.
        n = shape[-1] if shape and model.of_objects else model.N
        if len(shape) != 3 or not 1 <= shape[0] <= MOST_MODES or shape[1:] != (n, n):
            raise ArchiveError(
                f'{file.path}: the probe has shape {printable(shape, 100)}, but the network is for patterns '
                f'of {n}×{n} pixels; expected (modes, {n}, {n}). The file is damaged; train again.'
            )

    size = file.size('probe.npy')
    check(array_shape(file.start('probe.npy', ARRAY_START), size, file.path))
    array = parse_array(file.read('probe.npy', PROBE_BYTES), file.path)
    with np.errstate(over='ignore'):
        probe = array.astype(np.complex64, copy=False)
    if not np.isfinite(probe).all():
        raise ArchiveError(f'{file.path}: the probe is too bright for single precision; train again.')
    return probe


def _scale(file: SealedZip) -> ScaleRecord:
    what = f'{file.path}: scale.json'
    values = parse_object(file.read('scale.json', OBJECT_BYTES), file.path)
    return ScaleRecord(
        **{
            name: number(values.get(name), f'{what}, {name}', 1 / LARGEST_COUNTS, LARGEST_COUNTS)
            for name in ScaleRecord.KEPT
        }
    )


def _history(file: SealedZip) -> list[dict[str, float]]:
    what = f'{file.path}: history.json'
    records = parse_list(file.read('history.json', LIST_BYTES), file.path)
    if len(records) > MOST_RECORDS:
        raise ArchiveError(f'{what} has {len(records)} records, at most {MOST_RECORDS} belong there.')
    return [record(value, what) for value in records]


def read_weights(file: SealedZip, stem: str, plan: NetworkPlan) -> dict[str, npt.NDArray[np.float32]]:
    """Read the member that holds the weights of a plan, ``stem.safetensors`` or, in format 1, ``stem.h5``.

    Raises
    ------
    ArchiveError
        If names or shapes are not those of the plan, or a weight is not finite.
    """
    expected = plan.weight_shapes()

    def check(found: dict[str, tuple[int, ...]]) -> None:
        wrong = sorted(key for key in {*found, *expected} if found.get(key) != expected.get(key))
        if wrong:
            raise ArchiveError(
                f'{file.path}: the weights do not fit the network ({len(wrong)} names or shapes differ, '
                f'first {printable(wrong[0], 100)}); the model is damaged or of another release.'
            )

    weights = read_arrays(file, stem, arrays_limit(expected, 8), check)
    return {key: weights[key] for key in expected}


def read_arrays(
    file: SealedZip, stem: str, most: int, check: Callable[[dict[str, tuple[int, ...]]], None]
) -> dict[str, npt.NDArray[np.float32]]:
    """Read a member of named arrays of at most so many bytes, whatever the format calls it.

    Raises
    ------
    ArchiveError
        If it is damaged or larger, `check` says so, or a number is not finite.
    """
    if file.kind.version == 1:
        return parse_hdf5_arrays(file.read(f'{stem}.h5', most), file.path, check)
    return parse_arrays(file.read(f'{stem}.safetensors', most), file.path, check)
