"""Files of beamlines, read by the readers of the installed Ptychodus for the engine's commands."""

from __future__ import annotations

import fnmatch
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

import h5py
import numpy as np
import numpy.typing as npt

from ptycho_engine.errors import DataValueError, EngineError
from ptycho_engine.formats.measurement import Geometry, MeasuredPatterns, MeasuredPositions, MeasuredProbe
from ptycho_engine.patterns.frame_stack import Backing, StoredStack, staging
from ptycho_engine.printable import printable, shown

from . import compat

__all__ = ['read_patterns', 'read_positions', 'read_probe']

logger = logging.getLogger('ptychopinn.formats')

T = TypeVar('T')

DIFFRACTION, POSITIONS, PROBE = 'diffraction', 'probe_position', 'probe'
HDF5_NAMES = re.compile(r'\*\.(h5|hdf5|hdf|nxs|cxi)\b')
REASON = 120
"""Characters of what a reader says of a file that it cannot read."""


@dataclass(frozen=True)
class _Reading(Generic[T]):
    """What a reader has made of a file."""

    name: str
    value: T


def read_patterns(path: Path, reader: str | None = None, positions: Path | None = None) -> MeasuredPatterns:
    """Read patterns by a reader of Ptychodus.

    Of several that can read the file it is the one that can read the positions too, else the one that knows
    most of the experiment.

    Parameters
    ----------
    path : Path
        The file, any member of a series, or a folder that holds nothing but a series.
    reader : str, optional
        Name of the reader, as in Ptychodus' settings or file dialogs.
    positions : Path, optional
        File of the positions.

    Raises
    ------
    DataValueError
        If no reader can read it, there is none of that name, or several read it differently.
    """
    path = _member(path)
    found = _tried(DIFFRACTION, path, reader, lambda strategy: _dataset(strategy, path))
    companions = _readers_of_positions(positions) if len(found) > 1 and positions is not None else set()

    def merit(reading: _Reading[Any]) -> tuple[bool, int]:
        return reading.name in companions, _known(reading.value)

    # Of equals the one of the plainest name: 'TIFF' and not that of one beamline.
    best = max(found, key=lambda reading: (merit(reading), -len(reading.name)))
    rivals = [other for other in found if merit(other) == merit(best)]
    if len({_shape(other.value) for other in rivals}) > 1:
        each = '; '.join(f'{other.name}: {"×".join(map(str, _shape(other.value)))}' for other in rivals)
        raise DataValueError(
            f'{path} is read differently by readers of Ptychodus ({each}); name one by --reader.'
        )
    _tell(path, 'Patterns', best, found, '--reader')
    dataset = best.value
    facts = compat.detector_facts(dataset.get_metadata())
    pixel = facts.pixel_width_m, facts.pixel_height_m
    if len(found) > 1 and facts.photon_energy_eV is None and facts.detector_distance_m is None:
        # Such a reader has the size of its own detector built in, and the file may be of another one.
        pixel = None, None
    geometry = Geometry(facts.photon_energy_eV, facts.detector_distance_m, *pixel)
    bad = dataset.get_bad_pixels()
    counts, indexes = _stack(dataset, path, best.name)
    height, width = counts.shape[-2:]
    middle = facts.centre
    return MeasuredPatterns(
        counts,
        indexes,
        np.asarray(bad, dtype=bool) if bad is not None and np.any(bad) else None,
        geometry,
        centre=None if middle is None or not (0 < middle[0] < height and 0 < middle[1] < width) else middle,
    )


def read_positions(
    path: Path, reader: str | None = None, count: int | None = None, *, strict: bool = True
) -> MeasuredPositions:
    """Read positions by a reader of Ptychodus, in metres.

    Of several that can read the file it is the one that finds as many positions as there are patterns.

    Parameters
    ----------
    reader : str, optional
        Name of the reader.
    count : int, optional
        Number of patterns.
    strict : bool
        Whether a reader of that name must be there; otherwise any that can read the file may.

    Raises
    ------
    DataValueError
        As for :func:`read_patterns`.
    """
    names = [name for name, _, _ in _readers(POSITIONS)]
    if reader is not None and not strict and not any(reader.casefold() == name.casefold() for name in names):
        reader = None
    found = _tried(POSITIONS, path, reader, lambda strategy: _sequence(strategy, path))
    fitting = [reading for reading in found if len(reading.value.x_m) == count] or found
    best = fitting[0]
    for other in fitting[1:]:
        same = len(other.value.x_m) == len(best.value.x_m) and np.allclose(
            [other.value.x_m, other.value.y_m], [best.value.x_m, best.value.y_m]
        )
        if not same:
            raise DataValueError(
                f'{path} is read differently by the readers {best.name} and {other.name} of Ptychodus; name '
                'one by --positions-reader.'
            )
    _tell(path, 'Positions', best, found, '--positions-reader')
    return MeasuredPositions(best.value.x_m, best.value.y_m, best.value.indexes)


def read_probe(path: Path, reader: str | None = None) -> MeasuredProbe:
    """Read the first coherent mode of a probe, with all its incoherent ones, by a reader of Ptychodus.

    Raises
    ------
    DataValueError
        As for :func:`read_patterns`.
    """
    best, *_ = found = _tried(PROBE, path, reader, lambda strategy: strategy.read(path))
    _tell(path, 'The probe', best, found, '--probe FILE::KEY')
    array = np.asarray(best.value.get_array())
    while array.ndim > 3:
        array = array[0]
    pixel = None
    try:
        geometry = best.value.get_pixel_geometry()
    except ValueError:
        geometry = None
    if geometry is not None and geometry.height_m > 0 and geometry.width_m > 0:
        pixel = float(geometry.height_m), float(geometry.width_m)
    return MeasuredProbe(array, pixel)


def _member(path: Path) -> Path:
    """Return a member of the series that a folder holds; any other path as it is."""
    if not path.is_dir():
        return path
    files = sorted(item for item in path.iterdir() if item.is_file() and not item.name.startswith('.'))
    kinds = {item.suffix.casefold() for item in files}
    if not files or len(kinds) > 1:
        raise DataValueError(
            f'{path} holds {len(files)} files of {len(kinds)} kinds; name the file of the patterns, or any '
            'member of their series.'
        )
    return files[0]


@cache
def _readers(kind: str) -> list[tuple[str, str, Any]]:
    """Return name, title and strategy of each reader of Ptychodus."""
    with _silent():
        chooser = getattr(compat.file_readers(), f'{kind}_file_readers')
    return [(plugin.simple_name, plugin.display_name, plugin.strategy) for plugin in chooser]


def _candidates(kind: str, path: Path, reader: str | None) -> Iterator[tuple[str, Any]]:
    """Yield the readers to try: the named one, or those for files of such names."""
    readers = _readers(kind)
    if reader is not None:
        word = reader.casefold()
        chosen = [(name, s) for name, title, s in readers if word in (name.casefold(), title.casefold())]
        if not chosen:
            raise DataValueError(
                f'{_host()} has no reader {shown(reader)} for {kind.replace("_", " ")} files; it has '
                f'{", ".join(sorted(name for name, _, _ in readers))}.'
            )
        yield from chosen[:1]
        return
    matching = [(name, s) for name, title, s in readers if _is_for(title, path)]
    if not matching and path.is_file() and h5py.is_hdf5(path):
        matching = [(name, s) for name, title, s in readers if HDF5_NAMES.search(title)]
    yield from matching


def _is_for(title: str, path: Path) -> bool:
    """Return whether the name of a file is one of those at the end of a reader's title, ``(*.h5 *.hdf5)``."""
    patterns = re.findall(r'\*\.\w+', title)
    return any(fnmatch.fnmatch(path.name.casefold(), pattern.casefold()) for pattern in patterns)


def _tried(kind: str, path: Path, reader: str | None, read: Callable[[Any], T]) -> list[_Reading[T]]:
    """Return what each reader makes of a file; there must be one that can read it."""
    found: list[_Reading[T]] = []
    reasons = []
    for name, strategy in _candidates(kind, path, reader):
        try:
            with _silent():
                found.append(_Reading(name, read(strategy)))
        except EngineError:
            raise
        except Exception as error:  # noqa: BLE001  a reader may fail in any way on files of others
            reasons.append(f'{name}: {_reason(error)}')
    if not found:
        what = kind.replace('_', ' ')
        if not reasons:
            raise DataValueError(
                f'{path} is of no kind that {_host()} has a reader of {what} files for; name its arrays as '
                'FILE::KEY.'
            )
        who = f'the reader {reader}' if reader else f'any of the {len(reasons)} readers of {what} files'
        raise DataValueError(f'{path} cannot be read by {who} of {_host()} ({"; ".join(reasons)}).')
    return found


def _tell(path: Path, what: str, best: _Reading[T], found: Iterable[_Reading[T]], flag: str) -> None:
    others = [other.name for other in found if other.name != best.name]
    also = f' ({", ".join(others)} can read them too: {flag})' if others else ''
    logger.info("%s: %s are read by Ptychodus' reader %s%s.", path, what.lower(), best.name, also)


@contextmanager
def _silent() -> Iterator[None]:
    """Keep to ourselves what readers say of files that are not theirs."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _readers_of_positions(path: Path) -> set[str]:
    """Return the names of the readers that find positions in a file."""
    try:
        return {
            reading.name
            for reading in _tried(POSITIONS, path, None, lambda strategy: _sequence(strategy, path))
        }
    except EngineError:
        return set()


def _dataset(strategy: Any, path: Path) -> Any:
    dataset = strategy.read(path)
    if len(dataset) == 0:
        raise ValueError('it holds no patterns')
    n, height, width = _shape(dataset)
    if min(n, height, width) < 1:
        raise ValueError(f'its patterns have shape {(n, height, width)}')
    return dataset


def _sequence(strategy: Any, path: Path) -> compat.Positions:
    sequence = strategy.read(path)
    if len(sequence) == 0:
        raise ValueError('it holds no positions')
    found = compat.positions_of(sequence)
    if not np.isfinite([found.x_m, found.y_m]).all():
        raise ValueError('its positions are not finite')
    return found


def _shape(dataset: Any) -> tuple[int, int, int]:
    metadata = dataset.get_metadata()
    numbers = getattr(metadata, 'num_patterns_per_array', None)
    n = sum(numbers) if numbers is not None else sum(array.get_num_patterns() for array in dataset)
    extent = metadata.detector_extent
    return int(n), int(extent.height_px), int(extent.width_px)


def _known(dataset: Any) -> int:
    """Return how much a reader finds of an experiment in a file, to prefer one that was made for it."""
    facts = compat.detector_facts(dataset.get_metadata())
    bad = dataset.get_bad_pixels()
    found = (facts.photon_energy_eV, facts.detector_distance_m, facts.centre)
    return sum(fact is not None for fact in found) + bool(bad is not None and np.any(bad))


def _stack(dataset: Any, path: Path, reader: str) -> tuple[StoredStack, npt.NDArray[np.int64]]:
    """Return the patterns of all arrays of a dataset, to be read once they are needed, and their indexes."""
    arrays = list(dataset)
    source = f'{path} ({reader})'
    try:
        with _silent():
            indexes = np.concatenate([np.asarray(array.get_indexes(), np.int64) for array in arrays])
            first = np.asarray(arrays[0].get_patterns())
    except Exception as error:
        raise _unreadable(source, error) from error
    shape = (len(indexes), *first.shape[-2:])

    def read() -> Backing:
        whole = staging(shape, first.dtype, source, "Ptychodus' reader reads it whole")
        start = 0
        for number, array in enumerate(arrays):
            try:
                with _silent():
                    block = first if number == 0 else np.asarray(array.get_patterns())
            except Exception as error:
                raise _unreadable(source, error) from error
            if block.shape[1:] != shape[1:] or start + len(block) > len(whole.array):
                raise DataValueError(
                    f'{source}: {array.get_label()} has shape {block.shape}, which does not belong to '
                    f'patterns of {shape}.'
                )
            whole.array[start : start + len(block)] = block
            start += len(block)
            whole.release()
        if start != len(whole.array):
            raise DataValueError(f'{source}: there are {start} patterns but {len(whole.array)} indexes.')
        return whole

    return StoredStack(shape, first.dtype, read, source), indexes


def _unreadable(source: str, error: Exception) -> DataValueError:
    return DataValueError(
        f'{source} cannot be read ({printable(str(error) or type(error).__name__, REASON)}).'
    )


def _reason(error: Exception) -> str:
    return printable(str(error) or type(error).__name__, REASON)


def _host() -> str:
    return f'Ptychodus {compat.ptychodus_version()}'
