"""How every HDF5 file is read: what is followed, and how much may be declared.

An HDF5 file can send its reader anywhere: links, virtual datasets and raw data may lie in other files, which
may be pipes or devices; a virtual dataset may be a part of itself; and a few bytes declare an array of any
size. Here nothing is followed that was not looked at first. External links and virtual datasets lead to
regular files, raw data to files in the folder of the HDF5 file or below; whatever is needed must be there.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  registers the compression filters of detector files
from h5py import h5a, h5d, h5g, h5l, h5o, h5t

from ..errors import DataValueError, EngineError
from .damage import reading
from .hdf5_datasets import DatasetOpener
from .hdf5_links import Found, OpenFile, Session, address
from .regular import FileState
from .text import decode, encode

__all__ = ['Attributes', 'Hdf5Group', 'open_hdf5']

logger = logging.getLogger('ptychopinn.io')

MOST_DEPTH = 100
"""Groups in one another; files of beamlines have fewer than 20."""

MOST_OBJECTS = 100_000
"""Items that are looked at below one group."""

ATTRIBUTE_BYTES = 16 << 20
STRINGS = 1024
"""Strings in one attribute: each may point to the same long text."""


@contextmanager
def open_hdf5(path: Path, *, state: FileState | None = None) -> Iterator[Hdf5Group]:
    """Open an HDF5 file and yield its root; nothing may write it meanwhile.

    Another file that takes its place meanwhile does no harm: what is open stays what it was.

    Parameters
    ----------
    path : Path
        The file.
    state : FileState, optional
        That in which the file was seen before; it must still be in it.

    Yields
    ------
    Hdf5Group
        The root group. Its datasets are those of h5py, in their stored shapes and types.

    Raises
    ------
    DataFileNotFoundError
        If there is no such file, or none at a place to which it leads.
    DataValueError
        If it is no regular file, may not be read, is not HDF5, or is being written by another program. At the
        end, or in place of what a reader raises: if it, or a file to which it led, changed meanwhile.
    """
    with ExitStack() as stack:
        session = Session(stack)
        file = session.open_path(path)
        if state is not None:
            state.require(file.state, path)
        with reading(f'{path} is not a readable HDF5 file'):
            root = h5g.open(file.handle.id, b'/')
        try:
            yield Hdf5Group(session, DatasetOpener(session), file, root, '')
        except EngineError:
            raise
        except Exception:
            # Most likely the change is why reading failed.
            _require_unchanged(session)
            raise
        _require_unchanged(session)
        followed = [str(other.path) for other in session.files.values() if other is not file]
        # A file that is opened again was told of the first time.
        if followed and state is None:
            logger.info('%s: data are read from %s.', path, ', '.join(followed))


def _require_unchanged(session: Session) -> None:
    for file in session.files.values():
        file.require_unchanged()


class _Owner:
    """What h5py's manager of attributes asks of the object that has them."""

    def __init__(self, id_: Any) -> None:
        self.id = id_


class Attributes(Mapping[str, Any]):
    """The attributes of a group or dataset, none larger than an attribute should be."""

    def __init__(self, id_: Any, source: str) -> None:
        self._id = id_
        self._source = source
        self._manager = h5py.AttributeManager(_Owner(id_))

    def __iter__(self) -> Iterator[str]:
        with reading(f'{self._source}: the attributes cannot be read'):
            yield from self._manager

    def __len__(self) -> int:
        return len(self._manager)

    def __contains__(self, name: object) -> bool:
        return name in self._manager

    def __getitem__(self, name: str) -> Any:
        if name not in self._manager:
            raise KeyError(name)
        self.require_short(name)
        return self._manager[name]

    def require_short(self, name: str | bytes) -> None:
        """Check that an attribute is no larger than one should be.

        Raises
        ------
        DataValueError
            If it is.
        """
        attribute = h5a.open(self._id, name if isinstance(name, bytes) else encode(name))
        stored = attribute.get_type()
        count = math.prod(attribute.shape or ())
        variable = stored.detect_class(h5t.VLEN) or (
            isinstance(stored, h5t.TypeStringID) and stored.is_variable_str()
        )
        if count * stored.get_size() > ATTRIBUTE_BYTES or (variable and count > STRINGS):
            raise DataValueError(
                f'{self._source}: the attribute {name!r} holds {count} values, more than is read of an '
                'attribute.'
            )


class Hdf5Group:
    """A group whose items are looked at before they are opened.

    It is used like a group of h5py's, but for what it returns: groups like itself, and datasets of h5py's
    that hold numbers, were looked at first, and declare no more than there can be.
    """

    def __init__(
        self, session: Session, datasets: DatasetOpener, file: OpenFile, id_: h5g.GroupID, name: str
    ) -> None:
        self._session = session
        self._datasets = datasets
        self._file = file
        self._id = id_
        self.name = name
        """Path within the file, without a slash before it; empty for the root."""
        self.attrs = Attributes(id_, self.title())

    @property
    def raw(self) -> h5py.Group:
        """The group as h5py sees it, to copy links and objects that are not followed."""
        return h5py.Group(self._id)

    @property
    def path(self) -> Path:
        """The file in which the group is."""
        return self._file.path

    @property
    def state(self) -> FileState:
        """The state in which that file was opened."""
        return self._file.state

    def title(self, name: str = '') -> str:
        """Return how sentences call an item of the group."""
        inner = self.absolute(name)
        return f'{self._file.path}: {inner!r}' if inner else str(self._file.path)

    def __iter__(self) -> Iterator[str]:
        with reading(f'{self.title()} cannot be read'):
            yield from self.raw

    def __len__(self) -> int:
        with reading(f'{self.title()} cannot be read'):
            return len(self.raw)

    def __contains__(self, name: object) -> bool:
        """Whether the group holds such a link, wherever that leads; groups on the way are followed."""
        *path, last = [part for part in str(name).split('/') if part] or ['.']
        group: Any = self.get('/'.join(path)) if path else self
        with reading(f'{self.title()} cannot be read'):
            return isinstance(group, Hdf5Group) and bool(group._id.links.exists(encode(last)))

    def __getitem__(self, name: str) -> Hdf5Group | h5py.Dataset:
        found = self.get(name)
        if found is None:
            raise KeyError(f'{self.title(name)} is missing')
        return found

    def get(self, name: str) -> Hdf5Group | h5py.Dataset | None:
        """Return a group or dataset, or None where there is no such link.

        Raises
        ------
        DataFileNotFoundError, DataValueError
            If a link leads nowhere or where it must not, or a dataset lacks a part, lies where it must not,
            or declares more than there is.
        """
        found = self._find(name)
        if found is None:
            return None
        if isinstance(found.id, h5g.GroupID):
            inner = self.absolute(name)
            return Hdf5Group(self._session, self._datasets, found.file, found.id, inner)
        if not isinstance(found.id, h5d.DatasetID):
            raise DataValueError(f'{self.title(name)} is a named type; expected a group or a dataset.')
        with reading(f'{self.title(name)} cannot be read'):
            return self._datasets.open(found, self.title(name))

    def dataset(self, name: str) -> h5py.Dataset:
        """Return a dataset that must be there.

        Raises
        ------
        DataFileNotFoundError, DataValueError
            As for :meth:`get`, or if it is a group.
        KeyError
            If there is no such link.
        """
        found = self[name]
        if not isinstance(found, h5py.Dataset):
            raise DataValueError(f'{self.title(name)} is a group; expected a dataset.')
        return found

    def attributes_of(self, name: str) -> Attributes:
        """Return the attributes of an item that must be there."""
        found = self[name]
        return found.attrs if isinstance(found, Hdf5Group) else Attributes(found.id, self.title(name))

    def absolute(self, name: str) -> str:
        """Return the path of an item from the root on."""
        return '/'.join(part for part in (self.name, name.strip('/')) if part)

    def file_of(self, name: str) -> Path | None:
        """Return the file in which an item lies, wherever links lead; None where there is no such link."""
        found = self._find(name)
        return None if found is None else found.file.path

    def _find(self, name: str) -> Found | None:
        source = self.title(name)
        with reading(f'{source} cannot be read'):
            return self._session.find(self._file, self._id, encode(name), source)

    def walk(self) -> Iterator[tuple[str, Found]]:
        """Yield name and place of all that is below, each object once; links are not followed.

        Datasets are not looked at: get them by their names.

        Raises
        ------
        DataValueError
            If there are too many of them, or too many groups in one another.
        """
        with reading(f'{self.title()} cannot be looked through'):
            yield from self._below(self._id)

    def below(self, name: bytes) -> Iterator[Found]:
        """Yield an item of the group, of whatever name, and what is below it, as :meth:`walk` does."""
        with reading(f'{self.title()} cannot be looked through'):
            top = Found(self._file, h5o.open(self._id, name), self._id, name)
            yield top
            if isinstance(top.id, h5g.GroupID):
                yield from (found for _, found in self._below(top.id))

    def _below(self, top: h5g.GroupID) -> Iterator[tuple[str, Found]]:
        seen = {address(top)}
        waiting: list[tuple[str, h5g.GroupID, int]] = [('', top, 0)]
        count = 0
        while waiting:
            prefix, group, depth = waiting.pop()
            if depth > MOST_DEPTH:
                raise DataValueError(f'{self.title()} holds groups more than {MOST_DEPTH} deep.')
            for name in group:
                count += 1
                if count > MOST_OBJECTS:
                    raise DataValueError(f'{self.title()} holds more than {MOST_OBJECTS} items.')
                inner = prefix + decode(name)
                if group.links.get_info(name).type != h5l.TYPE_HARD:
                    continue
                id_ = h5o.open(group, name)
                place = address(id_)
                if place not in seen:
                    seen.add(place)
                    yield inner, Found(self._file, id_, group, name)
                    if isinstance(id_, h5g.GroupID):
                        waiting.append((f'{inner}/', id_, depth + 1))
