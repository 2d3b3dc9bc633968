"""Small fixed data sets for tests: the first patterns of a scan, the same bytes wherever they are made."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import subprocess
import time
import zipfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ConfigError, DataKeyError, DataValueError
from ..formats.npz import ArrayHeader, read_headers
from ..formats.stack_files import open_npz_stack
from ..io.atomic import atomic_path
from ..physics.forward import predict_intensity
from ..physics.geometry import place_patches
from ..scan.raw_data import RawData
from ..version import __version__

__all__ = ['MINIMUM_SUBSET', 'make_fixture', 'pattern_correlations']

logger = logging.getLogger('ptychopinn.data')

MINIMUM_SUBSET = 16
"""Fewest positions of a fixture."""

VERSION = '1.0'
"""Of the sidecar."""

OPTIONAL = ('xcoords_start', 'ycoords_start', 'scan_index', 'dataset_index', 'bad_pixels', 'Y')
COLUMNS = ('xcoords', 'ycoords', *OPTIONAL[:4])

CONVERSIONS = {
    'counts': 'square root of counts',
    'normalised': 'normalised amplitudes scaled to the stated photons',
}
"""What makes amplitudes of the patterns of each domain."""

DUBIOUS_CORRELATION = 0.9


def make_fixture(
    source: Path | str,
    output: Path | str,
    subset_size: int = 64,
    metadata_out: Path | str | None = None,
) -> dict[str, Any]:
    """Write the first positions of a scan as a canonical NPZ file, and a JSON file that describes it.

    The NPZ holds ``diffraction`` (n, N, N) float32, ``probeGuess`` and ``objectGuess`` complex64 in the shape
    of the source, ``xcoords`` and ``ycoords`` float64, the optional keys of the source, and ``_metadata``
    with the order of axes. The same source
    gives the same bytes: members are stored as they are, in a fixed order, dated 1980-01-01.

    Parameters
    ----------
    source : Path
        An NPZ scan (``specs/data_contracts.md``), in the legacy axis order too, with ``objectGuess``.
    output : Path
        The NPZ file to write.
    subset_size : int
        Positions to keep, from 16 to as many as there are.
    metadata_out : Path, optional
        The JSON file; None for `output` with the suffix ``.json``. ``SOURCE_DATE_EPOCH`` sets its date.

    Returns
    -------
    dict
        What the JSON file holds.

    Raises
    ------
    DataFileNotFoundError
        If there is no source.
    DataKeyError
        If it lacks a key.
    DataValueError
        If its arrays contradict each other, or `subset_size` is out of range.
    ConfigError
        If source, output and JSON file are not three files.
    """
    source, output = Path(source), Path(output)
    sidecar = output.with_suffix('.json') if metadata_out is None else Path(metadata_out)
    if len({path.resolve() for path in (source, output, sidecar)}) < 3:
        raise ConfigError(
            f'The source {source}, the output {output} and the description {sidecar} are not three files; '
            'give names that differ.'
        )
    created = _creation_date()
    raw = _source(source, subset_size)
    subset = raw.select(np.arange(subset_size))
    found = read_headers(source)
    arrays = _canonical_arrays(subset, found)
    with atomic_path(output) as temporary:
        temporary.write_bytes(_npz_bytes({**arrays, '_metadata': _stated(subset)}))
    record = {
        'version': VERSION,
        'created': created,
        'generator_script': 'ptychopinn make-fixture (ptycho_engine/upstream/fixture.py)',
        'generator_commit': _commit(),
        'source_dataset': source.name,
        'source_sha256': _checksum(source),
        'subset_strategy': 'first_n_positions',
        'subset_size': subset_size,
        'transformations': _transformations(source, raw, subset, arrays, found),
        'sha256_checksum': _checksum(output),
        'validation_notes': _validation_notes(subset),
    }
    with atomic_path(sidecar) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + '\n', encoding='utf-8')
    return record


def _source(source: Path, subset_size: int) -> RawData:
    """Return the scan of which the first positions are taken, if it has so many and an object."""
    raw = RawData.from_file(source)
    if raw.objectGuess is None:
        raise DataKeyError(
            f"{source} lacks 'objectGuess'; a fixture needs the object that its patterns are of."
        )
    if not MINIMUM_SUBSET <= subset_size <= len(raw):
        raise DataValueError(
            f'A fixture of {subset_size} positions was asked for; expected {MINIMUM_SUBSET} to {len(raw)}, '
            f'the number of positions in {source}.'
        )
    return raw


def pattern_correlations(raw: RawData) -> npt.NDArray[np.float64]:
    """Return, for each pattern (n,), its correlation with the one that object, probe and its position give.

    A pattern that stands beside another's position correlates far less. The object must be known.
    """
    patches = raw.generate_grouped_data(raw.N, use_groups_cache=False)['Y']
    assert patches is not None
    placement = place_patches(raw.xcoords, raw.ycoords, raw.N)
    probe = raw.probeGuess.astype(np.complex128)
    valid = raw.valid
    found = np.empty(len(raw))
    for i in range(len(raw)):
        rate = predict_intensity(patches[i : i + 1, :, :, 0], probe, placement.subpixel_shift[i : i + 1])[0]
        found[i] = np.corrcoef(np.sqrt(rate[valid]), raw.diffraction[i : i + 1][0][valid])[0, 1]
    return found


def _canonical_arrays(raw: RawData, found: Mapping[str, ArrayHeader]) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of the fixture in the order in which they are written."""
    assert raw.objectGuess is not None
    arrays: dict[str, npt.NDArray[Any]] = {
        'diffraction': np.asarray(raw.diffraction[:]),
        'probeGuess': raw.probeGuess.reshape(found['probeGuess'].shape),
        'objectGuess': raw.objectGuess,
        'xcoords': raw.xcoords,
        'ycoords': raw.ycoords,
    }
    for name in OPTIONAL:
        value = getattr(raw, name)
        if name in found and value is not None:
            arrays[name] = np.asarray(value)
    return arrays


def _stated(raw: RawData) -> npt.NDArray[Any]:
    """Return what the fixture says of its patterns, which its shapes do not where there are N of them."""
    stated = {'axis_order': 'n,H,W'}
    if raw.counted:
        stated['measurement_domain'] = 'amplitude'
    return np.array(json.dumps(stated))


def _npz_bytes(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Return an NPZ file whose bytes depend on the arrays only, not on a clock or a compressor."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, 'w', zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(
                member, np.asarray(array, order='C'), version=(1, 0), allow_pickle=False
            )
            info = zipfile.ZipInfo(f'{name}.npy', date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system = 3
            info.external_attr = 0o644 << 16
            archive.writestr(info, member.getvalue())
    return stream.getvalue()


def _transformations(
    source: Path,
    raw: RawData,
    subset: RawData,
    arrays: Mapping[str, npt.NDArray[Any]],
    found: Mapping[str, ArrayHeader],
) -> list[str]:
    """Say what was really done to the source."""
    key = 'diffraction' if 'diffraction' in found else 'diff3d'
    done = [f'the first {len(subset)} of {len(raw)} positions']
    if key != 'diffraction':
        done.append(f'{key} renamed diffraction')
    if raw.original_axis_order == 'H,W,n':
        done.append('diffraction transposed from (H, W, n) to (n, H, W)')
    if raw.original_domain in CONVERSIONS:
        done.append(f'diffraction: {CONVERSIONS[raw.original_domain]}')
    if _bad_pixels_hold_values(source, key, subset):
        done.append('diffraction set to 0 in bad pixels')
    if 'bad_pixels' in found and len(found['bad_pixels'].shape) > 2:
        done.append('bad_pixels of all patterns joined in one mask')
    for name in COLUMNS:
        if name in found and len(found[name].shape) > 1:
            done.append(f'{name} flattened from {found[name].shape}')
    for name, array in arrays.items():
        before = found[key if name == 'diffraction' else name].dtype
        if before != array.dtype:
            done.append(f'{name} cast from {before} to {array.dtype}')
    done.append('_metadata says what the patterns are and the order of their axes')
    done += [f'{name} left out' for name in sorted(set(found) - set(arrays) - {key, '_metadata'})]
    return done


def _bad_pixels_hold_values(source: Path, key: str, subset: RawData) -> bool:
    if subset.bad_pixels is None:
        return False
    stack = open_npz_stack(source, key)
    stored = stack.frames_last() if subset.original_axis_order == 'H,W,n' else stack
    return bool(stored[: len(subset)][:, subset.bad_pixels].any())


def _validation_notes(raw: RawData) -> list[str]:
    correlation = pattern_correlations(raw)
    if correlation.min() < DUBIOUS_CORRELATION:
        logger.warning(
            'The patterns of the fixture do not all fit their positions: pattern %d correlates by %.3f with '
            'the one computed from object, probe and position.',
            int(correlation.argmin()),
            correlation.min(),
        )
    range_ = f'lowest {correlation.min():.4f}, mean {correlation.mean():.4f}'
    return [
        'arrays checked against DATA-001: shapes, types, lengths, finite and non-negative amplitudes',
        f'amplitudes correlate with those computed from object, probe and position: {range_}',
    ]


def _checksum(path: Path) -> str:
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def _creation_date() -> str:
    """Return the date in UTC, that of ``SOURCE_DATE_EPOCH`` where it is set (reproducible-builds.org)."""
    stated = os.environ.get('SOURCE_DATE_EPOCH')
    try:
        seconds = int(time.time()) if stated is None else int(stated)
        return datetime.fromtimestamp(seconds, UTC).strftime('%Y-%m-%dT%H:%M:%SZ')
    except (ValueError, OverflowError, OSError):
        raise ConfigError(
            f'SOURCE_DATE_EPOCH is {stated!r}; expected seconds since 1970, or no such variable.'
        ) from None


def _commit() -> str:
    """Return the commit of the checkout that this file belongs to; outside of one, the version."""
    here = Path(__file__).resolve()
    try:
        # A checkout may also hold an installed copy of this file without tracking it.
        _git(here.parent, 'ls-files', '--error-unmatch', here.name)
        return _git(here.parent, 'rev-parse', 'HEAD')
    except (OSError, subprocess.SubprocessError):
        return f'none (ptycho_engine {__version__})'


def _git(folder: Path, *arguments: str) -> str:
    command = ['git', '-C', str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
