"""Heaps of texts in HDF5 files, looked at before HDF5 reads them: after one fault it would never end."""

from __future__ import annotations

import functools
import os

from .regular import FileState

__all__ = ['has_endless_heap']

MOST_BYTES = 64 << 20
"""Files beyond this are not searched: a scan of that size has its texts in files of its own."""

SIGNATURE = b'GCOL\x01\0\0\0'
HEAD_BYTES, OBJECT_BYTES = 16, 16


@functools.lru_cache(maxsize=64)
def has_endless_heap(descriptor: int, state: FileState) -> bool:
    """Return whether a global heap of an open file holds free space of no size.

    HDF5 steps over the objects of a heap by their sizes, and would not move on. The heap begins with its
    signature, version and size (8 bytes); an object has a number (2 bytes, 0 for free space), 6 bytes of no
    matter here, and its size (8 bytes); see the HDF5 File Format Specification, III.E.

    Parameters
    ----------
    descriptor : int
        Of the open file.
    state : FileState
        That it is in.
    """
    if state.size > MOST_BYTES:
        return False
    data = os.pread(descriptor, state.size, 0)
    start = data.find(SIGNATURE)
    while start >= 0:
        if _is_endless(data, start):
            return True
        start = data.find(SIGNATURE, start + 1)
    return False


def _is_endless(data: bytes, start: int) -> bool:
    end = start + int.from_bytes(data[start + 8 : start + HEAD_BYTES], 'little')
    place = start + HEAD_BYTES
    while place + OBJECT_BYTES <= min(end, len(data)):
        number = int.from_bytes(data[place : place + 2], 'little')
        size = int.from_bytes(data[place + 8 : place + OBJECT_BYTES], 'little')
        if number == 0:
            # Its size is that of all that is left, this description included.
            return size == 0
        place += OBJECT_BYTES + (size + 7) // 8 * 8
    return False
