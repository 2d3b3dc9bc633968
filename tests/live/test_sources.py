"""Frames that come from files while they are written (clauses LIVE-10 and LIVE-11 of specs/live.md)."""

import subprocess
import sys
import textwrap

import h5py
import numpy as np
import pytest
import tifffile

from ptycho_engine.errors import DataFileNotFoundError, DataKeyError, DataValueError
from ptycho_engine.io.growing_hdf5 import GrowingDataset
from ptycho_engine.live import sources
from ptycho_engine.live.sources import (
    FolderSource,
    GrowingPositions,
    Hdf5Source,
    ReplaySource,
    TextPositions,
)
from ptycho_engine.scan.scan import Scan
from tests.conftest import small_scan


class Recorder:
    """What a session would get."""

    def __init__(self):
        self.frames, self.numbers, self.places = [], [], {}

    def push(self, patterns, positions=None, indices=None):
        self.frames += list(patterns)
        self.numbers += list(map(int, indices))
        if positions is not None:
            self.place(indices, positions)

    def place(self, indices, positions):
        self.places |= dict(zip(map(int, indices), map(tuple, positions), strict=True))


WRITER = """
import sys
import h5py
import numpy as np

with h5py.File('run.h5', 'w', libver='latest') as file:
    frames = file.create_dataset('entry/data', (0, 8, 8), 'u2', maxshape=(None, 8, 8), chunks=(4, 8, 8))
    stage = file.create_dataset('entry/stage', (0, 2), 'f8', maxshape=(None, 2), chunks=(8, 2))
    file.swmr_mode = True
    print('open', flush=True)
    for line in sys.stdin:
        n, m = map(int, line.split())
        frames.resize(n, axis=0)
        frames[:] = np.arange(n)[:, None, None]
        stage.resize(m, axis=0)
        stage[:] = np.arange(2 * m).reshape(m, 2)
        frames.flush()
        stage.flush()
        print('wrote', flush=True)
"""


@pytest.fixture
def writer(tmp_path, monkeypatch):
    """Yield what lets another process write so many frames and positions."""
    monkeypatch.chdir(tmp_path)
    process = subprocess.Popen(
        [sys.executable, '-c', textwrap.dedent(WRITER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == 'open\n'

    def write(frames, positions):
        process.stdin.write(f'{frames} {positions}\n')
        process.stdin.flush()
        assert process.stdout.readline() == 'wrote\n'

    yield write
    process.stdin.close()
    process.wait(timeout=30)
    process.stdout.close()


def test_live_10_a_growing_file_is_followed_while_another_program_writes_it(writer, tmp_path):
    path = tmp_path / 'run.h5'
    positions = GrowingPositions(path, 'entry/stage', 'yx', (0.5, -2.0))
    source, got = Hdf5Source(path, 'entry/data', positions, 150), Recorder()
    assert source.feed(got) == 0
    writer(10, 4)
    assert source.behind == 10
    assert source.feed(got) == 10
    assert got.numbers == list(range(10))
    assert [frame[0, 0] for frame in got.frames] == got.numbers
    assert got.places == {n: (0.5 * 2 * n, -2.0 * (2 * n + 1)) for n in range(4)}
    writer(150, 4)
    while source.feed(got):
        pass
    assert len(got.frames) == 150
    assert not source.ended
    writer(150, 150)
    assert source.feed(got) == 0
    assert source.ended
    assert len(got.places) == 150
    source.close()


def test_live_10_at_most_so_many_frames_are_read_at_once(writer, tmp_path):
    source = Hdf5Source(tmp_path / 'run.h5', 'entry/data', TextPositions(tmp_path / 'x', 'yx', (1, 1)), None)
    writer(100, 0)
    assert source.feed(Recorder()) == sources.MOST_AT_ONCE
    assert source.behind == 100 - sources.MOST_AT_ONCE
    source.close()


def test_live_10_what_leads_elsewhere_or_is_no_dataset_is_refused(tmp_path):
    path = tmp_path / 'a.h5'
    with h5py.File(path, 'w', libver='latest') as file:
        file['data'] = np.zeros((3, 4, 4))
        file['name'] = 'text'
        file['away'] = h5py.ExternalLink('b.h5', '/data')
        layout = h5py.VirtualLayout((3, 4, 4), 'f8')
        layout[:] = h5py.VirtualSource(str(tmp_path / 'b.h5'), 'data', (3, 4, 4))
        file.create_virtual_dataset('virtual', layout)
        file.create_dataset('raw', (2,), 'u1', external=[(str(tmp_path / 'secret'), 0, 2)])
    for key, error, words in (
        ('nothing', DataKeyError, "no 'nothing'"),
        ('data/deeper', DataKeyError, "no 'deeper'"),
        ('away', DataValueError, 'is a link; name the dataset that it leads to'),
        ('virtual', DataValueError, 'other files'),
        ('raw', DataValueError, 'other files'),
        ('name', DataValueError, 'no dataset of numbers'),
        ('/', DataValueError, 'no dataset of numbers'),
    ):
        with pytest.raises(error, match=words):
            GrowingDataset(path, key)
    (tmp_path / 'no.h5').write_bytes(b'no')
    with pytest.raises(DataValueError, match='SWMR'):
        GrowingDataset(tmp_path / 'no.h5', 'data')
    with pytest.raises(DataFileNotFoundError):
        GrowingDataset(tmp_path / 'none.h5', 'data')


def test_live_11_a_folder_that_fills_is_followed(tmp_path):
    folder, stage = tmp_path / 'frames', tmp_path / 'stage.csv'
    folder.mkdir()
    source, got = FolderSource(folder, TextPositions(stage, 'xy', (1.0, 10.0)), 4), Recorder()
    assert source.feed(got) == 0
    tifffile.imwrite(folder / 'scan7_0100.tif', np.full((8, 8), 3, np.uint16))
    np.save(folder / 'scan7_0102.npy', np.full((8, 8), 5, np.uint16))
    (folder / '.scan7_0103.tif').write_bytes(b'hidden')
    stage.write_text('# x, y\n1,2\n3, 4\n5,')
    assert source.feed(got) == 2
    assert (got.numbers, [f[0, 0] for f in got.frames]) == ([0, 2], [3, 5])
    assert got.places == {0: (2, 10), 1: (4, 30)}
    (folder / 'scan7_0101.tif').write_bytes(b'II*\x00half a file')
    assert source.feed(got) == 0
    tifffile.imwrite(folder / 'scan7_0101.tif', np.full((8, 8), 4, np.uint16))
    with stage.open('a') as stream:
        stream.write('6\n7 8\n')
    assert source.feed(got) == 1
    assert got.numbers == [0, 2, 1]
    assert got.places[2] == (6, 50)
    assert not source.ended
    np.save(folder / 'scan7_0103.npy', np.zeros((8, 8), np.uint16))
    source.feed(got)
    assert source.ended


def test_live_11_a_file_that_stays_unreadable_ends_it_in_a_sentence(tmp_path, monkeypatch):
    source = FolderSource(tmp_path, TextPositions(tmp_path / 'none.csv', 'yx', (1, 1)), None)
    (tmp_path / '1.npy').write_bytes(b'\x93NUMPYbroken')
    assert source.feed(Recorder()) == 0
    monkeypatch.setattr(sources, 'UNFINISHED_S', -1.0)
    with pytest.raises(DataValueError, match=r'1\.npy cannot be read as a frame'):
        source.feed(Recorder())


def test_live_11_positions_that_are_no_numbers_are_refused(tmp_path):
    path = tmp_path / 'stage.csv'
    follower = TextPositions(path, 'yx', (1, 1))
    assert len(follower.new()) == 0
    path.write_text('y x\n1 2\n')
    assert follower.new().tolist() == [[1, 2]]
    with path.open('a') as stream:
        stream.write('oops 3\n')
    with pytest.raises(DataValueError, match="'oops 3' is no position"):
        follower.new()


def test_live_12_a_scan_is_played_at_its_rate():
    raw = small_scan(points=4, size=16)
    now = [100.0]
    source, got = ReplaySource(Scan.from_raw(raw), 10.0, lambda: now[0]), Recorder()
    assert source.feed(got) == 1
    now[0] += 0.55
    assert source.behind == 5
    source.feed(got)
    assert got.numbers == list(range(6))
    now[0] += 99
    source.feed(got)
    assert source.ended
    np.testing.assert_array_equal(got.frames, raw.diffraction)
    assert got.places[15] == (raw.ycoords[15], raw.xcoords[15])
