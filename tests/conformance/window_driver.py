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
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault('QT_QPA_PLATFORM', 'offscreen')
PATIENCE_S = 900.0
"""After this a run counts as hanging; a busy machine may take twenty times as long as a quiet one."""


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
        self.pictures = Path()
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
        if 'sim' in self.products():
            self.view.processing_action.trigger()
            self.choose('sim')
            return
        api = self.model.workflow_api
        data = api.load_assembled_diffraction_data(scan_directory / 'diffraction.h5')
        # Releases differ in what they call the product of a directory.
        api.load_product(next(scan_directory.glob('product*.h5')), diffraction=data)
        self.view.processing_action.trigger()
        self.choose('sim')

    def products(self) -> list[str]:
        return [item.get_name() for item in self.model.product_core.product_repository]

    def choose(self, product: str) -> None:
        self.spin(0.1)
        combo = self.page._product_view_controller.get_widget()
        combo.setCurrentIndex(self.products().index(product))
        self.spin(0.1)
        self.until(lambda: not self.page._chores.waits)

    def spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.app.processEvents()
            time.sleep(0.01)

    def until(self, condition: Callable[[], bool], timeout: float = PATIENCE_S) -> float:
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

    def settle(self) -> None:
        """Wait until nothing runs or waits, and the window shows it."""
        done = threading.Event()
        # Ptychodus' worker comes to it after all runs, the window after all that they have queued for it.
        self.page._processing_api._task_manager.put_background_task(lambda: done.set)
        self.until(done.is_set)
        self.spin(0.1)

    def finish(self) -> list[int]:
        """Wait for the run to end; return the positions of the bar on the way."""
        seen: list[int] = []
        started = [False]

        def done() -> bool:
            started[0] |= self.monitor.is_processing
            value = self.bar()
            if value >= 0 and (not seen or seen[-1] != value):
                seen.append(value)
            return started[0] and not self.monitor.is_processing

        self.until(done)
        self.settle()
        return seen

    def stop_after(self, seconds: float) -> float:
        """Click Stop after `seconds` of a run; return how long the run goes on."""
        self.until(lambda: self.monitor.is_processing)
        self.spin(seconds)
        assert self.monitor.is_processing, 'the run was over before Stop was pressed'
        start = time.monotonic()
        self.status.stop_button.click()
        self.until(lambda: not self.monitor.is_processing)
        answer = time.monotonic() - start
        self.settle()
        return answer

    @property
    def settings(self) -> Any:
        return self.model.ptychopinn_reconstructor_library.session.settings

    def set_epochs(self, number: int) -> None:
        self.settings.training.nepochs.set_value(number)

    def panel(self) -> Any:
        """Return the panel, once all that has changed is shown there."""
        self.until(lambda: not self.page._chores.waits)
        return self.page._stacked_widget.currentWidget()

    def text(self) -> str:
        """Return all that the labels of the panel say."""
        from PyQt5.QtWidgets import QGroupBox, QLabel

        panel = self.panel()
        texts = [w.text() for w in panel.findChildren(QLabel)]
        return '\n'.join(texts + [w.title() for w in panel.findChildren(QGroupBox)])

    def line(self, start: str) -> str:
        """Return the text of the panel's label that begins so."""
        return next(line for line in self.text().splitlines() if line.startswith(start))

    def infer(self) -> dict[str, Any]:
        """Return whether Infer can be pressed, and what its tool tip says."""
        self.until(lambda: not self.page._chores.waits)
        button = self.actions.reconstruct_button
        tip = '' if button.isEnabled() else ' '.join(button.toolTip().split())
        return {'enabled': button.isEnabled(), 'why_not': tip}

    def answer(self, text: str, seconds: float = 300.0) -> list[str]:
        """Press a button of the next question, as soon as there is one; its sentences come into the list."""
        from PyQt5.QtCore import QTimer
        from PyQt5.QtWidgets import QMessageBox

        said: list[str] = []
        end = time.monotonic() + seconds

        def look() -> None:
            dialog = self.app.activeModalWidget()
            if isinstance(dialog, QMessageBox):
                said.append(f'{dialog.text()} {dialog.informativeText()}')
                dialog.grab().save(str(self.pictures / f'question-{len(list(self.pictures.iterdir()))}.png'))
                next(button for button in dialog.buttons() if button.text().strip('&') == text).click()
            elif time.monotonic() < end:
                QTimer.singleShot(50, look)

        QTimer.singleShot(50, look)
        return said

    def failure(self) -> str:
        """Return what the dialog of a failed run says; empty where there is none."""
        dialog = self.page._dialog
        return f'{dialog.text()} {dialog.informativeText()}' if dialog and dialog.isVisible() else ''

    def shoot(self, path: Path) -> None:
        self.spin(0.3)
        self.view.grab().save(str(path))

    def close(self) -> float:
        start = time.monotonic()
        self.model.__exit__(None, None, None)
        return time.monotonic() - start


def main() -> int:
    from opening_stories import OPENING_STORIES
    from training_stories import TRAINING_STORIES
    from window_stories import STORIES

    story, scan, work = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    window = Window(scan)
    window.pictures = work
    window.model.__enter__()
    closed = False
    try:
        report = {**STORIES, **TRAINING_STORIES, **OPENING_STORIES}[story](window, scan, work)
        closed = story == 'close'
    finally:
        if not closed:
            window.close()
    end = time.monotonic() + 5
    while multiprocessing.active_children() and time.monotonic() < end:
        time.sleep(0.05)
    import ptychodus

    report['ptychodus'] = str(next(iter(ptychodus.__path__)))
    report['children_left'] = len(multiprocessing.active_children())
    report['frameworks'] = sorted({'torch', 'tensorflow'} & set(sys.modules))
    (work / 'report.json').write_text(json.dumps(report, indent=1))
    return 0


if __name__ == '__main__':
    sys.exit(main())
