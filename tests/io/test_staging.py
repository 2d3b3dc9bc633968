"""Files that appear together: whenever a process is killed, a folder shows those of one run (DISK)."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from ptycho_engine.errors import FolderInUseError
from ptycho_engine.io import staging as module
from ptycho_engine.io.folder_lock import sole_writer, tidy
from ptycho_engine.io.staging import COMPLETE, staged

NAMES = ('product.h5', 'reconstruction.npz', 'reconstruction.png')
KILLED = """
import os, sys
from pathlib import Path
from ptycho_engine.io.folder_lock import sole_writer
from ptycho_engine.io.staging import staged

last = int(sys.argv[2])
steps = 0

def count(event, arguments):
    global steps
    if event in ('os.rename', 'os.remove', 'os.rmdir', 'shutil.rmtree'):
        if steps == last:
            os.kill(os.getpid(), 9)
        steps += 1

folder = Path(sys.argv[1])
sys.addaudithook(count)
with sole_writer(folder, 'a test'), staged(folder, remove=['scores.json']) as staging:
    for name in ('product.h5', 'reconstruction.npz', 'reconstruction.png'):
        staging.path(name).write_text('new')
print(steps)
"""


def run(folder: Path, last: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, '-c', KILLED, str(folder), str(last)], capture_output=True, text=True
    )


def earlier(folder: Path) -> Path:
    folder.mkdir()
    for name in (*NAMES, 'scores.json'):
        (folder / name).write_text('old')
    (folder / 'notes.txt').write_text('of the user')
    return folder


def write_new(folder: Path) -> None:
    with sole_writer(folder, ''), staged(folder) as staging:
        for name in NAMES:
            staging.path(name).write_text('new')


def shown(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.name[0] != '.'}


def test_disk_04_killed_at_every_step_the_files_are_of_one_run_and_then_whole(tmp_path, caplog):
    steps = int(run(earlier(tmp_path / 'whole'), -1).stdout)
    assert steps > 7
    old, new = shown(earlier(tmp_path / 'untouched')), shown(tmp_path / 'whole')
    assert new == {'notes.txt': 'of the user', **dict.fromkeys(NAMES, 'new')}
    outcomes = []
    for last in range(steps):
        folder = earlier(tmp_path / str(last))
        assert run(folder, last).returncode == -9
        found = shown(folder)
        assert found.pop('notes.txt') == 'of the user'
        assert len(set(found.values())) == 1, f'killed before step {last}: {found}'
        caplog.clear()
        decided = (folder / COMPLETE).exists()
        tidy(folder)
        outcomes.append(shown(folder) == new)
        assert shown(folder) in (old, new)
        assert sorted(path.name for path in folder.iterdir()) == sorted(shown(folder))
        assert caplog.text.count('they are complete now') == decided
    assert outcomes == sorted(outcomes)
    assert len(set(outcomes)) == 2


def test_disk_04_a_power_cut_never_mixes_two_runs(tmp_path, monkeypatch):
    """Until a folder is on the disk, each of the moves in it may be there or not."""
    folder, steps = earlier(tmp_path / 'out'), []
    sync, replace = module.sync_folder, Path.replace
    monkeypatch.setattr(module, 'sync_folder', lambda path: (steps.append('sync'), sync(path)))
    monkeypatch.setattr(Path, 'replace', lambda path, to: (steps.append(to.name), replace(path, to))[1])
    write_new(folder)
    first = steps.index(NAMES[0])
    assert steps[first - 1 : first + 2] == ['sync', NAMES[0], 'sync']
    assert steps[first + 2 :] == [*NAMES[1:], 'sync']


def test_disk_04_a_file_that_came_before_the_first_stays(tmp_path):
    folder = earlier(tmp_path / 'out')
    complete = folder / COMPLETE
    complete.mkdir()
    (complete / '0.part').write_text('new')
    (folder / NAMES[1]).write_text('new')
    listed = {'files': [['0.part', NAMES[0]], ['1.part', NAMES[1]]], 'remove': ['scores.json']}
    (complete / 'list.json').write_text(json.dumps(listed))
    tidy(folder)
    assert shown(folder) == {
        NAMES[0]: 'new',
        NAMES[1]: 'new',
        NAMES[2]: 'old',
        'notes.txt': 'of the user',
    }


def test_disk_04_a_failure_changes_nothing(tmp_path):
    folder = earlier(tmp_path / 'out')
    before = shown(folder)
    with suppress(RuntimeError), sole_writer(folder, ''), staged(folder) as staging:
        staging.path('product.h5').write_text('new')
        raise RuntimeError
    assert shown(folder) == before
    assert not any(path.name[0] == '.' for path in folder.iterdir())


def test_disk_04_a_folder_in_the_way_is_told_before_anything_is_changed(tmp_path):
    folder = earlier(tmp_path / 'out')
    (folder / 'reconstruction.npz').unlink()
    (folder / 'reconstruction.npz').mkdir()
    with pytest.raises(IsADirectoryError, match=r'reconstruction\.npz cannot be written'):
        write_new(folder)
    assert (folder / 'product.h5').read_text() == 'old'


def test_disk_04_an_interruption_once_it_is_decided_leaves_nothing_unfinished(tmp_path, monkeypatch):
    folder = earlier(tmp_path / 'out')
    finish, calls = module._finish, []

    def interrupted(where):
        calls.append(where)
        if len(calls) == 1:
            raise KeyboardInterrupt
        finish(where)

    monkeypatch.setattr(module, '_finish', interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_new(folder)
    assert {shown(folder)[name] for name in NAMES} == {'new'}
    assert not (folder / COMPLETE).exists()


def test_disk_04_an_interruption_right_after_the_decision_leaves_nothing_unfinished(tmp_path, monkeypatch):
    folder = earlier(tmp_path / 'out')
    rename = Path.rename

    def interrupted(self, target):
        rename(self, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, 'rename', interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_new(folder)
    assert {shown(folder)[name] for name in NAMES} == {'new'}
    assert [path.name for path in folder.iterdir() if path.name[0] == '.'] == []


@pytest.mark.parametrize(
    'listed',
    [
        {'files': [['0.part', '../stolen']], 'remove': []},
        {'files': [], 'remove': ['../victim']},
        {'files': [['../victim', 'product.h5']], 'remove': []},
        {'files': 3},
        'nonsense',
    ],
)
def test_disk_04_a_list_that_is_not_ours_touches_nothing(tmp_path, listed):
    victim = tmp_path / 'victim'
    victim.write_text('precious')
    folder = earlier(tmp_path / 'out')
    before = shown(folder)
    (folder / COMPLETE).mkdir()
    (folder / COMPLETE / '0.part').write_text('new')
    (folder / COMPLETE / 'list.json').write_text(json.dumps(listed))
    tidy(folder)
    assert victim.read_text() == 'precious'
    assert not (tmp_path / 'stolen').exists()
    assert shown(folder) == before
    assert not (folder / COMPLETE).exists()


HOLD = """
import sys
from pathlib import Path
from ptycho_engine.io import folder_lock
if sys.argv[2] == 'files':
    folder_lock.FolderLock._lock_folder = lambda self: False
elif sys.argv[2] == 'nothing':
    folder_lock._lock = lambda handle: False
with folder_lock.sole_writer(Path(sys.argv[1]), 'ptychopinn train'):
    print('held', flush=True)
    sys.stdin.read()
"""


def without_locks(monkeypatch, kind):
    from ptycho_engine.io import folder_lock

    if kind == 'files':
        monkeypatch.setattr(folder_lock.FolderLock, '_lock_folder', lambda self: False)
    elif kind == 'nothing':
        monkeypatch.setattr(folder_lock, '_lock', lambda handle: False)


@pytest.mark.skipif(os.name != 'posix', reason='signals')
@pytest.mark.parametrize('kind', ['folders', 'files', 'nothing'])
def test_disk_05_a_folder_has_one_writer_and_its_lock_dies_with_it(tmp_path, monkeypatch, kind):
    """Where folders can be locked, where only files can, and where nothing can."""
    without_locks(monkeypatch, kind)
    folder = tmp_path / 'new' / 'out'
    command = [sys.executable, '-c', HOLD, str(folder), kind]
    for end in ('close', 'kill'):
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == 'held\n'
            with pytest.raises(FolderInUseError, match=rf'out is being written by process {holder.pid} \('):
                sole_writer(folder, 'another').__enter__()
            with sole_writer(tmp_path / 'other', 'another'):
                pass
            if end == 'kill':
                holder.kill()
            else:
                holder.stdin.close()
        with sole_writer(folder, 'another') as lock:
            (folder / 'product.h5').write_text('new')
            lock.release()
        assert [path.name for path in folder.iterdir()] == ['product.h5']
        (folder / 'product.h5').unlink()


def test_disk_05_a_folder_that_was_made_and_stays_empty_is_removed(tmp_path):
    with pytest.raises(RuntimeError), sole_writer(tmp_path / 'a' / 'b', ''):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_disk_05_parts_of_one_process_do_not_lock_each_other_out(tmp_path):
    with sole_writer(tmp_path / 'out', ''), sole_writer(tmp_path / 'out', ''):
        (tmp_path / 'out' / 'a').write_text('')
