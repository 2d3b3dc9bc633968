"""Names in HDF5 files, followed link by link, so that no file is opened which was not looked at first."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
from h5py import h5d, h5g, h5l, h5o, h5p

from ..errors import DataFileNotFoundError, DataValueError
from .damage import first_line
from .hdf5_trial import require_harmless
from .regular import FileState, open_state, opened_state, regular_state

__all__ = ['Found', 'OpenFile', 'Session', 'address', 'open_beside']

MOST_HOPS = 16
"""Links that one name may lead through, as in HDF5."""


@dataclass
class OpenFile:
    """One open HDF5 file."""

    handle: h5py.File
    path: Path
    state: FileState

    def require_unchanged(self) -> None:
        """Check that nothing has written it since it was opened; it may have been replaced or removed.

        Raises
        ------
        DataValueError
            If something has.
        """
        self.state.require(open_state(self.handle.id.get_vfd_handle()), self.path)


@dataclass(frozen=True)
class Found:
    """Where a name leads."""

    file: OpenFile
    id: Any
    """Identifier of h5py's: a group, a dataset or a named type."""
    parent: h5g.GroupID
    name: bytes
    """Its last name, in `parent`."""


@dataclass
class Session:
    """All the files that one opened file leads to; they are closed by `stack`."""

    stack: ExitStack
    files: dict[str, OpenFile] = field(default_factory=dict)
    """By their real paths."""
    trial: bool = True
    """Whether another process reads each file first, which a damaged one may crash."""

    def open_path(self, path: Path) -> OpenFile:
        """Open a file, once.

        Raises
        ------
        DataFileNotFoundError, DataValueError
            If it is missing, no regular file, not HDF5, or being written.
        """
        key = os.path.realpath(path)
        if key not in self.files:
            state = regular_state(path)
            if self.trial:
                require_harmless(path, state)
            try:
                handle = h5py.File(path, 'r')
            except (OSError, RuntimeError, ValueError) as error:
                raise DataValueError(_unreadable(path, error)) from error
            self.stack.callback(handle.close)
            self.files[key] = OpenFile(handle, path, opened_state(handle.id.get_vfd_handle(), path))
        return self.files[key]

    def open_target(self, name: str, start: OpenFile, prefixes: str, source: str) -> OpenFile:
        """Open the file that a link or a virtual dataset in `start` names.

        It is looked for where HDF5 does: at an absolute path, in the folders of the environment variable
        `prefixes`, in the folder of `start`, in the working folder, and where a symbolic link to `start`
        points.

        Raises
        ------
        DataFileNotFoundError
            If it is in none of these places.
        DataValueError
            If it is no regular file or not HDF5.
        """
        folder, wanted = start.path.absolute().parent, Path(name)
        places = []
        if wanted.is_absolute():
            places.append(wanted)
            wanted = Path(wanted.name)
        places += [Path(prefix) / wanted for prefix in os.environ.get(prefixes, '').split(':') if prefix]
        places += [folder / wanted, Path.cwd() / wanted, Path(os.path.realpath(start.path)).parent / wanted]
        for place in places:
            if os.path.lexists(place):
                try:
                    return self.open_path(place)
                except DataFileNotFoundError:
                    continue
                except DataValueError as error:
                    raise DataValueError(f'{source} leads to another file, but {error}') from error
        raise DataFileNotFoundError(
            f'{source} lies in another file, {name!r}, which is missing; copy it into {folder} too.'
        )

    def find(self, file: OpenFile, group: h5g.GroupID, name: bytes, source: str) -> Found | None:
        """Follow a name from a group on; None where a group on the way holds no such link.

        Raises
        ------
        DataFileNotFoundError, DataValueError
            If a link leads nowhere, or is one that is not followed.
        """
        rest = [part for part in name.split(b'/') if part not in (b'', b'.')]
        if name.startswith(b'/'):
            group = _root(file)
        if not rest:
            return Found(file, group, group, b'.')
        hops = 0
        broken = f'{source} is a link to an item that is missing'
        while True:
            part = rest.pop(0)
            if not isinstance(group, h5g.GroupID) or not group.links.exists(part):
                if hops:
                    raise DataFileNotFoundError(
                        f'{broken}: {os.fsdecode(part)!r} of {file.path}; copy or write the file again.'
                    )
                return None
            kind = group.links.get_info(part).type
            if kind == h5l.TYPE_HARD:
                id_ = _open(file, group, part)
                if not rest:
                    return Found(file, id_, group, part)
                group = id_
                continue
            hops += 1
            if kind not in (h5l.TYPE_SOFT, h5l.TYPE_EXTERNAL):
                raise DataValueError(
                    f'{source} is a link to elsewhere, which is not followed here; write the data into the '
                    'file itself.'
                )
            if hops > MOST_HOPS:
                raise DataValueError(f'{source} is a link that leads through more than {MOST_HOPS} others.')
            if kind == h5l.TYPE_SOFT:
                path = group.links.get_val(part)
            else:
                target, path = group.links.get_val(part)
                file = self.open_target(os.fsdecode(target), file, 'HDF5_EXT_PREFIX', source)
                path = b'/' + path
            if path.startswith(b'/'):
                group = _root(file)
            rest = [inner for inner in path.split(b'/') if inner not in (b'', b'.')] + rest
            if not rest:
                return Found(file, group, group, b'.')


def _open(file: OpenFile, group: h5g.GroupID, name: bytes) -> Any:
    try:
        return h5o.open(group, name)
    except KeyError as error:
        if 'prefix does not match' in str(error):
            # It is open already, with raw data beside its file.
            return open_beside(file, group, name)
        raise


def open_beside(file: OpenFile, group: h5g.GroupID, name: bytes) -> h5d.DatasetID:
    """Open a dataset whose raw data lie beside `file`; HDF5 would look for them in the working folder."""
    access = h5p.create(h5p.DATASET_ACCESS)
    access.set_efile_prefix(os.fsencode(file.path.absolute().parent))
    return h5d.open(group, name, access)


def _root(file: OpenFile) -> h5g.GroupID:
    return h5g.open(file.handle.id, b'/')


def _unreadable(path: Path, error: Exception) -> str:
    reason = first_line(error)
    if 'unable to lock file' in reason:
        return f'{path} is being written by another program; wait until that is done, or copy the file.'
    if 'Permission denied' in reason:
        return f'{path} may not be read (permission denied).'
    return f'{path} is not a readable HDF5 file ({reason}).'


def address(id_: Any) -> tuple[int, int]:
    """Return the number of the open file and the place in it of an object; equal for the same object."""
    info = h5o.get_info(id_)
    return int(info.fileno), int(info.addr)
