"""What travels between a program and its child process, without holding up the program's other threads.

Patterns go through a file that both map. It has no name from the start, so nothing is left behind whoever is
killed; what is sent is its descriptor. It lies in the temporary folder (``TMPDIR``) rather than in shared
memory, which is often small.

All else goes through a pipe, the arrays in it beside the pickle and in pieces: to pickle an object of 36 MB
as one holds Python's lock, and with it the window, for as long as that takes.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler, recv_handle, send_handle
from typing import Any

import numpy as np
import numpy.typing as npt

from ptycho_engine.blocks import blocks
from ptycho_engine.errors import EngineError
from ptycho_engine.io.mapping import MappedArray, scratch_file

__all__ = ['Parcel', 'receive', 'receive_array', 'send_array']

BLOCK_BYTES = 4 * 2**20
"""Copied at once; more would only make the parent larger."""

PIECE_BYTES = 2**16
"""Of what a pipe carries; between two pieces other threads have their turn."""


class Parcel:
    """Something that pickles, ready to be sent; its arrays are not copied.

    Raises
    ------
    Exception
        Whatever pickling raises, where it does not.
    """

    def __init__(self, content: object) -> None:
        buffers: list[Any] = []
        head = io.BytesIO()
        ForkingPickler(head, 5, True, buffers.append).dump(content)
        self._head = head.getvalue()
        self._arrays = [buffer.raw() for buffer in buffers]

    def send(self, connection: Connection) -> None:
        """Send it; :func:`receive` takes it at the other end.

        Raises
        ------
        OSError
            If the other end is gone.
        """
        connection.send(([array.nbytes for array in self._arrays], self._head))
        for array in self._arrays:
            for part in blocks(array.nbytes, PIECE_BYTES):
                connection.send_bytes(array[part])


def receive(connection: Connection) -> Any:
    """Return the content of a :class:`Parcel`; its arrays can be written to.

    Raises
    ------
    EOFError, OSError
        If the other end is gone.
    """
    sizes, head = connection.recv()
    buffers = [np.empty(size, np.uint8) for size in sizes]
    for buffer in buffers:
        for part in blocks(len(buffer), PIECE_BYTES):
            connection.recv_bytes_into(buffer[part])
    return ForkingPickler.loads(head, buffers=buffers)


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
        If there is no room for the file, or none any more.
    OSError
        If the child is gone.
    """
    with scratch_file(array.nbytes, 'Handing the patterns over') as file:
        row = max(array.nbytes // max(len(array), 1), 1)
        for part in blocks(len(array), max(BLOCK_BYTES // row, 1)):
            if cancelled():
                return False
            # Written, not copied into a map of the file: pages of a map are given back under Python's lock.
            block = np.ascontiguousarray(array[part])
            try:
                file.write(block.data)
                file.flush()
            except OSError as error:
                # Where room cannot be reserved; a caller would take it for the end of the child.
                raise EngineError(
                    f'Handing the patterns over failed in {tempfile.gettempdir()} '
                    f'({error.strerror}); set TMPDIR to a folder with more room.'
                ) from error
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
