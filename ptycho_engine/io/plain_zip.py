"""Zips from anybody: their tables are checked before a member is read, and members are read within bounds."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

__all__ = ['open_plain_zip']

END = struct.Struct('<4sHHHHIIH')
LOCATOR = struct.Struct('<4sIQI')
END_64 = struct.Struct('<4sQHHIIQQQQ')
HEADER_BYTES = 30
"""Of a local header, without name and extra field."""

MOST_MEMBERS = 1000
MOST_DIRECTORY_BYTES = 1 << 18
KNOWN_FLAGS = 0x080E
"""Strength of the deflation, sizes behind the data, names in UTF-8."""
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
MOST_INFLATION = 1032
"""What deflate can do at most."""
SUSPICIOUS_BYTES, SUSPICIOUS_INFLATION = 1 << 24, 100
"""Larger members do not hold so little."""


@contextmanager
def open_plain_zip(source: Path | bytes) -> Iterator[zipfile.ZipFile]:
    """Open a zip whose tables say nothing strange.

    Raises
    ------
    zipfile.BadZipFile
        With the reason: bytes before or after it, members that overlap, lie about their sizes, are named
        twice or by a path, are encrypted, or packed in another way than by deflate.
    OSError
        If the file cannot be read.
    """
    if isinstance(source, Path) and not source.is_file():
        raise zipfile.BadZipFile('it is no file')
    with io.BytesIO(source) if isinstance(source, bytes) else source.open('rb') as file:
        count, start = _directory(file)
        with zipfile.ZipFile(file) as opened:
            infos = opened.infolist()
            if len(infos) != count:
                raise zipfile.BadZipFile('its table of members is damaged')
            for info in infos:
                _check(info)
            if len({info.filename for info in infos}) < count:
                raise zipfile.BadZipFile('it holds a member twice')
            _check_places(infos, start)
            yield opened


def _directory(file: IO[bytes]) -> tuple[int, int]:
    """Return how many members a zip has, and where its table of them begins; it ends where it should."""
    end = file.seek(0, io.SEEK_END) - END.size
    if end < 0:
        raise zipfile.BadZipFile('File is not a zip file')
    file.seek(end)
    signature, *disks, count, size, start, comment = END.unpack(file.read(END.size))
    if signature != b'PK\5\6' or comment:
        raise zipfile.BadZipFile('it does not end as a zip does')
    disks = [*disks[:2], disks[2] - count]
    locator = end - LOCATOR.size
    if locator >= 0:
        file.seek(locator)
        signature, disk, where, total = LOCATOR.unpack(file.read(LOCATOR.size))
        if signature == b'PK\6\7':
            end = locator - END_64.size
            if where != end:
                raise zipfile.BadZipFile('its table of members is damaged')
            file.seek(end)
            signature, _, _, _, *disks, here, count, size, start = END_64.unpack(file.read(END_64.size))
            disks = [*disks, here - count, disk, total - 1]
            if signature != b'PK\6\6':
                raise zipfile.BadZipFile('its table of members is damaged')
    if any(disks):
        raise zipfile.BadZipFile('it is one part of several')
    if count > MOST_MEMBERS or size > MOST_DIRECTORY_BYTES:
        raise zipfile.BadZipFile(f'it has more than {MOST_MEMBERS} members')
    if start + size != end:
        raise zipfile.BadZipFile('there is something beside its members')
    return count, start


def _check(info: zipfile.ZipInfo) -> None:
    name = info.orig_filename
    parts = name.split('/')
    if name != info.filename or not name.isprintable() or '\\' in name:
        raise zipfile.BadZipFile('a member has a strange name')
    if name.startswith('/') or '..' in parts:
        raise zipfile.BadZipFile('a member is named by a path to another place')
    if info.flag_bits & 0x1:
        raise zipfile.BadZipFile('a member is encrypted')
    if info.flag_bits & ~KNOWN_FLAGS or info.compress_type not in METHODS or info.volume:
        raise zipfile.BadZipFile('a member is packed in an unknown way')
    packed, size = info.compress_size, info.file_size
    lies = packed != size if info.compress_type == zipfile.ZIP_STORED else size > MOST_INFLATION * packed
    if lies:
        raise zipfile.BadZipFile('a member cannot have the size that is stated')
    if size > SUSPICIOUS_BYTES and size > SUSPICIOUS_INFLATION * packed:
        raise zipfile.BadZipFile(f'a member of {packed >> 10} KiB would unpack to {size >> 20} MiB')


def _check_places(infos: list[zipfile.ZipInfo], start: int) -> None:
    """Check that members lie one after another, ahead of the table at `start`."""
    free = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.header_offset < free:
            raise zipfile.BadZipFile('two members lie at one place')
        free = info.header_offset + HEADER_BYTES + len(info.orig_filename) + info.compress_size
    if free > start:
        raise zipfile.BadZipFile('a member reaches into the table of members')
