"""Write a file whole or not at all, so that it survives the end of the process and of the machine.

A file is written under a hidden temporary name beside its place, brought to the disk, renamed, and then its
folder is brought to the disk. The names of temporary files (``.ptychopinn-….part``) are short, match no
pattern by which data are looked for, and tell which process they belong to: what a killed process has left is
removed by the next one that writes into the folder.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .owner import Owner

__all__ = [
    'TEMPORARY',
    'atomic_path',
    'discard_temporaries',
    'holds_temporaries',
    'is_hidden',
    'make_folder',
    'new_temporary',
    'put_in_place',
    'remove_leftovers',
    'sync_file',
    'sync_folder',
]

logger = logging.getLogger('ptychopinn.files')

TEMPORARY = re.compile(r'\.ptychopinn-([0-9a-f]{6})-([0-9a-f]{6})-(\d{1,10})-[0-9a-f]{8}\.part')
LEFT_ALONE_S = 24 * 3600.0
"""A temporary file of another machine that was not touched for so long was left by a killed process."""
CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EACCES, errno.EISDIR)
"""What file systems answer that cannot bring a folder to the disk by themselves."""

_mine: set[Path] = set()
"""Temporary files and folders of this process that are there now. What ends the process in haste, in
whatever state it is, removes them."""


def is_hidden(path: Path) -> bool:
    """Return whether a file or folder is hidden, as all that is unfinished is; such are no data."""
    return path.name.startswith('.')


@contextmanager
def atomic_path(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it replaces `path`, on failure it is removed.

    The folder of `path` is made where it is missing, and what killed processes have left there is removed.

    Parameters
    ----------
    path : Path
        The file to write.
    durable : bool
        Whether it must survive the end of the machine; a cache need not.

    Raises
    ------
    OSError
        If it cannot be written; names `path`, never the temporary file.
    """
    make_folder(path.parent)
    remove_leftovers(path.parent)
    with new_temporary(path.parent) as temporary:
        try:
            temporary.touch(exist_ok=False)
            yield temporary
            put_in_place(temporary, path, durable=durable)
        except OSError as error:
            if error.filename is not None and str(error.filename) == str(temporary):
                raise OSError(error.errno, error.strerror, str(path)) from error
            raise


@contextmanager
def new_temporary(folder: Path) -> Iterator[Path]:
    """Yield a new temporary name in a folder; what is there under it at the end is removed."""
    owner = Owner.current()
    name = f'.ptychopinn-{owner.host}-{owner.boot}-{owner.pid}-{secrets.token_hex(4)}.part'
    temporary = folder / name
    # Before it is made, so that there is no moment in which it is forgotten.
    _mine.add(temporary)
    try:
        yield temporary
    finally:
        _remove(temporary)
        _mine.discard(temporary)


def put_in_place(temporary: Path, path: Path, *, durable: bool = True) -> None:
    """Rename a file that is written to where it belongs, in place of an earlier one.

    Raises
    ------
    IsADirectoryError
        If a folder has that name.
    """
    if path.is_dir() and not path.is_symlink():
        raise IsADirectoryError(f'{path} cannot be written: a folder has that name; move it away.')
    if durable:
        sync_file(temporary)
    temporary.replace(path)
    if durable:
        sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Bring the contents of a file to the disk."""
    _sync(path, os.O_RDONLY, forgiving=False)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the file system knows how."""
    if os.name == 'posix':
        _sync(folder, os.O_RDONLY, forgiving=True)


def _sync(path: Path, flags: int, *, forgiving: bool) -> None:
    if os.name != 'posix':
        flags = os.O_RDWR
    try:
        handle = os.open(path, flags)
    except PermissionError:
        # A folder into which one may write, but in which one may not look.
        if forgiving:
            return
        raise
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in CANNOT_SYNC:
            raise
    finally:
        os.close(handle)


def make_folder(folder: Path) -> list[Path]:
    """Make a folder and those above it that are missing, for good; return those that were made."""
    missing = [folder] if not folder.is_dir() else []
    if missing:
        missing += [parent for parent in folder.parents if not parent.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        sync_folder(made.parent)
    return missing


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that killed processes have left in a folder, and say so."""
    count = sum(_remove(path) for path in _left(folder))
    if count:
        what = 'a temporary file' if count == 1 else f'{count} temporary files'
        logger.info('Removed %s that a run which was killed had left in %s.', what, folder)


def holds_temporaries(folder: Path) -> bool:
    """Return whether killed processes have left temporary files in a folder."""
    return bool(_left(folder))


def _left(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return [Path(entry.path) for entry in entries if _is_left(entry)]
    except OSError:
        return []


def _is_left(entry: os.DirEntry[str]) -> bool:
    found = TEMPORARY.fullmatch(entry.name)
    if found is None or Path(entry.path) in _mine:
        return False
    host, boot, pid = found.groups()
    if Owner(host, boot, int(pid)).is_gone():
        return True
    try:
        return time.time() - entry.stat(follow_symlinks=False).st_mtime > LEFT_ALONE_S
    except OSError:
        return False


def _remove(path: Path) -> bool:
    """Remove a file or folder if it is there and may be removed; return whether it was."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        logger.debug('%s stays: %s', path, error)
        return False
    return True


def discard_temporaries() -> None:
    """Remove all temporary files of this process, which is about to end whatever it does."""
    for path in list(_mine):
        with contextlib.suppress(OSError):
            _remove(path)
