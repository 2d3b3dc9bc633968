"""Patterns that stay in their files (MEM-*)."""

import os
import re
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ptycho_engine.commands import main
from ptycho_engine.diagnostics.scan_checks import examine_scan
from ptycho_engine.errors import DataValueError, EngineError
from ptycho_engine.formats import npz, stack_files
from ptycho_engine.formats.diffraction_file import read_diffraction_file
from ptycho_engine.formats.stack_files import hdf5_patterns, hdf5_stack, open_npy_stack, open_npz_stack
from ptycho_engine.io.file_array import FileArray
from ptycho_engine.io.hdf5 import open_hdf5
from ptycho_engine.patterns import frame_stack as stored
from ptycho_engine.patterns.frame_stack import StoredStack
from ptycho_engine.patterns.known_patches import KnownPatches
from ptycho_engine.patterns.stack import Patterns
from ptycho_engine.scan.pretreatment import bin_scan
from ptycho_engine.scan.raw_data import RawData
from ptycho_engine.scan.scan import Scan
from ptycho_engine.upstream.memmap import MemmapDatasetBridge
from tests.conftest import small_scan

N, SIZE = 11, 16


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch):
    """Small stacks take the way of large ones: mapped, or staged in a file, several slabs at a time."""
    monkeypatch.setattr(stored, 'MEMORY_LIMIT_BYTES', 0)
    monkeypatch.setattr(stored, 'SLAB_BYTES', 3000)
    monkeypatch.setattr(stored, 'TURNED_FRAMES', 4)


@pytest.fixture(scope='module')
def frames():
    return np.random.default_rng(0).integers(0, 5000, (N, SIZE, SIZE)).astype(np.uint16)


def backing(stack: StoredStack):
    return stack._backing.get()


def check(stack: StoredStack, frames: np.ndarray) -> None:
    assert stack.shape == frames.shape
    assert stack.dtype == frames.dtype
    np.testing.assert_array_equal(stack[:], frames)
    np.testing.assert_array_equal(stack[[3, 1, 1]], frames[[3, 1, 1]])
    np.testing.assert_array_equal(stack[4], frames[4])
    np.testing.assert_array_equal(stack[2:5, 1:, :3], frames[2:5, 1:, :3])
    part = stack.select([9, 2, 5]).window(slice(2, 9), slice(3, 11))
    np.testing.assert_array_equal(part[:], frames[[9, 2, 5], 2:9, 3:11])
    np.testing.assert_array_equal(part.select([1]).window(slice(1, 3), slice(0, 2))[0], frames[2, 3:5, 3:5])


def is_read_from(stack: StoredStack, path: Path) -> bool:
    found = backing(stack)
    found = getattr(found, 'frames', found)
    return isinstance(found, FileArray) and found._path == path


@pytest.mark.parametrize('dtype', ['<u2', '>i4', '<f4', '<f8'])
@pytest.mark.parametrize('key', ['d', 'a_name_of_another_length'])
def test_mem_01_an_uncompressed_npz_member_is_read_where_it_lies(tmp_path, frames, dtype, key):
    path = tmp_path / 'x.npz'
    array = frames.astype(dtype)
    np.savez(path, before=np.arange(3.0), **{key: array}, after=np.arange(5))
    stack = open_npz_stack(path, key)
    check(stack, array)
    assert is_read_from(stack, path)


def test_mem_01_local_headers_with_other_extra_fields_and_zip64_are_understood(tmp_path, frames):
    path = tmp_path / 'x.npz'
    with zipfile.ZipFile(path, 'w') as archive:
        information = zipfile.ZipInfo('d.npy')
        information.extra = b'\x99\x99\x05\x00hello'
        with archive.open(information, 'w', force_zip64=True) as stream:
            np.lib.format.write_array(stream, frames)
    check(open_npz_stack(path, 'd'), frames)


@pytest.mark.parametrize('order', ['C', 'F'])
def test_mem_02_a_compressed_npz_member_is_staged_once(tmp_path, frames, order, monkeypatch):
    path = tmp_path / 'x.npz'
    np.savez_compressed(path, d=np.asarray(frames, order=order))
    scratch = tmp_path / 'scratch'
    scratch.mkdir()
    monkeypatch.setattr(tempfile, 'tempdir', str(scratch))
    stack = open_npz_stack(path, 'd')
    check(stack, frames)
    path.unlink()
    check(stack, frames)
    assert not list(scratch.iterdir())


@pytest.mark.parametrize('compressed', [False, True])
def test_mem_02_the_legacy_order_is_turned_once(tmp_path, frames, compressed):
    path = tmp_path / 'x.npz'
    save = np.savez_compressed if compressed else np.savez
    save(path, d=frames.transpose(1, 2, 0))
    turned = open_npz_stack(path, 'd').frames_last()
    check(turned, frames)
    assert backing(turned).array.flags.c_contiguous


def test_mem_01_npy_files_are_read_where_they_lie(tmp_path, frames):
    path = tmp_path / 'x.npy'
    for order in ('C', 'F'):
        np.save(path, np.asarray(frames, order=order))
        check(open_npy_stack(path), frames)
    assert is_read_from(open_npy_stack(path), path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataValueError, match=r'x\.npy is cut short'):
        open_npy_stack(path)[0]
    path.write_text('no')
    with pytest.raises(DataValueError, match=r'not a readable \.npy'):
        open_npy_stack(path)


@pytest.mark.parametrize(
    ('options', 'mapped'),
    [
        ({}, True),
        ({'userblock': 512}, True),
        ({'dtype': '>u4'}, True),
        ({'chunks': (3, 5, 16)}, False),
        ({'compression': 'lzf'}, False),
        ({'compression': 'gzip', 'chunks': (1, SIZE, SIZE)}, False),
    ],
)
def test_mem_01_and_02_hdf5_is_read_in_place_where_contiguous_and_else_staged(
    tmp_path, frames, options, mapped
):
    path = tmp_path / 'x.h5'
    userblock = options.pop('userblock', 0) if 'userblock' in options else 0
    array = frames.astype(options.pop('dtype', frames.dtype))
    with h5py.File(path, 'w', userblock_size=userblock) as file:
        file.create_dataset('entry/data', data=array, **options)
    with open_hdf5(path) as file:
        stack = hdf5_stack(file, 'entry/data')
    check(stack, array)
    assert is_read_from(stack, path) == mapped


def test_mem_01_a_dataset_that_was_never_written_reads_as_hdf5_says(tmp_path):
    path = tmp_path / 'x.h5'
    with h5py.File(path, 'w') as file:
        file.create_dataset('d', (3, 4, 4), 'f4', fillvalue=7)
    with open_hdf5(path) as file:
        stack = hdf5_stack(file, 'd')
    np.testing.assert_array_equal(stack[:], np.full((3, 4, 4), 7))


@pytest.mark.parametrize(
    ('shapes', 'sentence'),
    [
        ({'patterns': (3, 4)}, r'patterns have shape (3, 4) and numbers (3,); expected (n, h, w) and (n,)'),
        ({'numbers': (2,)}, r'patterns have shape (3, 4, 5) and numbers (2,); expected (n, h, w) and (n,)'),
        ({'patterns': (0, 4, 5), 'numbers': (0,)}, r'shape (0, 4, 5); the file holds no pattern'),
        ({'bad_pixels': (3, 4, 6)}, r'bad_pixels has shape (3, 4, 6); expected (4, 5), that of a pattern'),
    ],
)
def test_dir_01_patterns_agree_with_what_belongs_to_them(tmp_path, shapes, sentence):
    path = tmp_path / 'x.h5'
    for change in ({}, shapes):
        with h5py.File(path, 'w') as file:
            for name, shape in {
                'patterns': (3, 4, 5),
                'numbers': (3,),
                'bad_pixels': (4, 5),
                **change,
            }.items():
                file[name] = np.ones(shape, np.uint8)
        with open_hdf5(path) as file:
            if not change:
                assert hdf5_patterns(file, 'numbers').shape == (3, 4, 5)
            else:
                with pytest.raises(DataValueError, match=re.escape(f'{path}: ') + '.*' + re.escape(sentence)):
                    hdf5_patterns(file, 'numbers')


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_mem_05_patterns_are_indexed_like_the_array(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 100)))
    n, size = data.draw(st.integers(1, 9)), data.draw(st.sampled_from([4, 6]))
    counts = rng.integers(0, 100, (n, size, size))
    bad = rng.random((size, size)) < 0.2
    patterns = Patterns(StoredStack.of_array(counts), counts=True, bad_pixels=bad)
    expected = np.where(bad, 0, np.sqrt(counts, dtype=np.float32)).astype(np.float32)
    one = st.integers(-n, n - 1)
    key = data.draw(
        st.one_of(
            one,
            st.slices(n),
            st.lists(one, min_size=1, max_size=5).map(np.array),
            st.lists(st.lists(one, min_size=2, max_size=2), min_size=1, max_size=4).map(np.array),
            st.lists(st.booleans(), min_size=n, max_size=n).map(np.array),
        )
    )
    np.testing.assert_array_equal(patterns[key], expected[key])
    np.testing.assert_array_equal(np.asarray(patterns), expected)
    assert patterns[key].dtype == np.float32
    chosen = rng.integers(0, n, 4)
    np.testing.assert_array_equal(patterns.select(chosen).select([2, 0])[:], expected[chosen][[2, 0]])
    if isinstance(key, slice):
        np.testing.assert_array_equal(patterns[key, 1:3], expected[key, 1:3])


def test_mem_05_what_is_wrong_is_said_when_it_is_read(tmp_path):
    raw = small_scan(3, 32)
    amplitude = raw.diffraction.copy()
    amplitude[5, 3, 4] = np.nan
    path = tmp_path / 'x.npz'
    # Such a file is read as it is; what other files hold is looked at when they are opened (NPZ-11).
    stated = np.array('{"measurement_domain": "amplitude"}')
    np.savez(
        path,
        diffraction=amplitude,
        probeGuess=raw.probeGuess,
        xcoords=raw.xcoords,
        ycoords=raw.ycoords,
        _metadata=stated,
    )
    lazy = RawData.from_file(path, memory_limit=0)
    assert np.isfinite(lazy.diffraction[:5]).all()
    with pytest.raises(DataValueError, match=r'x\.npz: diffraction holds NaN'):
        lazy.diffraction[4:6]
    with pytest.raises(DataValueError, match='NaN'):
        RawData.from_file(path)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    legacy=st.booleans(),
    compressed=st.booleans(),
    kind=st.sampled_from(['amplitude', 'counts', 'float64']),
    masked=st.booleans(),
)
def test_mem_06_a_scan_is_the_same_in_memory_and_in_its_file(tmp_path, legacy, compressed, kind, masked):
    rng = np.random.default_rng(1)
    n, size = 7, 12
    counts = rng.integers(0, 900, (n, size, size)).astype(np.uint32)
    stored_ = counts if kind == 'counts' else np.sqrt(counts).astype('f4' if kind == 'amplitude' else 'f8')
    arrays = {
        'diffraction': stored_.transpose(1, 2, 0) if legacy else stored_,
        'probeGuess': np.ones((size, size), complex),
        'xcoords': rng.random(n),
        'ycoords': rng.random(n),
    }
    if masked:
        arrays['bad_pixels'] = rng.random((size, size)) < 0.2
    path = tmp_path / 'x.npz'
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    memory = RawData.from_file(path)
    lazy = RawData.from_file(path, memory_limit=0)
    assert isinstance(memory.diffraction, np.ndarray)
    assert isinstance(lazy.diffraction, Patterns)
    np.testing.assert_array_equal(lazy.diffraction[:], memory.diffraction)
    np.testing.assert_array_equal(lazy.select([4, 2]).diffraction[:], memory.select([4, 2]).diffraction)
    lazy.to_file(tmp_path / 'y.npz', compressed=compressed)
    again = RawData.from_file(tmp_path / 'y.npz')
    np.testing.assert_array_equal(again.diffraction, memory.diffraction)
    bridge = MemmapDatasetBridge(path)
    np.testing.assert_array_equal(bridge.get_patterns([[0, 1], [6, 2]]), memory.diffraction[[[0, 1], [6, 2]]])
    assert bridge.raw_data.diffraction is bridge.diffraction
    options = {'gridsize': 2, 'seed': 5, 'use_groups_cache': False}
    grouped, expected = (item.generate_grouped_data(size, 5, 4, **options) for item in (bridge, memory))
    assert grouped.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(grouped[name], value, err_msg=name)
    assert len(bridge) == n


@pytest.mark.parametrize('suffix', ['npy', 'h5'])
def test_mem_07_patterns_may_lie_in_a_file_of_their_own(tmp_path, frames, suffix):
    path = tmp_path / f'frames.{suffix}'
    if suffix == 'npy':
        np.save(path, frames)
    else:
        with h5py.File(path, 'w') as file:
            file['diff3d'] = frames
    rest = {'probeGuess': np.ones((SIZE, SIZE), complex), 'xcoords': np.arange(N), 'ycoords': np.arange(N)}
    np.savez(tmp_path / 'rest.npz', **rest)
    bridge = MemmapDatasetBridge(tmp_path / 'rest.npz', patterns_path=path)
    np.testing.assert_allclose(bridge.get_patterns([2, 0]) ** 2, frames[[2, 0]], rtol=1e-5)
    with pytest.raises(KeyError, match=r"rest\.npz holds no.*'diffraction'.*'diff3d'"):
        MemmapDatasetBridge(tmp_path / 'rest.npz')


@pytest.mark.parametrize('compressed', [False, True])
def test_mem_08_opening_reads_neither_patterns_nor_labels_nor_what_nobody_knows(
    tmp_path, monkeypatch, compressed
):
    raw = small_scan(3, 32)
    arrays = {name: getattr(raw, name) for name in ('diffraction', 'probeGuess', 'xcoords', 'ycoords')}
    save = np.savez_compressed if compressed else np.savez
    save(
        tmp_path / 'x.npz',
        **arrays,
        Y=np.zeros((9, 32, 32), complex),
        hobby=np.zeros(1000),
        _metadata=np.array('{"measurement_domain": "amplitude"}'),
    )

    def never(*arguments, **options):
        raise AssertionError('frames were read')

    read, real = [], npz._read_member
    monkeypatch.setattr(npz, '_read_member', lambda *given: [read.append(given[-1]), real(*given)][1])
    monkeypatch.setattr(StoredStack, '__getitem__', never)
    monkeypatch.setattr(stored, 'staging', never)
    monkeypatch.setattr(stack_files, 'staging', never)
    bridge = MemmapDatasetBridge(tmp_path / 'x.npz')
    Scan.from_raw(bridge.raw_data)
    assert sorted(read) == ['_metadata', 'probeGuess', 'xcoords', 'ycoords']


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(compressed=st.booleans(), dtype=st.sampled_from([np.complex64, np.complex128, np.float32]))
def test_mem_06_labels_are_the_same_in_memory_and_in_their_file(tmp_path, compressed, dtype):
    raw = small_scan(3, 32)
    labels = np.random.default_rng(0).standard_normal((9, 32, 32)).astype(dtype)
    path = tmp_path / 'x.npz'
    replace(raw, Y=labels).to_file(path, compressed=compressed)
    memory, lazy = RawData.from_file(path), RawData.from_file(path, memory_limit=0)
    assert isinstance(memory.Y, np.ndarray)
    assert isinstance(lazy.Y, KnownPatches)
    groups = np.array([[3, 1], [8, 8]])
    for one, other in (
        (lazy, memory),
        (lazy.select([4, 2, 8]), memory.select([4, 2, 8])),
        (bin_scan(Scan.from_raw(lazy), 2).raw, bin_scan(Scan.from_raw(memory), 2).raw),
    ):
        assert one.Y.dtype == other.Y.dtype == np.complex64
        assert isinstance(one.Y, KnownPatches)
        np.testing.assert_array_equal(one.Y, other.Y)
    np.testing.assert_array_equal(lazy.Y[groups], memory.Y[groups])
    options = {'K': 5, 'gridsize': 2, 'use_groups_cache': False}
    found, expected = (item.generate_grouped_data(32, **options)['Y'] for item in (lazy, memory))
    np.testing.assert_array_equal(found, expected)
    lazy.to_file(tmp_path / 'y.npz')
    np.testing.assert_array_equal(RawData.from_file(tmp_path / 'y.npz').Y, memory.Y)


def test_mem_05_what_is_wrong_with_labels_is_said_when_they_are_read(tmp_path):
    raw = small_scan(3, 32)
    labels = np.ones((9, 32, 32), complex)
    labels[5, 3, 4] = complex(0, np.inf)
    path = tmp_path / 'x.npz'
    arrays = {name: getattr(raw, name) for name in ('diffraction', 'probeGuess', 'xcoords', 'ycoords')}
    np.savez(path, **arrays, Y=labels)
    lazy = RawData.from_file(path, memory_limit=0)
    assert (lazy.Y[:5] == 1).all()
    for read in (
        lambda: lazy.Y[4:6],
        lambda: RawData.from_file(path),
        lambda: [*examine_scan(Scan.from_raw(lazy))],
    ):
        with pytest.raises(DataValueError, match=r'x\.npz: Y holds NaN or infinite values; correct them'):
            read()
    np.savez(path, **arrays, Y=labels[0])
    with pytest.raises(DataValueError, match=r'x\.npz: Y has shape \(32, 32\); expected \(n, N, N\)'):
        RawData.from_file(path)
    np.savez(path, **arrays, Y=np.full((9, 32, 32), 'a'))
    with pytest.raises(DataValueError, match=r"x\.npz: 'Y' is of type <U1; expected frames of numbers"):
        RawData.from_file(path)


def test_mem_01_a_bridge_has_the_names_of_the_original(tmp_path):
    raw = small_scan(points=3, size=32)
    raw.to_file(tmp_path / 'a.npz', compressed=False)
    bridge = MemmapDatasetBridge(tmp_path / 'a.npz')
    assert bridge.npz_path == tmp_path / 'a.npz'
    np.testing.assert_array_equal(bridge.diff3d[2], raw.diffraction[2])
    assert len(bridge.raw_data_torch) == len(raw)


KILLED = """
import os, signal, sys
import numpy as np
from ptycho_engine.formats import stack_files
from ptycho_engine.patterns import frame_stack as stored
stored.MEMORY_LIMIT_BYTES = 0
stack = stack_files.open_npz_stack(__import__('pathlib').Path(sys.argv[1]), 'd')
stack[0]
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_mem_04_a_killed_process_leaves_no_scratch_file(tmp_path, frames):
    np.savez_compressed(tmp_path / 'x.npz', d=frames)
    scratch = tmp_path / 'scratch'
    scratch.mkdir()
    ended = subprocess.run(
        [sys.executable, '-c', KILLED, str(tmp_path / 'x.npz')],
        env={**os.environ, 'TMPDIR': str(scratch)},
        check=False,
    )
    assert ended.returncode == -9
    assert not list(scratch.iterdir())


@pytest.mark.parametrize('kind', ['npz', 'compressed', 'diffraction', 'training'])
def test_mem_10_damaged_files_give_a_sentence_or_a_scan(tmp_path, frames, kind):
    """A file with some bytes wrong, or cut short: an EngineError, or a scan with odd values, never else."""
    coordinates = {'xcoords': np.arange(N) + 0.5, 'ycoords': np.arange(N) + 0.5}
    rest = {'probeGuess': np.ones((SIZE, SIZE), complex), **coordinates}
    path = tmp_path / ('x.npz' if kind in ('npz', 'compressed') else 'diffraction.h5')
    if kind == 'npz':
        np.savez(path, diffraction=frames, **rest)
    elif kind == 'compressed':
        np.savez_compressed(path, diffraction=frames, **rest)
    else:
        options = {'chunks': (1, SIZE, SIZE), 'compression': 'lzf'} if kind == 'training' else {}
        with h5py.File(path, 'w') as file:
            file.create_dataset('patterns', data=frames, **options)
            file['indexes'] = np.arange(N)
            file['bad_pixels'] = np.zeros((SIZE, SIZE), bool)

    def read() -> None:
        if path.suffix == '.npz':
            RawData.from_file(path, memory_limit=0).diffraction[:]
        else:
            read_diffraction_file(path).counts[:]

    whole = path.read_bytes()
    read()
    rng = np.random.default_rng(5)
    sentences = []
    for trial in range(60):
        damaged = bytearray(whole)
        if trial % 3 == 0:
            damaged = damaged[: rng.integers(len(whole))]
        else:
            headers = 400 if trial % 3 == 1 else len(whole)
            for place in rng.integers(0, headers, 3):
                damaged[place] = rng.integers(256)
        path.write_bytes(bytes(damaged))
        try:
            read()
        except EngineError as error:
            sentences.append(str(error))
    assert len(sentences) > 10
    assert all(path.name in sentence for sentence in sentences)


@pytest.mark.parametrize('kind', ['npz', 'compressed', 'diffraction'])
@pytest.mark.parametrize('change', ['cut short', 'written again'])
def test_mem_11_a_scan_that_changes_while_it_is_read_ends_in_one_sentence(
    tmp_path, monkeypatch, capsys, kind, change
):
    path = tmp_path / 'x.npz'
    small_scan(5, 32).to_file(path, compressed=kind == 'compressed')
    if kind == 'diffraction':
        assert main(['simulate', '--output', str(tmp_path / 'd'), '--points', '5x5', '--size', '32']) == 0
        path = tmp_path / 'd' / 'diffraction.h5'
        with h5py.File(path, 'r+') as file:
            counts = file['patterns'][()]
            del file['patterns']
            file['patterns'] = counts
    capsys.readouterr()
    original = path.read_bytes()
    read, calls = StoredStack.__getitem__, []

    def spoil(stack, key):
        calls.append(key)
        # Integers are all read once at opening, and again where they were replaced meanwhile.
        if len(calls) == (25 + 2 if kind == 'diffraction' else 2):
            if change == 'cut short':
                os.truncate(path, len(original) // 2)
            else:
                path.write_bytes(original)
                os.utime(path, (0, 0))
        return read(stack, key)

    monkeypatch.setattr(StoredStack, '__getitem__', spoil)
    monkeypatch.setattr(Patterns, 'in_memory_if_small', lambda patterns, limit=0: patterns)
    monkeypatch.setattr('ptycho_engine.blocks.BLOCK_PIXELS', 32 * 32)
    out = tmp_path / 'out.npz'
    code = main(['prepare', str(path), '--output', str(out), '--quiet'])
    said = capsys.readouterr().err
    if kind == 'compressed':
        # It was unpacked whole before.
        assert (code, said) == (0, '')
        return
    assert code == 2
    assert said.count('\n') == 1
    assert f'{path} changed while it was read' in said
    assert not [item for item in tmp_path.iterdir() if 'out' in item.name]
