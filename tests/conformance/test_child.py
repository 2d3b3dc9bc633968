"""The parent's side of the child process (API-37)."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

pytest.importorskip('ptychodus.model.processing')

from ptycho_engine.errors import EngineError
from ptychopinn_ptychodus.child import Child, ChildCrashed, ChildDied
from ptychopinn_ptychodus.child_errors import cause_of
from ptychopinn_ptychodus.run_context import RunContext
from ptychopinn_ptychodus.training_run import TrainingRun, _Progress

pytestmark = pytest.mark.ptychodus


def test_unexpected_error_is_one_sentence_and_its_traceback_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Child('json:loads', None) as child, pytest.raises(ChildCrashed, match='TypeError') as caught:
        list(child.messages(0.1, timeout_s=60))
    assert '\n' not in str(caught.value)
    (record,) = [r for r in caplog.records if r.name == 'ptychopinn']
    assert 'Traceback' in record.getMessage()


def test_a_child_imports_neither_ptychodus_nor_the_main_module_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """API-37: both take seconds, at each *Infer*; the parent's main module stays what it was."""
    program = tmp_path / 'program.py'
    program.write_text('import wave\n')
    main = sys.modules['__main__']
    monkeypatch.setattr(main, '__spec__', None)
    monkeypatch.setattr(main, '__file__', str(program), raising=False)
    with Child('handover_child:tell_imports', None) as child:
        (told,) = [message for message in child.messages(1.0, timeout_s=60) if message is not None]
    assert 'ptychopinn_ptychodus' in told[1]
    assert not {'ptychodus', 'wave'} & set(told[1])
    assert main.__file__ == str(program)


def test_waiting_is_interrupted_and_leaving_ends_the_child() -> None:
    with Child('time:sleep', None) as child:
        assert next(child.messages(0.05)) is None
        process = child._process
        pid = process.pid
        assert pid is not None
    with pytest.raises(ValueError, match='closed'):
        process.is_alive()


def test_the_end_of_a_run_waits_for_what_is_being_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop at the start: no thread is left that uses a pipe which is closed."""
    closed: list[bool] = []

    def hand_over_slowly(array: object, connection: Any, pid: int, cancelled: Callable[[], bool]) -> bool:
        while not cancelled():
            time.sleep(0.01)
        time.sleep(0.5)
        closed.append(connection.closed)
        return False

    monkeypatch.setattr('ptychopinn_ptychodus.child.send_array', hand_over_slowly)
    with Child('time:sleep', None, np.zeros(3)):
        pass
    assert closed == [False]


def test_a_child_that_the_interpreter_has_collected_already_is_no_error() -> None:
    """At exit, multiprocessing waits for the children too, and may come first."""
    child = Child('json:loads', None).__enter__()
    with pytest.raises(ChildCrashed):
        list(child.messages(0.1, timeout_s=60))
    pid = child._process.pid
    assert pid is not None
    os.waitpid(pid, 0)
    child._reap()
    assert child._control.closed


def test_a_child_that_dies_at_import_says_which_file_is_to_blame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """API-35: a file of the user with the name of a package stops the child before it can say so."""
    # The child imports it to know how to talk to us, long before any code of ours runs.
    (tmp_path / 'numpy.py').write_text('raise ImportError("not the numpy you meant")')
    monkeypatch.syspath_prepend(str(tmp_path))
    with Child('json:loads', None) as child, pytest.raises(ChildDied) as caught:
        list(child.messages(0.1, timeout_s=60))
    sentence = str(caught.value)
    assert 'ImportError: not the numpy you meant' in sentence
    assert str(tmp_path / 'numpy.py') in sentence
    assert 'memory' not in sentence
    # What it wrote is not kept from the terminal.
    assert capfd.readouterr().err.count('not the numpy you meant') == 2


def test_a_child_that_is_killed_is_told_as_before() -> None:
    """API-35."""
    with Child('time:sleep', None) as child:
        process = child._process
        process.kill()
        with pytest.raises(ChildDied, match=r'without a result \(by signal 9\)'):
            list(child.messages(0.1, timeout_s=60))


@pytest.mark.parametrize(
    ('traceback', 'cause'),
    [
        ('Traceback ...\n  File "a.py"\nValueError: wrong\n', 'ValueError: wrong'),
        (
            'Traceback ...\npkg.errors.SomeError: Graph execution error:\n\n [Op:__x_1]\n',
            'pkg.errors.SomeError',
        ),
        ('', ''),
    ],
)
def test_the_cause_is_the_line_that_names_the_exception(traceback: str, cause: str) -> None:
    assert cause_of(traceback).startswith(cause)


def test_memory_that_ran_out_is_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    message = ('error', 'Traceback ...\ntf.errors.ResourceExhaustedError: Graph:\n [Op:__x_1]', 'E')
    with pytest.raises(EngineError, match='ran out of memory; choose a smaller batch size'):
        Child('json:loads', None)._dispatch(message)


def test_a_stopped_training_is_waited_for_as_long_as_its_batches_take(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """API-33: a batch is ended before the model is saved; what was not saved is not said to be kept."""
    waited = []

    class Slow:
        def request_stop(self) -> None:
            pass

        def messages(self, tick_s: float, timeout_s: float) -> Iterator[None]:
            waited.append(timeout_s)
            return iter(())

    monkeypatch.setattr(TrainingRun, '_tell', lambda self, progress: None)
    progress = _Progress()
    progress.add_batch(0.1)
    progress.last -= 20
    progress.add_batch(0.2)
    object.__new__(TrainingRun)._finish_early(cast(Child, Slow()), progress)
    assert waited == [pytest.approx(60, rel=0.01)]
    assert 'its model was not saved' in caplog.text


def test_a_model_beside_an_earlier_one_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """API-39."""
    loaded: list[Path] = []
    monkeypatch.setattr(TrainingRun, '_load', lambda self, path: loaded.append(path))
    run, progress = object.__new__(TrainingRun), _Progress()
    run._context = RunContext()
    run._note(('model_beside', Path('wts.stopped.h5.zip')), progress)
    assert progress.saved
    assert loaded == []
    run._note(('model_saved', Path('model.zip')), progress)
    assert loaded == [Path('model.zip')]
