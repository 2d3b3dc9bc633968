"""The child's end of a run: its two pipes, and the function that a spawned process runs.

Imports nothing of Ptychodus: all of it comes with any part of it and takes seconds, and a run needs none.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
import threading
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from ptycho_engine.io.mapping import MappedArray

from .handover import Parcel, receive, receive_array

__all__ = ['Channel', 'Message', 'Supervisor', 'serve']

Message = tuple[Any, ...]


class Channel:
    """The child's end of the pipe to the parent; messages are tagged tuples."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def __getstate__(self) -> Connection:
        return self._connection

    def __setstate__(self, connection: Connection) -> None:
        self.__init__(connection)  # type: ignore[misc]

    def put(self, message: Message | None) -> None:
        """Send a message, from any thread; it is lost where the parent is gone.

        After None, with which the protocol ends, the process ends too: frameworks take seconds to leave, in
        which a program that is being closed would wait.
        """
        # The supervisor ends a child without a parent; until then a broken pipe is no error.
        with contextlib.suppress(OSError), self._lock:
            Parcel(message).send(self._connection)
        if message is None:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)


@dataclass(frozen=True)
class Supervisor:
    """The child's end of the pipe from the parent: first the job, then perhaps the wish to stop."""

    control: Connection

    def receive_job(self) -> tuple[Any, MappedArray | None]:
        """Return what to do, and the array that was handed over with it."""
        job, with_array = receive(self.control)
        return job, receive_array(self.control) if with_array else None


class _Forwarder(logging.Handler):
    """Sends what is logged to the parent."""

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        self._channel.put(('log', record.levelno, record.name, self.format(record)))


def serve(entry_point: str, supervisor: Supervisor, channel: Channel, log_level: int) -> None:
    """Call ``'module:function'`` with the ends of the pipes; tell what it logs, how it fails and its end."""
    root = logging.getLogger()
    root.addHandler(_Forwarder(channel))
    root.setLevel(log_level)
    try:
        module, _, function = entry_point.partition(':')
        getattr(importlib.import_module(module), function)(supervisor, channel)
    except BaseException as error:  # noqa: BLE001  whatever it is, the parent is told
        channel.put(('error', traceback.format_exc(), type(error).__name__))
    finally:
        channel.put(None)
