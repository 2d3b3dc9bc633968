"""Zips with a manifest that seals every other member by its sha256: models and checkpoints.

Members are read in memory, each within a bound; nothing is extracted, unpickled or executed.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ArchiveError
from ..printable import printable, shown
from .atomic import atomic_path
from .damage import DAMAGE
from .members import OBJECT_BYTES, json_bytes, parse_object
from .plain_zip import open_plain_zip

__all__ = ['SealedZip', 'ZipFormat', 'open_sealed', 'write_sealed']

MANIFEST = 'manifest.json'
FIXED_DATE = (1980, 1, 1, 0, 0, 0)
LONGEST_REASON = 200


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


@dataclass(frozen=True)
class SealedZip:
    """An open file whose head was checked."""

    path: Path
    kind: ZipFormat
    """Which of the formats that were asked for it has."""
    manifest: Mapping[str, Any]
    file: zipfile.ZipFile

    def size(self, name: str) -> int:
        """Return how many bytes a member has by its own statement."""
        return self.file.getinfo(name).file_size

    def start(self, name: str, length: int) -> bytes:
        """Return the first bytes of a member, which are not held against its checksum.

        Raises
        ------
        ArchiveError
            If it is damaged.
        """
        try:
            with self.file.open(name) as stream:
                return stream.read(length)
        except DAMAGE as error:
            raise _damaged_member(self.path, name, error) from error

    def read(self, name: str, most: int) -> bytes:
        """Return a member of at most so many bytes.

        Raises
        ------
        ArchiveError
            If it is larger or damaged, or is not the sealed one.
        """
        data = _member(self.file, name, most, self.path)
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

    Members are stored: float weights shrink by a fifteenth, for ten times the time of writing.

    Raises
    ------
    ArchiveError
        If it is larger than what is read again.
    """
    from ..version import __version__

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
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, 'w') as file:
        for name, data in {MANIFEST: json_bytes(manifest), **members}.items():
            info = zipfile.ZipInfo(name, FIXED_DATE)
            info.external_attr = 0o644 << 16
            file.writestr(info, data)


@contextmanager
def open_sealed(path: Path, kinds: Sequence[ZipFormat], *, inside: str | None = None) -> Iterator[SealedZip]:
    """Open a file of one of `kinds`, or an outer zip that holds it as the member `inside`.

    Raises
    ------
    ArchiveError
        If it is not a plain zip, is too large, or has another format or other members.
    """
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open_plain_zip(path))
            names = file.namelist()
            if inside is not None and inside in names and MANIFEST not in names:
                # An outer zip, as Ptychodus' own "save model" makes it from a directory.
                data = _member(file, inside, kinds[0].size_limit, path)
                file = stack.enter_context(open_plain_zip(data))
            opened = _check_head(file, kinds, path)
        except PermissionError as error:
            raise ArchiveError(
                f'{path} may not be read: permission denied; ask its owner for the right to read it.'
            ) from error
        except DAMAGE as error:
            if isinstance(error, ArchiveError):
                raise
            raise ArchiveError(
                f'{path} is not a readable {kinds[0].title} archive ({_reason(error)}); copy it again or '
                'train again.'
            ) from error
        yield opened


def _check_head(file: zipfile.ZipFile, kinds: Sequence[ZipFormat], path: Path) -> SealedZip:
    infos = file.infolist()
    found = {info.filename for info in infos}
    kind = min(kinds, key=lambda kind: len(found ^ {MANIFEST, *kind.members}))
    if sum(info.file_size for info in infos) > kind.size_limit:
        raise ArchiveError(
            f'{path} unpacks to more than {kind.size_limit >> 20} MiB; it is not a {kind.title}.'
        )
    expected = {MANIFEST, *kind.members}
    if found != expected:
        strange = printable(', '.join(sorted(found ^ expected)), LONGEST_REASON)
        raise ArchiveError(
            f'{path} is not a PtychoPINN {kinds[0].title}: its members are not the expected ones '
            f'({strange}). Give a file that this package wrote.'
        )
    manifest = parse_object(_member(file, MANIFEST, OBJECT_BYTES, path), path)
    name, version = manifest.get('format'), manifest.get('version')
    if name != kind.name or type(version) is not int or version != kind.version:
        raise ArchiveError(
            f'{path} has format {shown(name)} version {shown(version)}, but '
            f'members of {kind.name!r} version {kind.version}; give a file that this release wrote.'
        )
    return SealedZip(path, kind, manifest, file)


def _member(file: zipfile.ZipFile, name: str, most: int, path: Path) -> bytes:
    size = file.getinfo(name).file_size
    if size > most:
        raise ArchiveError(
            f'{path}: the member {name} has {size} bytes, at most {most} belong there; the file is damaged.'
        )
    try:
        # Reading one byte past the stated size shows a member that lies about it.
        with file.open(name) as stream:
            data = stream.read(size + 1)
    except DAMAGE as error:
        raise _damaged_member(path, name, error) from error
    if len(data) != size:
        raise ArchiveError(f'{path}: the member {name} has not its stated size; the file is damaged.')
    return data


def _damaged_member(path: Path, name: str, error: Exception) -> ArchiveError:
    return ArchiveError(
        f'{path}: the member {name} is damaged ({_reason(error)}); copy the file again or train again.'
    )


def _reason(error: Exception) -> str:
    return printable(error, LONGEST_REASON)
