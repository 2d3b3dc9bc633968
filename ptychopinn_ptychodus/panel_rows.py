"""Rows of the panel that Ptychodus has no widget for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ptychodus.api.observer import Observable, Observer
from ptychodus.api.parameters import Parameter
from PyQt5.QtGui import QStandardItem, QStandardItemModel
from PyQt5.QtWidgets import QComboBox, QHBoxLayout, QLineEdit, QPushButton, QWidget

from ptycho_engine.config.execution import ACCELERATORS
from ptycho_engine.config.training import BACKENDS

from .choices import backend_obstacles, device_obstacles
from .compat import parameter_views

__all__ = ['BackendView', 'ChoiceView', 'DeviceView', 'FoldersView']

_ViewController: Any = parameter_views().ParameterViewController


class ChoiceView(_ViewController, Observer):  # type: ignore[misc]
    """A combo box; what cannot be chosen is greyed and says why.

    Parameters
    ----------
    parameter : Parameter[str]
        The chosen word, in any case. A word of a settings file that is not among `items` is shown too.
    items : iterable of str
        What there is to choose.
    tip : str
        What the choice means.
    """

    def __init__(self, parameter: Parameter[str], items: Iterable[str], tip: str) -> None:
        super().__init__()
        self._parameter = parameter
        self._items = tuple(items)
        self._tip = tip
        self._widget = QComboBox()
        self._fill()
        self._widget.textActivated.connect(parameter.set_value)
        parameter.add_observer(self)

    def get_widget(self) -> QComboBox:
        """Return the combo box."""
        return self._widget

    def obstacles(self) -> Mapping[str, str]:
        """Return why each item that cannot be chosen cannot."""
        return {}

    def _fill(self) -> None:
        chosen = self._parameter.get_value().strip().casefold()
        obstacles = self.obstacles()
        model = QStandardItemModel(self._widget)
        for name in self._items if chosen in self._items else (*self._items, chosen):
            item = QStandardItem(name)
            if name in obstacles:
                # What a settings file asks for stays chosen; the run says what is missing.
                item.setEnabled(False)
                item.setToolTip(_sentence(obstacles[name]))
            model.appendRow(item)
        self._widget.setModel(model)
        self._widget.setCurrentText(chosen)
        reasons = [f'{name} cannot be chosen: {_sentence(why)}' for name, why in obstacles.items()]
        # A command in a reason is not broken.
        self._widget.setToolTip('\n'.join([self._tip, *reasons]))

    def _update(self, observable: Observable) -> None:
        self._fill()


class BackendView(ChoiceView):
    """The frameworks; those that are not installed are greyed."""

    def __init__(self, parameter: Parameter[str], tip: str) -> None:
        super().__init__(parameter, BACKENDS, tip)

    def obstacles(self) -> Mapping[str, str]:
        """Return why a framework cannot be chosen, with the command that installs it."""
        return backend_obstacles()


class DeviceView(ChoiceView):
    """The devices; those that the chosen framework does not find here are greyed."""

    def __init__(self, parameter: Parameter[str], backend: Parameter[str], tip: str) -> None:
        self._backend = backend
        super().__init__(parameter, ACCELERATORS, tip)
        backend.add_observer(self)

    def obstacles(self) -> Mapping[str, str]:
        """Return why a device cannot be chosen."""
        return device_obstacles(self._backend.get_value().strip().casefold())


def _sentence(reason: str) -> str:
    return reason[:1].upper() + reason[1:].rstrip('.') + '.'


class FoldersView(_ViewController, Observer):  # type: ignore[misc]
    """Paths separated by semicolons, with a button that adds a folder."""

    def __init__(self, parameter: Parameter[str], file_dialog_factory: Any, tip: str) -> None:
        super().__init__()
        self._parameter = parameter
        self._dialogs = file_dialog_factory
        self._edit = QLineEdit(parameter.get_value())
        self._edit.setPlaceholderText('no other data')
        self._edit.setToolTip(tip)
        self._edit.editingFinished.connect(lambda: parameter.set_value(self._edit.text()))
        button = QPushButton('Add…')
        button.setToolTip('Add a folder.')
        button.clicked.connect(self._add)
        self._widget = QWidget()
        self._widget.setToolTip(tip)
        layout = QHBoxLayout(self._widget)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._edit)
        layout.addWidget(button)
        parameter.add_observer(self)

    def get_widget(self) -> QWidget:
        """Return the line with its button."""
        return self._widget

    def _add(self) -> None:
        folder: Path | None = self._dialogs.get_existing_directory_path(self._widget, 'Add Training Data')
        if folder:
            paths = [part.strip() for part in self._parameter.get_value().split(';') if part.strip()]
            self._parameter.set_value('; '.join([*paths, str(folder)]))

    def _update(self, observable: Observable) -> None:
        self._edit.setText(self._parameter.get_value())
