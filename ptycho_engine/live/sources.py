"""Where live frames come from: a scan that is played, a growing HDF5 file, a folder that fills with files."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import tifffile

from ..config.choices import PositionOrder
from ..errors import DataFileNotFoundError, DataValueError
from ..io.atomic import is_hidden
from ..io.growing_hdf5 import GrowingDataset
from ..scan.scan import Scan
from .session import LiveSession

__all__ = [
    'MOST_AT_ONCE',
    'FolderSource',
    'Followed',
    'GrowingPositions',
    'Hdf5Source',
    'LiveSource',
    'PositionFollower',
    'ReplaySource',
    'TextPositions',
    'scaled_positions',
]

MOST_AT_ONCE = 64
"""Frames that are read and pushed at once, so that what is shown does not wait for long."""

FRAME_FILES = ('.tif', '.tiff', '.npy')

UNFINISHED_S = 10.0
"""A file that cannot be read and has not changed for so long is given up."""


class LiveSource(Protocol):
    """What :func:`~..commands.live.run` asks of a source."""

    @property
    def ended(self) -> bool:
        """Whether nothing more can come."""

    def feed(self, session: LiveSession) -> int:
        """Push what has come, ``MOST_AT_ONCE`` frames at most; return how many frames."""

    @property
    def behind(self) -> int:
        """Frames that are there but were not pushed yet."""

    def close(self) -> None:
        """Let go of files."""


class ReplaySource:
    """Plays a scan at a rate, as if it were measured now.

    Parameters
    ----------
    scan : Scan
    rate : float
        Frames per second; infinite for as fast as they are taken.
    """

    def __init__(self, scan: Scan, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._raw, self._rate, self._clock = scan.raw, rate, clock
        self._begun: float | None = None
        self._pushed = 0

    @property
    def ended(self) -> bool:
        """Whether the whole scan was played."""
        return self._pushed == len(self._raw)

    @property
    def behind(self) -> int:
        """Frames that are there but were not pushed yet."""
        if self._begun is None:
            self._begun = self._clock()
        due = self._rate * (self._clock() - self._begun) if np.isfinite(self._rate) else np.inf
        return int(min(due + 1, len(self._raw))) - self._pushed

    def feed(self, session: LiveSession) -> int:
        """Push what is due."""
        count = min(self.behind, MOST_AT_ONCE)
        if count > 0:
            part = np.arange(self._pushed, self._pushed + count)
            place = np.stack([self._raw.ycoords[part], self._raw.xcoords[part]], axis=1)
            session.push(self._raw.diffraction[part], place, part)
            self._pushed += count
        return count

    def close(self) -> None:
        """Nothing is held."""


class PositionFollower(Protocol):
    """Positions that come one after another."""

    def new(self) -> npt.NDArray[np.float64]:
        """Return the positions (b, 2), [y, x] in object pixels, that came since the last call."""

    def close(self) -> None:
        """Let go of files."""


class GrowingPositions:
    """Positions in a dataset (n, 2) of an HDF5 file that grows.

    Parameters
    ----------
    scale : (2,) float
        Object pixels per unit of y and of x, negative along an axis that is mirrored.
    """

    def __init__(self, path: Path, key: str, order: PositionOrder, scale: tuple[float, float]) -> None:
        self._rows = GrowingDataset(path, key)
        self._order, self._scale, self._source, self._read = order, scale, f'{path}::{key}', 0

    def new(self) -> npt.NDArray[np.float64]:
        """Return what came since the last call."""
        shape = self._rows.shape
        if len(shape) != 2 or shape[1] not in (2, 3):
            raise DataValueError(f'{self._source} has shape {shape}; expected positions (n, 2).')
        first, self._read = self._read, shape[0]
        return scaled_positions(self._rows.rows(first, shape[0]), self._order, self._scale)

    def close(self) -> None:
        """Let go of the file."""
        self._rows.close()


class TextPositions:
    """Positions in the lines of a text file that grows: two numbers, with a comma or blanks between them."""

    def __init__(self, path: Path, order: PositionOrder, scale: tuple[float, float]) -> None:
        self._path, self._order, self._scale = path, order, scale
        self._offset = 0

    def new(self) -> npt.NDArray[np.float64]:
        """Return what came since the last call; a line without its end is not there yet."""
        try:
            with self._path.open('rb') as stream:
                stream.seek(self._offset)
                text = stream.read()
        except FileNotFoundError:
            return np.empty((0, 2))
        whole = text[: text.rfind(b'\n') + 1]
        self._offset += len(whole)
        rows = []
        for line in whole.decode('utf-8', 'replace').splitlines():
            words = re.split(r'[,;\s]+', line.strip())
            try:
                rows.append([float(word) for word in words[:2]])
            except ValueError:
                if rows or self._offset != len(whole):
                    raise DataValueError(f'{self._path}: {line[:60]!r} is no position y, x.') from None
        found = np.array([row for row in rows if len(row) == 2], np.float64).reshape(-1, 2)
        return scaled_positions(found, self._order, self._scale)

    def close(self) -> None:
        """Nothing is held."""


def scaled_positions(
    values: npt.NDArray[Any], order: PositionOrder, scale: tuple[float, float]
) -> npt.NDArray[np.float64]:
    """Return positions (b, 2), [y, x] in object pixels, of rows in columns of an order."""
    if not len(values):
        return np.empty((0, 2))
    columns = values[:, :2].astype(np.float64)
    return np.asarray((columns if order == 'yx' else columns[:, ::-1]) * np.array(scale))


class Followed:
    """What sources with positions of their own have in common."""

    ended = False

    def __init__(self, positions: PositionFollower, most: int | None) -> None:
        self._positions, self._most = positions, most
        self._placed = self._pushed = 0

    def _place(self, session: LiveSession) -> None:
        found = self._positions.new()
        if len(found):
            session.place(np.arange(self._placed, self._placed + len(found)), found)
            self._placed += len(found)

    def _pushed_so_many(self, count: int) -> int:
        self._pushed += count
        self.ended = self._most is not None and self._pushed >= self._most and self._placed >= self._most
        return count


class Hdf5Source(Followed):
    """Follows the frames (n, h, w) of a growing HDF5 file.

    Parameters
    ----------
    path, key
        The file and the dataset of frames.
    positions : PositionFollower
        The n-th position belongs to the n-th frame.
    most : int, optional
        Frames after which it ends, once their positions have come.
    """

    def __init__(self, path: Path, key: str, positions: PositionFollower, most: int | None) -> None:
        super().__init__(positions, most)
        self._frames, self._name = GrowingDataset(path, key), f'{path}::{key}'

    @property
    def behind(self) -> int:
        """Frames that are there but were not pushed yet."""
        shape = self._frames.shape
        if len(shape) != 3:
            raise DataValueError(f'{self._name} has shape {shape}; expected frames (n, h, w).')
        there = shape[0] if self._most is None else min(shape[0], self._most)
        return int(there) - self._pushed

    def feed(self, session: LiveSession) -> int:
        """Push what has come."""
        count = min(self.behind, MOST_AT_ONCE)
        if count > 0:
            numbers = np.arange(self._pushed, self._pushed + count)
            session.push(self._frames.rows(self._pushed, self._pushed + count), indices=numbers)
        self._place(session)
        return self._pushed_so_many(max(count, 0))

    def close(self) -> None:
        """Let go of the files."""
        self._frames.close()
        self._positions.close()


class FolderSource(Followed):
    """Follows a folder into which one TIFF or NPY file is written for each frame.

    The last number in the name of a file is that of the frame, counted from that of the first file; a file
    that cannot be read yet is tried again.
    """

    def __init__(self, folder: Path, positions: PositionFollower, most: int | None) -> None:
        super().__init__(positions, most)
        if not folder.is_dir():
            raise DataFileNotFoundError(f'{folder}: there is no such folder.')
        self._folder = folder
        self._done: set[str] = set()
        self._first: int | None = None
        self._waiting: dict[str, tuple[int, float]] = {}

    def _there(self) -> list[Path]:
        return sorted(
            path
            for path in self._folder.iterdir()
            if path.suffix.casefold() in FRAME_FILES and not is_hidden(path) and path.name not in self._done
        )

    @property
    def behind(self) -> int:
        """Frames that are there but were not pushed yet."""
        return len(self._there())

    def feed(self, session: LiveSession) -> int:
        """Push what has come."""
        frames, numbers = [], []
        for path in self._there()[:MOST_AT_ONCE]:
            frame = self._frame(path)
            if frame is None:
                continue
            found = re.findall(r'\d+', path.stem)
            number = int(found[-1]) if found else len(self._done)
            self._first = number if self._first is None else self._first
            frames.append(frame)
            numbers.append(number - self._first)
            self._done.add(path.name)
        if frames:
            if len({frame.shape for frame in frames}) > 1:
                raise DataValueError(f'{self._folder}: the files hold frames of several sizes.')
            session.push(np.stack(frames), indices=numbers)
        self._place(session)
        return self._pushed_so_many(len(frames))

    def _frame(self, path: Path) -> npt.NDArray[Any] | None:
        """Return the frame of a file; None where it is not complete yet."""
        try:
            if path.suffix.casefold() == '.npy':
                found = np.load(path, allow_pickle=False)
            else:
                found = tifffile.imread(path)
            if np.ndim(found) != 2:
                raise ValueError(f'its shape is {np.shape(found)}')
        except (OSError, ValueError, EOFError, tifffile.TiffFileError) as error:
            size = path.stat().st_size if path.exists() else -1
            before, since = self._waiting.get(path.name, (-1, 0.0))
            now = time.monotonic()
            if size != before:
                self._waiting[path.name] = size, now
            elif now - since > UNFINISHED_S:
                raise DataValueError(f'{path} cannot be read as a frame ({error}).') from error
            return None
        return np.asarray(found)

    def close(self) -> None:
        """Let go of the positions."""
        self._positions.close()
