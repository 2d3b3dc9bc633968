"""Ptychodus' Processing page, with what our runs have to show. Imported only where the window is.

Another algorithm's page is left as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from ptychodus.api.product import LossValue
from ptychodus.controller.helpers import connect_triggered_signal
from ptychodus.controller.processing import ProcessingController
from ptychodus.model.product import ProductRepositoryObserver
from ptychodus.view.widgets import ExceptionDialog
from PyQt5.QtCore import Qt, QTimer
from PyQt5.QtWidgets import QMessageBox

from .aside import aside
from .compat import scan_facts
from .live import LiveImage
from .loaded_model import ScanFacts
from .panel import PanelFactory
from .pictures import Picture
from .reconstructor import PtychoPINNReconstructor
from .result_area import PreparedImage, ResultArea
from .session import Session
from .window import WindowLink

__all__ = ['HostedProcessingController']

logger = logging.getLogger('ptychopinn')


class HostedProcessingController(ProcessingController):
    """The page, which asks the loaded model before it offers *Infer*, and shows failures and losses."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        # Ptychodus' own __init__ calls methods of ours.
        self._session: Session | None = None
        self._dialog: QMessageBox | None = None
        self._scan: ScanFacts | None = None
        self._scan_is_known = False
        self._area: ResultArea | None = None
        self._changes = QTimer()
        self._changes.setSingleShot(True)
        self._changes.timeout.connect(self._tell_change)
        super().__init__(*arguments, **keywords)
        factories = [
            item for item in _flat([*arguments, *keywords.values()]) if isinstance(item, PanelFactory)
        ]
        if not factories:
            return
        self._session = factories[0].library.session
        self._session.window.page = self
        self._save_model_action: Any = self._actions_view.actions_menu.addAction('Save Model...')
        connect_triggered_signal(self._save_model_action, self.save_model)
        self._session.window.on_change(self._offer_actions)
        self._session.memory.parameter.add_observer(self)
        combo = self._product_view_controller.get_widget()
        self._area = ResultArea(
            self._status_view,
            self._product_repository,
            combo.currentIndex,
            lambda: self._our_reconstructor() is not None,
        )
        self._area.take_over(self._status_controller, combo)
        self._prepare_scans_aside()
        self._watch = _watch_scans(self._scan_has_changed)
        self._product_repository.add_observer(self._watch)
        self._session.window.changed()

    # What Ptychodus calls

    def _sync_action_buttons_to_selection(self) -> None:
        super()._sync_action_buttons_to_selection()
        self._scan_has_changed()

    def _sync_model_to_view(self) -> None:
        super()._sync_model_to_view()
        self._tell_change()

    def _update(self, observable: Any) -> None:
        super()._update(observable)
        if self._session is not None and observable is self._session.memory.parameter:
            self._tell_change()

    def _load_model(self) -> None:
        super()._load_model()
        self._show_log()

    def _export_training_data(self) -> None:
        super()._export_training_data()
        self._show_log()

    def _show_log(self) -> None:
        """Bring new log lines into the pane; Ptychodus looks for them only while a run goes on."""
        self._processing_api.task_monitor.notify_observers()

    def _scan_has_changed(self) -> None:
        self._scan_is_known = False
        # A new result changes twenty things of a product one after the other; they are looked at once.
        self._changes.start(0)

    def _tell_change(self) -> None:
        if self._session is not None:
            self._session.window.changed()
        if self._area is not None:
            self._area.refresh()

    def _offer_actions(self) -> None:
        """Enable *Infer* when and only when a model is loaded that fits the chosen product."""
        ours = self._our_reconstructor()
        button = self._actions_view.reconstruct_button
        self._save_model_action.setVisible(ours is not None)
        if ours is None:
            button.setToolTip('')
            return
        scan = self.current_scan()
        obstacle = (
            'Choose a product with its diffraction dataset.' if scan is None else ours.why_not_ready(scan)
        )
        button.setEnabled(obstacle is None)
        button.setToolTip(obstacle or '')
        self._save_model_action.setEnabled(ours.is_model_loaded())
        # Ptychodus forgets these two where only the algorithm has changed.
        others: list[Any] = [self._actions_view.train_button, self._export_training_data_action]
        for item in others:
            item.setEnabled(scan is not None)

    def _our_reconstructor(self) -> PtychoPINNReconstructor | None:
        current = self._algorithm_parameter.get_current_reconstructor()
        return current if isinstance(current, PtychoPINNReconstructor) else None

    def _prepare_scans_aside(self) -> None:
        """Let Ptychodus copy the patterns for a run of ours while the window goes on."""
        prepare = self._processing_api.get_reconstruct_input
        window = self._session.window if self._session is not None else WindowLink()

        def prepare_aside(**keywords: Any) -> Any:
            if self._our_reconstructor() is None:
                return prepare(**keywords)
            with window.waiting():
                return aside(lambda: prepare(**keywords))

        self._processing_api.get_reconstruct_input = prepare_aside  # type: ignore[method-assign]

    # What our runs and our panel call

    def current_scan(self) -> ScanFacts | None:
        """Return what is known of the chosen product, or None where it cannot be worked on."""
        if not self._scan_is_known:
            # Kept, because the panel asks at every change of a setting.
            index = self._product_view_controller.get_widget().currentIndex()
            known = 0 <= index < len(self._product_repository)
            self._scan = scan_facts(self._product_repository[index]) if known else None
            self._scan_is_known = True
        return self._scan

    def show_failure(self, run: str, sentence: str) -> None:
        """Open a dialog that does not wait for an answer; a later failure takes its place."""
        if self._dialog is not None:
            self._dialog.close()
        self._dialog = dialog = QMessageBox(QMessageBox.Icon.Critical, 'PtychoPINN', f'{run} failed.')
        dialog.setParent(self._view.window(), dialog.windowFlags())
        dialog.setInformativeText(sentence)
        dialog.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        dialog.setModal(False)
        dialog.show()

    def show_losses(
        self, training: Sequence[LossValue], validation: Sequence[LossValue], simulated: int
    ) -> None:
        """Plot the deviances of the running training in place of the product's losses."""
        if self._area is not None:
            self._area.show_training(training, validation, simulated)

    def begin_images(self, item: Any) -> None:
        """Expect images of a reconstruction whose result goes into `item` of the list of products."""
        if self._area is not None:
            self._area.begin(item)

    def end_images(self) -> None:
        """Expect no more."""
        if self._area is not None:
            self._area.end()

    def prepare_image(self, image: LiveImage, pixel: Any) -> PreparedImage | None:
        """Return what is to be drawn of an image; called in the run's thread."""
        return None if self._area is None else self._area.prepare(image, pixel)

    def draw_image(self, item: Any, prepared: PreparedImage | None) -> None:
        """Draw what was prepared, unless the product is gone."""
        if self._area is not None and prepared is not None and item in list(self._product_repository):
            self._area.draw(item, prepared)

    def keep_map(self, item: Any, picture: Picture) -> None:
        """Keep the map of a result's uncertainty."""
        if self._area is not None:
            self._area.keep_map(item, picture)

    def show_time_left(self, text: str) -> None:
        """Write the time left into the bar."""
        self._status_view.progress_bar.setFormat(f'%p%, {text}' if text else '%p%')

    def load_model(self) -> None:
        """Ask for a model file and load it."""
        self._load_model()

    def save_model(self) -> None:
        """Ask for a file and save the loaded model in it."""
        name_filter = self._processing_api.get_model_file_filter()
        path, _ = self._file_dialog_factory.get_save_file_path(
            self._view, 'Save Model', name_filters=[name_filter], selected_name_filter=name_filter
        )
        if not path:
            return
        try:
            self._processing_api.save_model_to_file(path)
        except Exception as error:  # noqa: BLE001  a full disk must not end the window
            logger.error('%s', error)
            ExceptionDialog.show_exception('Save Model', error)
        self._show_log()


def _watch_scans(on_change: Callable[[], None]) -> ProductRepositoryObserver:
    """Return an observer that calls `on_change` when a product has other patterns, positions or probe."""
    told = ('handle_dataset_changed', 'handle_probe_positions_changed', 'handle_probe_changed')

    def tell(*_: object) -> None:
        on_change()

    def pass_over(*_: object) -> None:
        return

    methods = {
        name: tell if name in told else pass_over for name in ProductRepositoryObserver.__abstractmethods__
    }
    watch: ProductRepositoryObserver = type('ScanWatch', (ProductRepositoryObserver,), methods)()
    return watch


def _flat(items: Sequence[Any]) -> list[Any]:
    """Return `items` with lists and tuples among them taken apart."""
    return [x for item in items for x in (item if isinstance(item, list | tuple) else [item])]
