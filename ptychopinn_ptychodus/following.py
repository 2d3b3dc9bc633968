"""The log pane, which shows its last line as long as the user has not scrolled away from it."""

from __future__ import annotations

from typing import Any

from PyQt5.QtWidgets import QPlainTextEdit

__all__ = ['follow_last_line']


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
