"""A dataset of an HDF5 file that another program is still writing, read as far as it reaches.

HDF5 has a mode for it, "single writer, multiple readers". A file that is complete is read in the same way.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import hdf5plugin  # noqa: F401  registers the compression filters of detector files
import numpy.typing as npt

from ..errors import DataFileNotFoundError, DataKeyError, DataValueError
from .hdf5_trial import require_harmless
from .regular import regular_state

__all__ = ['GrowingDataset']


class GrowingDataset:
    """Rows of a dataset, as far as they are written.

    Parameters
    ----------
    path : Path
        A regular file.
    key : str
        Path of a dataset that lies in the file itself.

    Raises
    ------
    DataFileNotFoundError, DataKeyError
        If there is no such file or dataset.
    DataValueError
        If it cannot be read while it is written, or the dataset leads to other files.
    """

    def __init__(self, path: Path, key: str) -> None:
        self._name = f'{path}::{key}'
        require_harmless(path, regular_state(path), growing=True)
        try:
            self._file = h5py.File(path, 'r', libver='latest', swmr=True)
        except FileNotFoundError:
            raise DataFileNotFoundError(f'{path}: there is no such file.') from None
        except OSError as error:
            raise DataValueError(
                f'{path} cannot be read while it is written, or is no HDF5 file ({error}); let the program '
                'that writes it use the SWMR mode of HDF5.'
            ) from error
        try:
            self._dataset = self._own_dataset(key)
        except BaseException:
            self._file.close()
            raise

    def _own_dataset(self, key: str) -> Any:
        place: Any = self._file
        for part in filter(None, key.split('/')):
            link = place.get(part, getlink=True) if isinstance(place, h5py.Group) else None
            if link is None:
                raise DataKeyError(f'{self._name}: the file holds no {part!r} there.')
            if not isinstance(link, h5py.HardLink):
                raise DataValueError(
                    f'{self._name} is a link; name the dataset that it leads to, and the file of that.'
                )
            place = place[part]
        if not isinstance(place, h5py.Dataset) or place.ndim == 0 or place.dtype.kind not in 'biuf':
            raise DataValueError(f'{self._name} is no dataset of numbers.')
        if place.is_virtual or place.external:
            raise DataValueError(f'{self._name} lies in other files; name the file that is written.')
        return place

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of what has been written so far."""
        self._dataset.refresh()
        return tuple(self._dataset.shape)

    @property
    def dtype(self) -> Any:
        """Stored type."""
        return self._dataset.dtype

    def rows(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Return some rows; those before ``shape[0]`` are there.

        Raises
        ------
        DataValueError
            If they cannot be read.
        """
        try:
            rows: npt.NDArray[Any] = self._dataset[start:stop]
        except OSError as error:
            raise DataValueError(f'{self._name}: rows {start} to {stop} cannot be read ({error}).') from error
        return rows

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
