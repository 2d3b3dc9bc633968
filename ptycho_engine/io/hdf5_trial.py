"""HDF5 files read by another process first, so that a damaged one crashes that and not this.

The HDF5 library believes what it reads: a few bytes that are wrong overrun its stack, or send it round for
ever. No Python code sees that coming, so a process of its own (:mod:`ptycho_engine.io.hdf5_trial_process`)
forks for each file, and the fork reads it. Where there is no fork (Windows), files are read without.
"""

from __future__ import annotations

import atexit
import functools
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from ..errors import DataValueError
from .regular import FileState

__all__ = ['require_harmless']

logger = logging.getLogger('ptychopinn.io')

MOST_CPU_S = 10
"""Seconds of work that a trial may take; those of scans take less than two."""

WHOLE_BYTES = 64 << 20
"""Larger files may honestly take longer than that, and count as harmless then."""


class _Trials:
    """The process that forks for each file, started when it is first needed."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Leave the process to the one from which this one was forked off."""
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def status(self, path: Path, *, growing: bool) -> int:
        """Return how a fork ended that read the file: 0, or the negative number of a signal.

        Raises
        ------
        OSError, ValueError
            If there is no process that answers.
        """
        request = json.dumps([os.fspath(path.absolute()), os.getcwd(), growing, MOST_CPU_S])
        with self._lock:
            try:
                return self._ask(request)
            except (OSError, ValueError):
                # Somebody may have ended the process; once more with another.
                return self._ask(request)

    def _ask(self, request: str) -> int:
        process = self._process or self._start()
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(request + '\n')
            process.stdin.flush()
            return int(process.stdout.readline())
        except BaseException:
            # After Ctrl-C, the answer to come would be taken for that to the next request.
            self.end()
            raise

    def _start(self) -> subprocess.Popen[str]:
        self._process = subprocess.Popen(
            [sys.executable, '-m', 'ptycho_engine.io.hdf5_trial_process'],
            env={**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            # Ctrl-C in a terminal is for this process, which decides what it means.
            start_new_session=True,
        )
        return self._process

    def end(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            # Closes the pipes too; what was not yet written does not matter.
            with suppress(OSError, ValueError):
                process.communicate()


_trials = _Trials()
atexit.register(_trials.end)
if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_trials.forget)


def require_harmless(path: Path, state: FileState, *, growing: bool = False) -> None:
    """Check, once for each state of an HDF5 file, that it can be read without harm to a process.

    Parameters
    ----------
    path : Path
        A regular file.
    state : FileState
        That it is in.
    growing : bool
        Whether another program writes it, in the mode of HDF5 for that.

    Raises
    ------
    DataValueError
        If it, or a file to which it leads, crashes a process that reads it, or keeps it busy without end.
    """
    if hasattr(os, 'fork') and (fault := _fault(path, state, growing)):
        raise DataValueError(
            f'{path} is damaged: to read it, or a file to which it leads, {fault}; copy or write it again.'
        )


@functools.lru_cache(maxsize=256)
def _fault(path: Path, state: FileState, growing: bool) -> str:
    """Return what reading the file does; empty if no harm."""
    try:
        status = _trials.status(path, growing=growing)
    except (OSError, ValueError) as error:
        # As after a change of user, who may not run this Python; a reader can do nothing about it.
        logger.debug('%s: no other process can read it first (%s); it is read without.', path, error)
        return ''
    if status == -signal.SIGXCPU:
        return 'has no end' if state.size <= WHOLE_BYTES else ''
    return f'crashes the HDF5 library (signal {-status})' if status < 0 else ''
