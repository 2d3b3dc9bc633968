"""Arrays on their way to a child process: through a file that both map, never by pickle.

The file has no name from the start, so nothing is left behind whoever is killed. What travels is its
descriptor. It lies in the temporary folder (``TMPDIR``) rather than in shared memory, which is often small.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle, send_handle
from typing import Any

import numpy.typing as npt

from ptycho_engine.blocks import blocks
from ptycho_engine.io.mapping import MappedArray, scratch_file

__all__ = ['receive_array', 'send_array']

BLOCK_BYTES = 16 * 2**20
"""Copied at once; more would only make the parent larger."""


def send_array(
    array: npt.NDArray[Any], connection: Connection, pid: int, cancelled: Callable[[], bool]
) -> bool:
    """Copy an array into an unnamed file and send its descriptor.

    Parameters
    ----------
    array : ndarray (n, ...)
        Any type that a file can hold, of any memory order.
    connection : Connection
        One end of a duplex pipe; the child that has the other calls :func:`receive_array`.
    pid : int
        The child.
    cancelled : callable
        Looked at between blocks; once true, nothing is sent and the result is False.

    Raises
    ------
    EngineError
        If there is no room for the file.
    OSError
        If the child is gone.
    """
    with scratch_file(array.nbytes, 'Handing the patterns over') as file:
        mapped = MappedArray(file, array.shape, array.dtype, writable=True)
        row = max(array.nbytes // max(len(array), 1), 1)
        for part in blocks(len(array), max(BLOCK_BYTES // row, 1)):
            if cancelled():
                return False
            mapped.array[part] = array[part]
            mapped.release()
        connection.send((array.shape, array.dtype.str))
        send_handle(connection, _handle(file.fileno()), pid)
    return True


def receive_array(connection: Connection) -> MappedArray:
    """Return the array of :func:`send_array`, mapped read-only."""
    shape, dtype = connection.recv()
    with os.fdopen(_descriptor(recv_handle(connection)), 'rb') as file:
        return MappedArray(file, shape, dtype)


if sys.platform == 'win32':
    import msvcrt

    def _handle(descriptor: int) -> int:
        return msvcrt.get_osfhandle(descriptor)

    def _descriptor(handle: int) -> int:
        return msvcrt.open_osfhandle(handle, os.O_RDONLY)
else:

    def _handle(descriptor: int) -> int:
        return descriptor

    def _descriptor(handle: int) -> int:
        return handle
