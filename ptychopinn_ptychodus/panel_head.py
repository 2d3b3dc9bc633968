"""The top of the panel: what a run will do, the presets, and the loaded model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ptychodus.api.observer import Observable, Observer
from PyQt5.QtCore import QTimer
from PyQt5.QtGui import QShowEvent
from PyQt5.QtWidgets import (
    QComboBox,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from ptycho_engine.errors import EngineError

from .algorithm import Algorithm
from .compat import parameter_views
from .dialogs import plain_tip
from .forecast import inference_forecast, training_forecast
from .loaded_model import PRIOR, ScanFacts
from .model_folder import likely_folder
from .presets import CUSTOM, PRESETS, apply_preset, preset_shown
from .qt_behaviour import SteadyLabel
from .readiness import NOTHING_TO_TRAIN
from .reconstructor import PtychoPINNReconstructor
from .session import Session
from .settings import ADOPTABLE, ReconstructorSettings
from .window import Page, WindowLink

__all__ = ['ForecastView', 'ModelView', 'PresetView']

_ViewController: Any = parameter_views().ParameterViewController


MACHINE_MS = 500


def _text_label(tip: str, lines: int) -> SteadyLabel:
    """Return a label that breaks its lines, so that the panel may be narrow."""
    label = SteadyLabel(lines)
    label.setToolTip(tip)
    return label


class _Box(QGroupBox):
    """A box whose contents are brought up to date while it is in sight, and when it comes into sight.

    Parameters
    ----------
    title : str
    show : callable
        Fills it.
    window : WindowLink
        Tells of changes.
    """

    def __init__(self, title: str, show: Callable[[], None], window: WindowLink) -> None:
        super().__init__(title)
        self._show = show
        self._window = window
        window.on_change(self._fill)

    def refresh(self) -> None:
        """Fill it soon, once for any number of changes, if anybody sees it."""
        self._window.later(self._fill)

    def _fill(self) -> None:
        if self.isVisible():
            self._show()

    def showEvent(self, event: QShowEvent | None) -> None:
        """Fill it, for things may have changed since it was seen."""
        super().showEvent(event)
        self._show()


class ForecastView(_ViewController, Observer):  # type: ignore[misc]
    """What runs and waits; what Train and Infer would do, and how long it would take; one click for both."""

    def __init__(self, session: Session, algorithm: Algorithm) -> None:
        super().__init__()
        self._session = session
        self._algorithm = algorithm
        self._trains = isinstance(algorithm, PtychoPINNReconstructor)
        self._widget = _Box('What a run will do', self._show, session.window)
        tip = 'Times are those of earlier runs of such a network on patterns of this size on this machine.'
        self._training, self._inference = _text_label(tip, 4), _text_label(tip, 3)
        self._queue = _text_label(
            'The runs of PtychoPINN in their order. Stop ends the first and drops the others.', 1
        )
        self._both = QPushButton('Train and infer')
        self._both.clicked.connect(self._train_and_infer)
        self._both.setVisible(self._trains)
        layout = QVBoxLayout(self._widget)
        for widget in (self._queue, self._both, self._training, self._inference):
            layout.addWidget(widget)
        for group in session.settings.groups():
            group.add_observer(self)
        self._await_machine()

    def get_widget(self) -> QWidget:
        """Return the box."""
        return self._widget

    def _await_machine(self) -> None:
        """Show the forecast anew once it is known how fast this machine is."""
        if self._session.speeds.machine() is None:
            QTimer.singleShot(MACHINE_MS, self._await_machine)
        else:
            self._widget.refresh()

    def _show(self) -> None:
        session, scan = self._session, self._session.window.current_scan()
        missing = session.window.why_no_scan()
        algorithm, training = self._algorithm, f'Train: {NOTHING_TO_TRAIN}.'
        if self._trains:
            name = algorithm.name.casefold()
            training = training_forecast(session.settings, name, scan, session.speeds, missing)
        self._training.setText(training)
        model = algorithm.model
        inference = inference_forecast(
            session.settings, model, scan, session.speeds, missing, algorithm.why_no_model()
        )
        if self._trains and scan is not None and session.queue.training() is not None:
            inference = 'with the model of the training that runs or waits.'
        self._inference.setText(f'{algorithm.verb}: {inference}')
        self._queue.setText(session.queue.sentence() or 'Nothing runs.')
        self._show_both(scan)

    def _show_both(self, scan: ScanFacts | None) -> None:
        page = self._session.window.page
        obstacle = None if page is None else page.why_not_train_and_infer()
        self._both.setEnabled(page is not None and obstacle is None)
        if obstacle or page is None or scan is None:
            tip = obstacle or ''
        elif page.model_serves():
            tip = (
                'Reconstructs the chosen product at once: the loaded model is for its patterns and probe. To '
                'train a new one all the same, press Train.'
            )
        else:
            folder = likely_folder(scan.name, scan.folder)
            tip = (
                'Trains on the chosen product, then reconstructs it. No folder is asked for: the model goes '
                f'to {folder}, or beside it under the next number where one is there already.'
            )
        self._both.setToolTip(plain_tip(tip))

    def _train_and_infer(self) -> None:
        page = self._session.window.page
        if page is not None:
            page.train_and_infer()

    def _update(self, observable: Observable) -> None:
        self._widget.refresh()


class PresetView(_ViewController, Observer):  # type: ignore[misc]
    """A combo box that sets several fields at once."""

    def __init__(self, settings: ReconstructorSettings) -> None:
        super().__init__()
        self._settings = settings
        self._combo = QComboBox()
        self._combo.addItems([*PRESETS, CUSTOM])
        self._combo.setToolTip(
            'How long a training goes on: fast draws a tenth of the patterns that balanced, the defaults, '
            'draws; best draws four times as many.\n'
            'Sets epochs and patterns per epoch, and for the architecture cnn width and iterations of the '
            'refinement; "custom" where these are changed. "Infer" with the learned prior that comes with '
            'PtychoPINN needs no training and stays as it is.'
        )
        self._combo.textActivated.connect(self._choose)
        self._widget = QWidget()
        layout = QFormLayout(self._widget)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addRow('Preset:', self._combo)
        self._show()
        for group in settings.groups():
            group.add_observer(self)

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
        self._widget = _Box('Loaded model', self._show, session.window)
        self._text = _text_label('The model that "Infer" uses, and that "Start from: model" continues.', 2)
        self._load, self._save, self._unload, self._adopt = (
            QPushButton(text) for text in ('Load…', 'Save…', 'Unload', 'Use its settings')
        )
        self._load.setToolTip('Load a model from a file.')
        self._save.setToolTip('Save the loaded model as a file.')
        self._unload.setToolTip(f'Let go of the loaded model; "Infer" then uses {PRIOR}.')
        self._adopt.setToolTip("Set the fields of the network to the model's, so that it can be continued.")
        self._load.clicked.connect(self._on_page(lambda page: page.load_model()))
        self._save.clicked.connect(self._on_page(lambda page: page.save_model()))
        self._unload.clicked.connect(lambda: session.memory.forget())
        self._adopt.clicked.connect(self._use_settings)
        buttons = QHBoxLayout()
        for button in (self._load, self._save, self._unload, self._adopt):
            buttons.addWidget(button)
        layout = QVBoxLayout(self._widget)
        layout.addWidget(self._text)
        layout.addLayout(buttons)
        for group in session.settings.groups():
            group.add_observer(self)

    def get_widget(self) -> QWidget:
        """Return the box."""
        return self._widget

    def _show(self) -> None:
        memory, settings = self._session.memory, self._session.settings
        model = memory.current
        self._save.setEnabled(model is not None)
        self._unload.setEnabled(model is not None or bool(memory.problem))
        if model is None:
            self._adopt.setEnabled(False)
            in_use = memory.in_use
            self._text.setText(
                memory.problem if in_use is None else f'None is loaded: "Infer" uses {in_use.sentence}'
            )
            self._text.setToolTip('')
            return
        lines = [model.sentence]
        scan = self._session.window.current_scan()
        if scan is not None:
            lines += [line for line in (model.why_unusable(scan) or model.remark(scan),) if line]
        try:
            asked = settings.training_config(self._model_type).model
            differences = model.network_differences(asked)
        except EngineError:
            differences = {}  # the forecast says which setting is wrong
        if differences:
            lines.append(f'The fields below ask for another network: {", ".join(differences.values())}.')
        self._adopt.setEnabled(not ADOPTABLE.isdisjoint(differences))
        self._text.setText('\n'.join(lines))
        self._text.setToolTip(plain_tip(str(model.path)))

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
        self._widget.refresh()
