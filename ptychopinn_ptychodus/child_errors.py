"""What a child process writes to its standard error, kept so that its death can be explained."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from multiprocessing import resource_tracker
from typing import IO

__all__ = ['ChildErrors', 'cause_of']

STDERR = 2
KEPT_BYTES = 16384
"""The end of it that is looked at."""
RAISED = re.compile(r'[\w.]*(Error|Exception|Interrupt|Exit)\b')
"""How the line of a traceback begins that names the exception; its text may have more lines."""
PLACE = re.compile(r'^\s*File "(.+)", line \d+', re.MULTILINE)

_lock = threading.Lock()


def cause_of(traceback: str) -> str:
    """Return the line of a traceback that says what was wrong; empty for an empty text."""
    lines = [line for line in traceback.strip().splitlines() if line.strip()]
    return next((line for line in reversed(lines) if RAISED.match(line)), lines[-1] if lines else '')


class ChildErrors:
    """A scratch file in place of a child's standard error, passed on to ours as it grows.

    A file and no pipe: whoever writes into the pipe of a parent that is gone gets an error for it.
    """

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._told = 0

    @contextlib.contextmanager
    def given_to_child(self) -> Iterator[None]:
        """Within it, a process that is started gets the file as its standard error.

        What our own threads write meanwhile goes there too, and from there to where it belongs.
        """
        if sys.platform == 'win32':
            yield
            return
        # It lives as long as this program and must not keep the file.
        resource_tracker.ensure_running()
        with _lock:
            try:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115  closed in close()
                ours = os.dup(STDERR)
            except OSError:
                yield
                return
            try:
                os.dup2(self._file.fileno(), STDERR)
                yield
            finally:
                os.dup2(ours, STDERR)
                os.close(ours)

    def pass_on(self) -> None:
        """Write what is new to our standard error."""
        if self._file is None:
            return
        with contextlib.suppress(OSError):
            while new := os.pread(self._file.fileno(), KEPT_BYTES, self._told):
                self._told += len(new)
                os.write(STDERR, new)

    def traceback(self) -> str:
        """Return the last traceback in it; empty where there is none."""
        if self._file is None:
            return ''
        with contextlib.suppress(OSError):
            size = os.fstat(self._file.fileno()).st_size
            end = os.pread(self._file.fileno(), KEPT_BYTES, max(size - KEPT_BYTES, 0))
            _, found, last = end.decode(errors='replace').rpartition('Traceback (most recent call last)')
            return last if found else ''
        return ''

    def why_not_started(self) -> str:
        """Return the exception that ended the child, and the file that raised it; empty if none did."""
        traceback = self.traceback()
        if not traceback:
            return ''
        places = PLACE.findall(traceback)
        return cause_of(traceback) + (f', raised by {places[-1]}' if places else '')

    def close(self) -> None:
        """Pass on the rest and forget the file."""
        self.pass_on()
        if self._file is not None:
            self._file.close()
            self._file = None
