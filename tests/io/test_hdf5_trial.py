"""HDF5 files that crash the library or keep it busy for ever end in a sentence, and not the process."""

import gc
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import h5py
import numpy as np
import pytest

from ptycho_engine.errors import DataValueError
from ptycho_engine.io import hdf5_trial
from ptycho_engine.io.growing_hdf5 import GrowingDataset
from ptycho_engine.io.hdf5 import open_hdf5

pytestmark = pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs fork')

SELECTION = b'\x02\0\0\0\x01\0\0\0\0\0\0\0\x20\0\0\0'
"""Head of a hyperslab of a virtual dataset: type, version, four spare bytes, length; its axes follow."""


@pytest.fixture(autouse=True)
def fresh():
    """Forget what was found of files, whose states may be told apart by their times only."""
    hdf5_trial._fault.cache_clear()


def crashing_file(folder):
    """Write a virtual dataset whose selection has 1 027 axes, for which HDF5 has no room on its stack."""
    path = folder / 'crashing.h5'
    layout = h5py.VirtualLayout((4, 6, 6), 'f4')
    with h5py.File(folder / 'part.h5', 'w') as file:
        file['x'] = np.zeros((2, 6, 6), np.float32)
    for start in (0, 2):
        layout[start : start + 2] = h5py.VirtualSource('part.h5', 'x', (2, 6, 6))
    with h5py.File(path, 'w') as file:
        file.create_virtual_dataset('patterns', layout)
    data = bytearray(path.read_bytes())
    axes = data.index(SELECTION) + len(SELECTION)
    assert data[axes] == 3
    data[axes + 1] = 4
    path.write_bytes(data)
    return path


def good_file(folder, name='good.h5'):
    path = folder / name
    with h5py.File(path, 'w') as file:
        file['x'] = np.arange(3)
        file['x'].attrs['unit'] = 'm'
    return path


def opened(path):
    """Return what a process prints that opens a file, and how it ends."""
    code = (
        'import sys\n'
        'from pathlib import Path\n'
        'from ptycho_engine.io.hdf5 import open_hdf5\n'
        'from ptycho_engine.errors import DataValueError\n'
        'try:\n'
        '    with open_hdf5(Path(sys.argv[1])) as file:\n'
        '        print(file["patterns"].shape)\n'
        'except DataValueError as error:\n'
        '    print(error)\n'
    )
    done = subprocess.run([sys.executable, '-c', code, path], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout.strip()


def test_hdf_13_a_file_that_crashes_the_library_is_refused(tmp_path):
    path = crashing_file(tmp_path)
    status, said = opened(path)
    assert status == 0
    assert said.startswith(f'{path} is damaged: to read it, or a file to which it leads, crashes the HDF5')


def test_hdf_13_an_item_that_cannot_be_opened_hides_no_other(tmp_path):
    path = crashing_file(tmp_path)
    with h5py.File(path, 'a') as file:
        file['an_item'] = np.arange(3)
        place = h5py.h5o.get_info(file['an_item'].id).addr
    data = bytearray(path.read_bytes())
    data[place] = 0xFF
    path.write_bytes(data)
    status, said = opened(path)
    assert status == 0
    assert 'crashes the HDF5 library' in said


def test_hdf_13_so_is_one_that_leads_there(tmp_path):
    crashing_file(tmp_path)
    path = tmp_path / 'master.h5'
    with h5py.File(path, 'w') as file:
        file['patterns'] = h5py.ExternalLink('crashing.h5', '/patterns')
    status, said = opened(path)
    assert status == 0
    assert 'crashes the HDF5 library' in said


def test_hdf_13_and_one_that_is_being_written(tmp_path):
    path = crashing_file(tmp_path)
    code = (
        'import sys\n'
        'from pathlib import Path\n'
        'from ptycho_engine.io.growing_hdf5 import GrowingDataset\n'
        'try:\n'
        '    GrowingDataset(Path(sys.argv[1]), "patterns")\n'
        'except Exception as error:\n'
        '    print(error)\n'
    )
    done = subprocess.run([sys.executable, '-c', code, path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert 'crashes the HDF5 library' in done.stdout


def test_hdf_13_the_next_file_is_read(tmp_path):
    with pytest.raises(DataValueError, match='crashes'), open_hdf5(crashing_file(tmp_path)):
        pass
    with open_hdf5(good_file(tmp_path)) as file:
        assert list(file['x']) == [0, 1, 2]


def test_hdf_13_a_file_is_tried_once_for_each_state(tmp_path, monkeypatch):
    asked = []
    real = hdf5_trial._trials.status
    monkeypatch.setattr(
        hdf5_trial._trials, 'status', lambda path, **how: asked.append(path.name) or real(path, **how)
    )
    path = good_file(tmp_path)
    for _ in range(3):
        with open_hdf5(path):
            pass
    with h5py.File(path, 'a') as file:
        file['y'] = np.zeros(1000)
    with open_hdf5(path):
        pass
    with GrowingDataset(path, 'y'):
        pass
    assert asked == [path.name] * 3


def test_hdf_13_a_process_that_was_ended_is_started_again(tmp_path):
    with open_hdf5(good_file(tmp_path)):
        pass
    process = hdf5_trial._trials._process
    process.kill()
    process.wait()
    with pytest.raises(DataValueError, match='crashes'), open_hdf5(crashing_file(tmp_path)):
        pass


def test_hdf_13_after_ctrl_c_no_answer_is_taken_for_another(tmp_path, monkeypatch):
    with open_hdf5(good_file(tmp_path)):
        pass
    bad = crashing_file(tmp_path)

    class Interrupted:
        def __init__(self, stream):
            self.stream = stream

        def readline(self):
            # The answer has come, and Ctrl-C with it.
            time.sleep(0.5)
            raise KeyboardInterrupt

        def __getattr__(self, name):
            return getattr(self.stream, name)

    process = hdf5_trial._trials._process
    monkeypatch.setattr(process, 'stdout', Interrupted(process.stdout))
    with pytest.raises(KeyboardInterrupt), open_hdf5(bad):
        pass
    with open_hdf5(good_file(tmp_path, 'another.h5')) as file:
        assert list(file['x']) == [0, 1, 2]
    with pytest.raises(DataValueError, match='crashes'), open_hdf5(bad):
        pass


def test_hdf_13_threads_get_their_own_answers(tmp_path):
    bad = crashing_file(tmp_path)
    good = [good_file(tmp_path, f'{number}.h5') for number in range(12)]
    verdicts = {}

    def read(path):
        try:
            hdf5_trial.require_harmless(path, hdf5_trial.FileState(0, 0, path.stat().st_size, id(path)))
        except DataValueError:
            verdicts[path.name] = 'damaged'
        else:
            verdicts[path.name] = 'good'

    threads = [threading.Thread(target=read, args=(path,)) for path in (*good[:6], bad, *good[6:])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verdicts == {bad.name: 'damaged'} | dict.fromkeys((path.name for path in good), 'good')


def _read_in_fork(path, queue):
    hdf5_trial._fault.cache_clear()
    try:
        with open_hdf5(path):
            queue.put('good')
    except DataValueError as error:
        queue.put(str(error))


def test_hdf_13_a_fork_has_a_process_of_its_own(tmp_path):
    good, bad = good_file(tmp_path), crashing_file(tmp_path)
    with open_hdf5(good):
        pass
    ours = hdf5_trial._trials._process.pid
    context = multiprocessing.get_context('fork')
    queue = context.Queue()
    fork = context.Process(target=_read_in_fork, args=(bad, queue))
    fork.start()
    assert 'crashes' in queue.get(timeout=60)
    fork.join()
    assert hdf5_trial._trials._process.pid == ours
    assert hdf5_trial._trials._process.poll() is None
    gc.collect()


def test_hdf_13_the_process_ends_with_the_one_that_asks(tmp_path):
    path = good_file(tmp_path)
    code = (
        'import os, signal, sys\n'
        'from pathlib import Path\n'
        'from ptycho_engine.io import hdf5_trial\n'
        'from ptycho_engine.io.hdf5 import open_hdf5\n'
        'with open_hdf5(Path(sys.argv[1])):\n'
        '    print(hdf5_trial._trials._process.pid, flush=True)\n'
        'if len(sys.argv) > 2:\n'
        '    os.kill(os.getpid(), signal.SIGKILL)\n'
    )
    for more in ([], ['killed']):
        done = subprocess.run([sys.executable, '-c', code, path, *more], capture_output=True, timeout=60)
        assert done.returncode == (-signal.SIGKILL if more else 0)
        pid, end = int(done.stdout), time.monotonic() + 30
        while os.path.exists(f'/proc/{pid}') and time.monotonic() < end:
            time.sleep(0.02)
        assert not os.path.exists(f'/proc/{pid}')


def test_hdf_13_without_such_a_process_files_are_read(tmp_path, monkeypatch, caplog):
    hdf5_trial._trials.end()
    monkeypatch.setattr(sys, 'executable', str(tmp_path / 'none'))
    with caplog.at_level(logging.DEBUG, 'ptychopinn.io'), open_hdf5(good_file(tmp_path)) as file:
        assert list(file['x']) == [0, 1, 2]
    assert 'is read without' in caplog.text


@pytest.mark.parametrize(
    'damage', ['free space of no size', 'free space that ends early', 'an object of size -16']
)
def test_hdf_12_a_heap_without_an_end_is_refused(tmp_path, monkeypatch, damage):
    monkeypatch.setattr(hdf5_trial, 'MOST_CPU_S', 1)
    path = tmp_path / 'a.h5'
    with h5py.File(path, 'w') as file:
        file.attrs['name'] = 'a text'
        file['x'] = np.arange(3)
    good = path.read_bytes()
    with open_hdf5(path) as file:
        assert file.attrs['name'] == 'a text'
    first = free = good.index(b'GCOL') + 16
    while good[free] != 0:
        free += 16 + -(-good[free + 8] // 8) * 8
    rest = int.from_bytes(good[free + 8 : free + 16], 'little')
    place, size = {
        'free space of no size': (free, 0),
        'free space that ends early': (free, rest - 16),
        'an object of size -16': (first, 2**64 - 16),
    }[damage]
    path.write_bytes(good[: place + 8] + size.to_bytes(8, 'little') + good[place + 16 :])
    hdf5_trial._fault.cache_clear()
    with pytest.raises(DataValueError, match='has no end'), open_hdf5(path):
        pass
