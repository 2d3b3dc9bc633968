"""Arrays in files that others may write meanwhile."""

import gc
import os
import subprocess
import sys

import numpy as np
import pytest

from ptycho_engine.errors import DataFileNotFoundError, DataValueError
from ptycho_engine.io.file_array import FileArray
from ptycho_engine.io.regular import open_regular, open_state, regular_state

FRAMES = np.random.default_rng(0).integers(0, 9, (20, 6, 5)).astype('>u2')


@pytest.fixture
def path(tmp_path):
    path = tmp_path / 'frames.bin'
    path.write_bytes(b'head' + FRAMES.tobytes())
    return path


def opened(path):
    return FileArray(path, FRAMES.shape, FRAMES.dtype, offset=4)


@pytest.mark.parametrize(
    'rows',
    [
        *(np.s_[:], np.s_[3:9], np.s_[9:3:-2], np.s_[5:5], 4, -1),
        *([3, 1, 1, 2, 3], np.array([[0, 1], [19, 18]]), FRAMES[:, 0, 0] > 4),
    ],
    ids=str,
)
def test_mem_01_it_is_indexed_like_the_array(path, rows):
    found = opened(path)
    np.testing.assert_array_equal(found.read(rows), FRAMES[rows])
    for window in ((np.s_[1:4], np.s_[:]), (np.s_[:], np.s_[2:]), (np.s_[2:3], np.s_[1:4])):
        expected = FRAMES[:, window[0], window[1]][rows]
        np.testing.assert_array_equal(found.read(rows, window), expected)


def test_mem_01_rows_out_of_range_are_an_index_error(path):
    with pytest.raises(IndexError):
        opened(path).read(20)


def shorten(path):
    os.truncate(path, 500)


def rewrite(path):
    path.write_bytes(path.read_bytes())
    os.utime(path, (0, 0))


def lengthen(path):
    with path.open('ab') as stream:
        stream.write(b'more')


@pytest.mark.parametrize('change', [shorten, rewrite, lengthen])
def test_mem_11_a_file_that_changes_while_it_is_read_is_told(path, change):
    found = opened(path)
    found.read(0)
    state = regular_state(path)
    change(path)
    for rows in (0, 19):
        with pytest.raises(DataValueError, match=r'frames\.bin changed while it was read'):
            found.read(rows)
    with pytest.raises(DataValueError, match='changed while it was read'):
        FileArray(path, FRAMES.shape, FRAMES.dtype, offset=4, state=state)


def test_mem_11_another_file_of_its_name_does_no_harm(path, tmp_path):
    found = opened(path)
    (tmp_path / 'new').write_bytes(b'')
    (tmp_path / 'new').replace(path)
    np.testing.assert_array_equal(found.read(np.s_[:]), FRAMES)
    path.unlink()
    np.testing.assert_array_equal(found.read([7]), FRAMES[[7]])


def test_mem_11_a_file_that_is_replaced_while_it_is_open_is_read_whole(path, tmp_path):
    new = tmp_path / 'new'
    new.write_bytes(b'new')
    with open_regular(path) as stream:
        new.replace(path)
        assert stream.read() == b'head' + FRAMES.tobytes()


def test_mem_11_a_file_that_is_replaced_before_it_is_opened_is_the_other_file(path, tmp_path, monkeypatch):
    new, open_ = tmp_path / 'new', os.open
    new.write_bytes(b'new')

    def late(name, *args, **kwargs):
        if name == path and new.exists():
            new.replace(path)
        return open_(name, *args, **kwargs)

    monkeypatch.setattr(os, 'open', late)
    with open_regular(path) as stream:
        assert stream.read() == b'new'


def test_mem_11_two_openings_see_one_file(path, tmp_path):
    with open_regular(path) as stream:
        state = open_state(stream)
    (tmp_path / 'new').write_bytes(path.read_bytes())
    (tmp_path / 'new').replace(path)
    with pytest.raises(DataValueError, match='another file took its place'), open_regular(path, state):
        pass


def test_a_file_too_short_for_its_array_is_refused(path):
    os.truncate(path, 500)
    with pytest.raises(DataValueError, match='has 500 bytes, but its array ends at byte 1204'):
        opened(path)


def test_the_file_is_closed_with_its_array(path):
    # What other tests left to the collector is not to be counted.
    gc.collect()
    before = len(os.listdir('/proc/self/fd')) if os.path.isdir('/proc/self/fd') else None
    found = opened(path)
    found.read(0)
    del found
    gc.collect()
    if before is not None:
        assert len(os.listdir('/proc/self/fd')) == before


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='there are no named pipes')
def test_hdf_04_pipes_and_devices_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / 'pipe')
    code = (
        'import sys; from pathlib import Path; from ptycho_engine.io.regular import open_regular\n'
        'with open_regular(Path(sys.argv[1])) as stream: stream.read()'
    )
    for place, kind in (
        (tmp_path / 'pipe', 'a named pipe'),
        ('/dev/zero', 'a device'),
        (tmp_path, 'a folder'),
    ):
        found = subprocess.run(
            [sys.executable, '-c', code, str(place)], capture_output=True, text=True, timeout=60
        )
        assert f'{place} is {kind}; expected a file.' in found.stderr
    with pytest.raises(DataFileNotFoundError), open_regular(tmp_path / 'none'):
        pass
