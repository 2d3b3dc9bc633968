"""Patterns go to the child by memory map (API-36)."""

from __future__ import annotations

import os
import tempfile
import threading
from contextlib import nullcontext
from multiprocessing import Pipe
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('ptychodus.model.processing')

from handover_child import ENTRY_POINT, hand_over, resident_bytes

from ptycho_engine.errors import EngineError
from ptychopinn_ptychodus.child import Child
from ptychopinn_ptychodus.handover import Parcel, receive, receive_array, send_array

pytestmark = pytest.mark.ptychodus

MEBIBYTE = 2**20


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder in which scratch files are made."""
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    return tmp_path


@pytest.mark.skipif(not Path('/proc/self/status').is_file(), reason='reads /proc')
def test_a_large_stack_costs_the_parent_neither_memory_nor_a_file(scratch: Path) -> None:
    """API-36: 200 MiB, not contiguous, are seen as they are, through a file without a name."""
    patterns = np.arange(2 * 200 * MEBIBYTE // 2, dtype=np.uint16).reshape(-1, 128, 256)[:, :, ::2]
    before, most, names = resident_bytes(), [0, 0], set()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.005):
            most[:] = map(max, most, resident_bytes())
            names.update(os.listdir(scratch))

    watcher = threading.Thread(target=watch)
    watcher.start()
    _, (job, shape, dtype, writeable, frames) = hand_over(patterns)
    over.set()
    watcher.join()
    assert (job, shape, dtype, writeable) == ('job', patterns.shape, '<u2', False)
    assert frames == patterns[:: len(patterns) // 8].tobytes()
    assert most[0] - before[0] < 60 * MEBIBYTE
    assert most[1] - before[1] < 100 * MEBIBYTE
    assert names == set()


def test_no_room_is_one_sentence(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """API-36."""

    def full(*_: object) -> None:
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'posix_fallocate', full)
    with (
        Child(ENTRY_POINT, 'job', np.zeros((3, 8, 8))) as child,
        pytest.raises(EngineError, match=r'Handing the patterns over .*No space left .* set TMPDIR'),
    ):
        list(child.messages(0.05, timeout_s=30))


@pytest.mark.skipif(not Path('/dev/full').exists(), reason='writes to a device that is always full')
def test_room_that_is_gone_while_patterns_are_written_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """API-36: where no room can be reserved; the child does not wait for patterns that never come."""
    with Path('/dev/full').open('r+b', buffering=0) as full:
        monkeypatch.setattr('ptychopinn_ptychodus.handover.scratch_file', lambda *_: nullcontext(full))
        with (
            Child(ENTRY_POINT, 'job', np.zeros((3, 8, 8))) as child,
            pytest.raises(EngineError, match=r'Handing the patterns over .*No space left .* set TMPDIR'),
        ):
            list(child.messages(0.05, timeout_s=30))


def test_stop_ends_the_copy(scratch: Path) -> None:
    """API-33: nothing is sent once the run is over."""
    ours, theirs = Pipe()
    with ours, theirs:
        assert not send_array(np.zeros((4, 8, 8)), ours, os.getpid(), lambda: True)
        assert not theirs.poll()


@pytest.mark.parametrize('shape', [(0, 8, 8), (1, 8, 8)])
def test_few_patterns_go_the_same_way(scratch: Path, shape: tuple[int, int, int]) -> None:
    """API-36."""
    patterns = np.random.default_rng(0).random(shape)
    ours, theirs = Pipe()
    with ours, theirs:
        assert send_array(patterns, ours, os.getpid(), lambda: False)
        received = receive_array(theirs)
    np.testing.assert_array_equal(received.array, patterns)


def test_a_parcel_comes_out_as_it_was_and_its_arrays_go_beside_the_pickle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """API-36: in pieces, so that no thread waits for an array as a whole; of any order, and empty ones."""
    rng = np.random.default_rng(0)
    content = {
        'object': rng.normal(size=(300, 301)) + 1j,
        'fortran': np.asfortranarray(rng.normal(size=(5, 7))),
        'strided': rng.normal(size=(8, 8))[::2, ::-1],
        'nothing': np.zeros((0, 3)),
        'text': ['a', 1, None],
    }
    sent: list[int] = []
    ours, theirs = Pipe()
    with ours, theirs:
        thread = threading.Thread(target=Parcel(content).send, args=(ours,))
        with monkeypatch.context() as patch:
            patch.setattr('ptychopinn_ptychodus.handover.PIECE_BYTES', 1000)
            whole = type(ours).send_bytes
            patch.setattr(
                type(ours), 'send_bytes', lambda self, part: (sent.append(len(part)), whole(self, part))
            )
            thread.start()
            received = receive(theirs)
            thread.join()
    assert max(sent) == 1000
    assert sum(sent) == sum(content[name].nbytes for name in ('object', 'fortran'))
    assert received.pop('text') == content.pop('text')
    for name, array in content.items():
        np.testing.assert_array_equal(received[name], array)
        received[name] += 1


def test_a_job_that_cannot_travel_is_told_at_once() -> None:
    """API-36: not by a child that waits for ever."""
    with pytest.raises((AttributeError, TypeError), match='pickle'):
        Child(ENTRY_POINT, lambda: None)
