"""What Qt does otherwise than the page needs: long work, the log pane, the wheel over a panel of fields."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, TypeVar

from PyQt5.QtCore import QEvent, QEventLoop, QObject, Qt, QTimer
from PyQt5.QtWidgets import QAbstractSlider, QAbstractSpinBox, QComboBox, QPlainTextEdit, QWidget

__all__ = ['follow_last_line', 'in_background', 'let_wheel_scroll']

Result = TypeVar('Result')

AT_ONCE_S = 0.02
"""What takes no longer is waited for."""
LOOK_MS = 5


def in_background(work: Callable[[], Result]) -> Result:
    """Return what `work` returns, or raise what it raises; meanwhile the window draws, but takes no input.

    `work` runs in another thread and must not touch the window. Called from another thread than the window's,
    it is done right there.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    with ThreadPoolExecutor(1, 'ptychopinn-background') as executor:
        future = executor.submit(work)
        if wait([future], AT_ONCE_S).not_done:
            loop, timer = QEventLoop(), QTimer()
            timer.timeout.connect(lambda: loop.quit() if future.done() else None)
            timer.start(LOOK_MS)
            loop.exec_(QEventLoop.ProcessEventsFlags(QEventLoop.ProcessEventsFlag.ExcludeUserInputEvents))
            timer.stop()
        return future.result()


def follow_last_line(pane: QPlainTextEdit) -> None:
    """Keep the end of a text in sight when the pane changes its height.

    Qt follows the text only while the scroll bar is at its end, which it no longer is once a progress bar has
    taken some of the pane's height.
    """
    bar: Any = pane.verticalScrollBar()
    at_end = [True]

    def scrolled(value: int) -> None:
        at_end[0] = value >= bar.maximum()

    def resized(_: int, maximum: int) -> None:
        if at_end[0]:
            bar.setValue(maximum)

    bar.valueChanged.connect(scrolled)
    bar.rangeChanged.connect(resized)


class _WheelGuard(QObject):
    """Passes the wheel on to the panel where a field has no focus."""

    def eventFilter(self, field: QObject | None, event: QEvent | None) -> bool:
        """Return whether the field does not get the event."""
        if event is None or event.type() != QEvent.Type.Wheel:
            return False
        if isinstance(field, QWidget) and field.hasFocus():
            return False
        # Qt offers an event that is ignored to the parent, and so to the area that scrolls.
        event.ignore()
        return True


def let_wheel_scroll(panel: QWidget) -> None:
    """Keep the wheel away from all fields of a panel that have no focus, which it no longer gives either."""
    guard = _WheelGuard(panel)
    for kind in (QAbstractSpinBox, QComboBox, QAbstractSlider):
        for field in panel.findChildren(kind):
            field.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
            field.installEventFilter(guard)
