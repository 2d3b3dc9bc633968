"""The top of the panel: what a run will do, the presets, and the loaded model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ptychodus.api.observer import Observable, Observer
from PyQt5.QtWidgets import (
    QComboBox,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from ptycho_engine.errors import EngineError

from .compat import parameter_views
from .forecast import inference_forecast, training_forecast
from .presets import CUSTOM, PRESETS, apply_preset, preset_parameters, preset_shown
from .session import Session
from .settings import ADOPTABLE, ReconstructorSettings
from .window import Page

__all__ = ['ForecastView', 'ModelView', 'PresetView']

_ViewController: Any = parameter_views().ParameterViewController


def _text_label(tip: str) -> QLabel:
    """Return a label that breaks its lines, so that the panel may be narrow."""
    label = QLabel()
    label.setWordWrap(True)
    label.setToolTip(tip)
    # A long path must not widen the panel.
    label.setMinimumWidth(1)
    return label


class ForecastView(_ViewController, Observer):  # type: ignore[misc]
    """Two lines: what Train and Infer would do now, and how long they would take."""

    def __init__(self, session: Session, model_type: str) -> None:
        super().__init__()
        self._session = session
        self._model_type = model_type
        self._widget = QGroupBox('What a run will do')
        tip = 'Times are those of earlier runs of such a network on patterns of this size on this machine.'
        self._training, self._inference = _text_label(tip), _text_label(tip)
        layout = QVBoxLayout(self._widget)
        layout.addWidget(self._training)
        layout.addWidget(self._inference)
        for group in session.settings.groups():
            group.add_observer(self)
        session.window.on_change(self._show)
        self._show()

    def get_widget(self) -> QWidget:
        """Return the box."""
        return self._widget

    def _show(self) -> None:
        session, scan = self._session, self._session.window.current_scan()
        self._training.setText(training_forecast(session.settings, self._model_type, scan, session.speeds))
        self._inference.setText(
            inference_forecast(session.settings, session.memory.current, scan, session.speeds)
        )

    def _update(self, observable: Observable) -> None:
        self._show()


class PresetView(_ViewController, Observer):  # type: ignore[misc]
    """A combo box that sets several fields at once."""

    def __init__(self, settings: ReconstructorSettings) -> None:
        super().__init__()
        self._settings = settings
        self._combo = QComboBox()
        self._combo.addItems([*PRESETS, CUSTOM])
        self._combo.setToolTip(
            'fast: a first look. balanced: the defaults. best: several times the time of balanced.\n'
            'Sets both kinds of epochs, patterns per epoch, filters scale, unrolled steps and refinement; '
            '"custom" where these are changed.'
        )
        self._combo.textActivated.connect(self._choose)
        self._widget = QGroupBox('Preset')
        QFormLayout(self._widget).addRow('Quality:', self._combo)
        self._show()
        for parameter in preset_parameters(settings).values():
            parameter.add_observer(self)

    def get_widget(self) -> QWidget:
        """Return the box."""
        return self._widget

    def _choose(self, name: str) -> None:
        if name in PRESETS:
            apply_preset(self._settings, name)
        self._show()

    def _show(self) -> None:
        self._combo.setCurrentText(preset_shown(self._settings))

    def _update(self, observable: Observable) -> None:
        self._show()


class ModelView(_ViewController, Observer):  # type: ignore[misc]
    """The loaded model: what it is, how it differs from the data and from the settings."""

    def __init__(self, session: Session, model_type: str) -> None:
        super().__init__()
        self._session = session
        self._model_type = model_type
        self._widget = QGroupBox('Loaded model')
        self._text = _text_label('The model that "Infer" uses, and that "Start from: model" continues.')
        self._load, self._save, self._adopt = (
            QPushButton(text) for text in ('Load…', 'Save…', 'Use its settings')
        )
        self._load.setToolTip('Load a model from a file.')
        self._save.setToolTip('Save the loaded model as a file.')
        self._adopt.setToolTip("Set the fields of the network to the model's, so that it can be continued.")
        self._load.clicked.connect(self._on_page(lambda page: page.load_model()))
        self._save.clicked.connect(self._on_page(lambda page: page.save_model()))
        self._adopt.clicked.connect(self._use_settings)
        buttons = QHBoxLayout()
        for button in (self._load, self._save, self._adopt):
            buttons.addWidget(button)
        layout = QVBoxLayout(self._widget)
        layout.addWidget(self._text)
        layout.addLayout(buttons)
        for group in session.settings.groups():
            group.add_observer(self)
        session.window.on_change(self._show)
        self._show()

    def get_widget(self) -> QWidget:
        """Return the box."""
        return self._widget

    def _show(self) -> None:
        memory, settings = self._session.memory, self._session.settings
        model = memory.current
        self._save.setEnabled(model is not None)
        if model is None:
            self._adopt.setEnabled(False)
            self._text.setText(memory.problem or 'None. Train one, or load one.')
            return
        lines = [model.sentence]
        scan = self._session.window.current_scan()
        if scan is not None:
            lines += [line for line in (model.why_unusable(scan) or model.remark(scan),) if line]
        try:
            differences = model.network_differences(settings.training_config(self._model_type).model)
        except EngineError:
            differences = {}  # the forecast says which setting is wrong
        if differences:
            lines.append(f'The fields below ask for another network: {", ".join(differences.values())}.')
        self._adopt.setEnabled(not ADOPTABLE.isdisjoint(differences))
        self._text.setText('\n'.join(lines))
        self._text.setToolTip(str(model.path))

    def _on_page(self, act: Callable[[Page], None]) -> Callable[[], None]:
        """Return what a button does; the page is there by the time it is pressed."""

        def pressed() -> None:
            page = self._session.window.page
            if page is not None:
                act(page)

        return pressed

    def _use_settings(self) -> None:
        model = self._session.memory.current
        if model is not None:
            self._session.settings.adopt_network(model.config.model)

    def _update(self, observable: Observable) -> None:
        self._show()
