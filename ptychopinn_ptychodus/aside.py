"""Work that takes the window long, done beside it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

from PyQt5.QtCore import QEventLoop, QTimer

__all__ = ['aside']

Result = TypeVar('Result')

AT_ONCE_S = 0.02
"""What takes no longer is waited for."""
LOOK_MS = 5


def aside(work: Callable[[], Result]) -> Result:
    """Return what `work` returns, or raise what it raises; meanwhile the window draws, but takes no input.

    `work` runs in another thread and must not touch the window. Called from another thread than the window's,
    it is done right there.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    with ThreadPoolExecutor(1, 'ptychopinn-aside') as executor:
        future = executor.submit(work)
        if wait([future], AT_ONCE_S).not_done:
            loop, timer = QEventLoop(), QTimer()
            timer.timeout.connect(lambda: loop.quit() if future.done() else None)
            timer.start(LOOK_MS)
            loop.exec_(QEventLoop.ProcessEventsFlags(QEventLoop.ProcessEventsFlag.ExcludeUserInputEvents))
            timer.stop()
        return future.result()
