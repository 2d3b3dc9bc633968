"""Regular files only: nothing else is ever opened to be read, and one that changes meanwhile is told."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, TypeVar

from ..errors import DataFileNotFoundError, DataValueError, EngineError

__all__ = ['FileState', 'open_regular', 'open_state', 'opened_state', 'read_as_one', 'regular_state']

logger = logging.getLogger('ptychopinn.io')

T = TypeVar('T')

TRIES = 3
"""Times that files are read which are replaced meanwhile."""

KINDS = (
    (stat.S_ISDIR, 'a folder'),
    (stat.S_ISFIFO, 'a named pipe'),
    (stat.S_ISSOCK, 'a socket'),
    (stat.S_ISCHR, 'a device'),
    (stat.S_ISBLK, 'a device'),
)
"""What a path can be besides a regular file."""


@dataclass(frozen=True)
class FileState:
    """Which file this is, and whether it was written since."""

    device: int
    inode: int
    size: int
    """Bytes."""
    modified_ns: int

    def require(self, now: FileState, path: Path) -> None:
        """Check that the file is still the one that it was.

        Raises
        ------
        DataValueError
            If it is another, or was written.
        """
        if now != self:
            before, after = self.size, now.size
            if (now.device, now.inode) != (self.device, self.inode):
                what = 'another file took its place'
            else:
                what = 'it has the same size' if before == after else f'from {before} to {after} bytes'
            raise DataValueError(
                f'{path} changed while it was read ({what}); wait until nothing writes it, then start again.'
            )


def open_state(file: IO[bytes] | int) -> FileState:
    """Return the state of an open file, or of that of a descriptor."""
    return _state_of(os.fstat(file if isinstance(file, int) else file.fileno()))


def opened_state(file: IO[bytes] | int, path: Path) -> FileState:
    """Return the state of a file that was just opened as `path`.

    Raises
    ------
    DataValueError
        If it is no regular file.
    """
    status = os.fstat(file if isinstance(file, int) else file.fileno())
    _require_regular(status, path)
    return _state_of(status)


def _state_of(status: os.stat_result) -> FileState:
    return FileState(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def regular_state(path: Path) -> FileState:
    """Return the state of a regular file, which is not opened.

    Raises
    ------
    DataFileNotFoundError
        If there is nothing at `path`.
    DataValueError
        If it is something else: a named pipe would block for ever, and opening a device may do anything.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        raise DataFileNotFoundError(f'{path}: there is no such file.') from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataValueError(f'{path} cannot be looked at ({reason}).') from error
    _require_regular(status, path)
    return _state_of(status)


def _require_regular(status: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = next((name for test, name in KINDS if test(status.st_mode)), 'no regular file')
        raise DataValueError(f'{path} is {kind}; expected a file.')


@contextmanager
def open_regular(path: Path, state: FileState | None = None) -> Iterator[BinaryIO]:
    """Open a regular file for reading, and check at the end that nothing wrote it meanwhile.

    Another file that takes its place meanwhile does no harm: what is open stays what it was.

    Parameters
    ----------
    path : Path
        The file.
    state : FileState, optional
        That in which it was seen before; what is opened must be that file, still in it.

    Yields
    ------
    BinaryIO
        Its bytes, from the first on.

    Raises
    ------
    DataFileNotFoundError
        If there is nothing at `path`.
    DataValueError
        If it is no regular file, may not be read, or is not in the `state`. At the end, or in place of what a
        reader raises that is no `DataValueError`: if it changed meanwhile.
    """
    regular_state(path)
    # Should a pipe have taken its place since, this neither waits for a writer nor reads from it.
    flags = os.O_RDONLY | getattr(os, 'O_NONBLOCK', 0) | getattr(os, 'O_BINARY', 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        raise DataValueError(f'{path} cannot be opened ({error.strerror}).') from error
    with os.fdopen(descriptor, 'rb') as stream:
        before = opened_state(stream, path)
        if state is not None:
            state.require(before, path)
        try:
            yield stream
        except DataValueError:
            raise
        except Exception:
            # Most likely the change is why reading failed.
            before.require(open_state(stream), path)
            raise
        before.require(open_state(stream), path)


def read_as_one(paths: Sequence[Path], read: Callable[[], T]) -> T:
    """Return what `read` makes of files that are opened more than once, or belong together.

    Where one of them is replaced meanwhile, as by a run that ends, what was read may be of two runs: it is
    read again.

    Raises
    ------
    DataValueError
        If that happens each time. What `read` raises is raised, where nothing was replaced.
    """
    for left in reversed(range(TRIES)):
        before = _seen(paths)
        try:
            found = read()
        except EngineError:
            if not left or _seen(paths) == before:
                raise
        else:
            if _seen(paths) == before:
                return found
        logger.info('%s: replaced while it was read; reading it again.', ', '.join(map(str, paths)))
    raise DataValueError(
        f'{paths[0]} changed while it was read ({TRIES} times); wait until nothing writes it, then start '
        'again.'
    )


def _seen(paths: Sequence[Path]) -> list[FileState | None]:
    """Return the states of files; None for one that cannot be read, about which its reader has a sentence."""
    states: list[FileState | None] = []
    for path in paths:
        try:
            states.append(regular_state(path))
        except EngineError:
            states.append(None)
    return states
