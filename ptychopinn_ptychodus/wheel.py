"""Scrolling over a panel of fields scrolls the panel; it changes a field only where the field was clicked."""

from __future__ import annotations

from PyQt5.QtCore import QEvent, QObject, Qt
from PyQt5.QtWidgets import QAbstractSlider, QAbstractSpinBox, QComboBox, QWidget

__all__ = ['let_wheel_scroll']


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
