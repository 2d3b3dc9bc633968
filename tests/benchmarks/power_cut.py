"""The state of a disk after a power cut, from a record of what a run did to its files (``powerlog.c``).

Contents that were not synchronised are lost then. Names in folders that were not synchronised are as they
were before, all or some of them.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

__all__ = ['Disk', 'read_record']


def read_record(record: Path) -> list[list[str]]:
    """Return the operations of a run, each as its words."""
    return [line.split('\t') for line in record.read_text().splitlines()]


class Disk:
    """What is on the disk for good, and what is not yet."""

    def __init__(self, found: dict[Path, int], before: Path, out: Path) -> None:
        self.names: dict[str, int] = {}
        self.folders = {str(out)}
        self.contents: dict[int, Path] = {}
        self.file: dict[int, int] = {}
        """Which file an inode is at present; numbers of inodes are used again."""
        self.waiting: list[tuple[str, int, str, str]] = []
        for number, (path, inode) in enumerate(found.items()):
            if (before / path.relative_to(out)).is_dir():
                self.folders.add(str(path))
                continue
            self.file[inode] = self.names[str(path)] = -1 - number
            self.contents[-1 - number] = before / path.relative_to(out)

    def do(self, number: int, words: list[str], record: Path) -> None:
        """Take note of a line of the record."""
        what, inode, one, two = words[0], int(words[1]), words[2], words[3]
        if what == 'create':
            self.file[inode] = number
        if what == 'sync':
            self.contents[self.file[inode]] = Path(f'{record}.{number}')
        elif what == 'sync-folder':
            waiting, self.waiting = self.waiting, []
            for operation in waiting:
                if one in {os.path.dirname(path) for path in operation[2:]}:
                    self._settle(operation)
                else:
                    self.waiting.append(operation)
        elif what not in ('change', 'write'):
            self.waiting.append((what, self.file.get(inode, 0), one, two))

    def _settle(self, operation: tuple[str, int, str, str]) -> None:
        what, file, one, two = operation
        if what in ('create', 'link'):
            self.names[one] = file
        elif what == 'folder':
            self.folders.add(one)
        elif what == 'remove':
            self.names.pop(one, None)
            self.folders.discard(one)
        elif what == 'rename' and one in self.folders:
            self.folders = {_moved(path, one, two) for path in self.folders}
            self.names = {_moved(path, one, two): file for path, file in self.names.items()}
        elif what == 'rename':
            self.names.pop(one, None)
            self.names[two] = file

    def write(self, out: Path, luck: float, chance: random.Random) -> None:
        """Make the folder as it is after the power is back; `luck` is the part of the rest that is there."""
        lost: set[str] = set()
        for operation in self.waiting:
            paths = {path for path in operation[2:] if path}
            if chance.random() < luck and not paths & lost:
                self._settle(operation)
            else:
                lost |= paths
        for folder in sorted(self.folders):
            Path(folder).mkdir(parents=True, exist_ok=True)
        for name, file in self.names.items():
            if os.path.dirname(name) in self.folders:
                # Room for it may be there already, without what was written.
                data = (
                    self.contents[file].read_bytes()
                    if file in self.contents
                    else bytes(chance.choice([0, 999]))
                )
                Path(name).write_bytes(data)


def _moved(path: str, one: str, two: str) -> str:
    return two + path[len(one) :] if path == one or path.startswith(f'{one}/') else path
