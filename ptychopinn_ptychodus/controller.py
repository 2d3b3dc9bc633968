"""Ptychodus' Processing page, with what our runs have to show. Imported only where the window is.

Another algorithm's page is left as it is.
"""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar, cast

from ptychodus.api.product import LossValue, Product
from ptychodus.controller.helpers import connect_triggered_signal
from ptychodus.controller.processing import ProcessingController
from ptychodus.model.product import ProductRepositoryObserver
from PyQt5.QtCore import QTimer
from PyQt5.QtWidgets import QMessageBox

from ptycho_engine.errors import ConfigError, EngineError

from .algorithm import Algorithm
from .compat import not_copied
from .dialogs import PlainExceptionDialog, ask, failure_dialog, plain_tip, use_plain_dialogs
from .live import LiveImage
from .loaded_model import ScanFacts
from .offers import Offers
from .panel import PanelFactory
from .pictures import Picture
from .qt_behaviour import Chores, follow_last_line, in_background, size_columns_in_sight
from .reconstructor import PtychoPINNReconstructor
from .result_area import PreparedImage, ResultArea
from .session import Session
from .training_start import Folders, folders_of_product, look_at_folder

__all__ = ['HostedProcessingController']

logger = logging.getLogger('ptychopinn')

Result = TypeVar('Result')

TURN_S = 0.001
"""How long the window waits for its turn while another thread computes; a click has many turns."""


class HostedProcessingController(ProcessingController):
    """The page, which asks the loaded model before it offers *Infer*, and shows failures and losses."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        # Ptychodus' own __init__ calls methods of ours.
        self._session: Session | None = None
        self._dialog: QMessageBox | None = None
        self._offers: Offers | None = None
        self._area: ResultArea | None = None
        self._chores = Chores()
        super().__init__(*arguments, **keywords)
        factories = [
            item for item in _flat([*arguments, *keywords.values()]) if isinstance(item, PanelFactory)
        ]
        if not factories:
            return
        self._session = factories[0].library.session
        self._offers = Offers(self._session, self._current_item, self._our_reconstructor)
        self._session.window.page = self
        self._session.window.later = self._chores.later
        use_plain_dialogs()
        self._save_model_action: Any = self._actions_view.actions_menu.addAction('Save Model...')
        connect_triggered_signal(self._save_model_action, self.save_model)
        self._session.window.on_change(self._offer_actions)
        self._session.memory.parameter.add_observer(self)
        for group in self._session.settings.groups():
            group.add_observer(self)
        combo = self._product_view_controller.get_widget()
        self._area = ResultArea(
            self._status_view,
            self._product_repository,
            combo.currentIndex,
            lambda: self._our_reconstructor() is not None,
            self._chores.later,
        )
        self._area.take_over(self._status_controller, combo)
        self._prepare_scans_in_background()
        self._copy_objects_in_background()
        sys.setswitchinterval(TURN_S)
        # Ptychodus builds its other pages after this one.
        self._chores.later(lambda: size_columns_in_sight(self._view.window() or self._view))
        self._chores.later(_keep_what_is_built)
        self._watch = _watch_scans(self._scan_has_changed)
        self._product_repository.add_observer(self._watch)
        follow_last_line(self._status_view.text_edit)
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
        if self._session is None:
            return
        if observable is self._session.memory.parameter:
            self._tell_change()
        elif any(observable is group for group in self._session.settings.groups()):
            # The other architecture may take what this one does not.
            self._chores.later(self._offer_actions)

    def _train(self) -> None:
        ours = self._our_reconstructor()
        remote = self._compute_view_controller
        if ours is None or remote.is_globus_button_checked() or remote.is_genesis_button_checked():
            super()._train()
            return
        obstacle, scan = self._our_offers().why_no_training(), self.current_scan()
        if obstacle or scan is None:
            self.show_failure('Training', obstacle or self.why_no_scan())
            return
        chosen = self._file_dialog_factory.get_existing_directory_path(
            self._view, 'Folder for the Model; or With Data to Train On'
        )
        if not chosen:
            return
        settings = self._our_session().settings
        with self._failures_shown('Training'):
            seen = self._beside(partial(look_at_folder, chosen, scan, settings))
            folders = seen.decide(partial(ask, self._view))
            if folders is not None:
                self._start_training(folders)

    def _start_training(self, folders: Folders) -> None:
        self._processing_api.train(
            folders.data,
            folders.model,
            product_index=self._product_view_controller.get_widget().currentIndex(),
        )
        self._sync_model_to_view()

    @contextmanager
    def _failures_shown(self, run: str) -> Iterator[None]:
        """Show a refusal as a failed run is shown."""
        try:
            yield
        except (EngineError, OSError) as error:
            logger.error('%s', error)
            self.show_failure(run, str(error))
        self._show_log()

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
        if self._offers is not None:
            self._offers.forget_scan()
        # A new result changes twenty things of a product one after the other; they are looked at once.
        self._chores.later(self._tell_change)

    def _tell_change(self) -> None:
        if self._session is not None:
            # First, for Ptychodus may just have offered them by its own rules.
            self._offer_actions()
            self._session.window.changed()
        if self._area is not None:
            self._area.refresh()

    def _offer_actions(self) -> None:
        """Enable *Infer* and *Train* when and only when they can work; else their tool tips say why not."""
        ours, offers = self._our_reconstructor(), self._our_offers()
        button = self._actions_view.reconstruct_button
        self._save_model_action.setVisible(isinstance(ours, PtychoPINNReconstructor))
        train = self._actions_view.train_button
        if ours is None:
            button.setToolTip('')
            train.setToolTip('')
            return
        for item, obstacle, tip in (
            (button, offers.why_no_inference(), _what_it_does(ours)),
            (train, offers.why_no_training(), 'Train a network, in a folder that is asked for.'),
        ):
            item.setEnabled(obstacle is None)
            item.setToolTip(plain_tip(obstacle or tip))
        self._save_model_action.setEnabled(self._our_session().memory.current is not None)
        # Ptychodus forgets it where only the algorithm has changed.
        cast(Any, self._export_training_data_action).setEnabled(self.current_scan() is not None)

    def _our_reconstructor(self) -> Algorithm | None:
        current = self._algorithm_parameter.get_current_reconstructor()
        return current if isinstance(current, Algorithm) else None

    def _prepare_scans_in_background(self) -> None:
        """Let Ptychodus copy the patterns for a run of ours while the window goes on."""
        prepare = self._processing_api.get_reconstruct_input

        def prepare_in_background(**keywords: Any) -> Any:
            if self._our_reconstructor() is None:
                return prepare(**keywords)
            return self._beside(lambda: prepare(**keywords))

        self._processing_api.get_reconstruct_input = prepare_in_background  # type: ignore[method-assign]

    def _copy_objects_in_background(self) -> None:
        """Let the object of a new product be copied while the window goes on."""
        products = self._processing_api._product_api
        insert = products.insert_product

        def insert_copy(product: Product, **keywords: Any) -> int:
            if self._our_reconstructor() is None:
                return insert(product, **keywords)
            own = self._beside(product.object_.copy)
            with not_copied(own):
                return insert(replace(product, object_=own), **keywords)

        products.insert_product = insert_copy  # type: ignore[method-assign]

    def _beside(self, work: Callable[[], Result]) -> Result:
        """Do a part of a click that may take long while the window goes on."""
        with self._our_session().window.waiting():
            return in_background(work)

    # What our runs and our panel call

    def current_scan(self) -> ScanFacts | None:
        """Return what is known of the chosen product, or None where it cannot be worked on."""
        return self._our_offers().scan()

    def why_no_scan(self) -> str:
        """Return what is missing where :meth:`current_scan` is None."""
        return self._our_offers().why_no_scan()

    def why_not_train_and_infer(self) -> str | None:
        """Return why *Train and infer* is grey, or None where it is not."""
        return self._our_offers().why_not_train_and_infer()

    def model_serves(self) -> bool:
        """Return whether the loaded model is for the chosen product, so that training would be a waste."""
        return self._our_offers().model_serves()

    def _current_item(self) -> Any | None:
        index = self._product_view_controller.get_widget().currentIndex()
        return self._product_repository[index] if 0 <= index < len(self._product_repository) else None

    def train_and_infer(self) -> None:
        """Train on the chosen product, if the loaded model is not for it, and reconstruct it."""
        scan, settings = self.current_scan(), self._our_session().settings
        with self._failures_shown('Training'):
            obstacle = self.why_not_train_and_infer()
            if obstacle or scan is None:
                raise ConfigError(obstacle or self.why_no_scan())
            if not self.model_serves():
                folders = self._beside(partial(folders_of_product, scan, settings))
                logger.info('The model of "%s" goes to %s.', scan.name, folders.model)
                self._start_training(folders)
            self._reconstruct()

    def _our_session(self) -> Session:
        assert self._session is not None
        return self._session

    def _our_offers(self) -> Offers:
        assert self._offers is not None
        return self._offers

    def show_failure(self, run: str, sentence: str) -> None:
        """Open a dialog that does not wait for an answer; a later failure takes its place."""
        if self._dialog is not None:
            self._dialog.close()
        self._dialog = failure_dialog(self._view, run, sentence)
        self._dialog.show()

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

    def soon(self, task: Callable[[], None]) -> None:
        """Call `task` when the window has done what waits already."""
        QTimer.singleShot(0, task)

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
            PlainExceptionDialog.show_exception('Save Model', error)
        self._show_log()


def _keep_what_is_built() -> None:
    """Let Python's garbage collector pass over what the program consists of once the window is built.

    Its search through all of that now and then would hold up a run for a fifth of a second.
    """
    gc.collect()
    gc.freeze()


def _what_it_does(algorithm: Algorithm) -> str:
    model = algorithm.model
    if model is None or model.config.model.architecture == 'physics':
        return 'Reconstruct the chosen product by physics with total variation.'
    return f'Reconstruct the chosen product with {model.name}.'


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
