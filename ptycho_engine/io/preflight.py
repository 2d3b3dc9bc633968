"""Whatever can fail when results are written is tried before they are computed."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import ConfigError, OutputError
from .atomic import new_temporary

__all__ = ['require_file_writable', 'require_room', 'require_writable']

TRIED_BYTES = 4096
"""Written on trial: a full disk or a used-up quota lets an empty file be made."""


def require_writable(folder: Path, names: Iterable[str] = (), *, inputs: Sequence[Path] = ()) -> None:
    """Check by trying that a folder can be made and written to; nothing is left behind.

    Parameters
    ----------
    folder : Path
        The output folder; it need not be there yet.
    names : iterable of str
        Of the files that will be written into it, in place of those that are there.
    inputs : sequence of Path
        Files that are read, and must not be replaced.

    Raises
    ------
    OutputError
        If that is not possible: a file or folder is in the way, it is not allowed, a name is too long.
    ConfigError
        If one of the files is an input.
    """
    names = list(names)
    absolute = Path(os.path.abspath(folder))
    try:
        _try_to_write(absolute)
    except OSError as error:
        raise _refusal(folder, absolute, error) from error
    for name in names:
        _require_name_free(folder / name)
        for path in inputs if _is_there(folder / name) else ():
            _require_other_file(folder / name, path)


def require_file_writable(path: Path, *, inputs: Sequence[Path] = ()) -> None:
    """Check by trying that a file can be written, as :func:`require_writable` does for a folder.

    Raises
    ------
    OutputError, ConfigError
        As there.
    """
    require_writable(path.parent, [path.name], inputs=inputs)


def require_room(folder: Path, size: float, what: str) -> None:
    """Check that the disk of an output folder has room for about `size` bytes of `what`.

    Raises
    ------
    OutputError
        If it has less.
    """
    absolute = Path(os.path.abspath(folder))
    existing = next(parent for parent in (absolute, *absolute.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < size:
        raise OutputError(
            f'{folder} has room for {_in_units(free)}, but {what} will take about {_in_units(size)}; '
            'free some, or give an output on another disk.'
        )


def _in_units(size: float) -> str:
    return f'{size / 1e9:.1f} GB' if size >= 1e9 else f'{size / 1e6:.1f} MB'


def _try_to_write(folder: Path) -> None:
    """Make what is missing of a folder, write a hidden file into it, and remove all that again."""
    made: list[Path] = []
    try:
        missing = [parent for parent in (folder, *folder.parents) if not _is_there(parent)]
        for parent in reversed(missing):
            try:
                parent.mkdir()
            except FileExistsError:
                # Another process was quicker.
                continue
            made.append(parent)
        with _hidden_file(folder) as file:
            file.write(bytes(TRIED_BYTES))
            file.flush()
            os.fsync(file.fileno())
    finally:
        for parent in reversed(made):
            with suppress(OSError):
                parent.rmdir()


def _is_there(path: Path) -> bool:
    # A link to nowhere is there: no folder can be made under its name.
    return os.path.lexists(path)


@contextmanager
def _hidden_file(folder: Path) -> Any:
    with new_temporary(folder) as path, path.open('xb') as file:
        yield file


def _refusal(folder: Path, absolute: Path, error: OSError) -> OutputError:
    """Return in one sentence why a folder cannot be written to."""
    blocking = next((p for p in (absolute, *absolute.parents) if _is_there(p) and not p.is_dir()), None)
    if blocking is not None:
        kind = 'a link to nowhere' if blocking.is_symlink() and not blocking.exists() else 'a file'
        return OutputError(
            f'{folder} cannot be an output directory: {blocking} is {kind}; move it away, or give another '
            'output.'
        )
    existing = next((parent for parent in (absolute, *absolute.parents) if _is_there(parent)), absolute)
    if isinstance(error, PermissionError):
        reason = f'{existing} may not be written to ({error.strerror})'
    else:
        reason = f'{existing}: {error.strerror}'
    return OutputError(f'{folder} cannot be an output directory: {reason}; give another output.')


def _require_name_free(path: Path) -> None:
    """Check that a file can be put under a name, in place of one that is there."""
    try:
        there = path.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise OutputError(f'{path} cannot be written: {error.strerror}; give another name.') from error
    if stat.S_ISLNK(there.st_mode):
        # It is the link that is replaced, unless it leads to what is no file at all.
        with suppress(OSError):
            there = path.stat()
    if stat.S_ISDIR(there.st_mode):
        raise OutputError(f'{path} cannot be written: a folder has that name; move it away.')
    if not (stat.S_ISREG(there.st_mode) or stat.S_ISLNK(there.st_mode)):
        raise OutputError(
            f'{path} cannot be written: it is a device or a pipe, not a file; give another name.'
        )
    if _is_of_others(path, there):
        raise OutputError(
            f'{path} cannot be replaced: it belongs to somebody else, in a folder where only owners may; '
            'give another output.'
        )


def _is_of_others(path: Path, there: os.stat_result) -> bool:
    """Return whether the folder is like /tmp and the file another user's."""
    if not hasattr(os, 'geteuid') or os.geteuid() == 0:
        return False
    folder = path.parent.stat()
    return bool(folder.st_mode & stat.S_ISVTX) and os.geteuid() not in (there.st_uid, folder.st_uid)


def _require_other_file(output: Path, path: Path) -> None:
    try:
        same = output.samefile(path)
    except OSError:
        return
    if same:
        raise ConfigError(f'{output} would replace {path}, which is read; give another output.')
