"""Whole files or none: temporary names, what a killed process leaves, and what reaches the disk (DISK)."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from ptycho_engine.formats.npz import write_arrays
from ptycho_engine.io import atomic
from ptycho_engine.io.atomic import TEMPORARY, atomic_path, new_temporary, remove_leftovers
from ptycho_engine.io.owner import Owner

LEAVE = """
import os, sys
from pathlib import Path
from ptycho_engine.io.atomic import atomic_path
with atomic_path(Path(sys.argv[1])) as temporary:
    temporary.write_bytes(b'half')
    print('writing', flush=True)
    os.kill(os.getpid(), 9)
"""


def leave(path: Path) -> Path:
    """Kill a process while it writes; return what it leaves."""
    subprocess.run([sys.executable, '-c', LEAVE, str(path)], check=False)
    (left,) = [item for item in path.parent.iterdir() if TEMPORARY.fullmatch(item.name)]
    return left


def test_disk_01_temporary_names_are_hidden_short_and_match_no_pattern_of_data(tmp_path):
    long = 'n' * 251 + '.npz'
    with atomic_path(tmp_path / long) as temporary:
        temporary.write_bytes(b'whole')
        assert temporary.parent == tmp_path
        assert temporary.name.startswith('.')
        assert temporary.suffix == '.part'
        assert list(tmp_path.iterdir()) == [temporary]
    assert [path.name for path in tmp_path.iterdir()] == [long]
    write_arrays(tmp_path / long, {'a': np.arange(3)})
    assert np.load(tmp_path / long)['a'].tolist() == [0, 1, 2]


def test_disk_01_a_failure_leaves_the_earlier_file_and_nothing_else(tmp_path):
    path = tmp_path / 'a.npz'
    path.write_bytes(b'earlier')
    with suppress(RuntimeError), atomic_path(path) as temporary:
        temporary.write_bytes(b'half')
        raise RuntimeError
    assert path.read_bytes() == b'earlier'
    assert list(tmp_path.iterdir()) == [path]


def test_disk_01_errors_name_the_file_and_not_the_temporary_one(tmp_path, monkeypatch):
    def denied(self, *_, **__):
        raise PermissionError(13, 'Permission denied', str(self))

    monkeypatch.setattr(Path, 'touch', denied)
    with pytest.raises(PermissionError) as raised, atomic_path(tmp_path / 'a.npz'):
        pass
    assert str(raised.value) == f"[Errno 13] Permission denied: '{tmp_path / 'a.npz'}'"


def test_disk_01_a_folder_of_that_name_is_told(tmp_path):
    (tmp_path / 'a.npz').mkdir()
    with pytest.raises(IsADirectoryError, match=r'a\.npz cannot be written: a folder has that name'):
        write_arrays(tmp_path / 'a.npz', {'a': np.arange(3)})
    assert [path.name for path in tmp_path.iterdir()] == ['a.npz']


def test_disk_02_the_next_writer_removes_what_a_killed_one_left(tmp_path, caplog):
    caplog.set_level('INFO')
    left = leave(tmp_path / 'a.npz')
    with atomic_path(tmp_path / 'b.npz') as temporary:
        temporary.write_bytes(b'whole')
    assert not left.exists()
    assert [path.name for path in tmp_path.iterdir()] == ['b.npz']
    assert caplog.text.count('a temporary file that a run which was killed had left') == 1


def test_disk_02_what_a_living_process_writes_stays(tmp_path):
    with new_temporary(tmp_path) as temporary:
        temporary.write_bytes(b'half')
        os.utime(temporary, (0, 0))
        remove_leftovers(tmp_path)
        assert temporary.exists()


def test_disk_02_what_another_living_process_writes_stays(tmp_path):
    me = Owner.current()
    path = tmp_path / f'.ptychopinn-{me.host}-{me.boot}-{os.getppid()}-00000000.part'
    path.write_bytes(b'half')
    remove_leftovers(tmp_path)
    assert path.exists()


@pytest.mark.parametrize(('days', 'stays'), [(0, True), (2, False)])
def test_disk_02_what_another_machine_left_is_removed_after_a_day(tmp_path, days, stays):
    me = Owner.current()
    assert me.host != 'abcdef'
    path = tmp_path / f'.ptychopinn-abcdef-{me.boot}-1-00000000.part'
    path.write_bytes(b'half')
    then = time.time() - days * 86400
    os.utime(path, (then, then))
    remove_leftovers(tmp_path)
    assert path.exists() == stays


def test_disk_02_a_start_of_the_machine_before_this_one_is_over(tmp_path):
    me = Owner.current()
    path = tmp_path / f'.ptychopinn-{me.host}-abcdef-{os.getpid()}-00000000.part'
    path.write_bytes(b'half')
    others = [tmp_path / name for name in ('.hidden', 'run.part', '.ptychopinn-1.part', 'scan.npz')]
    for other in others:
        other.write_bytes(b'of somebody else')
    remove_leftovers(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(others)


def test_disk_03_contents_and_names_are_on_the_disk_in_that_order(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, Path.replace

    def synced(handle):
        fsync(handle)
        done.append(('sync', os.readlink(f'/proc/self/fd/{handle}')))

    def renamed(self, target):
        done.append(('rename', str(target)))
        return replace(self, target)

    monkeypatch.setattr(atomic.os, 'fsync', synced)
    monkeypatch.setattr(Path, 'replace', renamed)
    path = tmp_path / 'new' / 'a.npz'
    with atomic_path(path) as temporary:
        temporary.write_bytes(b'whole')
        name = str(temporary)
    assert done == [
        ('sync', str(tmp_path)),
        ('sync', name),
        ('rename', str(path)),
        ('sync', str(path.parent)),
    ]
