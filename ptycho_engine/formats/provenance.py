"""How a result came about: program, settings, files with their SHA-256, host and times."""

from __future__ import annotations

import hashlib
import json
import platform
import shlex
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ..blocks import Frames, block_length, blocks
from ..io.hdf5 import open_hdf5
from ..io.regular import open_regular
from ..printable import printable
from ..version import __version__
from .product_extras import ProductExtras, with_dataset

__all__ = [
    'PROVENANCE',
    'file_record',
    'in_a_line',
    'made_by',
    'patterns_sha256',
    'provenance_in_product',
    'provenance_of_text',
    'with_provenance',
]

PROVENANCE = 'ptychopinn_provenance'
"""Name of the JSON at the root of a product, and the key without its prefix in NPZ metadata and CXI."""

READ_BYTES = 1 << 22
MOST_FILES = 1000
"""Of a folder that are hashed one by one."""
LONGEST = 1 << 20
"""Characters of the JSON that are read."""
SHOWN = 12
"""Characters of a SHA-256 in a line."""


def file_record(path: Path) -> dict[str, Any]:
    """Return name, size and SHA-256 of a file, or of all files of a folder, by their names.

    Raises
    ------
    DataFileNotFoundError, DataValueError
        If it cannot be read.
    """
    if path.is_dir():
        inside = sorted(item for item in path.iterdir() if item.is_file() and not item.name.startswith('.'))
        records = [file_record(item) for item in inside[:MOST_FILES]]
        return {'name': path.resolve().name, 'files': records}
    with open_regular(path) as stream:
        digest = hashlib.sha256()
        size = 0
        while block := stream.read(READ_BYTES):
            digest.update(block)
            size += len(block)
    return {'name': path.name, 'bytes': size, 'sha256': digest.hexdigest()}


def patterns_sha256(frames: Frames) -> str:
    """Return the SHA-256 of patterns (n, N, N) as they are used, whatever files they came from."""
    digest = hashlib.sha256(f'{np.dtype(frames.dtype).str}{tuple(frames.shape)}'.encode())
    for part in blocks(len(frames), block_length(frames.shape[-1])):
        digest.update(np.ascontiguousarray(frames[part]).data)
    return digest.hexdigest()


def made_by(
    words: Sequence[str],
    configs: Iterable[Any],
    *,
    model: Mapping[str, Any],
    data: Iterable[Mapping[str, Any]],
    started: datetime,
    started_by: str = 'ptychopinn',
    **more: Any,
) -> dict[str, Any]:
    """Return what is recorded of a result, in values that JSON knows.

    Parameters
    ----------
    words : sequence of str
        Of the command line.
    configs : iterable of dataclasses
        Settings.
    model, data : mapping
        Records of files (:func:`file_record`).
    started : datetime
    started_by : str
        The program whose command line it is.
    more
        Further entries.
    """
    settings = {type(config).__name__: asdict(config) for config in configs}
    return {
        'program': 'ptychopinn',
        'version': __version__,
        'command': printable(shlex.join([started_by, *words])),
        'settings': settings,
        'model': dict(model),
        'data': [dict(record) for record in data],
        'host': socket.gethostname(),
        'platform': platform.platform(),
        'python': platform.python_version(),
        'started': _iso(started),
        'ended': _iso(datetime.now(UTC)),
        **more,
    }


def in_a_line(record: Mapping[str, Any]) -> str:
    """Return the gist of a record, for comments that have no room for all of it."""
    files = {'model': record.get('model'), 'patterns': record.get('patterns')}
    known = {what: file['sha256'] for what, file in files.items() if file and file.get('sha256')}
    parts = [f'made by {record["program"]} {record["version"]}', f'{record["ended"]} on {record["host"]}']
    return ', '.join([*parts, *(f'{what} sha256 {digest[:SHOWN]}' for what, digest in known.items())])


def with_provenance(extras: ProductExtras, record: Mapping[str, Any]) -> ProductExtras:
    """Return the extras of a product with a record as JSON, in place of one that was there."""
    text = json.dumps(record).encode()
    meaning = 'JSON: how the object came about'
    return with_dataset(extras, PROVENANCE, np.array(text), {'description': meaning})


def provenance_in_product(path: Path) -> dict[str, Any] | None:
    """Return the record in a product file; None where there is none.

    Raises
    ------
    DataFileNotFoundError, DataValueError
        If the file cannot be read.
    """
    with open_hdf5(path) as file:
        if PROVENANCE not in file:
            return None
        item = file.dataset(PROVENANCE)
        if item.shape != () or item.dtype.kind != 'S' or item.dtype.itemsize > LONGEST:
            return None
        return provenance_of_text(bytes(item[()]))


def provenance_of_text(text: bytes | str) -> dict[str, Any] | None:
    """Return a record from its JSON; None for anything else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec='seconds')
