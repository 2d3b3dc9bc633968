"""NPZ files: the pattern-key rule, the axis-order rule, and safe reading (DATA-001, FORMAT-001)."""

from __future__ import annotations

import json
import logging
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from ..blocks import Frames, block_length, blocks
from ..config.choices import AxisOrder
from ..errors import DataFileNotFoundError, DataKeyError, DataValueError
from ..io.atomic import atomic_path
from ..io.damage import DAMAGE, first_line, most_unpacked, reading
from ..io.npy import ArrayHeader, read_body, read_header
from ..io.pickled_text import MOST_BYTES, pickled_text
from ..io.regular import FileState, open_regular
from ..io.text import decode

__all__ = [
    'PATTERN_KEYS',
    'ArrayHeader',
    'choose_pattern_key',
    'decide_axis_order',
    'npz_headers',
    'open_npz',
    'parse_metadata',
    'read_arrays',
    'read_headers',
    'require_keys',
    'write_arrays',
]

logger = logging.getLogger('ptychopinn.data')

COHERENT = 'opr_modes', 'opr_weights'
"""(K, N, N) modes and (n, K) weights of what is added to the first mode of `probeGuess` at each position."""

PATTERN_KEYS = ('diffraction', 'diff3d')

LONGEST_NUMBER = 32
"""Bytes of the longest that NumPy has; only texts take more."""

MOST_MEMBERS = 10_000

ENCRYPTED = 1
"""Flag of a member of a zip file."""

METADATA_CHARACTERS = 4 << 20
"""Of the JSON of ``_metadata``; what JSON makes of them takes a hundred times the room."""


class Member(NamedTuple):
    """An array of an NPZ file."""

    header: ArrayHeader
    info: zipfile.ZipInfo
    offset: int
    """Bytes of the member before the data."""


COMPRESSED = {b'BZh': 'bunzip2', b'\x1f\x8b': 'gunzip', b'\xfd7zXZ': 'unxz', b'\x28\xb5\x2f\xfd': 'unzstd'}
"""First bytes of files that are packed as a whole, and what unpacks them."""


def choose_pattern_key(
    names: Iterable[str], source: str, shapes: Mapping[str, tuple[int, ...]] | None = None
) -> str:
    """Return the key that holds the patterns: ``diffraction``, else the legacy ``diff3d``.

    Raises
    ------
    DataKeyError
        If neither is there. Where `shapes` tell which arrays are patterns and positions, the remedy has them.
    """
    present = list(names)
    for key in PATTERN_KEYS:
        if key in present:
            return key
    patterns, positions = _named_by_shape(shapes or {}) or ('PATTERNS', 'POSITIONS')
    raise DataKeyError(
        f"{source} holds no diffraction patterns: expected the key 'diffraction' (or the legacy "
        f"'diff3d'), found {', '.join(sorted(present)) or 'nothing'}. Arrays of other names are opened as "
        f'`ptychopinn reconstruct {source}::{patterns} --positions {source}::{positions} --output DIR`.'
    )


def _named_by_shape(shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, str] | None:
    """Return the names of patterns and of positions; None where shapes leave a choice."""
    squeezed = {name: tuple(side for side in shape if side != 1) for name, shape in shapes.items()}
    stacks = [name for name, shape in squeezed.items() if len(shape) == 3 and shape[1] == shape[2] > 2]
    if len(stacks) != 1:
        return None
    pairs = [name for name, shape in squeezed.items() if shape == (squeezed[stacks[0]][0], 2)]
    return (stacks[0], pairs[0]) if len(pairs) == 1 else None


def require_keys(present: Iterable[str], needed: Sequence[str], source: str) -> None:
    """Check that a file holds what is needed of it.

    Raises
    ------
    DataKeyError
        If something is missing; the sentence names it, all that is needed and all that was found.
    """
    found = sorted(present)
    missing = [key for key in needed if key not in found]
    if missing:
        raise DataKeyError(
            f'{source} lacks {", ".join(repr(key) for key in missing)}; expected {", ".join(needed)}, found '
            f'{", ".join(found) or "nothing"}.'
        )


def decide_axis_order(
    shape: tuple[int, ...], n_positions: int, source: str, axis_order: AxisOrder | None = None
) -> AxisOrder:
    """Decide the axis order of a stack of patterns from the number of scan positions.

    Only the number of positions decides: first axis equal to it and square frames is canonical; last axis
    equal to it and square frames is the legacy order; where both fit (a cube) the canonical order is taken
    with a warning. An explicit `axis_order` overrides the rule but is still checked.

    Raises
    ------
    DataValueError
        If the array is not 3-D or no order fits.
    """
    if len(shape) != 3:
        raise DataValueError(
            f'{source}: patterns have {len(shape)} dimensions (shape {shape}); expected 3, (n, N, N), or '
            f'a grid of frames with one of {n_positions} positions for each; reshape(-1, N, N) makes them so.'
        )
    canonical = shape[0] == n_positions and shape[1] == shape[2]
    legacy = shape[2] == n_positions and shape[0] == shape[1]
    if axis_order is not None:
        if (canonical if axis_order == 'n,H,W' else legacy) is False:
            raise DataValueError(
                f'{source}: patterns of shape {shape} cannot be read in the order {axis_order!r} with '
                f'{n_positions} positions and square frames.'
            )
        return axis_order
    if canonical and legacy:
        logger.warning(
            '%s: patterns of shape %s and %d positions fit both axis orders; taking (n, H, W). '
            "Pass axis_order='H,W,n' (ptychopinn prepare --axis-order H,W,n) if that is wrong.",
            source,
            shape,
            n_positions,
        )
        return 'n,H,W'
    if canonical:
        return 'n,H,W'
    if legacy:
        return 'H,W,n'
    raise DataValueError(
        f'{source}: patterns of shape {shape} fit neither (n, N, N) nor the legacy (N, N, n) with '
        f'{n_positions} scan positions; patterns must be square, one for each position.'
    )


@contextmanager
def open_npz(path: Path, complaint: str, state: FileState | None = None) -> Iterator[zipfile.ZipFile]:
    """Open an NPZ file, whose state must still be `state` if that is given.

    Raises
    ------
    DataFileNotFoundError, DataValueError
        As :func:`~..io.regular.open_regular`, or with the `complaint` if the file is damaged.
    """
    with reading(complaint), open_regular(path, state) as file:
        begin = file.read(6)
        for mark, program in COMPRESSED.items():
            if begin.startswith(mark):
                raise ValueError(f'it is compressed as a whole; unpack it with {program}')
        with zipfile.ZipFile(file) as archive:
            yield archive


def npz_headers(archive: zipfile.ZipFile) -> dict[str, Member]:
    """Return what the arrays of an open NPZ file are, by name and in their order; no array is read.

    Raises
    ------
    ValueError, and what a damaged zip raises
        If a member is damaged, an array is not just as large as its member, or two have one name.
    """
    infos = archive.infolist()
    if len(infos) > MOST_MEMBERS:
        raise ValueError(f'it has {len(infos)} members')
    members = {}
    for info in infos:
        if info.filename.endswith('.npy'):
            name = info.filename.removesuffix('.npy')
            if name in members:
                raise ValueError(f'it holds {name!r} twice; save it with one array of each name')
            try:
                if info.flag_bits & ENCRYPTED:
                    raise ValueError('it is encrypted')
                with archive.open(info) as stream:
                    header = read_header(cast(BinaryIO, stream))
                    offset = stream.tell()
            except DAMAGE as error:
                raise ValueError(f'{name!r} is damaged: {first_line(error)}') from error
            if not header.dtype.hasobject:
                _require_size(archive, info, header, offset, name)
            members[name] = Member(header, info, offset)
    return members


def _require_size(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, header: ArrayHeader, offset: int, name: str
) -> None:
    """Check what an array declares against what its member can hold."""
    if offset + header.nbytes != info.file_size:
        raise ValueError(
            f'{name!r} declares {header.nbytes} bytes of data, but its member holds {info.file_size - offset}'
        )
    assert archive.fp is not None
    file_size = os.fstat(archive.fp.fileno()).st_size
    packed = min(info.compress_size, file_size)
    most = packed if info.compress_type == zipfile.ZIP_STORED else most_unpacked(packed)
    if info.file_size > most:
        raise ValueError(f'{name!r} declares {info.file_size} bytes, but only {packed} are stored of it')


def read_headers(path: Path) -> dict[str, ArrayHeader]:
    """Return what the arrays of an NPZ file are, by name and in their order; no array is read.

    Raises
    ------
    DataFileNotFoundError
        If there is no such file.
    DataValueError
        If the file is not an NPZ.
    """
    if not path.exists():
        raise DataFileNotFoundError(f'{path}: there is no such file; give the path of an NPZ file.')
    with open_npz(path, f'{path} is not a readable NPZ file') as archive:
        return {name: member.header for name, member in npz_headers(archive).items()}


def read_arrays(
    path: Path,
    needed: Sequence[str],
    optional: Sequence[str] = (),
    most: Mapping[str, int] | None = None,
) -> dict[str, npt.NDArray[Any]]:
    """Read the `needed` arrays of an NPZ file and those `optional` ones that are there; nothing is unpickled.

    An object-typed ``_metadata`` that holds one text, as the original PtychoPINN writes it, is read as that
    text (:func:`~..io.pickled_text.pickled_text`), and any other is skipped with a warning; any other
    object-typed member is refused. Each array that is read is checked against its checksum.

    Parameters
    ----------
    most : mapping, optional
        Elements that an array may have, by name; one with more is refused before it is read.

    Raises
    ------
    DataFileNotFoundError
        If there is no such file.
    DataKeyError
        If it lacks a needed array.
    DataValueError
        If the file is not an NPZ, or holds an array that only pickle could read or that is too large.
    """
    headers = read_headers(path)
    require_keys(headers, needed, str(path))
    pickled = [name for name, header in headers.items() if header.dtype.hasobject]
    for name in pickled:
        if name != '_metadata':
            raise DataValueError(
                f"{path}: the array '{name}' is pickled, which is never loaded; save it as a plain numeric "
                'array.'
            )
    wanted = [name for name in headers if name in {*needed, *optional} - {*pickled}]
    for name in wanted:
        limit = (most or {}).get(name)
        if limit is not None and max(headers[name].size, headers[name].nbytes // LONGEST_NUMBER) > limit:
            raise DataValueError(
                f'{path}: {name!r} has shape {headers[name].shape}; expected at most {limit} values beside '
                'patterns of that number and size.'
            )
    with open_npz(path, f'{path} is not a readable NPZ file') as archive:
        members = npz_headers(archive)
        arrays = {name: _read_member(archive, members[name], path, name) for name in wanted}
        if '_metadata' in pickled and '_metadata' in {*needed, *optional}:
            text = _pickled_text(archive, members['_metadata'], path)
            if text is None:
                logger.warning('%s: skipping _metadata, which is pickled and not just a text.', path)
            else:
                arrays['_metadata'] = np.array(text)
    return arrays


def _read_member(archive: zipfile.ZipFile, member: Member, path: Path, name: str) -> npt.NDArray[Any]:
    with reading(f'{path}: {name!r} is damaged'), archive.open(member.info) as stream:
        array = read_body(cast(BinaryIO, stream), read_header(cast(BinaryIO, stream)))
        # The checksum is looked at when the end is reached.
        if stream.read(1):
            raise ValueError('it is larger than its array')
    return array


def _pickled_text(archive: zipfile.ZipFile, member: Member, path: Path) -> str | None:
    with reading(f"{path}: '_metadata' is damaged"), archive.open(member.info) as stream:
        read_header(cast(BinaryIO, stream))
        text = pickled_text(stream.read(MOST_BYTES + 1))
    return text if text is None or len(text) <= METADATA_CHARACTERS else None


def write_arrays(
    path: Path, arrays: Mapping[str, npt.ArrayLike | Frames], *, compressed: bool = True
) -> None:
    """Write an NPZ file atomically: to a temporary name beside it, then renamed.

    Stacks of frames that are not in memory are written block by block.
    """
    compression = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, 'w', compression) as archive:
        for key, value in arrays.items():
            with archive.open(f'{key}.npy', 'w', force_zip64=True) as stream:
                if isinstance(value, np.ndarray) or not hasattr(value, 'shape'):
                    np.lib.format.write_array(cast(BinaryIO, stream), np.asarray(value), allow_pickle=False)
                else:
                    _write_frames(cast(BinaryIO, stream), cast(Frames, value))


def _write_frames(stream: BinaryIO, frames: Frames) -> None:
    header = {
        'descr': np.lib.format.dtype_to_descr(frames.dtype),
        'fortran_order': False,
        'shape': frames.shape,
    }
    np.lib.format.write_array_header_1_0(stream, header)
    for part in blocks(len(frames), block_length(frames.shape[-1])):
        stream.write(np.ascontiguousarray(frames[part]).data)


def parse_metadata(array: npt.NDArray[Any] | None, source: str) -> dict[str, Any]:
    """Return the JSON of a ``_metadata`` array; an empty dictionary where there is none.

    Raises
    ------
    DataValueError
        If the text is not a JSON object.
    """
    if array is None:
        return {}
    if array.nbytes > 4 * METADATA_CHARACTERS or array.dtype.kind not in 'SU':
        raise DataValueError(
            f'{source}: _metadata is of type {array.dtype} and shape {array.shape}; expected a text of JSON '
            f'of at most {METADATA_CHARACTERS >> 20} MiB.'
        )
    text = array.item() if array.ndim == 0 else ''.join(map(str, array.ravel()))
    if isinstance(text, bytes):
        text = decode(text)
    try:
        value = json.loads(str(text))
    except json.JSONDecodeError as error:
        raise DataValueError(f'{source}: _metadata is not JSON ({error}).') from error
    except (ValueError, RecursionError) as error:
        reason = 'a number is too long' if isinstance(error, ValueError) else 'it is nested too deeply'
        raise DataValueError(f'{source}: _metadata cannot be read: {reason}.') from error
    if not isinstance(value, dict):
        raise DataValueError(f'{source}: _metadata must be a JSON object, found {type(value).__name__}.')
    return value
