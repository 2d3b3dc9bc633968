"""What users do with runs that wait, folders, and data that do not fit; see ``window_stories.py``."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from window_driver import Window

__all__ = ['TRAINING_STORIES']


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def train_button(window: Window) -> dict[str, Any]:
    """Return whether Train can be pressed, and what its tool tip says."""
    window.until(lambda: not window.page._chores.waits)
    button = window.actions.train_button
    return {'enabled': button.isEnabled(), 'tip': ' '.join(button.toolTip().split())}


def both_button(window: Window) -> Any:
    from PyQt5.QtWidgets import QPushButton

    buttons = window.panel().findChildren(QPushButton)
    return next(item for item in buttons if item.text() == 'Train and infer')


def infer(window: Window, product: str = 'sim') -> None:
    window.choose(product)
    window.actions.reconstruct_button.click()
    window.choose(product)


def queue(window: Window, scan: Path, work: Path) -> dict[str, Any]:
    """A training with two inferences behind it: all stopped at once; then one that uses the new model."""
    report: dict[str, Any] = {}
    window.load(scan)
    window.page._processing_api.load_model_from_file(scan.parent / 'model.zip')
    for number in range(300):
        logging.getLogger('ptychopinn').info('Line %d', number)
    window.page._show_log()
    before = window.products()
    window.set_epochs(3000)
    window.train(work / 'model')
    window.until(lambda: 'Epoch 2/' in window.pane())
    report['train_while_training'] = train_button(window)
    report['infer_while_training'] = window.infer()
    report['head_running'] = window.line('Now:')
    infer(window)
    infer(window)
    report['head_queued'] = window.line('Now:')
    window.shoot(work / 'queued.png')
    bar = window.status.text_edit.verticalScrollBar()
    report['pane_at_end'] = [bar.value(), bar.maximum()]
    report['stop_s'] = window.stop_after(0)
    window.settle()
    report['head_after'] = [
        line for line in window.text().splitlines() if line.startswith(('Now:', 'Stopping:'))
    ]
    report['products_kept'] = window.products() == before
    report['stopped_files'] = names(work / 'model')
    report['train_after'] = train_button(window)
    report['pane'] = window.pane()

    window.set_epochs(1)
    window.train(work / 'second')
    infer(window)
    window.settle()
    report['comments'] = comments(window, 'sim_ptychopinn_pinn')
    # A training that fails after an inference was queued behind it.
    window.settings.training.realspace_mae_weight.set_value(1.0)
    before = window.products()
    window.train(work / 'fails')
    infer(window)
    window.settle()
    report['failure'] = window.failure()
    report['dependent_pane'] = window.pane()
    report['dependent_kept'] = window.products() == before
    return report


def comments(window: Window, product: str) -> str:
    item = window.model.product_core.product_repository[window.products().index(product)]
    return str(item.get_product().metadata.comments)


def one_click(window: Window, scan: Path, work: Path) -> dict[str, Any]:
    """*Train and infer*: once, again with the model that is there then, and again with another network."""
    report: dict[str, Any] = {}
    report['tried_by_the_window'] = record_trials()
    window.load(scan)
    window.set_epochs(1)
    report['tip'] = ' '.join(both_button(window).toolTip().split())
    both_button(window).click()
    report['head'] = window.line('Now:')
    window.settle()
    report['products'] = window.products()
    report['comments'] = comments(window, 'sim_ptychopinn_pinn')
    report['pane'] = window.pane()
    window.shoot(work / 'one-click.png')
    window.choose('sim')
    window.spin(0.2)
    report['tip_again'] = ' '.join(both_button(window).toolTip().split())
    both_button(window).click()
    report['head_again'] = window.line('Now:')
    window.settle()
    window.choose('sim')
    window.settings.engine.architecture.set_value('prior')
    both_button(window).click()
    window.settle()
    report['prior_comments'] = comments(window, 'sim_ptychopinn_pinn-2')
    report['folders'] = {path.name: names(path) for path in scan.glob('sim_model*')}
    window.settings.engine.start_from.set_value('checkpoint')
    window.choose('sim')
    both_button(window).click()
    report['no_checkpoint'] = window.failure()
    window.settings.engine.train_on.set_value('folder')
    report['folder_only'] = both_button(window).isEnabled()
    return report


def record_trials() -> list[str]:
    """Return a list of the folders in which the window's own thread tries to write, which may take long."""
    from ptycho_engine.io import preflight

    tried: list[str] = []
    try_to_write = preflight._try_to_write

    def recorded(folder: Path) -> None:
        if threading.current_thread() is threading.main_thread():
            tried.append(str(folder))
        try_to_write(folder)

    preflight._try_to_write = recorded
    return tried


def questions(window: Window, scan: Path, work: Path) -> dict[str, Any]:
    """Folders that hold a model, another scan or nothing to go on with, and one that cannot be written to."""
    report: dict[str, Any] = {}
    window.load(scan)
    window.set_epochs(1)
    folder = work / 'model'
    folder.mkdir()
    old = (scan.parent / 'model.zip').read_bytes()
    (folder / 'wts.h5.zip').write_bytes(old)
    for answer in ('Cancel', 'Keep both', 'Replace'):
        said = window.answer(answer)
        window.train(folder)
        window.settle()
        report[answer] = {
            'said': said,
            'old_kept': (folder / 'wts.h5.zip').read_bytes() == old,
            'files': names(folder),
        }
    other = scan.parent / 'OTHER'
    for answer in ('Cancel', 'Train on "sim"'):
        said = window.answer(answer)
        window.train(other)
        window.settle()
        report[f'other scan: {answer}'] = {'said': said, 'files': names(other), 'pane': window.pane()}
    report['same'] = {'asked': window.answer('Cancel', seconds=5)}
    window.train(scan)
    window.spin(0.5)
    report['same']['queued'] = bool(window.line('Now:'))
    window.status.stop_button.click()
    window.settle()
    window.settings.engine.start_from.set_value('checkpoint')
    window.train(work / 'empty')
    report['no_checkpoint'] = window.failure()
    report['no_checkpoint_ran'] = window.monitor.is_processing
    window.settings.engine.start_from.set_value('scratch')
    window.answers['directory'] = Path('/proc/1/task')
    window.actions.train_button.click()
    report['read_only'] = window.failure()
    report['read_only_ran'] = window.monitor.is_processing
    return report


def unfit(window: Window, scan: Path, work: Path) -> dict[str, Any]:
    """Products that cannot be worked on: what the buttons and the panel say of each."""
    from scan_maker import write_patterns

    report: dict[str, Any] = {}
    window.load(scan)
    window.page._processing_api.load_model_from_file(scan.parent / 'model.zip')
    report['flat'] = described(window, 'ptychopinn_supervised')
    described(window, 'ptychopinn_pinn')
    api = window.model.workflow_api
    for name, shape in (('dark', (64, 64, 64)), ('oblong', (64, 64, 80)), ('odd', (64, 65, 65))):
        counts = np.full(shape, 0 if name == 'dark' else 3, np.uint16)
        folder = work / name
        folder.mkdir()
        write_patterns(folder, counts)
        data = api.load_assembled_diffraction_data(folder / 'diffraction.h5')
        api.load_product(next(scan.glob('product*.h5')), diffraction=data)
        window.choose(window.products()[-1])
        report[name] = described(window, 'ptychopinn_pinn')
        window.shoot(work / f'{name}.png')
    window.page._our_session().memory.forget()
    report['odd_by_the_prior'] = described(window, 'ptychopinn_pinn')
    window.settings.engine.architecture.set_value('prior')
    report['odd_for_the_prior'] = described(window, 'ptychopinn_pinn')
    window.model.product_core.product_api.open_product(next(scan.glob('product*.h5')))
    window.choose(window.products()[-1])
    report['unbound'] = described(window, 'ptychopinn_pinn')
    return report


def described(window: Window, algorithm: str) -> dict[str, Any]:
    window.page._algorithm_parameter.set_value(algorithm)
    window.spin(0.1)
    return {
        'train': train_button(window),
        'infer': window.infer(),
        'both': both_button(window).isEnabled(),
        'panel': [window.line('Train:'), window.line('Infer:')],
    }


def panel(window: Window, scan: Path, work: Path) -> dict[str, Any]:
    """The rows in sight, with *Advanced* closed and open, for each architecture."""
    from PyQt5.QtWidgets import QToolButton

    report: dict[str, Any] = {}
    window.load(scan)
    window.settings.engine.architecture.set_value('prior')
    window.shoot(work / 'panel.png')
    report['closed'] = rows(window)
    advanced = next(b for b in window.panel().findChildren(QToolButton) if b.text() == 'Advanced')
    advanced.click()
    report['open'] = rows(window)
    window.shoot(work / 'advanced.png')
    window.settings.engine.architecture.set_value('cnn')
    report['cnn'] = rows(window)
    advanced.click()
    report['closed_cnn'] = rows(window)
    window.settings.engine.architecture.set_value('prior')
    report['closed_again'] = rows(window)
    return report


def rows(window: Window) -> list[str]:
    """Return the labels of the rows of the panel that are not hidden, each with its field's tool tip."""
    from PyQt5.QtWidgets import QFormLayout

    shown = []
    for form in window.panel().findChildren(QFormLayout):
        for row in range(form.rowCount()):
            item = form.itemAt(row, QFormLayout.FieldRole)
            label = form.itemAt(row, QFormLayout.LabelRole)
            if item is not None and item.widget().isVisibleTo(window.panel()):
                shown.append(f'{label.widget().text()} {item.widget().toolTip()}')
    return shown


TRAINING_STORIES: dict[str, Callable[[Window, Path, Path], dict[str, Any]]] = {
    'queue': queue,
    'one_click': one_click,
    'questions': questions,
    'unfit': unfit,
    'panel': panel,
}
