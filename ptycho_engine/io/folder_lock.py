"""One writer in a folder: a lock that dies with the process that holds it.

The folder itself is locked where the file system can do that, so that nothing lies about; else a hidden file
in it, which says who holds it; and where there are no locks at all, that the file is there is the lock.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import os
import platform
import shlex
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import FolderInUseError
from .atomic import LEFT_ALONE_S, make_folder, remove_leftovers
from .owner import Owner
from .staging import finish_leftover, has_leftovers

__all__ = ['FolderLock', 'sole_writer', 'tidy']

# Not on Windows.
fcntl: Any = importlib.import_module('fcntl') if os.name == 'posix' else None

LOCK_NAME = '.ptychopinn.lock'
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EBADF)
"""What file systems without locks answer."""
FLAGS = getattr(os, 'O_CLOEXEC', 0) | getattr(os, 'O_NOFOLLOW', 0)
UNFINISHED_S = 10.0
"""So long a lock file may be empty, because its writer is about to write it."""
COMMAND_SHOWN = 80

_held: set[tuple[int, str]] = set()
"""Process and folder of each lock that is held here: parts of one process do not lock each other out."""


class FolderLock:
    """A folder held by this process; it must be there.

    Raises
    ------
    FolderInUseError
        If another process holds it.
    """

    def __init__(self, folder: Path, doing: str) -> None:
        self.folder, self._doing = folder, doing
        self._path = folder / LOCK_NAME
        self._key = (os.getpid(), str(folder.resolve()))
        self._handle = -1
        self._take()

    def _take(self) -> None:
        if self._key in _held:
            return
        if not self._lock_folder():
            while not self._lock_file():
                pass
            self._sign()
        _held.add(self._key)

    def _lock_folder(self) -> bool:
        """Lock the folder itself; return False where that cannot be done."""
        if fcntl is None:
            return False
        try:
            handle = os.open(self.folder, os.O_RDONLY | getattr(os, 'O_CLOEXEC', 0))
        except PermissionError:
            return False
        try:
            locked = _lock(handle)
        except BlockingIOError:
            holder = _holder(handle)
            os.close(handle)
            raise self._in_use(*holder) from None
        if locked:
            self._handle = handle
        else:
            os.close(handle)
        return locked

    def _lock_file(self) -> bool:
        """Take the lock by its file; return False where it is to be tried again."""
        made = False
        try:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | FLAGS, 0o666)
            made = True
        except FileExistsError:
            try:
                handle = os.open(self._path, os.O_RDWR | FLAGS)
            except FileNotFoundError:
                return False
            except PermissionError:
                # That of another user, perhaps a killed one.
                return self._take_over()
        except OSError as error:
            error.filename = str(self.folder)
            raise
        try:
            locked = _lock(handle)
        except BlockingIOError:
            os.close(handle)
            raise self._in_use(*_signed(self._path)) from None
        if not locked and not made:
            os.close(handle)
            return self._take_over()
        if locked and not _same(handle, self._path):
            # Its last holder removed it while it was opened here.
            os.close(handle)
            return False
        self._handle = handle
        return True

    def _take_over(self) -> bool:
        """Remove a lock file that cannot be locked if its owner is gone; return False, to try again."""
        if not _is_stale(self._path):
            raise self._in_use(*_signed(self._path))
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        return False

    def _sign(self) -> None:
        """Write into the file who holds it."""
        owner = Owner.current()
        record = {
            'pid': owner.pid,
            'host': owner.host,
            'boot': owner.boot,
            'machine': platform.node(),
            'doing': self._doing,
        }
        with contextlib.suppress(OSError):
            os.ftruncate(self._handle, 0)
            os.write(self._handle, json.dumps(record).encode())

    def _in_use(self, who: str, where: str) -> FolderInUseError:
        return FolderInUseError(
            f'{self.folder} is being written by {who} on {where}; wait until it has ended, or give another '
            'folder.'
        )

    def renew(self) -> None:
        """Make the folder again after it was removed, and take the lock unless somebody else has it now."""
        if self._handle < 0:
            return
        self.release()
        make_folder(self.folder)
        with contextlib.suppress(FolderInUseError):
            self._take()

    def release(self) -> None:
        """Give the folder free."""
        if self._handle < 0:
            return
        # Gone already, with its folder or by another's hand, it is not to be missed.
        with contextlib.suppress(OSError):
            if _same(self._handle, self._path):
                self._path.unlink()
        os.close(self._handle)
        self._handle = -1
        _held.discard(self._key)


def _lock(handle: int) -> bool:
    """Lock an open file or folder; return False where the file system cannot.

    Raises
    ------
    BlockingIOError
        If another process has locked it.
    """
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return False
    return True


def _holder(handle: int) -> tuple[str, str]:
    """Return which process has locked a file or folder, as far as the system tells, and on which machine."""
    inode = f':{os.fstat(handle).st_ino}'
    try:
        lines = Path('/proc/locks').read_text(encoding='ascii').splitlines()
    except OSError:
        lines = []
    fields = [words for line in lines if len(words := line.split()) > 5 and words[1] == 'FLOCK']
    pids = [int(words[4]) for words in fields if words[5].endswith(inode)]
    return _process(pids[0]) if pids and pids[0] > 0 else 'another process', platform.node()


def _process(pid: int) -> str:
    import psutil

    try:
        command = shlex.join(psutil.Process(pid).cmdline())
    except psutil.Error:
        command = ''
    if len(command) > COMMAND_SHOWN:
        command = f'{command[:COMMAND_SHOWN]}…'
    return f'process {pid} ({command})' if command else f'process {pid}'


def _signed(path: Path) -> tuple[str, str]:
    """Return who has signed a lock file, and on which machine."""
    record = _read(path)
    owner = _owner(record)
    if owner is None:
        return 'another process', 'some machine'
    return f'process {owner.pid} ({record.get("doing")})', str(record.get('machine'))


def _is_stale(path: Path) -> bool:
    try:
        age = time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return True
    owner = _owner(_read(path))
    if owner is None:
        return age > UNFINISHED_S
    return owner.is_gone() or age > LEFT_ALONE_S


def _owner(record: dict[str, Any]) -> Owner | None:
    try:
        return Owner(str(record['host']), str(record['boot']), int(record['pid']))
    except (KeyError, TypeError, ValueError):
        return None


def _read(path: Path) -> dict[str, Any]:
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return {}
        with path.open('rb') as stream:
            record = json.loads(stream.read(4096))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _same(handle: int, path: Path) -> bool:
    """Return whether a path is still that of an open file."""
    try:
        return os.path.samestat(os.fstat(handle), os.lstat(path))
    except OSError:
        return False


@contextmanager
def sole_writer(folder: Path, doing: str) -> Iterator[FolderLock]:
    """Hold a folder for writing within the block; it is made where it is missing.

    First, what a killed run has left in it is put in order. A folder that was made and is still empty at the
    end is removed again.

    Parameters
    ----------
    folder : Path
        Where results go.
    doing : str
        What writes there, for the sentence that others get, as ``'ptychopinn train'``.

    Raises
    ------
    FolderInUseError
        If another process writes there.
    """
    made = make_folder(folder)
    lock = FolderLock(folder, doing)
    try:
        finish_leftover(folder)
        remove_leftovers(folder)
        yield lock
    finally:
        lock.release()
        for empty in made:
            with contextlib.suppress(OSError):
                empty.rmdir()


def tidy(folder: Path) -> None:
    """Put in order what a killed run has left in a folder that is about to be read.

    Nothing happens where another process writes there, which will do it itself, or where writing is not
    allowed.
    """
    if has_leftovers(folder):
        with contextlib.suppress(FolderInUseError, OSError), sole_writer(folder, 'a reader'):
            pass
