"""The process that reads HDF5 files before others do: it forks for each, and tells how the fork ended.

    python -m ptycho_engine.io.hdf5_trial_process

A line of input is a JSON list: path, working folder, whether another program writes the file, seconds of work
allowed. A line of output is how the fork ended: 0, or the negative number of a signal.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import h5py
from h5py import h5d, h5g, h5l, h5o

from .hdf5 import Attributes
from .hdf5_datasets import DatasetOpener
from .hdf5_links import Found, OpenFile, Session, address
from .regular import opened_state

__all__ = ['read_through']

MOST_OBJECTS = 5_000
"""Groups and datasets of a file that are looked at."""

MOST_BYTES = 64 << 20
"""Bytes of values that are read of a file; of larger datasets, the first and the last row."""


def read_through(path: Path, *, growing: bool = False) -> None:
    """Read a file as the readers of the engine do, whatever is in it.

    What they would raise does not matter here: they will raise it themselves.

    Parameters
    ----------
    path : Path
        A regular file.
    growing : bool
        Whether another program writes it.
    """
    with ExitStack() as stack, suppress(Exception):
        handle = h5py.File(path, 'r', **({'libver': 'latest', 'swmr': True} if growing else {}))
        stack.callback(handle.close)
        session = Session(stack, trial=False)
        file = OpenFile(handle, path, opened_state(handle.id.get_vfd_handle(), path))
        session.files[os.path.realpath(path)] = file
        datasets, left = DatasetOpener(session), MOST_BYTES
        for found in _objects(file):
            _read_all(Attributes(found.id, ''))
            if isinstance(found.id, h5d.DatasetID):
                with suppress(Exception):
                    left -= _read_values(_dataset(datasets, found), left)


def _objects(file: OpenFile) -> Iterator[Found]:
    """Yield the groups and datasets of a file that can be opened; one that cannot hides no other."""
    root = h5g.open(file.handle.id, b'/')
    yield Found(file, root, root, b'.')
    seen: set[tuple[int, int] | None] = {_place(root)} - {None}
    groups, count = [root], 0
    while groups:
        group = groups.pop()
        for name in _names(group):
            count += 1
            if count > MOST_OBJECTS:
                return
            found = _object(file, group, name)
            if found is None or (place := _place(found.id)) in seen:
                continue
            if place is not None:
                seen.add(place)
            if isinstance(found.id, h5g.GroupID):
                groups.append(found.id)
            yield found


def _object(file: OpenFile, group: h5g.GroupID, name: bytes) -> Found | None:
    with suppress(Exception):
        if group.links.get_info(name).type == h5l.TYPE_HARD:
            return Found(file, h5o.open(group, name), group, name)
    return None


def _place(id_: Any) -> tuple[int, int] | None:
    with suppress(Exception):
        return address(id_)
    return None


def _names(group: h5g.GroupID) -> list[bytes]:
    names: list[bytes] = []
    with suppress(Exception):
        names.extend(group)
    return names


def _read_all(attributes: Attributes) -> None:
    with suppress(Exception):
        for name in attributes:
            with suppress(Exception):
                attributes[name]


def _dataset(datasets: DatasetOpener, found: Found) -> h5py.Dataset:
    try:
        return datasets.open(found, '')
    except Exception:
        # Products keep texts as they are, if they lie in the file itself.
        properties = found.id.get_create_plist()
        if properties.get_layout() == h5d.VIRTUAL or properties.get_external_count():
            raise
        dataset = h5py.Dataset(found.id)
        if not dataset.dtype.hasobject:
            raise
        return dataset


def _read_values(dataset: h5py.Dataset, left: int) -> int:
    """Read a dataset if its values take at most `left` bytes; return how many were read."""
    if dataset.nbytes <= left:
        dataset[()]
        return int(dataset.nbytes)
    if dataset.nbytes // len(dataset) <= MOST_BYTES:
        dataset[0]
        dataset[-1]
    return 0


def main() -> None:
    """Answer requests until the input ends."""
    for line in sys.stdin:
        path, folder, growing, most_cpu_s = json.loads(line)
        child = os.fork()
        if child == 0:
            with suppress(BaseException):
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                resource.setrlimit(resource.RLIMIT_CPU, (most_cpu_s, most_cpu_s + 1))
                os.chdir(folder)
                read_through(Path(path), growing=growing)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == '__main__':
    main()
