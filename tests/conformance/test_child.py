"""The parent's side of the child process (API-37)."""

from __future__ import annotations

import os

import pytest

pytest.importorskip('ptychodus.model.processing')

from ptychopinn_ptychodus.child import Child, ChildCrashed

pytestmark = pytest.mark.ptychodus


def test_unexpected_error_is_one_sentence_and_its_traceback_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Child('json:loads', None) as child, pytest.raises(ChildCrashed, match='TypeError') as caught:
        list(child.messages(0.1, timeout_s=60))
    assert '\n' not in str(caught.value)
    (record,) = [r for r in caplog.records if r.name == 'ptychopinn']
    assert 'Traceback' in record.getMessage()


def test_waiting_is_interrupted_and_leaving_ends_the_child() -> None:
    with Child('time:sleep', None) as child:
        assert next(child.messages(0.05)) is None
        process = child._process
        pid = process.pid
        assert pid is not None
    with pytest.raises(ValueError, match='closed'):
        process.is_alive()


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
