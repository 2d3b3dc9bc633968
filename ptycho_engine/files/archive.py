"""Model archives ``wts.h5.zip``: everything a reconstruction needs, readable by every backend.

No pickle and no code; members are read in memory and nothing is ever extracted (``specs/archive.md``).
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from ..config import ModelConfig, TrainingConfig
from ..config.checks import from_mapping
from ..errors import ArchiveError, ArchiveNotFoundError, ConfigError
from ..network.plan import NetworkPlan, training_plan
from ..physics.scaling import ScaleRecord
from .atomic import atomic_path

__all__ = [
    'ARCHIVE_NAME',
    'Manifest',
    'ModelArchive',
    'load_archive',
    'read_manifest',
    'save_archive',
]

ARCHIVE_NAME = 'wts.h5.zip'
FORMAT = 'ptychopinn-model'
VERSION = 1
MEMBERS = ('config.json', 'scale.json', 'probe.npy', 'history.json', 'wts.h5')
SIZE_LIMIT = 1 << 30
"""Largest total size of the members in bytes; a larger archive is not one of ours."""
FIXED_DATE = (1980, 1, 1, 0, 0, 0)


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
    """One record for each epoch: epoch, losses, deviances, learning rate, seconds."""


def save_archive(path: Path | str, archive: ModelArchive) -> None:
    """Write an archive atomically; equal contents give equal bytes."""
    members = {
        'config.json': _json(asdict(archive.config)),
        'scale.json': _json(archive.scale.to_dict()),
        'probe.npy': _npy(archive.probe),
        'history.json': _json(archive.history),
        'wts.h5': _weights_file(archive.weights),
    }
    from .. import __version__

    manifest = {
        'format': FORMAT,
        'version': VERSION,
        'engine_version': __version__,
        'backend': archive.backend,
        'models': ['autoencoder', 'diffraction_to_obj'],
        'sha256': {name: hashlib.sha256(data).hexdigest() for name, data in members.items()},
    }
    path = Path(path)
    with (
        atomic_path(path) as temporary,
        zipfile.ZipFile(temporary, 'w', zipfile.ZIP_DEFLATED) as file,
    ):
        for name, data in {'manifest.json': _json(manifest), **members}.items():
            info = zipfile.ZipInfo(name, FIXED_DATE)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            file.writestr(info, data)


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True, default=str).encode()


def _npy(array: npt.NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _weights_file(weights: Mapping[str, npt.NDArray[np.float32]]) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, 'w') as file:
        for name in sorted(weights):
            file.create_dataset(name, data=np.asarray(weights[name], np.float32), track_times=False)
    return buffer.getvalue()


def find_archive(path: Path | str) -> Path:
    """Return the archive file that `path` names: the file, or ``wts.h5.zip`` in the directory.

    Raises
    ------
    ArchiveNotFoundError
        If there is none.
    """
    path = Path(path)
    candidate = path / ARCHIVE_NAME if path.is_dir() else path
    if not candidate.is_file():
        raise ArchiveNotFoundError(
            f'There is no model at {candidate}: expected {ARCHIVE_NAME}, as training writes it. Train first '
            'or give the path of a model.'
        )
    return candidate


def _open(path: Path) -> tuple[zipfile.ZipFile, dict[str, Any]]:
    """Open an archive and check its head: members, sizes and format."""
    try:
        file = zipfile.ZipFile(path)
        infos = {info.filename: info for info in file.infolist()}
        if ARCHIVE_NAME in infos and 'manifest.json' not in infos:
            # An outer zip, as Ptychodus' own "save model" makes it from a directory.
            return _open_inner(file, infos[ARCHIVE_NAME], path)
        return file, _check_head(file, infos, path)
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise ArchiveError(
            f'{path} is not a readable model archive ({error}); copy it again or train again.'
        ) from error


def _open_inner(
    outer: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path
) -> tuple[zipfile.ZipFile, dict[str, Any]]:
    if info.file_size > SIZE_LIMIT:
        raise ArchiveError(f'{path} unpacks to more than {SIZE_LIMIT >> 20} MiB; it is not a model.')
    with outer:
        inner = zipfile.ZipFile(io.BytesIO(outer.read(info)))
    infos = {item.filename: item for item in inner.infolist()}
    return inner, _check_head(inner, infos, path)


def _check_head(file: zipfile.ZipFile, infos: dict[str, zipfile.ZipInfo], path: Path) -> dict[str, Any]:
    expected = {'manifest.json', *MEMBERS}
    if set(infos) != expected or len(file.infolist()) != len(expected):
        strange = ', '.join(sorted(set(infos) ^ expected)) or 'a member twice'
        raise ArchiveError(
            f'{path} is not a PtychoPINN model: its members are not the expected ones ({strange}). '
            'Give a wts.h5.zip that this package wrote.'
        )
    if sum(info.file_size for info in infos.values()) > SIZE_LIMIT:
        raise ArchiveError(f'{path} unpacks to more than {SIZE_LIMIT >> 20} MiB; it is not a model.')
    manifest = _parse(_member(file, 'manifest.json', path), path)
    if manifest.get('format') != FORMAT or manifest.get('version') != VERSION:
        raise ArchiveError(
            f'{path} has format {manifest.get("format")!r} version {manifest.get("version")!r}; this release '
            f'reads {FORMAT!r} version {VERSION}.'
        )
    return manifest


def _member(file: zipfile.ZipFile, name: str, path: Path) -> bytes:
    try:
        # Reading one byte past the stated size shows a member that lies about it.
        limit = file.getinfo(name).file_size
        with file.open(name) as stream:
            data = stream.read(limit + 1)
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError) as error:
        raise ArchiveError(
            f'{path}: the member {name} is damaged ({error}); copy the model again or train again.'
        ) from error
    if len(data) != limit:
        raise ArchiveError(f'{path}: the member {name} has not its stated size; the model is damaged.')
    return data


def _parse(data: bytes, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError as error:
        raise ArchiveError(f'{path} holds broken JSON ({error}); the model is damaged.') from error
    if not isinstance(value, dict):
        raise ArchiveError(f'{path} holds JSON of the wrong kind; the model is damaged.')
    return value


def _checked_member(file: zipfile.ZipFile, name: str, manifest: dict[str, Any], path: Path) -> bytes:
    data = _member(file, name, path)
    if hashlib.sha256(data).hexdigest() != manifest.get('sha256', {}).get(name):
        raise ArchiveError(
            f'{path}: the member {name} does not match its checksum; copy the model again or train again.'
        )
    return data


def _config(data: bytes, path: Path) -> TrainingConfig:
    values = _parse(data, path)
    try:
        model = from_mapping(ModelConfig, values.pop('model'))
        return from_mapping(TrainingConfig, {**values, 'model': model})
    except (ConfigError, KeyError, TypeError, AttributeError) as error:
        raise ArchiveError(f'{path} has a configuration that this release cannot read ({error}).') from error


def read_manifest(path: Path | str) -> Manifest:
    """Check an archive's head and return what it says; weights and frameworks stay untouched.

    Raises
    ------
    ArchiveNotFoundError, ArchiveError
        If there is no archive or it is not one of ours.
    """
    path = find_archive(path)
    file, manifest = _open(path)
    with file:
        config = _config(_checked_member(file, 'config.json', manifest, path), path)
    return Manifest(
        path=path,
        n=config.model.N,
        gridsize=config.model.gridsize,
        model_type=config.model.model_type,
        backend=str(manifest.get('backend')),
        engine_version=str(manifest.get('engine_version')),
    )


def load_archive(path: Path | str) -> ModelArchive:
    """Read a model: the archive file, a directory that holds it, or an outer zip that holds it.

    Raises
    ------
    ArchiveNotFoundError
        If there is none.
    ArchiveError
        If a member is missing, unknown, damaged, or of the wrong shape.
    """
    path = find_archive(path)
    file, manifest = _open(path)
    with file:
        data = {name: _checked_member(file, name, manifest, path) for name in MEMBERS}
    config = _config(data['config.json'], path)
    try:
        scale = ScaleRecord.from_dict(_parse(data['scale.json'], path))
        probe = np.load(io.BytesIO(data['probe.npy']), allow_pickle=False)
        history = json.loads(data['history.json'])
    except (KeyError, ValueError, TypeError) as error:
        raise ArchiveError(f'{path} is damaged ({error}); copy it again or train again.') from error
    return ModelArchive(
        config=config,
        scale=scale,
        probe=np.asarray(probe, dtype=np.complex64),
        weights=_read_weights(data['wts.h5'], training_plan(config, len(probe)), path),
        backend=str(manifest.get('backend')),
        history=list(history),
    )


def _read_weights(data: bytes, plan: NetworkPlan, path: Path) -> dict[str, npt.NDArray[np.float32]]:
    expected = plan.weight_shapes()
    try:
        with h5py.File(io.BytesIO(data), 'r') as file:
            found: dict[str, tuple[int, ...]] = {}
            file.visititems(
                lambda name, item: (
                    found.update({name: item.shape}) if isinstance(item, h5py.Dataset) else None
                )
            )
            if found != expected:
                wrong = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
                raise ArchiveError(
                    f'{path}: the weights do not fit the network ({len(wrong)} names or shapes differ, '
                    f'first {wrong[0]}); the model is damaged or of another release.'
                )
            return {name: np.asarray(file[name][()], np.float32) for name in expected}
    except (OSError, KeyError) as error:
        raise ArchiveError(f'{path}: the weights are damaged ({error}).') from error
