"""Drives the real Ptychodus window on an offscreen platform and reports what it saw.

Run as ``python window_driver.py STORY SCAN_DIRECTORY WORK_DIRECTORY``; the report is
``WORK_DIRECTORY/report.json``, screenshots lie beside it.
A script of its own because the children that Ptychodus spawns import the main module again.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault('QT_QPA_PLATFORM', 'offscreen')

PINN, SUPERVISED = 'ptychopinn_pinn', 'ptychopinn_supervised'


class Window:
    """The window with a scan loaded, on its Processing page."""

    def __init__(self, scan_directory: Path) -> None:
        from ptychodus.controller import ControllerCore
        from ptychodus.model import ModelCore
        from ptychodus.view import ViewCore
        from PyQt5.QtWidgets import QApplication

        self.dialogs: list[str] = []
        self.model = ModelCore(scan_directory / 'settings.ini', log_level=logging.INFO)
        self.app = QApplication(['ptychodus'])
        self.view = ViewCore()
        self.controller = ControllerCore(self.model, self.view)
        self.controller.show_main_window('Ptychodus')
        self.view.resize(1500, 1000)
        self._answer_dialogs()
        self.answers: dict[str, Path] = {}
        self.page = self.controller._processing_controller
        self.actions = self.page._actions_view
        self.status = self.view.processing_status_view
        self.monitor = self.model.processing_core.processing_api.task_monitor

    def _answer_dialogs(self) -> None:
        import ptychodus.controller.processing.core as processing_page
        from ptychodus.view.widgets import ExceptionDialog

        def note(actor: str, exception: Exception) -> None:
            self.dialogs.append(f'{actor}: {exception}')

        ExceptionDialog.show_exception = staticmethod(note)
        processing_page.ExceptionDialog = ExceptionDialog
        factory = self.controller._file_dialog_factory
        factory.get_existing_directory_path = lambda *_, **__: self.answers['directory']
        factory.get_save_file_path = lambda *_, selected_name_filter='', **__: (
            self.answers['save'],
            selected_name_filter,
        )
        factory.get_open_file_path = lambda *_, selected_name_filter='', **__: (
            self.answers['open'],
            selected_name_filter,
        )

    def load(self, scan_directory: Path) -> None:
        api = self.model.workflow_api
        data = api.load_assembled_diffraction_data(scan_directory / 'diffraction.h5')
        api.load_product(scan_directory / 'product.h5', diffraction=data)
        self.view.processing_action.trigger()
        self.choose('sim')

    def products(self) -> list[str]:
        return [item.get_name() for item in self.model.product_core.product_repository]

    def choose(self, product: str) -> None:
        self.spin(0.1)
        combo = self.page._product_view_controller.get_widget()
        combo.setCurrentIndex(self.products().index(product))
        self.spin(0.1)

    def spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.app.processEvents()
            time.sleep(0.01)

    def until(self, condition: Callable[[], bool], timeout: float = 60.0) -> float:
        start = time.monotonic()
        while not condition():
            if time.monotonic() - start > timeout:
                raise TimeoutError(f'Waited {timeout} s. Log pane:\n{self.pane()}')
            self.app.processEvents()
            time.sleep(0.01)
        return time.monotonic() - start

    def pane(self) -> str:
        return str(self.status.text_edit.toPlainText())

    def bar(self) -> int:
        return int(self.status.progress_bar.value()) if self.status.progress_bar.isVisible() else -1

    def train(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self.answers['directory'] = directory
        self.actions.train_button.click()

    def finish(self, timeout: float = 90.0) -> list[int]:
        """Wait for the run to end; return the positions of the bar on the way."""
        seen: list[int] = []
        started = [False]

        def done() -> bool:
            started[0] |= self.monitor.is_processing
            value = self.bar()
            if value >= 0 and (not seen or seen[-1] != value):
                seen.append(value)
            return started[0] and not self.monitor.is_processing

        self.until(done, timeout)
        self.spin(2.2)  # two ticks of the window
        return seen

    def stop_after(self, seconds: float) -> float:
        """Click Stop after `seconds` of a run; return how long the run goes on."""
        self.spin(seconds)
        assert self.monitor.is_processing
        start = time.monotonic()
        self.status.stop_button.click()
        self.until(lambda: not self.monitor.is_processing, 30)
        answer = time.monotonic() - start
        self.spin(2.2)
        return answer

    def set_epochs(self, number: int) -> None:
        self.model.ptychopinn_reconstructor_library.training_settings.nepochs.set_value(number)

    def shoot(self, path: Path) -> None:
        self.spin(0.3)
        self.view.grab().save(str(path))

    def close(self) -> float:
        start = time.monotonic()
        self.model.__exit__(None, None, None)
        return time.monotonic() - start


def panel_labels(window: Window) -> list[str]:
    """Return the texts of the panel that is shown."""
    from PyQt5.QtWidgets import QGroupBox, QLabel

    panel = window.page._stacked_widget.currentWidget()
    return [w.text() for w in panel.findChildren(QLabel)] + [w.title() for w in panel.findChildren(QGroupBox)]


def story_run(window: Window, scan: Path, work: Path) -> dict[str, Any]:
    """Menu, panel, train, stop, train again, infer, save, open again."""
    report: dict[str, Any] = {}
    combo = window.page._algorithm_view_controller.get_widget()
    report['menu'] = [combo.itemText(i) for i in range(combo.count())]
    report['chosen'] = combo.currentText()
    report['labels'] = panel_labels(window)
    window.load(scan)

    window.set_epochs(3000)
    window.train(work / 'stopped')
    window.until(lambda: 'Epoch 3/' in window.pane())
    report['bar_while_training'] = window.bar() >= 0
    window.shoot(work / 'training.png')
    report['stop_s'] = window.stop_after(0)
    report['stopped_files'] = sorted(p.name for p in (work / 'stopped').iterdir())
    report['infer_after_stop'] = window.actions.reconstruct_button.isEnabled()

    window.set_epochs(60)
    window.train(work / 'model')
    report['bar_training'] = window.finish()
    report['model_files'] = sorted(p.name for p in (work / 'model').iterdir())
    report['infer_enabled'] = window.actions.reconstruct_button.isEnabled()
    report['infer_text'] = window.actions.reconstruct_button.text()

    before = window.products()
    window.actions.reconstruct_button.click()
    report['stop_inference_s'] = window.stop_after(1.5)
    report['products_after_stop'] = window.products() == before
    window.choose('sim')

    window.actions.reconstruct_button.click()
    report['bar_inference'] = window.finish()
    report['products'] = window.products()
    report['pane'] = window.pane()
    report['infer_after_product_change'] = window.actions.reconstruct_button.isEnabled()
    report['plotted'] = [len(line.get_xdata()) for line in window.status.axes.get_lines()]
    window.shoot(work / 'inferred.png')

    result = f'sim_{PINN}'
    window.view.product_action.trigger()
    table = window.view.product_view.table_view
    rows = [table.model().index(row, 0).data() for row in range(table.model().rowCount())]
    table.selectRow(rows.index(result))
    window.answers['save'] = work / 'saved.h5'
    window.view.product_view.button_box.save_menu.actions()[0].trigger()
    window.spin(0.2)
    report['saved'] = (work / 'saved.h5').is_file()
    report['dialogs'] = list(window.dialogs)
    index = window.model.product_core.product_api.open_product(work / 'saved.h5')
    window.spin(1.2)
    report['reopened'] = window.products()[index]
    window.view.object_action.trigger()
    tree = window.view.object_view.tree_view
    tree.setCurrentIndex(tree.model().index(window.products().index(result), 0))
    window.shoot(work / 'object.png')
    return report


def story_trouble(window: Window, scan: Path, work: Path) -> dict[str, Any]:
    """What a user gets for wrong data; the list of products stays as it was."""
    report: dict[str, Any] = {}
    window.load(scan)
    before = window.products()

    window.page._reconstruct()  # as a click on Infer, which a change of product may have enabled
    window.spin(1.5)
    report['infer_without_model'] = window.dialogs[-1:]
    report['products_kept'] = window.products() == before

    (work / 'bad.zip').write_bytes(b'not an archive')
    window.answers['open'] = work / 'bad.zip'
    window.page._load_model_action.trigger()
    report['bad_model'] = window.dialogs[-1:]

    (work / 'npz').mkdir()
    import numpy as np

    np.savez(work / 'npz' / 'scan.npz', xcoords=np.zeros(3), ycoords=np.zeros(3), probeGuess=np.zeros((8, 8)))
    window.train(work / 'npz')
    window.finish()
    report['bad_npz_pane'] = window.pane()
    report['bad_npz_files'] = sorted(p.name for p in (work / 'npz').iterdir())

    window.train(work / 'empty')
    report['stop_at_start_s'] = window.stop_after(1.5)
    report['stop_at_start_files'] = sorted(p.name for p in (work / 'empty').iterdir())

    (work / 'exports').mkdir()
    window.answers['save'] = work / 'exports' / 'scan.npz'
    window.page._export_training_data_action.trigger()
    report['exported'] = (work / 'exports' / 'scan.npz').is_file()
    window.set_epochs(1)
    window.train(work / 'exports')
    window.finish()
    report['export_trained'] = sorted(p.name for p in (work / 'exports').iterdir())
    return report


def story_close(window: Window, scan: Path, work: Path) -> dict[str, Any]:
    """Closing the window while it trains."""
    window.load(scan)
    window.set_epochs(3000)
    window.train(work / 'closed')
    window.until(lambda: 'Epoch 3/' in window.pane())
    return {'close_s': window.close(), 'files': sorted(p.name for p in (work / 'closed').iterdir())}


STORIES = {'run': story_run, 'trouble': story_trouble, 'close': story_close}


def main() -> int:
    story, scan, work = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    window = Window(scan)
    window.model.__enter__()
    closed = False
    try:
        report = STORIES[story](window, scan, work)
        closed = story == 'close'
    finally:
        if not closed:
            window.close()
    end = time.monotonic() + 5
    while multiprocessing.active_children() and time.monotonic() < end:
        time.sleep(0.05)
    report['children_left'] = len(multiprocessing.active_children())
    report['frameworks'] = sorted({'torch', 'tensorflow'} & set(sys.modules))
    (work / 'report.json').write_text(json.dumps(report, indent=1))
    return 0


if __name__ == '__main__':
    sys.exit(main())
