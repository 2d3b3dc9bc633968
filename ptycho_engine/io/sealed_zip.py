"""Zips with a manifest that seals every other member by its sha256: models and checkpoints.

Members are read in memory, within a bound; nothing is extracted, unpickled or executed.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ArchiveError
from .atomic import atomic_path
from .members import json_bytes, parse_object

__all__ = ['SealedZip', 'ZipFormat', 'open_sealed', 'write_sealed']

MANIFEST = 'manifest.json'
DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, struct.error),
    *(OSError, EOFError, ValueError, NotImplementedError, RuntimeError),
)
"""What a damaged zip can raise."""
FIXED_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class ZipFormat:
    """A kind of file: its name and version in the manifest, and its members besides the manifest."""

    title: str
    """What to call it in a sentence."""
    name: str
    version: int
    members: tuple[str, ...]
    size_limit: int
    """Largest total size of the members in bytes; a larger file is not one of ours."""
    compress: bool = True
    """Deflate the members. Float weights hardly shrink, so a file written often does without."""


@dataclass(frozen=True)
class SealedZip:
    """An open file whose head was checked."""

    path: Path
    manifest: Mapping[str, Any]
    file: zipfile.ZipFile

    def read(self, name: str) -> bytes:
        """Return a member.

        Raises
        ------
        ArchiveError
            If it is damaged or is not the sealed one.
        """
        data = _member(self.file, name, self.path)
        sealed = self.manifest.get('sha256')
        if not isinstance(sealed, dict) or hashlib.sha256(data).hexdigest() != sealed.get(name):
            raise ArchiveError(
                f'{self.path}: the member {name} does not match its checksum; copy the file again or train '
                'again.'
            )
        return data


def write_sealed(
    path: Path, kind: ZipFormat, head: Mapping[str, object], members: Mapping[str, bytes]
) -> None:
    """Write a file atomically; equal contents give equal bytes. `head` goes into the manifest.

    Raises
    ------
    ArchiveError
        If it is larger than what is read again.
    """
    from .. import __version__

    assert set(members) == set(kind.members)
    size = sum(map(len, members.values()))
    if size > kind.size_limit:
        raise ArchiveError(
            f'{path} would hold {size >> 20} MiB, but a {kind.title} may have {kind.size_limit >> 20} MiB; '
            'make the network smaller, by n_filters_scale for one.'
        )
    manifest = {
        'format': kind.name,
        'version': kind.version,
        'engine_version': __version__,
        **head,
        'sha256': {name: hashlib.sha256(data).hexdigest() for name, data in members.items()},
    }
    method = zipfile.ZIP_DEFLATED if kind.compress else zipfile.ZIP_STORED
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, 'w') as file:
        for name, data in {MANIFEST: json_bytes(manifest), **members}.items():
            info = zipfile.ZipInfo(name, FIXED_DATE)
            info.compress_type = method
            info.external_attr = 0o644 << 16
            file.writestr(info, data)


@contextmanager
def open_sealed(path: Path, kinds: Sequence[ZipFormat], *, inside: str | None = None) -> Iterator[SealedZip]:
    """Open a file of one of `kinds`, or an outer zip that holds it as the member `inside`.

    Raises
    ------
    ArchiveError
        If it is not a zip, is too large, or has another format or other members.
    """
    try:
        file = zipfile.ZipFile(path)
        try:
            names = file.namelist()
            if inside is not None and inside in names and MANIFEST not in names:
                # An outer zip, as Ptychodus' own "save model" makes it from a directory.
                outer, file = file, _unpack(file, inside, kinds[0], path)
                outer.close()
            opened = _check_head(file, kinds, path)
        except BaseException:
            file.close()
            raise
    except DAMAGE as error:
        if isinstance(error, ArchiveError):
            raise
        raise ArchiveError(
            f'{path} is not a readable {kinds[0].title} archive ({error}); copy it again or train again.'
        ) from error
    with file:
        yield opened


def _unpack(outer: zipfile.ZipFile, name: str, kind: ZipFormat, path: Path) -> zipfile.ZipFile:
    info = outer.getinfo(name)
    _check_size([info], kind, path)
    return zipfile.ZipFile(io.BytesIO(outer.read(info)))


def _check_head(file: zipfile.ZipFile, kinds: Sequence[ZipFormat], path: Path) -> SealedZip:
    infos = file.infolist()
    found = {info.filename for info in infos}
    likely = min(kinds, key=lambda kind: len(found ^ {MANIFEST, *kind.members}))
    _check_size(infos, likely, path)
    expected = {MANIFEST, *likely.members}
    if found != expected or len(infos) != len(expected):
        strange = ', '.join(sorted(found ^ expected)) or 'a member twice'
        raise ArchiveError(
            f'{path} is not a PtychoPINN {kinds[0].title}: its members are not the expected ones '
            f'({strange}). Give a file that this package wrote.'
        )
    manifest = parse_object(_member(file, MANIFEST, path), path)
    if (manifest.get('format'), manifest.get('version')) != (likely.name, likely.version):
        raise ArchiveError(
            f'{path} has format {manifest.get("format")!r} version {manifest.get("version")!r}; this release '
            f'reads {likely.name!r} version {likely.version}.'
        )
    return SealedZip(path, manifest, file)


def _check_size(infos: Sequence[zipfile.ZipInfo], kind: ZipFormat, path: Path) -> None:
    if sum(info.file_size for info in infos) > kind.size_limit:
        raise ArchiveError(
            f'{path} unpacks to more than {kind.size_limit >> 20} MiB; it is not a {kind.title}.'
        )


def _member(file: zipfile.ZipFile, name: str, path: Path) -> bytes:
    try:
        # Reading one byte past the stated size shows a member that lies about it.
        limit = file.getinfo(name).file_size
        with file.open(name) as stream:
            data = stream.read(limit + 1)
    except DAMAGE as error:
        raise ArchiveError(
            f'{path}: the member {name} is damaged ({error}); copy the file again or train again.'
        ) from error
    if len(data) != limit:
        raise ArchiveError(f'{path}: the member {name} has not its stated size; the file is damaged.')
    return data
