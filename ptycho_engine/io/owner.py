"""Which process a temporary file or a lock belongs to, and whether that process is gone."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
from dataclasses import dataclass
from pathlib import Path

__all__ = ['Owner']


@dataclass(frozen=True)
class Owner:
    """A process of some machine since some start of it."""

    host: str
    """Stands for the machine or the container on it."""
    boot: str
    """Stands for the start of the machine; equal for all where the system does not tell."""
    pid: int

    @classmethod
    def current(cls) -> Owner:
        """Return this process."""
        return cls(*_machine(), os.getpid())

    def is_gone(self) -> bool:
        """Return whether the process has certainly ended; of another machine nothing is certain."""
        here = Owner.current()
        if self.host != here.host:
            return False
        return self.boot != here.boot or not _runs(self.pid)


@functools.cache
def _machine() -> tuple[str, str]:
    # Process numbers count within a container, and two containers may have the host's name.
    parts = (platform.node(), _link('/proc/self/ns/pid'))
    return _short(' '.join(parts)), _short(_text('/proc/sys/kernel/random/boot_id'))


def _short(text: str) -> str:
    return hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:6]


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding='ascii').strip()
    except (OSError, ValueError):
        return ''


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ''


def _runs(pid: int) -> bool:
    import psutil

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True
