"""The settings panel of PtychoPINN in the window. Imported only where the window is."""

from __future__ import annotations

import logging
from typing import Any

from ptychodus.controller.processing import ReconstructorViewControllerFactory
from ptychodus.controller.ptychopinn import PtychoPINNViewControllerFactory
from PyQt5.QtWidgets import QWidget

from .algorithm import PHYSICS
from .compat import parameter_views
from .library import PtychoPINNLibrary
from .panel_advanced import AdvancedView, show_rows_of_architecture
from .panel_head import ForecastView, ModelView, PresetView
from .panel_rows import BackendView, ChoiceView, DeviceView, FoldersView
from .qt_behaviour import let_wheel_scroll
from .setting import Row, Setting
from .settings import ReconstructorSettings
from .settings_table import SETTINGS

__all__ = ['PanelFactory']

logger = logging.getLogger('ptychopinn')


class PanelFactory(ReconstructorViewControllerFactory):
    """Makes the panel of each of our algorithms; on any error Ptychodus' own panel is shown."""

    def __init__(self, model: Any, file_dialog_factory: Any) -> None:
        super().__init__()
        self.library: PtychoPINNLibrary = model
        self._file_dialog_factory = file_dialog_factory
        self._built_in = PtychoPINNViewControllerFactory(model, file_dialog_factory)

    @property
    def name(self) -> str:
        """The library that the panel belongs to."""
        return self._built_in.name

    def create_view_controller(self, reconstructor_name: str) -> QWidget:
        """Return the panel of 'pinn', 'supervised' or 'physics'."""
        try:
            return _build(self.library, self._file_dialog_factory, reconstructor_name.casefold())
        except Exception as error:  # noqa: BLE001  the window must open
            logger.warning('Ptychodus shows its own PtychoPINN panel (%s: %s).', type(error).__name__, error)
            return self._built_in.create_view_controller(reconstructor_name)


def _build(library: PtychoPINNLibrary, file_dialog_factory: Any, name: str) -> QWidget:
    session, has_network = library.session, name != PHYSICS.casefold()
    views = parameter_views()
    settings, defaults = session.settings, ReconstructorSettings.with_defaults()
    shown, advanced = (views.ParameterViewBuilder(file_dialog_factory) for _ in range(2))
    shown.add_view_controller_to_top(ForecastView(session, library.algorithm(name)))
    if has_network:
        shown.add_view_controller_to_top(PresetView(settings))
    by_architecture = []
    for setting in SETTINGS:
        if setting.row is not None and setting.shown_by(name):
            tip = settings.tool_tip(setting, defaults)
            view = _view(views, setting, setting.row, settings, tip, file_dialog_factory)
            builder = advanced if setting.row.advanced else shown
            builder.add_view_controller(view, setting.row.label, group=setting.row.group)
            if setting.architecture:
                by_architecture.append((view.get_widget(), setting.architecture))
    rest = AdvancedView(advanced.build_widget(add_stretch=False))
    shown.add_view_controller_to_bottom(rest)
    if has_network:
        shown.add_view_controller_to_bottom(ModelView(session, name))
    widget: QWidget = shown.build_widget()
    show_rows_of_architecture(settings.engine.architecture, by_architecture)
    let_wheel_scroll(widget)
    return widget


def _view(
    views: Any, setting: Setting, row: Row, settings: ReconstructorSettings, tip: str, dialogs: Any
) -> Any:
    """Return the view controller of a setting."""
    parameter = settings.parameter(setting)
    match row.kind:
        case 'number':
            return views.SpinBoxParameterViewController(parameter, tool_tip=tip)
        case 'decimal':
            return views.DecimalLineEditParameterViewController(parameter, tool_tip=tip)
        case 'fraction':
            return views.DecimalSliderParameterViewController(parameter, tool_tip=tip)
        case 'power of two':
            return views.PowerTwoSpinBoxParameterViewController(parameter, tool_tip=tip)
        case 'switch':
            return views.CheckBoxParameterViewController(parameter, '', tool_tip=tip)
        case 'folders':
            return FoldersView(parameter, dialogs, tip)
        case 'choice' if setting.attribute == 'backend':
            return BackendView(parameter, tip)
        case 'choice' if setting.attribute == 'accelerator':
            return DeviceView(parameter, settings.engine.backend, tip)
        case 'choice':
            return ChoiceView(parameter, row.items, tip)
