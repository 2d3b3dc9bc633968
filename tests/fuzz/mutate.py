"""Seeded damage to files: to their bytes, to what their containers hold, and to the values inside.

A mutation is a function of the good bytes and a random generator alone, so that its seed repeats a
case.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import warnings
import zipfile
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np

Rng = np.random.Generator
Mutation = Callable[[bytes, Rng], bytes]


# Bytes ---------------------------------------------------------------------------------------------------


def flip_bits(data: bytes, rng: Rng) -> bytes:
    """Flip one to eight bits anywhere."""
    return _flip(data, rng, [(0, len(data))])


def _flip(data: bytes, rng: Rng, ranges: list[tuple[int, int]]) -> bytes:
    changed = bytearray(data)
    sizes = np.array([stop - start for start, stop in ranges], float)
    if not sizes.sum():
        return data
    for _ in range(int(rng.integers(1, 9))):
        start, stop = ranges[int(rng.choice(len(ranges), p=sizes / sizes.sum()))]
        changed[int(rng.integers(start, stop))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def cut_short(data: bytes, rng: Rng) -> bytes:
    """Keep a beginning of the file; often nearly all, or nearly nothing."""
    part = rng.beta(0.5, 0.5)
    return data[: int(part * len(data))]


def flip_or_cut(data: bytes, rng: Rng) -> bytes:
    """Flip bits, or cut the end off."""
    return (flip_bits if rng.random() < 0.7 else cut_short)(data, rng)


def overwrite(data: bytes, rng: Rng) -> bytes:
    """Fill a stretch with zeros, ones or noise, or write an extreme integer over one place."""
    changed = bytearray(data)
    start = int(rng.integers(max(len(data), 1)))
    match int(rng.integers(4)):
        case 0:
            stretch = bytes(int(rng.integers(1, 512)))
        case 1:
            stretch = b'\xff' * int(rng.integers(1, 64))
        case 2:
            stretch = rng.bytes(int(rng.integers(1, 512)))
        case _:
            extreme = int(rng.choice([0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1]))
            stretch = extreme.to_bytes(8, 'little')
    changed[start : start + len(stretch)] = stretch
    return bytes(changed[: max(len(data), 1)])


def move_blocks(data: bytes, rng: Rng) -> bytes:
    """Cut a block out and put it, once or more often, elsewhere."""
    size = int(rng.integers(1, 1 + max(len(data) // 8, 1)))
    start, place = (int(value) for value in rng.integers(0, max(len(data) - size, 1), 2))
    block = data[start : start + size]
    rest = data[:start] + data[start + size :]
    return rest[:place] + block * int(rng.integers(0, 3)) + rest[place:]


def append_junk(data: bytes, rng: Rng) -> bytes:
    """Put bytes before or behind the file."""
    junk = rng.bytes(int(rng.integers(1, 2048)))
    return junk + data if rng.random() < 0.3 else data + junk


BYTES: tuple[Mutation, ...] = (
    flip_bits,
    flip_bits,
    cut_short,
    overwrite,
    overwrite,
    move_blocks,
    append_junk,
)


def damage_bytes(data: bytes, rng: Rng) -> bytes:
    """Damage the bytes in one of the ways above."""
    return BYTES[int(rng.integers(len(BYTES)))](data, rng)


# Values --------------------------------------------------------------------------------------------------

STRANGE_TEXT = (
    '',
    'x',
    '\x1b[31m',
    'a\nb',
    'µ',
    '\ud800',
    '\x00',
    '9' * 5000,
    'nan',
    '../../etc/passwd',
    ' ',
)


def strange_value(rng: Rng) -> Any:
    """Return a JSON value that hardly anybody expects."""
    values: tuple[Any, ...] = (
        *(None, True, False, 0, -1, 1, 2**31, -(2**63), 10**30, 1e300, -1e300, 1e-320, float('nan')),
        *(float('inf'), [], {}, [[]], {'': {}}, [1, 2, 3], ['a', None], {'a': [0] * 50}),
        *STRANGE_TEXT,
        _nested(int(rng.integers(2, 200))),
    )
    return values[int(rng.integers(len(values)))]


def _nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


def strange_array(rng: Rng, like: np.ndarray | None = None) -> np.ndarray:
    """Return an array of another type or shape, or with other values, than the one it stands for."""
    shape = (4, 4, 4) if like is None else like.shape
    base = np.zeros(shape) if like is None or like.dtype.kind not in 'biufc' else like
    with warnings.catch_warnings(), np.errstate(all='ignore'):
        warnings.simplefilter('ignore')
        arrays: tuple[Callable[[], np.ndarray], ...] = (
            lambda: np.array(0.0),
            lambda: np.zeros(0),
            lambda: np.zeros((0, *shape[1:])),
            lambda: np.zeros((1,) * 9),
            lambda: base.astype(np.complex128) * 1j,
            lambda: np.full(shape, np.nan),
            lambda: np.full(shape, np.inf),
            lambda: base * 1e300,
            lambda: base * 1e-300,
            lambda: -np.abs(np.asarray(base, complex).real) - 1,
            lambda: base.astype(np.float16),
            lambda: np.asarray(base, complex).real.astype(np.int64),
            lambda: np.asarray(base, complex).real.astype(np.uint64) - np.uint64(1),
            lambda: base.astype(bool),
            lambda: base[..., np.newaxis],
            lambda: base.T,
            lambda: np.atleast_1d(base)[:1],
            lambda: np.concatenate([base, base]) if base.ndim else base,
            lambda: np.array(['a', 'b']),
            lambda: np.array([b'\xff\xfe', b'']),
            lambda: np.zeros(3, dtype=[('a', 'f4'), ('b', 'i8', 2)]),
            lambda: np.array(['2001-01-01'], 'datetime64[D]'),
            lambda: np.zeros(shape, '>f4'),
        )
        return np.asarray(arrays[int(rng.integers(len(arrays)))]())


def _replace_in_json(value: Any, rng: Rng) -> Any:
    """Replace, remove or add one value somewhere inside."""
    if isinstance(value, dict) and value and rng.random() < 0.8:
        key = list(value)[int(rng.integers(len(value)))]
        match int(rng.integers(6)):
            case 0:
                return {name: inner for name, inner in value.items() if name != key}
            case 1:
                return {**value, STRANGE_TEXT[int(rng.integers(len(STRANGE_TEXT)))]: strange_value(rng)}
            case _:
                return {**value, key: _replace_in_json(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.8:
        place = int(rng.integers(len(value)))
        return [*value[:place], _replace_in_json(value[place], rng), *value[place + 1 :]]
    return strange_value(rng)


def damage_json(data: bytes, rng: Rng) -> bytes:
    """Change a value of a JSON text, or its characters."""
    choice = rng.random()
    if choice < 0.3:
        return damage_text(data, rng)
    if choice < 0.35:
        # Deeper than any parser that calls itself can go, or more elements than the text seems to hold.
        place, count = int(rng.integers(len(data))), int(rng.integers(1000, 200_000))
        return (
            data[:place]
            + (b'[' * count, b'{"a":' * count, b'[],' * count)[int(rng.integers(3))]
            + data[place:]
        )
    return json.dumps(_replace_in_json(json.loads(data), rng)).encode('utf-8', 'surrogatepass')


def damage_text(data: bytes, rng: Rng) -> bytes:
    """Change words, lines or bytes of a settings file."""
    if rng.random() < 0.3:
        return damage_bytes(data, rng)
    text = data.decode()
    match int(rng.integers(5)):
        case 0:
            words = list(re.finditer(r'[\w.+-]+', text))
            word = words[int(rng.integers(len(words)))]
            new = STRANGE_TEXT[int(rng.integers(len(STRANGE_TEXT)))]
            text = text[: word.start()] + new + text[word.end() :]
        case 1:
            lines = text.splitlines()
            lines.insert(int(rng.integers(len(lines) + 1)), lines[int(rng.integers(len(lines)))])
            text = '\n'.join(lines)
        case 2:
            lines = text.splitlines()
            del lines[int(rng.integers(len(lines)))]
            text = '\n'.join(lines)
        case 3:
            marks = [place for place, letter in enumerate(text) if letter in '[]{}=:"\',#&*!|>-']
            place = marks[int(rng.integers(len(marks)))]
            text = text[:place] + '[]{}=:"\'&*!\t'[int(rng.integers(12))] + text[place + 1 :]
        case _:
            marks = [place for place, letter in enumerate(text) if letter in '[]{}=:"\'']
            place = marks[int(rng.integers(len(marks)))]
            text = text[:place] + text[place + 1 :]
    return text.encode('utf-8', 'surrogatepass')


# Containers ----------------------------------------------------------------------------------------------


def _members(data: bytes) -> dict[str, tuple[bytes, int]]:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return {info.filename: (file.read(info), info.compress_type) for info in file.infolist()}


def _zip(members: dict[str, tuple[bytes, int]]) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, 'w') as file:
        warnings.simplefilter('ignore')
        for name, (content, method) in members.items():
            file.writestr(zipfile.ZipInfo(name), content, method)
    return buffer.getvalue()


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _damage_npy(content: bytes, rng: Rng) -> bytes:
    if rng.random() < 0.5:
        with contextlib.suppress(ValueError):
            return _npy(strange_array(rng, np.load(io.BytesIO(content), allow_pickle=False)))
    if rng.random() < 0.6:
        # The header says what is to be allocated.
        return _flip(content, rng, [(0, min(128, len(content)))])
    return damage_bytes(content, rng)


def damage_npz(data: bytes, rng: Rng) -> bytes:
    """Damage an NPZ file: its bytes, or a member of a zip that is otherwise right."""
    if rng.random() < 0.4:
        return damage_bytes(data, rng)
    members = _members(data)
    name = list(members)[int(rng.integers(len(members)))]
    content, method = members[name]
    match int(rng.integers(8)):
        case 0:
            del members[name]
        case 1:
            members[('µ', '../', '\x1b[31m', '/')[int(rng.integers(4))] + name] = members.pop(name)
        case 2:
            members[name] = content, (zipfile.ZIP_STORED, zipfile.ZIP_BZIP2)[int(rng.integers(2))]
        case _:
            members[name] = _damage_npy(content, rng), method
    return _zip(members)


def damage_sealed(data: bytes, rng: Rng) -> bytes:
    """Damage a model or checkpoint: its bytes, or a member whose seal is made to fit again."""
    if rng.random() < 0.3:
        return damage_bytes(data, rng)
    members = _members(data)
    name = list(members)[int(rng.integers(len(members)))]
    content, method = members[name]
    if name.endswith('.json'):
        content = damage_json(content, rng)
    elif name.endswith('.npy'):
        content = _damage_npy(content, rng)
    elif name.endswith('.safetensors') and rng.random() < 0.5:
        content = _damage_safetensors(content, rng)
    elif name.endswith('.h5') and rng.random() < 0.7:
        content = damage_hdf5(content, rng)
    else:
        content = damage_bytes(content, rng)
    members[name] = content, method
    if name != 'manifest.json':
        manifest = json.loads(members['manifest.json'][0])
        manifest['sha256'][name] = hashlib.sha256(content).hexdigest()
        members['manifest.json'] = json.dumps(manifest).encode(), members['manifest.json'][1]
    return _zip(members)


def _damage_safetensors(content: bytes, rng: Rng) -> bytes:
    size = int.from_bytes(content[:8], 'little')
    head = damage_json(content[8 : 8 + size], rng)
    stated = len(head) if rng.random() < 0.8 else int(rng.integers(0, 2**63))
    return stated.to_bytes(8, 'little') + head + content[8 + size :]


def damage_hdf5(data: bytes, rng: Rng) -> bytes:
    """Damage an HDF5 file: bytes of its structure, any bytes, or an item, replaced by a strange one."""
    choice = rng.random()
    if choice < 0.35:
        return _flip(data, rng, _structure(data))
    if choice < 0.6:
        return damage_bytes(data, rng)
    buffer = io.BytesIO(data)
    with h5py.File(buffer, 'r+') as file:
        _replace_item(file, rng)
    return buffer.getvalue()


def _structure(data: bytes) -> list[tuple[int, int]]:
    """Return the stretches of a file that hold no elements of datasets."""
    taken: list[tuple[int, int]] = []

    def note(_: str, item: Any) -> None:
        if not isinstance(item, h5py.Dataset):
            return
        if item.chunks is not None:
            infos = [item.id.get_chunk_info(k) for k in range(item.id.get_num_chunks())]
            taken.extend((info.byte_offset, info.byte_offset + info.size) for info in infos)
        elif item.id.get_offset() is not None:
            taken.append((item.id.get_offset(), item.id.get_offset() + item.id.get_storage_size()))

    with h5py.File(io.BytesIO(data), 'r') as file:
        file.visititems(note)
    ranges, last = [], 0
    for start, stop in sorted(taken):
        if start > last:
            ranges.append((last, start))
        last = max(last, stop)
    return [*ranges, (last, len(data))] if last < len(data) else ranges


def _replace_item(file: h5py.File, rng: Rng) -> None:
    names: list[str] = []
    file.visit(names.append)
    name = names[int(rng.integers(len(names)))]
    item = file[name]
    if rng.random() < 0.3:
        _strange_attribute(item if rng.random() < 0.5 else file, rng)
        return
    like = np.asarray(item[()]) if isinstance(item, h5py.Dataset) else None
    del file[name]
    match int(rng.integers(12)):
        case 0:
            return
        case 1:
            file.create_group(name)
        case 2:
            file[name] = h5py.SoftLink('/nowhere')
        case 3:
            file[name] = h5py.SoftLink(f'/{name}')
        case 4:
            file[name] = h5py.ExternalLink('nowhere.h5', '/data')
        case 5:
            file[name] = h5py.Empty('f4')
        case 6:
            file.create_dataset(name, (2**20, 2**20, 2**10), 'f4', chunks=(1, 64, 64))
        case 7:
            file[name] = np.dtype('f4')
        case _:
            array = strange_array(rng, like)
            if array.dtype.kind == 'U':
                array = array.astype('S')
            if array.dtype.kind == 'M':
                array = array.astype('i8')
            file[name] = array


def _strange_attribute(item: Any, rng: Rng) -> None:
    names = list(item.attrs) or ['name']
    name = names[int(rng.integers(len(names)))]
    values: tuple[Any, ...] = (
        *(np.bytes_(b'5 \xb5m'), 'a\nb', '\x1b]0;t\x07', '', -1, 0, 1e300, np.nan, np.inf, np.zeros(3)),
        *(np.bytes_(b'a\x00b'), np.array(['a', 'b'], 'S'), h5py.Empty('f4'), 2**62, True, 'x' * 60000),
    )
    item.attrs[name] = values[int(rng.integers(len(values)))]
