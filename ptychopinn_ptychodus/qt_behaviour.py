"""What Qt does otherwise than the page needs: long work, the log pane, the wheel, texts that change."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, TypeVar

from PyQt5.QtCore import QEvent, QEventLoop, QObject, QSize, Qt, QTimer, pyqtSignal
from PyQt5.QtWidgets import (
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QHeaderView,
    QLabel,
    QPlainTextEdit,
    QTableView,
    QTreeView,
    QWidget,
)

__all__ = [
    'Chores',
    'SteadyLabel',
    'follow_last_line',
    'in_background',
    'let_wheel_scroll',
    'size_columns_in_sight',
]

Result = TypeVar('Result')

AT_ONCE_S = 0.005
"""What takes no longer is waited for."""
LOOK_MS = 2
PAUSE_MS = 5
"""Between two things that are brought up to date."""


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


class Chores(QObject):
    """What is to be brought up to date: one thing in each turn of the window's events, and each thing once.

    Between two of them the window comes to its clicks and drawing, and sleeps, so that a busy machine does
    not take it for a program that computes and lets it wait its turn.
    """

    _come = pyqtSignal()

    def __init__(self) -> None:
        super().__init__()
        self._waiting: list[Callable[[], None]] = []
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._next)
        # Timers can be started in their own thread only; Qt sees to it.
        self._come.connect(self._start)

    @property
    def waits(self) -> bool:
        """Whether anything is still to be done."""
        return bool(self._waiting)

    def later(self, task: Callable[[], None]) -> None:
        """Do a task soon, in the window's thread, unless it waits already; any thread may call it."""
        if task not in self._waiting:
            self._waiting.append(task)
            self._come.emit()

    def _start(self) -> None:
        if not self._timer.isActive():
            self._timer.start(PAUSE_MS)

    def _next(self) -> None:
        task = self._waiting.pop(0)
        if self._waiting:
            self._start()
        task()


class SteadyLabel(QLabel):
    """A text of several lines that keeps its height, so that nothing below it moves when it changes.

    Parameters
    ----------
    lines : int
        Room that it has from the start; a longer text takes more, which is kept.
    """

    def __init__(self, lines: int) -> None:
        super().__init__()
        self._lines = lines
        self._most = 0, 0
        # Names of files and products are no markup.
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setWordWrap(True)
        self.setAlignment(Qt.AlignmentFlag.AlignTop)
        # A long path must not widen the panel.
        self.setMinimumWidth(1)

    def heightForWidth(self, width: int) -> int:
        """Return the height that the longest text so far takes in this width."""
        before = self._most[1] if self._most[0] == width else self._least()
        self._most = width, max(before, super().heightForWidth(width))
        return self._most[1]

    def minimumSizeHint(self) -> QSize:
        """Return the room that it has from the start, whatever the text."""
        return QSize(1, self._least())

    def sizeHint(self) -> QSize:
        """Return the size that it has, so that no window grows with the text."""
        return QSize(super().sizeHint().width(), max(self._most[1], self._least()))

    def _least(self) -> int:
        metrics = self.fontMetrics()
        return int(metrics.lineSpacing() * (self._lines - 1) + metrics.height())


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


class _ColumnsInSight(QObject):
    """Lets a list fit its columns to what they hold while it is in sight."""

    def __init__(self, view: QTreeView | QTableView, header: QHeaderView) -> None:
        super().__init__(view)
        self._header = header
        self._fitted: list[int] = []
        view.installEventFilter(self)
        if not view.isVisible():
            self._rest()

    def eventFilter(self, view: QObject | None, event: QEvent | None) -> bool:
        """Go on when the list is shown, rest when it is hidden."""
        if event is not None and event.type() == QEvent.Type.Show:
            for section in self._fitted:
                self._header.setSectionResizeMode(section, QHeaderView.ResizeMode.ResizeToContents)
            self._fitted = []
        elif event is not None and event.type() == QEvent.Type.Hide:
            self._rest()
        return False

    def _rest(self) -> None:
        mode = QHeaderView.ResizeMode.ResizeToContents
        sections = range(self._header.count())
        fitted = [section for section in sections if self._header.sectionResizeMode(section) == mode]
        for section in fitted:
            self._header.setSectionResizeMode(section, QHeaderView.ResizeMode.Interactive)
        # A list may be told more than once that it is hidden.
        self._fitted += fitted


def size_columns_in_sight(window: QWidget) -> None:
    """Let the lists of a window fit their columns to what they hold only while they are in sight.

    Qt does it at every change, in sight or not, and asks for each text a hundred times.
    """
    lists: list[tuple[QTreeView | QTableView, QHeaderView | None]] = [
        *((view, view.header()) for view in window.findChildren(QTreeView)),
        *((view, view.horizontalHeader()) for view in window.findChildren(QTableView)),
    ]
    for view, header in lists:
        if header is not None:
            _ColumnsInSight(view, header)
