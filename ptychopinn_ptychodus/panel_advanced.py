"""Rows that are out of sight: under *Advanced*, and those of the architecture that is not chosen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ptychodus.api.observer import Observable, Observer
from ptychodus.api.parameters import Parameter
from PyQt5.QtCore import Qt
from PyQt5.QtWidgets import QFormLayout, QToolButton, QVBoxLayout, QWidget

from .compat import parameter_views

__all__ = ['AdvancedView', 'show_rows_of_architecture']

_ViewController: Any = parameter_views().ParameterViewController


class AdvancedView(_ViewController):  # type: ignore[misc]
    """A button that opens and closes what lies beneath it; closed at first."""

    def __init__(self, rows: QWidget) -> None:
        super().__init__()
        self._rows = rows
        self._button = QToolButton()
        self._button.setText('Advanced')
        self._button.setToolTip('Settings that hardly any scan needs; their defaults are good.')
        self._button.setCheckable(True)
        self._button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self._button.setStyleSheet('QToolButton { border: none; }')
        self._button.toggled.connect(self._open)
        self._widget = QWidget()
        layout = QVBoxLayout(self._widget)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._button)
        layout.addWidget(rows)
        self._open(False)

    def get_widget(self) -> QWidget:
        """Return the button and what is beneath it."""
        return self._widget

    def _open(self, opened: bool) -> None:
        self._button.setArrowType(Qt.ArrowType.DownArrow if opened else Qt.ArrowType.RightArrow)
        self._rows.setVisible(opened)


class _ArchitectureWatch(Observer):
    """Shows the rows that the chosen architecture has."""

    def __init__(self, architecture: Parameter[str], rows: Sequence[tuple[QWidget, str]]) -> None:
        super().__init__()
        self._architecture = architecture
        self._rows = rows

    def show(self) -> None:
        chosen = self._architecture.get_value().strip().casefold()
        boxes: dict[QWidget, bool] = {}
        for row, architecture in self._rows:
            box = row.parentWidget()
            form = None if box is None else box.layout()
            if box is None or not isinstance(form, QFormLayout):
                continue
            shown = architecture == chosen
            label = form.labelForField(row)
            for widget in (row, label):
                if widget is not None:
                    widget.setVisible(shown)
            boxes[box] = boxes.get(box, False) or shown or _has_other_rows(form, self._rows)
        for box, shown in boxes.items():
            box.setVisible(shown)

    def _update(self, observable: Observable) -> None:
        self.show()


def _has_other_rows(form: QFormLayout, rows: Sequence[tuple[QWidget, str]]) -> bool:
    return form.rowCount() > sum(form.indexOf(row) >= 0 for row, _ in rows)


def show_rows_of_architecture(architecture: Parameter[str], rows: Sequence[tuple[QWidget, str]]) -> None:
    """Hide the rows of other architectures than the chosen one, now and whenever another is chosen.

    Parameters
    ----------
    architecture : Parameter[str]
        The setting.
    rows : sequence of (QWidget, str)
        Fields of forms, and the architecture that each belongs to.
    """
    watch = _ArchitectureWatch(architecture, rows)
    architecture.add_observer(watch)
    watch.show()
