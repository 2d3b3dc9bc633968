"""CACHE clauses: the neighbours of a scan, kept beside its file and shared by every run."""

import hashlib
import logging
import os
from pathlib import Path

import numpy as np
import pytest

from ptycho_engine.scan import neighbours
from ptycho_engine.scan.groups_cache import cache_paths, cached_neighbours
from ptycho_engine.scan.neighbours import find_neighbours
from ptycho_engine.scan.product_exchange import ExportMeta, export_product_from_rawdata
from ptycho_engine.scan.raw_data import RawData
from ptycho_engine.scan.scan import find_training_scans, load_scan
from ptycho_engine.simulate.directory import write_scan
from tests.conftest import small_scan

XY = np.random.default_rng(0).random((60, 2)) * 40


@pytest.fixture
def trees(monkeypatch) -> list[int]:
    """Sizes of the k-d trees that are built."""
    built = []
    original = neighbours.cKDTree

    def spy(points, *args, **kwargs):
        built.append(len(points))
        return original(points, *args, **kwargs)

    monkeypatch.setattr(neighbours, 'cKDTree', spy)
    return built


@pytest.fixture
def lines():
    """What is logged."""
    said: list[str] = []
    handler = logging.Handler(logging.INFO)
    handler.emit = lambda record: said.append(record.getMessage())
    logger = logging.getLogger('ptychopinn.data')
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield said
    logger.removeHandler(handler)
    logger.setLevel(level)


def state(path: Path) -> tuple[str, int]:
    return hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns


def test_cache_01_the_file_beside_the_dataset(tmp_path, trees, lines):
    dataset = tmp_path / 'fly001.npz'
    near = cached_neighbours(XY, 2, 7, dataset=dataset)
    assert trees == [60]
    np.testing.assert_array_equal(near, find_neighbours(XY, 7))
    path = tmp_path / 'fly001.g2k7.groups_cache.npz'
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert lines == [f'Wrote the groups to {path}.']
    with np.load(path, allow_pickle=False) as file:
        groups = file['all_groups']
        assert groups.shape == (60, 4)
        assert groups.dtype == np.int32
        np.testing.assert_array_equal(groups[:, 0], np.arange(60))
        np.testing.assert_array_equal(groups[:, 1:], near[:, :3])
        np.testing.assert_array_equal(file['further_neighbors'], near[:, 3:])
        assert len(str(file['dataset_checksum'])) == 64
        assert (int(file['gridsize']), int(file['overlap_factor'])) == (2, 7)
    scan = tmp_path / 'scan'
    scan.mkdir()
    cached_neighbours(XY, 3, 9, dataset=scan)
    assert [p.name for p in scan.iterdir()] == ['scan.g3k9.groups_cache.npz']


def test_cache_02_a_second_run_builds_no_tree_and_leaves_the_file(tmp_path, trees, lines):
    dataset = tmp_path / 'a.npz'
    first = cached_neighbours(XY, 2, 7, dataset=dataset)
    path, _ = cache_paths(dataset, 2, 7)
    before = state(path)
    trees.clear()
    lines.clear()
    np.testing.assert_array_equal(cached_neighbours(XY, 2, 7, dataset=dataset), first)
    assert trees == []
    assert state(path) == before
    assert lines == [f'Reusing the groups in {path}.']


@pytest.mark.parametrize('change', ['positions', 'datasets', 'count', 'gridsize'])
def test_cache_02_anything_else_is_found_anew(tmp_path, trees, change):
    labels = np.arange(60) % 2
    arguments = {'xy': XY, 'gridsize': 2, 'K': 8, 'scan_index': labels}
    changed = {
        'positions': {'xy': XY + np.eye(60, 2) * 1e-3},
        'datasets': {'scan_index': 1 - labels},
        'count': {'K': 9},
        'gridsize': {'gridsize': 3},
    }[change]
    cached_neighbours(**arguments, dataset=tmp_path / 'a.npz')
    trees.clear()
    now = {**arguments, **changed}
    found = cached_neighbours(**now, dataset=tmp_path / 'a.npz')
    assert len(trees) == 2
    np.testing.assert_array_equal(found, find_neighbours(now['xy'], now['K'], now['scan_index']))
    trees.clear()
    cached_neighbours(**now, dataset=tmp_path / 'a.npz')
    assert trees == []


def damages(good: bytes, path: Path):
    with np.load(path) as file:
        arrays = dict(file)

    def saved(**changes):
        np.savez(path, **{k: v for k, v in {**arrays, **changes}.items() if v is not None})
        return path.read_bytes()

    yield 'truncated', good[: len(good) // 2]
    yield 'empty', b''
    yield 'text', b'not a cache'
    flipped = bytearray(good)
    flipped[good.index(arrays['further_neighbors'].tobytes()) + 40] ^= 1
    yield 'flipped bit', bytes(flipped)
    yield 'no groups', saved(all_groups=None)
    yield 'short', saved(all_groups=arrays['all_groups'][:-1])
    yield 'floats', saved(all_groups=arrays['all_groups'].astype(float))
    yield 'out of range', saved(further_neighbors=arrays['further_neighbors'] + 60)
    yield 'other seeds', saved(all_groups=arrays['all_groups'][::-1].copy())
    yield 'pickle', saved(all_groups=np.array([print, 1], dtype=object))
    yield 'huge', saved(all_groups=np.zeros((1 << 22, 4), np.int32))
    for name, offset, value in (('encrypted', 8, b'\x01\x00'), ('unknown compression', 10, b'\x63\x00')):
        changed = bytearray(good)
        at = changed.find(b'PK\x01\x02')
        while at >= 0:
            changed[at + offset : at + offset + 2] = value
            at = changed.find(b'PK\x01\x02', at + 4)
        yield name, bytes(changed)
    yield 'old', saved(dataset_checksum=np.array('0' * 64))


def test_cache_03_a_damaged_cache_is_replaced_with_one_line(tmp_path, trees, lines):
    dataset = tmp_path / 'a.npz'
    right = cached_neighbours(XY, 2, 7, dataset=dataset)
    path, _ = cache_paths(dataset, 2, 7)
    good = path.read_bytes()
    for name, content in list(damages(good, path)):
        path.write_bytes(content)
        trees.clear()
        lines.clear()
        np.testing.assert_array_equal(cached_neighbours(XY, 2, 7, dataset=dataset), right, err_msg=name)
        assert trees == [60], name
        assert [line for line in lines if 'made anew' in line] == lines[:1], name
        assert path.read_bytes() == good, name
    if hasattr(os, 'mkfifo'):
        path.unlink()
        os.mkfifo(path)
        np.testing.assert_array_equal(cached_neighbours(XY, 2, 7, dataset=dataset), right)
        assert path.read_bytes() == good


@pytest.mark.skipif(not os.path.isdir('/proc/self'), reason='needs a folder that nobody can write')
def test_cache_04_a_read_only_folder(tmp_path, trees, lines, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    dataset = Path('/proc/self/scan.npz')
    right = cached_neighbours(XY, 2, 7, dataset=dataset)
    written = list((tmp_path / 'ptychopinn').iterdir())
    assert len(written) == 1
    assert written[0].name.endswith('.g2k7.groups_cache.npz')
    assert lines == [f'Wrote the groups to {written[0]}.']
    trees.clear()
    np.testing.assert_array_equal(cached_neighbours(XY, 2, 7, dataset=dataset), right)
    assert trees == []
    monkeypatch.setenv('XDG_CACHE_HOME', '/proc/self')
    lines.clear()
    np.testing.assert_array_equal(cached_neighbours(XY, 2, 7, dataset=dataset), right)
    assert trees == [60]
    assert len(lines) == 1
    assert 'are not cached' in lines[0]


def test_cache_05_a_cache_is_not_taken_for_a_scan(tmp_path):
    raw = small_scan(points=3)
    raw.to_file(tmp_path / 'a.npz')
    loaded = RawData.from_file(tmp_path / 'a.npz')
    assert loaded.path == tmp_path / 'a.npz'
    assert loaded.select([0, 2, 4, 5]).path is None
    cached_neighbours(XY, 2, 7, dataset=loaded.path)
    assert find_training_scans(tmp_path) == [tmp_path / 'a.npz']


def test_cache_01_every_reader_knows_where_its_cache_belongs(tmp_path):
    raw = small_scan(points=3, size=32)
    assert raw.path is None
    raw.to_file(tmp_path / 'a.npz')
    write_scan(tmp_path / 'scan', raw, name='scan', settings='')
    export_product_from_rawdata(raw, tmp_path / 'p.h5', ExportMeta(name='p'), include_diffraction=True)
    for path in (tmp_path / 'a.npz', tmp_path / 'scan', tmp_path / 'p.h5'):
        loaded = load_scan(path).raw
        assert loaded.path == path
        loaded.neighbourhood(2, 7)
    assert sorted(item.name for item in tmp_path.rglob('*.groups_cache.npz')) == [
        *('a.g2k7.groups_cache.npz', 'p.g2k7.groups_cache.npz', 'scan.g2k7.groups_cache.npz'),
    ]
