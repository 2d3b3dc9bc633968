"""SIGTERM, SIGHUP and Ctrl-C end each command in good order, with nothing left over (CFG-14, CFG-18)."""

import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ptycho_engine.commands import interrupt, main
from ptycho_engine.commands.interrupt import Requests, Terminated, end_on_signals, stop_on_interrupt
from ptycho_engine.errors import Cancelled
from ptycho_engine.formats.archive import load_archive
from ptycho_engine.formats.checkpoint import load_checkpoint

pytestmark = pytest.mark.skipif(os.name != 'posix', reason='signals')

LONG = ['--epochs', '1000', '--early-stop-patience', '1000', '--filters-scale', '1', '--architecture', 'cnn']
LONG += ['--groups', '48']
PATIENCE_S = 300
CODES = {signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGINT: 130}


@contextmanager
def start(*words: object, **options) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, '-m', 'ptycho_engine', *map(str, words)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    ) as process:
        try:
            yield process
        finally:
            # Where the test went wrong; it would run for hours.
            process.kill()


def wait_for(process: subprocess.Popen[str], word: str) -> str:
    seen = ''
    assert process.stderr is not None
    for line in process.stderr:
        seen += line
        if word in line:
            return seen
    raise AssertionError(seen)


@pytest.mark.parametrize('signum', [signal.SIGTERM, signal.SIGHUP])
def test_cfg_18_a_training_saves_its_best_model(directory, tmp_path, signum):
    with start('train', directory, '--output', tmp_path, *LONG) as process:
        wait_for(process, 'Epoch 2/')
        process.send_signal(signum)
        out, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == CODES[signum]
    assert 'Saved the model to' in out
    kept = {'checkpoint.zip', 'history.csv', 'train.toml', 'wts.h5.zip'}
    assert {path.name for path in tmp_path.iterdir()} == kept
    assert len(load_archive(tmp_path).history) >= 2
    assert load_checkpoint(tmp_path / 'checkpoint.zip').progress.epoch >= 2


def test_cfg_18_a_training_whose_terminal_is_gone_saves_its_best_model(directory, tmp_path):
    """Every word to it would be an error then."""
    master, slave = pty.openpty()
    command = [sys.executable, '-m', 'ptycho_engine', 'train', str(directory), '--output', str(tmp_path)]
    process = subprocess.Popen(
        [*command, *LONG], stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    os.close(slave)
    seen = b''
    while b'Epoch 2/' not in seen:
        seen += os.read(master, 1000)
    os.close(master)
    process.send_signal(signal.SIGHUP)
    assert process.wait(PATIENCE_S) == 129
    assert len(load_archive(tmp_path).history) >= 2


def test_cfg_18_what_libraries_say_to_a_terminal_that_is_gone_goes_nowhere():
    """Not only what goes through streams of Python's."""
    code = (
        'import os, time; from ptycho_engine.commands.interrupt import stop_on_interrupt\n'
        'with stop_on_interrupt() as stopped:\n'
        '    os.write(1, b"busy")\n'
        '    while not stopped(): time.sleep(0.05)\n'
        '    os.write(1, b"word")\n'
    )
    master, slave = pty.openpty()
    process = subprocess.Popen([sys.executable, '-c', code], stdin=slave, stdout=slave)
    os.close(slave)
    assert os.read(master, 4) == b'busy'
    os.close(master)
    process.send_signal(signal.SIGHUP)
    assert process.wait(PATIENCE_S) == 0


def test_cfg_18_what_is_ignored_from_the_start_stays_ignored(directory, tmp_path):
    def ignore():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with start('train', directory, '--output', tmp_path, *LONG, preexec_fn=ignore) as process:
        wait_for(process, 'Epoch 1/')
        process.send_signal(signal.SIGHUP)
        wait_for(process, 'Epoch 3/')
        process.terminate()
        process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 143


def test_cfg_18_a_stopped_reconstruction_leaves_nothing(directory, model, tmp_path):
    out = tmp_path / 'out'
    words = ['reconstruct', directory, '--model', model, '--output', out, '--refine-iterations', '100000']
    with start(*words) as process:
        wait_for(process, ' groups of ')
        time.sleep(1)
        process.terminate()
        process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 143
    assert not out.exists()


HALF = """
import sys, time
from ptycho_engine.commands import main
from ptycho_engine.formats import npz

def slow(path, frames, **_):
    from ptycho_engine.io.atomic import atomic_path
    with atomic_path(path) as temporary:
        temporary.write_bytes(b'half')
        print('writing', flush=True)
        # A signal that comes just before a long sleep is answered after it.
        for _ in range(600):
            time.sleep(0.1)

import ptycho_engine.scan.raw_data as raw_data
raw_data.write_arrays = slow
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize('signum', CODES)
def test_cfg_18_no_temporary_file_is_left_in_the_middle_of_writing(directory, tmp_path, signum):
    out = tmp_path / 'small.npz'
    out.write_bytes(b'earlier')
    command = [sys.executable, '-c', HALF, 'prepare', str(directory), '--crop', '32', '--output', str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ}) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == 'writing\n'
        process.send_signal(signum)
        process.communicate(timeout=30)
    assert process.returncode == CODES[signum]
    assert [path.name for path in tmp_path.iterdir()] == ['small.npz']
    assert out.read_bytes() == b'earlier'


def test_cfg_18_the_second_signal_ends_at_once():
    with stop_on_interrupt() as stopped:
        signal.raise_signal(signal.SIGINT)
        assert stopped()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_cfg_18_a_terminal_that_closes_sends_two_signals_for_one():
    with stop_on_interrupt() as stopped:
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
        assert isinstance(stopped.interruption, Terminated)
        time.sleep(interrupt.SAME_S)
        with pytest.raises(Terminated):
            signal.raise_signal(signal.SIGHUP)


def test_cfg_18_a_cancelled_run_ends_with_the_code_of_its_signal():
    def cancelled():
        with stop_on_interrupt():
            signal.raise_signal(signal.SIGTERM)
            raise Cancelled('no model was written')

    with pytest.raises(Terminated, match='no model was written') as raised:
        cancelled()
    assert raised.value.signum == signal.SIGTERM


@pytest.mark.parametrize('handled', [end_on_signals, stop_on_interrupt])
def test_cfg_18_what_a_signal_becomes_inside_a_library_is_still_the_signal(handled):
    """HDF5 calls back into Python, and makes another error of the one that is raised there."""

    def interrupted_within_hdf5():
        with handled():
            try:
                # The first one only asks, or is raised already.
                signal.raise_signal(signal.SIGTERM)
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                raise TypeError('Operation not defined for data type class') from None

    with pytest.raises(KeyboardInterrupt):
        interrupted_within_hdf5()


def test_cfg_18_an_error_after_a_request_is_still_that_error():
    def failing():
        with stop_on_interrupt() as stopped:
            signal.raise_signal(signal.SIGTERM)
            assert stopped()
            raise OSError('No space left on device')

    with pytest.raises(OSError, match='No space'):
        failing()


WORKS = {
    'in Python': 'while True: time.sleep(0.1)',
    'into a full pipe': 'while True: print("word" * 1000, flush=True)',
    # There no handler written in Python is called.
    'in a library': 'import hashlib; hashlib.pbkdf2_hmac("sha256", b"", b"", (1 << 31) - 1)',
}


@pytest.mark.parametrize('handled', ['end_on_signals', 'stop_on_interrupt'])
@pytest.mark.parametrize('work', WORKS)
def test_cfg_18_the_process_ends_after_a_while_whatever_it_does(tmp_path, work, handled):
    code = (
        'import sys, time; from pathlib import Path; from ptycho_engine.commands import interrupt\n'
        'from ptycho_engine.io.atomic import new_temporary\n'
        'interrupt.GRACE_S = 0.5\n'
        f'with interrupt.{handled}(), interrupt.stop_on_interrupt(), \\\n'
        '    new_temporary(Path(sys.argv[1])) as temporary:\n'
        '    temporary.write_text("half"); print("busy", flush=True)\n'
        f'    {WORKS[work]}\n'
    )
    command = [sys.executable, '-c', code, str(tmp_path)]
    # With that variable nothing waits in a buffer, whose lock is held while the pipe is full.
    environment = {name: value for name, value in os.environ.items() if name != 'PYTHONUNBUFFERED'}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == 'busy\n'
            process.terminate()
            assert process.wait(20) == 143
        finally:
            process.kill()
    assert list(tmp_path.iterdir()) == []


def test_cfg_18_a_process_that_has_answered_may_go_on(monkeypatch):
    """As one that calls a command of ours, and has work of its own afterwards."""
    ended = []
    monkeypatch.setattr(interrupt, 'GRACE_S', 0.1)
    monkeypatch.setattr(interrupt, 'end_now', ended.append)
    before = threading.active_count()
    with pytest.raises(Terminated), end_on_signals():
        signal.raise_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert ended == []
    assert threading.active_count() == before
    assert signal.set_wakeup_fd(-1) == -1


def test_cfg_18_the_signal_of_a_fork_is_not_that_of_its_parent(monkeypatch):
    ended = []
    monkeypatch.setattr(interrupt, 'GRACE_S', 0.1)
    monkeypatch.setattr(interrupt, 'end_now', ended.append)
    tic = time.monotonic()
    with stop_on_interrupt():
        pid = os.fork()
        if pid == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(0)
        os.waitpid(pid, 0)
        waiting = os.fork()
        if waiting == 0:
            time.sleep(60)
            os._exit(0)
        time.sleep(0.5)
    # Nor does one that is still there keep its parent waiting.
    assert time.monotonic() - tic < 30
    os.kill(waiting, signal.SIGKILL)
    os.waitpid(waiting, 0)
    assert ended == []


def test_cfg_18_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with end_on_signals(), stop_on_interrupt():
        assert isinstance(getattr(signal.getsignal(signal.SIGTERM), '__self__', None), Requests)
    assert signal.getsignal(signal.SIGTERM) is before


def test_run_10_a_removed_folder_gets_its_settings_again(directory, tmp_path, monkeypatch):
    from ptycho_engine.commands import train as command

    folder, real = tmp_path / 'out', command.train

    def removing(*args, **kwargs):
        for event in real(*args, **kwargs):
            yield event
            if getattr(event, 'epoch', 0) == 1 and isinstance(event, command.EpochDone):
                for path in folder.iterdir():
                    path.unlink()
                folder.rmdir()

    monkeypatch.setattr(command, 'train', removing)
    options = ['--epochs', '2', '--filters-scale', '1', '--architecture', 'cnn']
    assert (
        main(['train', str(directory), '--output', str(folder), *options, '--groups', '48', '--quiet']) == 0
    )
    assert (folder / 'train.toml').is_file()
    assert (folder / 'history.csv').read_text().count('\n') == 3


def test_disk_05_two_reconstructions_into_one_folder(directory, model, tmp_path):
    out = tmp_path / 'out'
    words = ['reconstruct', str(directory), '--model', str(model), '--output', str(out)]
    with start(*words, '--refine-iterations', '100000') as process:
        wait_for(process, ' groups of ')
        with start(*words) as other:
            _, error = other.communicate(timeout=PATIENCE_S)
        assert other.returncode == 2
        assert f'is being written by process {process.pid} (' in error.replace('\n', ' ')
        process.terminate()
        process.communicate(timeout=PATIENCE_S)
    assert Path(directory).is_dir()
