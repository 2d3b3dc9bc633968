"""New HDF5 files, whose writing may fail like that of any other file.

Where the disk is full, the HDF5 library keeps what it could not write, fails again when it closes the file,
and crashes the process at its end. Here it never learns of a failure: from the first one on nothing more is
written, and the error is raised once the library has closed the file.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from .atomic import atomic_path

__all__ = ['new_hdf5_file']


@contextmanager
def new_hdf5_file(path: Path) -> Iterator[h5py.File]:
    """Yield an empty HDF5 file that replaces `path` once it is written without failure.

    Raises
    ------
    OSError
        If it cannot be written; names `path` and the reason.
    """
    with atomic_path(path) as temporary:
        # Made afresh, since some file systems write a truncated file to the disk before they close it.
        temporary.unlink()
        with temporary.open('x+b', buffering=0) as stream:
            target = _Target(stream)
            try:
                with h5py.File(target, 'w') as file:
                    yield file
            except Exception:
                # What the library makes of missing bytes is no reason.
                target.require_written(path)
                raise
            target.require_written(path)


class _Target(io.RawIOBase):
    """What the library writes to: a file, until writing fails."""

    def __init__(self, stream: io.FileIO) -> None:
        self._stream = stream
        self._failure: OSError | None = None

    def require_written(self, path: Path) -> None:
        """Raise the failure, if there was one, with the name of the file."""
        if self._failure is not None:
            raise OSError(self._failure.errno, self._failure.strerror, str(path)) from self._failure

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def readinto(self, buffer: memoryview) -> int | None:  # type: ignore[override]
        return self._stream.readinto(buffer)

    def write(self, data: memoryview) -> int:  # type: ignore[override]
        left = memoryview(data).cast('B')
        whole = len(left)
        try:
            while left and self._failure is None:
                # The last bytes that fit are written before the error comes.
                left = left[self._stream.write(left) or 0 :]
        except OSError as error:
            self._failure = error
        return whole

    def truncate(self, size: int | None = None) -> int:
        try:
            if self._failure is None:
                self._stream.truncate(size)
        except OSError as error:
            self._failure = error
        return self._stream.tell() if size is None else size
