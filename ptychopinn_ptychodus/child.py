"""A child process, whose messages are those of Ptychodus' own, with what Ptychodus' loop does not offer.

Log records, errors and the end of the run arrive in the tagged tuples that Ptychodus defines. It differs in
four points from its ``run_subprocess``, which blocks in a queue and hides the process: it wakes at short
intervals, so that Stop is seen within a training epoch; it can ask the child to finish early and keep its
work; it notices a child that was killed; and the child does not spend seconds on importing all of Ptychodus.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import wait
from types import TracebackType
from typing import Any, Self

import numpy.typing as npt

from ptycho_engine.errors import EngineError, is_out_of_memory
from ptycho_engine.printable import printable

from .child_end import Channel, Message, Supervisor, serve
from .child_errors import ChildErrors, cause_of
from .handover import Parcel, receive, send_array

__all__ = ['Child', 'ChildCrashed', 'ChildDied']

logger = logging.getLogger('ptychopinn')

STOP = 'stop'
TERMINATE_GRACE_S = 5.0

_starting = threading.Lock()


class ChildCrashed(RuntimeError):
    """The child ended with an unexpected error; the text is one sentence, the traceback is in the log."""


class ChildDied(EngineError):
    """The child ended without a word: it was killed, or could not start."""


@contextlib.contextmanager
def _main_module_left_out() -> Iterator[None]:
    """Within it, a process that is spawned does not import the program's main module again.

    A run needs nothing of it, and that of Ptychodus imports all of Ptychodus. To multiprocessing it looks as
    if the program were an interactive session, whose main module has no file.
    """
    main = vars(sys.modules['__main__'])
    with _starting:
        kept: dict[str, Any] = {name: main[name] for name in ('__spec__', '__file__') if name in main}
        main['__spec__'] = None
        main.pop('__file__', None)
        try:
            yield
        finally:
            main.update(kept)


class Child:
    """One child process, from its start to its certain end.

    Parameters
    ----------
    entry_point : str
        ``'module:function'``, called in the child as ``function(supervisor, channel)``.
    job : object
        What to do; must pickle. The child gets it from ``supervisor.receive_job()``.
    array : ndarray, optional
        Goes with the job, by a memory map, while the child is still importing what it needs.
    """

    def __init__(self, entry_point: str, job: object, array: npt.NDArray[Any] | None = None) -> None:
        context = multiprocessing.get_context('spawn')
        self._messages, child_messages = context.Pipe(duplex=False)
        # Duplex, because only such a pipe carries the descriptor of a file.
        child_control, self._control = context.Pipe(duplex=True)
        self._process = context.Process(
            target=serve,
            args=(
                entry_point,
                Supervisor(child_control),
                Channel(child_messages),
                logging.getLogger().getEffectiveLevel(),
            ),
            name='ptychopinn',
        )
        self._childs_ends = (child_messages, child_control)
        self._job: Parcel | None = Parcel((job, array is not None))
        self._array = array
        self._errors = ChildErrors()
        self._finished = False
        self._ended = threading.Event()
        self._trouble: EngineError | None = None
        self._handover = threading.Thread(target=self._hand_over, name='ptychopinn-job', daemon=True)

    def __enter__(self) -> Self:
        with self._errors.given_to_child(), _main_module_left_out():
            self._process.start()
        # With our copies closed, the end of the child shows as the end of the pipe, and the reverse.
        for connection in self._childs_ends:
            connection.close()
        # Not among the arguments of the process: a large job would hold us here, and Stop would have to wait.
        self._handover.start()
        return self

    def _hand_over(self) -> None:
        pid = self._process.pid
        assert pid is not None
        assert self._job is not None
        try:
            self._job.send(self._control)
            if self._array is not None:
                send_array(self._array, self._control, pid, self._ended.is_set)
        except EngineError as error:
            # Raised where the messages are waited for.
            self._trouble = error
        except OSError:
            logger.debug('The child was gone before it had its job.')
        finally:
            self._job = self._array = None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        if not self._finished:
            self._process.terminate()
        self._reap()

    def _reap(self) -> None:
        self._process.join(TERMINATE_GRACE_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._errors.close()
        # It ends with the child, at its next write, and must not meet a pipe that is closed.
        self._handover.join(TERMINATE_GRACE_S)
        self._control.close()
        self._messages.close()
        # When the program ends, multiprocessing may have collected the child first; to this object it then
        # looks as if it were running for ever.
        with contextlib.suppress(ValueError):
            self._process.close()

    def request_stop(self) -> None:
        """Ask the child to finish early and keep what it has."""
        try:
            self._control.send(STOP)
        except OSError:
            logger.debug('The child was gone before it could be asked to stop.')

    def messages(self, tick_s: float, *, timeout_s: float | None = None) -> Iterator[Message | None]:
        """Yield the child's messages, and None after every `tick_s` seconds without one, until it ends.

        Log records are put into this process' log and not yielded. After `timeout_s` seconds, if given, the
        iteration ends even though the child has not.

        Raises
        ------
        ChildCrashed
            If the child raised an unexpected exception.
        ChildDied
            If the child died without a word.
        EngineError
            If the array cannot be handed over.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while deadline is None or time.monotonic() < deadline:
            ready = wait([self._messages, self._process.sentinel], timeout=tick_s)
            self._errors.pass_on()
            if self._trouble is not None:
                raise self._trouble
            if self._messages not in ready and not (ready and self._messages.poll()):
                if ready:
                    raise self._died()
                yield None
                continue
            try:
                message = receive(self._messages)
            except (EOFError, OSError):
                raise self._died() from None
            if message is None:
                self._finished = True
                return
            yield self._dispatch(message)

    def _dispatch(self, message: Message) -> Message | None:
        match message:
            case ('log', level, name, text):
                logging.getLogger(name).log(level, '%s', text)
                return None
            case ('error', traceback, kind):
                lines = str(traceback).splitlines()
                # Line by line, since line breaks within what is logged are shown as escapes.
                logger.error('\n'.join(['%s'] * len(lines)), *lines)
                if is_out_of_memory(str(traceback)):
                    raise EngineError(
                        'PtychoPINN ran out of memory; choose a smaller batch size, or fewer filters.'
                    )
                cause = printable(cause_of(str(traceback)) or kind)
                raise ChildCrashed(f'PtychoPINN failed unexpectedly ({cause}).')
        return message

    def _died(self) -> ChildDied:
        self._process.join(TERMINATE_GRACE_S)
        code = self._process.exitcode
        killed = code is not None and code < 0
        raised = '' if killed else self._errors.why_not_started()
        if raised:
            return ChildDied(
                f'The PtychoPINN process could not do its work: {printable(raised)}. If that file is not '
                'part of an installed package, a file of yours has the name of a package; rename it, or '
                'start Ptychodus in another folder.'
            )
        cause = f'by signal {-(code or 0)}' if killed else f'with code {code}'
        return ChildDied(
            f'The PtychoPINN process ended without a result ({cause}); if the machine ran out of memory, '
            'choose a smaller batch size.'
        )
