"""Several files of a folder written as one: it never shows files of two runs, whenever a process is killed.

The files are written into a hidden folder beside their places and brought to the disk, with a list of where
they belong. One rename of that folder to ``.ptychopinn-complete`` decides: before it, the earlier files are
there as they were; after it, the new ones are moved to their places, by this process or, if it is killed, by
the next one that reads or writes there. What is on the list alone is touched.

While they are moved, the files of the earlier run go first, all but the one that the first new file replaces.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .atomic import TEMPORARY, holds_temporaries, new_temporary, sync_file, sync_folder

__all__ = ['Staging', 'finish_leftover', 'has_leftovers', 'staged']

logger = logging.getLogger('ptychopinn.files')

COMPLETE = '.ptychopinn-complete'
LIST = 'list.json'


class Staging:
    """Files on their way into a folder."""

    def __init__(self, folder: Path, inside: Path) -> None:
        self.folder = folder
        self._inside = inside
        self._names: dict[str, str] = {}

    def path(self, name: str) -> Path:
        """Return where to write the file that will be `name` in the folder; the first one rules."""
        assert _is_plain(name), name
        return self._inside / self._names.setdefault(name, f'{len(self._names)}.part')

    def name_of(self, path: str | None) -> str | None:
        """Return what a file on its way will be called; None for any other path."""
        inside = {str(self._inside / part): name for name, part in self._names.items()}
        return inside.get(str(path))

    def commit(self, remove: Iterable[str]) -> None:
        """Move the files to their places, and remove others of these names.

        Raises
        ------
        IsADirectoryError
            If a folder is in the way; nothing was changed.
        """
        for name in self._names:
            target = self.folder / name
            if target.is_dir() and not target.is_symlink():
                raise IsADirectoryError(
                    f'{target} cannot be written: a folder has that name; move it away. Nothing was changed '
                    f'in {self.folder}.'
                )
        listed = {
            'files': [[inside, name] for name, inside in self._names.items()],
            'remove': [name for name in remove if name not in self._names],
        }
        listing = self._inside / LIST
        listing.write_text(json.dumps(listed), encoding='utf-8')
        for path in self._inside.iterdir():
            sync_file(path)
        sync_folder(self._inside)
        try:
            self._inside.rename(self.folder / COMPLETE)
            sync_folder(self.folder)
            _finish(self.folder)
        except KeyboardInterrupt:
            # If it is decided, nothing unfinished is to stay.
            _finish(self.folder)
            raise


@contextmanager
def staged(folder: Path, *, remove: Iterable[str] = ()) -> Iterator[Staging]:
    """Yield where to write files that appear in a folder together, when the block ends without an error.

    Call it while :func:`~.folder_lock.sole_writer` holds the folder.

    Parameters
    ----------
    folder : Path
        There already.
    remove : iterable of str
        Names of files of an earlier run that go with its results.
    """
    with new_temporary(folder) as inside:
        inside.mkdir()
        staging = Staging(folder, inside)
        try:
            yield staging
            staging.commit(remove)
        except OSError as error:
            name = staging.name_of(error.filename)
            if name is None:
                raise
            raise OSError(error.errno, error.strerror, str(folder / name)) from error


def has_leftovers(folder: Path) -> bool:
    """Return whether a folder holds what a killed run has left."""
    return (folder / COMPLETE).is_dir() or holds_temporaries(folder)


def finish_leftover(folder: Path) -> None:
    """Move the files to their places that a killed run had written completely, and say so."""
    if (folder / COMPLETE).is_dir():
        _finish(folder)
        logger.warning(
            '%s: a run was killed while it put its results in place; they are complete now.', folder
        )


def _finish(folder: Path) -> None:
    """Do what the list of a complete folder says, as far as it is not done yet."""
    complete = folder / COMPLETE
    if not complete.is_dir():
        return
    files, remove = _listed(complete / LIST)
    waiting = [(complete / inside, folder / name) for inside, name in files]
    # The first file is moved once all others of the earlier run are gone for good, and the others once it has
    # come for good. A file whose place is taken already is not of the earlier run.
    others = [folder / name for name in remove]
    if waiting and waiting[0][0].exists():
        others += [target for source, target in waiting[1:] if source.exists()]
    for path in others:
        if path.is_file() or path.is_symlink():
            path.unlink()
    for moved in (waiting[:1], waiting[1:]):
        sync_folder(folder)
        for source, target in moved:
            if source.exists():
                source.replace(target)
    sync_folder(folder)
    shutil.rmtree(complete)


def _listed(listing: Path) -> tuple[list[tuple[str, str]], list[str]]:
    """Read a list; what is none of ours is empty, so that nothing outside the folder is ever touched."""
    try:
        listed = json.loads(listing.read_text(encoding='utf-8'))
        files = [(str(inside), str(name)) for inside, name in listed['files']]
        remove = [str(name) for name in listed['remove']]
    except (OSError, ValueError, KeyError, TypeError):
        return [], []
    names = [name for pair in files for name in pair] + remove
    return (files, remove) if all(map(_is_plain, names)) else ([], [])


def _is_plain(name: str) -> bool:
    return name == os.path.basename(name) and name not in ('', '.', '..') and not TEMPORARY.fullmatch(name)
