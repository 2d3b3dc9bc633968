"""Ctrl-C, SIGTERM and SIGHUP as requests: the first one ends the run in good order, the second one at once.

SIGTERM is what a queueing system, a container or the system sends that wants the machine back, SIGHUP what a
closed connection leaves. Both want an answer, so that after a while the process ends whatever it does.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ..errors import Cancelled
from ..io.atomic import discard_temporaries

__all__ = ['Requests', 'Terminated', 'end_on_signals', 'stop_on_interrupt']

GRACE_S = 25.0
"""From the first SIGTERM or SIGHUP to the end of the process; Slurm and others kill after 30 s."""
FLUSHED_S = 1.0
"""That a process at its end waits for what it has said to be taken."""
SAME_S = 0.5
"""Signals so close together are one request: when a terminal closes, shell and system both send SIGHUP."""

END = 0
"""No signal has this number."""
TERMINATING = [number for name in ('SIGTERM', 'SIGHUP') if (number := getattr(signal, name, None))]


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP ended the run; `signum` says which, the text what has become of it."""

    def __init__(self, signum: int, text: str = 'interrupted') -> None:
        super().__init__(text)
        self.signum = signum


def interruption(signum: int, text: str = 'interrupted') -> KeyboardInterrupt:
    """Return the exception that ends a run after a signal."""
    return KeyboardInterrupt(text) if signum == signal.SIGINT else Terminated(signum, text)


def _watched() -> list[int]:
    """Return the signals that are requests here; not one that is ignored from the start, as by nohup."""
    names = ('SIGINT', 'SIGTERM', 'SIGHUP')
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]


class Requests:
    """The signals that have come, and what they ask for; true once one has.

    Parameters
    ----------
    at_once : bool
        Whether the first signal raises; else it only asks, and the second one raises.

    Attributes
    ----------
    raised : KeyboardInterrupt or None
        What was raised.
    """

    def __init__(self, *, at_once: bool) -> None:
        self._patience = 0 if at_once else 1
        self._came: list[int] = []
        self._last = -SAME_S
        self.raised: KeyboardInterrupt | None = None
        self._terminals = [stream for stream in (1, 2) if _is_terminal(stream)]

    def __call__(self) -> bool:
        return bool(self._came)

    @property
    def interruption(self) -> KeyboardInterrupt | None:
        """What ends the run, once a signal has come."""
        return interruption(self._came[0]) if self._came else None

    def handle(self, signum: int, frame: FrameType | None) -> None:
        """Take note of a signal; raise where it asks for the end at once."""
        now = time.monotonic()
        again = signum != signal.SIGINT and signum in self._came and now - self._last < SAME_S
        self._last = now
        if again:
            return
        if signum == getattr(signal, 'SIGHUP', None):
            self._leave_terminal()
        self._came.append(signum)
        if len(self._came) > self._patience + 1:
            end_now(signum)
        if len(self._came) > self._patience:
            self.raised = interruption(signum)
            raise self.raised

    def _leave_terminal(self) -> None:
        """Write into nothing in place of a terminal that is gone, where every word would be an error."""
        with contextlib.suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            for stream in self._terminals:
                os.dup2(nowhere, stream)


def _is_terminal(stream: int) -> bool:
    try:
        return os.isatty(stream)
    except OSError:
        return False


def end_now(signum: int) -> None:
    """End the process, wherever it is, without its temporary files."""
    discard_temporaries()
    # Nobody may be reading what the main thread is about to write.
    flushing = threading.Thread(target=_flush, daemon=True)
    flushing.start()
    flushing.join(FLUSHED_S)
    os._exit(128 + signum)


def _flush() -> None:
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()


_deadlines = 0
"""Blocks in one another that hear signals; the outermost has the deadline."""


@contextmanager
def _deadline() -> Iterator[None]:
    """End the process ``GRACE_S`` after SIGTERM or SIGHUP, unless the outermost block has ended by then.

    A thread is told of signals by the system, for handlers in Python wait until a call of a library returns.
    """
    global _deadlines
    _deadlines += 1
    if _deadlines > 1:
        try:
            yield
        finally:
            _deadlines -= 1
        return
    told, teller = os.pipe()
    os.set_blocking(teller, False)
    timers: list[threading.Timer] = []

    def wait() -> None:
        while (number := os.read(told, 1)[0]) != END:
            if number in TERMINATING and not timers:
                timer = threading.Timer(GRACE_S, end_now, [number])
                timer.daemon = True
                timers.append(timer)
                timer.start()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    previous = signal.set_wakeup_fd(teller, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous)
        # Closing it would say nothing where a fork has it open too.
        os.set_blocking(teller, True)
        os.write(teller, bytes([END]))
        thread.join()
        os.close(teller)
        os.close(told)
        for timer in timers:
            timer.cancel()
        _deadlines -= 1


def _forget_deadline() -> None:
    """Keep the signals of a fork from its parent."""
    if _deadlines:
        with contextlib.suppress(ValueError):
            signal.set_wakeup_fd(-1)


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_forget_deadline)


@contextmanager
def _handled(requests: Requests) -> Iterator[Requests]:
    # Signals reach the main thread alone.
    if threading.current_thread() is not threading.main_thread():
        yield requests
        return
    with _deadline():
        previous = {number: signal.signal(number, requests.handle) for number in _watched()}
        try:
            yield requests
        except Exception as error:
            # Libraries that call back into Python, as HDF5 does, make other errors of what is raised there.
            if requests.raised is not None:
                raise requests.raised from error
            raise
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


@contextmanager
def end_on_signals() -> Iterator[Requests]:
    """Raise KeyboardInterrupt or :class:`Terminated` in the block at the first signal."""
    with _handled(Requests(at_once=True)) as requests:
        try:
            yield requests
        finally:
            if requests():
                discard_temporaries()


@contextmanager
def stop_on_interrupt() -> Iterator[Requests]:
    """Yield a function that tells whether a signal has come while the block runs; a second one raises.

    Raises
    ------
    Terminated
        In place of Cancelled, if SIGTERM or SIGHUP stopped the run.
    """
    with _handled(Requests(at_once=False)) as requests:
        try:
            yield requests
        except Cancelled as error:
            if isinstance(requests.interruption, Terminated):
                raise Terminated(requests.interruption.signum, str(error)) from error
            raise
