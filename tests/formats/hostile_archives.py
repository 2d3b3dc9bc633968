"""Models and checkpoints that nobody should trust, each wrong in one way."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from itertools import repeat
from pathlib import Path

import h5py
import numpy as np

Members = dict[str, bytes]

MODEL, MODEL_1, CHECKPOINT = 'model of format 2', 'model of format 1', 'checkpoint'
MIB = 1 << 20


def unzip(data: bytes) -> Members:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return {name: file.read(name) for name in file.namelist()}


def pack(members: Members | list[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    pairs = members.items() if isinstance(members, dict) else members
    # Deflated, but not made smaller: that would take most of the time of the tests.
    with zipfile.ZipFile(buffer, 'w') as file:
        for name, data in pairs:
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.compress_type = method
            file.writestr(info, data, compresslevel=0 if method == zipfile.ZIP_DEFLATED else None)
    return buffer.getvalue()


def seal(members: Members) -> Members:
    """Make the checksums right again: a hostile author can do that too."""
    manifest = json.loads(members['manifest.json'])
    manifest['sha256'] = {
        name: hashlib.sha256(data).hexdigest() for name, data in members.items() if name != 'manifest.json'
    }
    return {**members, 'manifest.json': json.dumps(manifest).encode()}


def replaced(member: str, data: bytes) -> Callable[[Members], bytes]:
    return lambda members: pack(seal({**members, member: data}))


def stated(member: str, **values: object) -> Callable[[Members], bytes]:
    """Change entries of a JSON object; 'model__N' is the entry N of the entry model."""

    def build(members: Members) -> bytes:
        content = json.loads(members[member])
        for name, value in values.items():
            *outer, key = name.split('__')
            target = content
            for step in outer:
                target = target[step]
            target[key] = value
        changed = {**members, member: json.dumps(content).encode()}
        return pack(changed if member == 'manifest.json' else seal(changed))

    return build


def raw_manifest(data: bytes) -> Callable[[Members], bytes]:
    return lambda members: pack({**members, 'manifest.json': data})


def extra(name: str) -> Callable[[Members], bytes]:
    return lambda members: pack({**members, name: b'x'})


def central(offset: int, form: str, value: int) -> Callable[[Members], bytes]:
    """Change a field of the first entry of the table of members."""

    def build(members: Members) -> bytes:
        data = bytearray(pack(members))
        struct.pack_into(form, data, data.index(b'PK\1\2') + offset, value)
        return bytes(data)

    return build


def both_headers(central_offset: int, local_offset: int, value: int) -> Callable[[Members], bytes]:
    def build(members: Members) -> bytes:
        data = bytearray(pack(members))
        struct.pack_into('<H', data, data.index(b'PK\1\2') + central_offset, value)
        struct.pack_into('<H', data, local_offset, value)
        return bytes(data)

    return build


def bomb(member: str, pattern: bytes, mebibytes: int) -> Callable[[Members], bytes]:
    """A member that unpacks to very much; its checksum is right."""

    def build(members: Members) -> bytes:
        size = mebibytes * MIB // len(pattern) * len(pattern)
        block = pattern * (3 * MIB // len(pattern))
        whole, rest = divmod(size, len(block))
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        # After a full flush the packer has forgotten what was before: the next block packs to the same bytes.
        packed = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
        body = packed * whole + packer.compress(block[:rest]) + packer.flush()
        crc = 0
        for part in (*repeat(block, whole), block[:rest]):
            crc = zlib.crc32(part, crc)
        data = bytearray(pack([(member, b''), *((n, d) for n, d in members.items() if n != member)]))
        # The first member, empty and with the two bytes of an empty stream, becomes the bomb.
        name = len(member.encode())
        head = 30 + name
        grown = bytearray(data[:head] + body + data[head + 2 :])
        more = len(body) - 2
        struct.pack_into('<III', grown, 14, crc, len(body), size)
        at = grown.index(b'PK\1\2', head + len(body))
        table = at
        first = True
        while grown[at : at + 4] == b'PK\1\2':
            if first:
                struct.pack_into('<III', grown, at + 16, crc, len(body), size)
            else:
                where = struct.unpack_from('<I', grown, at + 42)[0]
                struct.pack_into('<I', grown, at + 42, where + more)
            first = False
            lengths = struct.unpack_from('<HHH', grown, at + 28)
            at += 46 + sum(lengths)
        struct.pack_into('<I', grown, at + 16, table)
        return bytes(grown)

    return build


def wrapped_bomb(members: Members) -> bytes:
    return bomb('wts.h5.zip', b'\0', 900)({'other.txt': b'x'})


def same_place(members: Members) -> bytes:
    """The second member lies where the first one does."""
    data = bytearray(pack(members))
    first = data.index(b'PK\1\2')
    second = data.index(b'PK\1\2', first + 4)
    data[second + 42 : second + 46] = data[first + 42 : first + 46]
    return bytes(data)


def zip64(where_off: int = 0, offset_off: int = 0, count: int | None = None) -> Callable[[Members], bytes]:
    """A true zip with a false 64-bit table."""

    def build(members: Members) -> bytes:
        data = pack(members)
        end = data.rindex(b'PK\5\6')
        *_, total, size, offset, _ = struct.unpack('<4sHHHHIIH', data[end:])
        number = total if count is None else count
        record = struct.pack(
            '<4sQHHIIQQQQ', b'PK\6\6', 44, 45, 45, 0, 0, number, number, size, offset + offset_off
        )
        locator = struct.pack('<4sIQI', b'PK\6\7', 0, end + where_off, 1)
        return data[:end] + record + locator + data[end:]

    return build


def many_members(members: Members) -> bytes:
    return pack({**members, **{f'{index}.txt': b'' for index in range(30_000)}})


def other_local_name(members: Members) -> bytes:
    data = bytearray(pack(members))
    data[30:31] = b'M'
    return bytes(data)


def npy(array: np.ndarray, pickled: bool = False) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=pickled)
    return buffer.getvalue()


def npy_header(header: bytes) -> bytes:
    return b'\x93NUMPY\x01\x00' + struct.pack('<H', len(header)) + header


def spoilt_probe(value: complex, dtype: type = np.complex64) -> Callable[[Members], bytes]:
    def build(members: Members) -> bytes:
        probe = np.load(io.BytesIO(members['probe.npy'])).astype(dtype)
        probe[0, 3, 4] = value
        return replaced('probe.npy', npy(probe))(members)

    return build


def spoilt_weights(value: float, member: str = 'wts.safetensors') -> Callable[[Members], bytes]:
    """The last number of the member becomes another."""

    def build(members: Members) -> bytes:
        data = members[member]
        return replaced(member, data[:-4] + struct.pack('<f', value))(members)

    return build


def header(change: Callable[[dict], object], member: str = 'wts.safetensors') -> Callable[[Members], bytes]:
    """Change the header of a safetensors member; what `change` returns replaces it."""

    def build(members: Members) -> bytes:
        data = members[member]
        size = int.from_bytes(data[:8], 'little')
        entries = json.loads(data[8 : 8 + size])
        entries = change(entries) or entries
        text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
        text += b' ' * (-len(text) % 8)
        return replaced(member, len(text).to_bytes(8, 'little') + text + data[8 + size :])(members)

    return build


def first(**values: object) -> Callable[[dict], None]:
    return lambda entries: entries[min(entries)].update(values)


def hdf5(
    write: Callable[[h5py.File], object], member: str = 'wts.h5', **options: object
) -> Callable[[Members], bytes]:
    """Change a member of HDF5, or write it anew where `options` say how."""

    def build(members: Members) -> bytes:
        buffer = io.BytesIO(b'' if options else members[member])
        with h5py.File(buffer, 'w' if options else 'r+', **options) as file:
            if options:
                with h5py.File(io.BytesIO(members[member]), 'r') as old:
                    for name in old:
                        old.copy(name, file)
            write(file)
        return replaced(member, buffer.getvalue())(members)

    return build


KERNEL = 'autoencoder/encoder1b/kernel'


def again(make: Callable[[h5py.Group, str, tuple[int, ...]], object]) -> Callable[[h5py.File], None]:
    """Put something else of the same name and shape in the place of a weight."""

    def write(file: h5py.File) -> None:
        shape = file[KERNEL].shape
        del file[KERNEL]
        make(file, KERNEL, shape)

    return write


def virtual(file: h5py.Group, name: str, shape: tuple[int, ...], source: str = '.') -> None:
    layout = h5py.VirtualLayout(shape, 'f4')
    layout[...] = h5py.VirtualSource(source, name, shape, 'f4')
    file.create_virtual_dataset(name, layout)


def external(path: str) -> Callable[[h5py.Group, str, tuple[int, ...]], object]:
    return lambda file, name, shape: file.create_dataset(
        name, shape, 'f4', external=[(path, 0, h5py.h5f.UNLIMITED)]
    )


def nested(file: h5py.File) -> None:
    group = file
    for _ in range(3000):
        group = group.create_group('g')


def circle(file: h5py.File) -> None:
    file['autoencoder/again'] = file['/']


def bytes_of(member: str, change: Callable[[bytearray], object]) -> Callable[[Members], bytes]:
    def build(members: Members) -> bytes:
        data = bytearray(members[member])
        data = bytearray(change(data) or data)
        return replaced(member, bytes(data))(members)

    return build


def tree_in_circle(data: bytearray) -> None:
    """The first group's list of members names itself as its part."""
    at = data.index(b'TREE')
    struct.pack_into('<Q', data, at + 32, at)


def many_children(data: bytearray) -> None:
    struct.pack_into('<H', data, data.index(b'TREE') + 6, 65535)


def heap_far_away(data: bytearray) -> None:
    struct.pack_into('<Q', data, data.index(b'HEAP') + 24, 1 << 62)


def endless_message(data: bytearray) -> None:
    """A continuation of the root's header that is the header itself."""
    root = struct.unpack_from('<Q', data, 64)[0]
    struct.pack_into('<HHB3xQQ', data, root + 16, 0x10, 16, 0, root, 1 << 40)


def deep(depth: int) -> bytes:
    return b'[' * depth + b']' * depth


WEIGHT = {'dtype': 'F32', 'shape': [1], 'data_offsets': [0, 4]}

CASES: dict[str, tuple[str, Callable[[Members], bytes]]] = {
    # The zip itself
    'cut off': (MODEL, lambda m: pack(m)[:-30]),
    'bytes behind it': (MODEL, lambda m: pack(m) + b'more'),
    'bytes ahead of it': (MODEL, lambda m: b'#!/bin/sh\n' + pack(m)),
    'a member twice': (
        MODEL,
        lambda m: pack({**m, 'config2json': b'{}'}).replace(b'config2json', b'config.json'),
    ),
    'a name with a NUL': (MODEL, lambda m: pack(m).replace(b'config.json', b'config\0json')),
    'an absolute name': (MODEL, extra('/etc/cron.d/evil')),
    'a name with backslashes': (MODEL, extra('..\\..\\evil')),
    'a name above': (MODEL, extra('../../evil')),
    'a name with escapes': (MODEL, extra('\x1b]0;title\x07')),
    'an encrypted member': (MODEL, central(8, '<H', 1)),
    'a patched member': (MODEL, central(8, '<H', 0x20)),
    'strong encryption': (MODEL, central(8, '<H', 0x40)),
    'packed by bzip2': (MODEL, lambda m: pack(m, zipfile.ZIP_BZIP2)),
    'packed by lzma': (MODEL, lambda m: pack(m, zipfile.ZIP_LZMA)),
    'packed in an unknown way': (MODEL, both_headers(10, 8, 99)),
    'two members at one place': (MODEL, same_place),
    'a smaller size than the true one': (MODEL, central(24, '<I', 5)),
    'a larger size than the true one': (MODEL, central(24, '<I', 3000)),
    'a packed size beyond the file': (MODEL, central(20, '<I', 1 << 30)),
    'a member beyond the file': (MODEL, central(42, '<I', 1 << 30)),
    'a wrong CRC': (MODEL, central(16, '<I', 1)),
    'another name in the local header': (MODEL, other_local_name),
    'a 64-bit table elsewhere': (MODEL, zip64(where_off=-10)),
    'a 64-bit table of another place': (MODEL, zip64(offset_off=1 << 40)),
    'a 64-bit table of other length': (MODEL, zip64(count=1 << 50)),
    '30 000 members': (MODEL, many_members),
    'several disks': (MODEL, central(34, '<H', 3)),
    'weights of 900 MiB of zeros': (MODEL, bomb('wts.safetensors', b'\0', 900)),
    'a history of 900 MiB': (MODEL, bomb('history.json', b'[],', 900)),
    'a manifest of 500 MiB': (MODEL, bomb('manifest.json', b'[],', 500)),
    'a model of 900 MiB in another zip': (MODEL, wrapped_bomb),
    'a zip in a zip in a zip': (MODEL, lambda m: pack({'wts.h5.zip': pack({'wts.h5.zip': pack(m)})})),
    # The manifest
    'a deep manifest': (MODEL, raw_manifest(deep(100_000))),
    'a manifest of a million lists': (MODEL, raw_manifest(b'{"a":[' + b'[],' * MIB + b'[]]}')),
    'an unending text': (MODEL, raw_manifest(b'{"' + b'\\"' * MIB)),
    'a manifest in UTF-16': (MODEL, lambda m: raw_manifest(m['manifest.json'].decode().encode('utf-16'))(m)),
    'a manifest that is no text': (MODEL, raw_manifest(b'{"a": "\xff\xfe"}')),
    'a key twice': (MODEL, raw_manifest(b'{"format": 1, "format": "ptychopinn-model"}')),
    'a number of 5000 digits': (MODEL, raw_manifest(b'{"version": ' + b'9' * 5000 + b'}')),
    'version true': (MODEL_1, stated('manifest.json', version=True)),
    'version 3': (MODEL, stated('manifest.json', version=3)),
    'checksums as a list': (MODEL, stated('manifest.json', sha256=[])),
    'a backend that is a number': (MODEL, stated('manifest.json', backend=5)),
    'a backend of 900 characters': (MODEL, stated('manifest.json', backend='x' * 900)),
    'a text of 2 MB': (MODEL, stated('manifest.json', backend='x' * 2 * MIB)),
    'trained on numbers': (MODEL, stated('manifest.json', trained_on=[1, 2])),
    'trained on true patterns': (
        MODEL,
        stated(
            'manifest.json',
            trained_on=[{'name': 'a', 'patterns': True, 'mean_counts': 1, 'step_px': 1, 'identity': 'a'}],
        ),
    ),
    'other models': (MODEL, stated('manifest.json', models=['\x1b[0m'])),
    # The configuration
    'N of 0': (MODEL, stated('config.json', model__N=0)),
    'N without end': (MODEL, stated('config.json', model__N=1 << 62)),
    'N with a fraction': (MODEL, stated('config.json', model__N=32.0)),
    'a network that is a list': (MODEL, stated('config.json', model=[1])),
    'gridsize true': (MODEL, stated('config.json', model__gridsize=True)),
    'filters without end': (MODEL, stated('config.json', model__n_filters_scale=10**9)),
    'a learning rate NaN': (MODEL, stated('config.json', learning_rate=float('nan'))),
    'an optimiser that is a tree': (MODEL, stated('config.json', optimizer={'a': ['b'] * 1000})),
    'a filter without end': (MODEL, stated('config.json', model__gaussian_smoothing_sigma=1e30)),
    # The scales
    'a scale NaN': (MODEL, stated('scale.json', probe_scale=float('nan'))),
    'an infinite scale': (MODEL, lambda m: replaced('scale.json', b'{"probe_scale": 1e999}')(m)),
    'a scale of 0': (MODEL, stated('scale.json', input_scale=0)),
    'a scale of 1e300': (MODEL, stated('scale.json', mean_counts=1e300)),
    'a scale true': (MODEL, stated('scale.json', mean_counts=True)),
    'no scale': (MODEL, replaced('scale.json', b'{}')),
    # The probe
    'a probe of one number': (MODEL, replaced('probe.npy', npy(np.array(1 + 1j, np.complex64)))),
    'a probe with code': (MODEL, replaced('probe.npy', npy(np.array([{}], object), True))),
    'a probe of brackets': (MODEL, replaced('probe.npy', npy_header(b'(' * 900 + b'\n'))),
    'a probe of minus signs': (MODEL, replaced('probe.npy', npy_header(b'-' * 900 + b'1\n'))),
    'a probe of 16 TB': (
        MODEL,
        replaced(
            'probe.npy',
            npy_header(b"{'descr': '<c8', 'fortran_order': False, 'shape': (2000000, 1000, 1000), }\n"),
        ),
    ),
    'a probe of integers': (MODEL, replaced('probe.npy', npy(np.ones((1, 32, 32), int)))),
    'a probe of another size': (MODEL, replaced('probe.npy', npy(np.ones((1, 16, 16), np.complex64)))),
    'a probe of 20 000 modes': (MODEL, replaced('probe.npy', npy(np.ones((20_000, 32, 32), np.complex64)))),
    'a probe without modes': (MODEL, replaced('probe.npy', npy(np.ones((0, 32, 32), np.complex64)))),
    'a probe with NaN': (MODEL, spoilt_probe(complex('nan'))),
    'a probe beyond single precision': (MODEL, spoilt_probe(1e300, np.complex128)),
    # The history
    'a history of numbers': (MODEL, replaced('history.json', b'[1, 2]')),
    'a history of nulls': (MODEL, replaced('history.json', b'[null]')),
    'a history of texts': (MODEL, replaced('history.json', b'["a"]')),
    'a history that is an object': (MODEL, replaced('history.json', b'{}')),
    'an epoch 1e300': (MODEL, replaced('history.json', b'[{"epoch": 1e300}]')),
    'an epoch true': (MODEL, replaced('history.json', b'[{"epoch": true}]')),
    'no epoch': (MODEL, replaced('history.json', b'[{"training_loss": 1}]')),
    'a loss true': (MODEL, replaced('history.json', b'[{"epoch": 1, "training_loss": true}]')),
    'a loss NaN': (MODEL, replaced('history.json', b'[{"epoch": 1, "training_loss": NaN}]')),
    'a loss that is a list': (MODEL, replaced('history.json', b'[{"epoch": 1, "training_loss": [1]}]')),
    'a deep history': (MODEL, replaced('history.json', deep(50))),
    # Weights as safetensors
    'a weight NaN': (MODEL, spoilt_weights(float('nan'))),
    'an infinite weight': (MODEL, spoilt_weights(float('inf'))),
    'no weights': (MODEL, replaced('wts.safetensors', b'')),
    'a header without end': (MODEL, replaced('wts.safetensors', b'\xff' * 8 + b'{}')),
    'a header of a list': (MODEL, header(lambda _: b'[1]')),
    'a header of a million lists': (MODEL, header(lambda _: b'{"a":[' + b'[],' * MIB + b'[]]}')),
    'numbers beyond the end': (MODEL, header(first(data_offsets=[1 << 40, (1 << 40) + 4]))),
    'numbers that overlap': (MODEL, header(first(data_offsets=[0, 4]))),
    'offsets of texts': (MODEL, header(first(data_offsets=['a', 'b']))),
    'integers for weights': (MODEL, header(first(dtype='I32'))),
    'an unknown type': (MODEL, header(first(dtype='PICKLE'))),
    'a negative side': (MODEL, header(first(shape=[-1, 4]))),
    'a side without end': (MODEL, header(first(shape=[1 << 62, 1 << 62]))),
    'a weight too many': (MODEL, header(lambda entries: entries.update({'x/kernel': WEIGHT}))),
    'a weight that is not described': (MODEL, header(lambda entries: entries.update({'x': 1}))),
    'other metadata': (MODEL, header(lambda entries: entries.update({'__metadata__': [1]}))),
    # Weights as HDF5
    'a virtual dataset on itself': (MODEL_1, hdf5(again(virtual))),
    'a virtual dataset on another file': (
        MODEL_1,
        hdf5(again(lambda f, n, s: virtual(f, n, s, '/etc/passwd'))),
    ),
    'data in /etc/passwd': (MODEL_1, hdf5(again(external('/etc/passwd')))),
    'data in a pipe': (MODEL_1, hdf5(again(external('/proc/self/fd/0')))),
    'a link to another file': (
        MODEL_1,
        hdf5(again(lambda f, n, _: f.__setitem__(n, h5py.ExternalLink('/etc/passwd', '/x')))),
    ),
    'a soft link': (
        MODEL_1,
        hdf5(again(lambda f, n, _: f.__setitem__(n, h5py.SoftLink('/autoencoder/phase_outerb/kernel')))),
    ),
    'a group in itself': (MODEL_1, hdf5(circle)),
    'a dataset twice': (
        MODEL_1,
        hdf5(again(lambda f, n, _: f.__setitem__(n, f['autoencoder/phase_outerb/kernel']))),
    ),
    'a pit of groups': (MODEL_1, hdf5(nested)),
    'weights of 4 TB in chunks': (
        MODEL_1,
        hdf5(again(lambda f, n, _: f.create_dataset(n, (1 << 40,), 'f4', chunks=(1 << 20,)))),
    ),
    'compressed weights': (
        MODEL_1,
        hdf5(again(lambda f, n, s: f.create_dataset(n, s, 'f4', compression='gzip'))),
    ),
    'weights that are texts': (
        MODEL_1,
        hdf5(again(lambda f, n, s: f.create_dataset(n, s, h5py.string_dtype()))),
    ),
    'weights that are references': (
        MODEL_1,
        hdf5(again(lambda f, n, s: f.create_dataset(n, s, h5py.ref_dtype))),
    ),
    'weights with big ends': (MODEL_1, hdf5(again(lambda f, n, s: f.create_dataset(n, s, '>f4')))),
    'weights that were never written': (MODEL_1, hdf5(again(lambda f, n, s: f.create_dataset(n, s, 'f4')))),
    'weights with attributes': (MODEL_1, hdf5(lambda f: f[KERNEL].attrs.update({'x': 'y' * 1000}))),
    'a shared type': (MODEL_1, hdf5(lambda f: f.__setitem__('type', np.dtype('f4')))),
    'HDF5 of a later kind': (MODEL_1, hdf5(lambda _: None, libver='latest')),
    'HDF5 with a block ahead': (MODEL_1, hdf5(lambda _: None, userblock_size=512)),
    'HDF5 cut off': (MODEL_1, bytes_of('wts.h5', lambda data: data[: len(data) // 2])),
    'HDF5 of 100 bytes': (MODEL_1, bytes_of('wts.h5', lambda data: data[:100])),
    'a list of members in itself': (MODEL_1, bytes_of('wts.h5', tree_in_circle)),
    '65535 members': (MODEL_1, bytes_of('wts.h5', many_children)),
    'names far away': (MODEL_1, bytes_of('wts.h5', heap_far_away)),
    'an endless header': (MODEL_1, bytes_of('wts.h5', endless_message)),
    'an HDF5 weight NaN': (MODEL_1, hdf5(lambda f: f[KERNEL].__setitem__(Ellipsis, np.nan))),
    # The rest of a checkpoint
    'epochs without end': (CHECKPOINT, stated('progress.json', epoch=1e300)),
    'a trillion epochs': (CHECKPOINT, stated('progress.json', epoch=10**12)),
    'epochs true': (CHECKPOINT, stated('progress.json', epoch=True)),
    'a negative count': (CHECKPOINT, stated('progress.json', stale=-1)),
    'a best loss true': (CHECKPOINT, stated('progress.json', best_loss=True)),
    'an infinite best loss': (CHECKPOINT, stated('progress.json', best_loss=float('inf'))),
    'a schedule of lists': (CHECKPOINT, stated('progress.json', schedule={'rate': [1]})),
    'a schedule of a thousand numbers': (
        CHECKPOINT,
        stated('progress.json', schedule={str(i): 1 for i in range(1000)}),
    ),
    'data that are a list': (CHECKPOINT, stated('progress.json', data=['abc'])),
    'progress that is a list': (CHECKPOINT, replaced('progress.json', b'[]')),
    'last weights NaN': (CHECKPOINT, spoilt_weights(float('nan'), 'current.safetensors')),
    'a memory NaN': (CHECKPOINT, spoilt_weights(float('nan'), 'optimiser.safetensors')),
    'a memory of 4 TB': (
        CHECKPOINT,
        header(lambda entries: entries[min(entries)].update(shape=[1 << 40]), 'optimiser.safetensors'),
    ),
    'a memory of 900 MiB': (CHECKPOINT, bomb('optimiser.safetensors', b'\0', 900)),
}


def write_all(folder: Path, good: dict[str, bytes]) -> dict[str, str]:
    """Write every case as a file; return their names and which kind each is."""
    found = {}
    for index, (title, (kind, build)) in enumerate(CASES.items()):
        name = f'{index:03d} {title.replace("/", " ")}.zip'
        (folder / name).write_bytes(build(unzip(good[kind])))
        found[name] = kind
    return found


REASONS = {
    'cut off': 'does not end as a zip does',
    'bytes behind it': 'does not end as a zip does',
    'bytes ahead of it': 'something beside its members',
    'a member twice': 'holds a member twice',
    'a name with a NUL': 'a strange name',
    'an absolute name': 'a path to another place',
    'a name with backslashes': 'a strange name',
    'a name above': 'a path to another place',
    'an encrypted member': 'a member is encrypted',
    'packed by bzip2': 'packed in an unknown way',
    'two members at one place': 'two members lie at one place',
    'a packed size beyond the file': 'two members lie at one place',
    'a member beyond the file': 'reaches into the table of members',
    'a 64-bit table of another place': 'something beside its members',
    '30 000 members': 'more than 1000 members',
    'weights of 900 MiB of zeros': 'would unpack to 900 MiB',
    'a deep manifest': 'nested more than 16 deep',
    'a manifest of a million lists': 'more than 200000 elements',
    'a key twice': 'a key is named twice',
    'a number of 5000 digits': 'is too large',
    'version true': 'version True',
    'a text of 2 MB': 'more than 1000 characters',
    'trained on true patterns': 'patterns is True; expected a whole number',
    'N without end': 'is 4611686018427387904',
    'a filter without end': 'is 1e+30',
    'a learning rate NaN': 'NaN is no number',
    'a scale of 1e300': 'mean_counts is 1e+300',
    'a scale true': 'mean_counts is True',
    'a probe with code': 'it holds no numbers',
    'a probe of 16 TB': 'not its stated size',
    'a probe with NaN': 'the probe holds NaN or infinite numbers',
    'a history of nulls': 'None in place of an epoch',
    'an epoch 1e300': 'epoch is 1e+300',
    'an epoch true': 'epoch is True',
    'a weight NaN': 'holds NaN or infinite numbers',
    'a header of a million lists': 'at most',
    'integers for weights': 'something else than numbers',
    'a virtual dataset on itself': 'a virtual dataset',
    'data in /etc/passwd': 'data in other files',
    'a link to another file': 'it holds links',
    'a soft link': 'it holds links',
    'a group in itself': 'two of its parts lie at one place',
    'weights of 4 TB in chunks': 'data in chunks',
    'compressed weights': 'compressed data',
    'weights that are texts': 'something else than numbers',
    'a list of members in itself': 'two of its parts lie at one place',
    'a trillion epochs': 'epoch is 1000000000000',
}
"""Words by which some of them are refused, so that each check is one that works by itself."""
