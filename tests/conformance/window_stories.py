"""What users do in the window, one story for each run of ``window_driver.py``; each returns what it saw."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np

if TYPE_CHECKING:
    from window_driver import Window

__all__ = ['STORIES']

RESULT = 'sim_ptychopinn_pinn'


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def run(window: Window, scan: Path, work: Path, more_epochs: int = 8) -> dict[str, Any]:
    """Menu, panel, train, watch, stop, go on, infer, save, open again."""
    report: dict[str, Any] = {}
    combo = window.page._algorithm_view_controller.get_widget()
    report['menu'] = [combo.itemText(i) for i in range(combo.count())]
    report['chosen'] = combo.currentText()
    report['infer_without_product'] = window.infer()
    window.load(scan)
    window.until(lambda: 'roughly' in window.line('Train:'))
    report['panel'] = window.text()
    report['infer_at_first'] = window.infer()
    report['places'] = [places(window)]

    window.set_epochs(3000)
    window.train(work / 'model')
    window.until(
        lambda: (
            'Epoch 3/' in window.pane()
            and 'left' in window.status.progress_bar.format()
            # The plot follows the pane.
            and min(map(len, plotted(window).values()), default=0) >= 2
        )
    )
    report['bar_while_training'] = window.bar() >= 0
    report['time_left'] = window.status.progress_bar.format()
    report['plot_while_training'] = plotted(window)
    report['places'].append(places(window))
    window.shoot(work / 'training.png')
    report['stop_s'] = window.stop_after(0)
    report['stopped_files'] = names(work / 'model')
    report['infer_after_stop'] = window.infer()

    window.settings.engine.start_from.set_value('checkpoint')
    done = plotted(window)['training'][-1]
    window.set_epochs(done + more_epochs)
    report['epochs'] = done + more_epochs
    window.train(work / 'model')
    report['bar_training'] = window.finish()
    report['model_files'] = names(work / 'model')
    report['infer_enabled'] = window.infer()
    report['infer_text'] = window.actions.reconstruct_button.text()
    report['forecast'] = window.line('Train:')

    window.settings.engine.inference_batch_size.set_value(4)
    # Long enough for an image in between on any machine.
    window.settings.engine.refine_iterations.set_value(100)
    drawn, rebuilt = count_images(window), count_probes(window)
    with slow_work() as done_by_window:
        window.actions.reconstruct_button.click()
        del rebuilt[:]
        report['bar_inference'] = window.finish()
    report['slow_work'] = done_by_window
    report['probes_rebuilt'] = len(rebuilt)
    report['places'].append(places(window))
    report['images'] = len(drawn)
    report['products'] = window.products()
    report['pane'] = window.pane()
    report['forecast_of_inference'] = window.line('Infer:')
    report['quality'] = window.page._area.quality()
    report['tab'] = window.page._area._tabs.currentIndex()
    window.shoot(work / 'inferred.png')
    window.page._area._tabs.setCurrentIndex(2)
    window.shoot(work / 'uncertainty.png')
    report['map'] = window.page._area._map.titles()
    window.page._area._tabs.setCurrentIndex(0)
    window.spin(0.3)
    report['plot_of_result'] = [len(line.get_xdata()) for line in window.status.axes.get_lines()]
    window.shoot(work / 'losses.png')
    report['searched'] = len(gc.get_objects()) / gc.get_freeze_count()
    return {**report, **save_and_open(window, work)}


def stop_inference(window: Window, scan: Path, work: Path) -> dict[str, Any]:
    """Stop an inference; no product is left."""
    window.load(scan)
    window.page._processing_api.load_model_from_file(scan.parent / 'model.zip')
    before = window.products()
    window.page._reconstruct()
    return {'stop_s': window.stop_after(1.5), 'products_kept': window.products() == before}


def plotted(window: Window) -> dict[str, list[int]]:
    """Return the epochs of each curve of the loss plot."""
    lines = window.status.axes.get_lines()
    return {line.get_label(): [int(x) for x in line.get_xdata()] for line in lines}


def places(window: Window) -> list[int]:
    """Return how large the window is, and where the fields under the forecast begin."""
    from PyQt5.QtCore import QPoint
    from PyQt5.QtWidgets import QComboBox

    preset = next(box for box in window.panel().findChildren(QComboBox) if box.findText('best') >= 0)
    size = window.view.size()
    return [size.width(), size.height(), preset.mapTo(window.view, QPoint()).y()]


def count_probes(window: Window) -> list[int]:
    """Return a list that grows whenever the window takes a probe for a new one."""
    seen: list[int] = []
    window.view.probe_view.tree_view.model().dataChanged.connect(lambda *_: seen.append(1))
    return seen


@contextmanager
def slow_work() -> Iterator[list[str]]:
    """Note what the window's thread does point by point of a scan, or pixel by pixel of an object."""
    from ptychodus.api.object import Object
    from ptychodus.api.probe_positions import ProbePositionSequence

    seen: list[str] = []

    def noted(kind: Any, name: str) -> Any:
        original = getattr(kind, name)

        def note(self: Any, *arguments: Any) -> Any:
            if threading.current_thread() is threading.main_thread():
                seen.append(f'{kind.__name__}.{name}')
            return original(self, *arguments)

        return mock.patch.object(kind, name, note)

    with noted(ProbePositionSequence, '__getitem__'), noted(Object, 'copy'):
        yield seen


def count_images(window: Window) -> list[str]:
    """Return a list that grows with each image of the object that is drawn while it is made."""
    seen: list[str] = []
    draw = window.page._area.draw

    def counted(item: Any, prepared: Any) -> None:
        draw(item, prepared)
        seen.append(window.page._area._image.titles()[0])

    window.page._area.draw = counted
    return seen


def save_and_open(window: Window, work: Path) -> dict[str, Any]:
    """Save the result from the Products page and open the file again."""
    report: dict[str, Any] = {}
    window.view.product_action.trigger()
    table = window.view.product_view.table_view
    rows = [table.model().index(row, 0).data() for row in range(table.model().rowCount())]
    table.selectRow(rows.index(RESULT))
    window.answers['save'] = work / 'saved.h5'
    window.view.product_view.button_box.save_menu.actions()[0].trigger()
    window.spin(0.2)
    report['saved'] = (work / 'saved.h5').is_file()
    report['dialogs'] = list(window.dialogs)
    index = window.model.product_core.product_api.open_product(work / 'saved.h5')
    window.settle()
    report['reopened'] = window.products()[index]
    window.view.processing_action.trigger()
    window.choose(report['reopened'])
    report['quality_reopened'] = window.page._area.quality()
    window.view.object_action.trigger()
    tree = window.view.object_view.tree_view
    tree.setCurrentIndex(tree.model().index(window.products().index(RESULT), 0))
    window.shoot(work / 'object.png')
    return report


def trouble(window: Window, scan: Path, work: Path) -> dict[str, Any]:
    """What a user gets for wrong data and wrong settings; the list of products stays as it was."""
    report: dict[str, Any] = {}
    window.load(scan)
    before = window.products()

    window.settings.inference.model_path.set_value(Path('/nowhere/model.zip'))
    window.spin(0.2)
    report['infer_with_absent_model'] = {**window.infer(), 'panel': window.line('Infer:')}
    window.page._reconstruct()  # as a program that calls it would
    window.settle()
    report['absent_model'] = window.dialogs[-1:]
    button(window, 'Unload').click()
    window.spin(0.2)
    report['unloaded'] = window.infer()

    item = window.model.product_core.product_repository[window.products().index('sim')]
    item.get_metadata_item().far_field.set_value(False)
    window.spin(0.2)
    report['near_field'] = window.infer()
    item.get_metadata_item().far_field.set_value(True)
    window.spin(0.2)

    report |= wrong_data(window, scan, work)
    report |= {f'inference_{key}': value for key, value in stop_inference(window, scan, work).items()}

    window.train(work / 'empty')
    report['stop_at_start_s'] = window.stop_after(1.5)
    report['stop_at_start_files'] = names(work / 'empty')

    # A model that is there, on scans of which one is wrong: the run fails in the child, after it was listed.
    window.page._processing_api.load_model_from_file(scan.parent / 'model.zip')
    window.settings.engine.refine_method.set_value('abacus')
    window.page._reconstruct()
    window.settle()
    report['bad_setting'] = window.dialogs[-1:]
    window.settings.engine.refine_method.set_value('rpie')
    (work / 'away.zip').write_bytes((scan.parent / 'model.zip').read_bytes())
    window.page._processing_api.load_model_from_file(work / 'away.zip')
    window.page._reconstruct()
    (work / 'away.zip').unlink()
    # Such a run may be over before it is seen to have begun.
    window.until(lambda: 'away.zip' in window.failure())
    window.settle()
    report['failed_inference'] = window.failure()
    report['products_kept'] = window.products() == before

    (work / 'exports').mkdir()
    window.choose('sim')
    window.answers['save'] = work / 'exports' / 'scan.npz'
    window.page._export_training_data_action.trigger()
    report['exported'] = (work / 'exports' / 'scan.npz').is_file()
    window.page._processing_api.load_model_from_file(scan.parent / 'model.zip')
    window.settings.engine.start_from.set_value('model')
    window.settings.engine.train_on.set_value('product')
    window.settings.engine.more_training_data.set_value(f'{work / "exports" / "scan.npz"}; {scan}')
    window.set_epochs(1)
    window.train(work / 'exports')
    window.finish()
    report['continued_pane'] = window.pane()
    report['export_trained'] = names(work / 'exports')
    return report


def wrong_data(window: Window, scan: Path, work: Path) -> dict[str, Any]:
    """Train on a file without patterns, with a product chosen for which *Train* is not grey."""
    window.load(scan)
    (work / 'npz').mkdir()
    np.savez(work / 'npz' / 'scan.npz', xcoords=np.zeros(3), ycoords=np.zeros(3), probeGuess=np.zeros((8, 8)))
    window.settings.engine.start_from.set_value('scratch')
    window.train(work / 'npz')
    window.until(lambda: bool(window.failure()))
    window.shoot(work / 'failure.png')
    return {
        'bad_npz_pane': window.pane(),
        'bad_npz_dialog': window.failure(),
        'bad_npz_files': names(work / 'npz'),
    }


def release(window: Window, scan: Path, work: Path) -> dict[str, Any]:
    """All but what needs a window of its own, in one session."""
    return {
        'run': run(window, scan, work, more_epochs=3),
        'wrong_data': wrong_data(window, scan, work),
        'models': models(window, scan, work),
    }


def models(window: Window, scan: Path, work: Path) -> dict[str, Any]:
    """Models that fit, that do not, and that are damaged; one is saved and remembered."""
    report: dict[str, Any] = {}
    window.load(scan)
    folder = scan.parent
    for name in ('model', 'other_probe', 'other_size', 'other_network'):
        window.answers['open'] = folder / f'{name}.zip'
        window.page._load_model_action.trigger()
        window.settle()
        report[name] = {**window.infer(), 'panel': window.text(), 'pane': window.pane().splitlines()[-1:]}
        if name == 'other_probe':
            window.shoot(work / 'other_probe.png')
    button(window, 'Use its settings').click()
    report['adopted'] = window.settings.model.gridsize.get_value()

    (work / 'bad.zip').write_bytes(b'not an archive')
    window.answers['open'] = work / 'bad.zip'
    window.page._load_model_action.trigger()
    report['bad_model'] = window.dialogs[-1:]

    window.answers['open'] = folder / 'model.zip'
    button(window, 'Load…').click()
    window.answers['save'] = work / 'saved.zip'
    button(window, 'Save…').click()
    report['saved'] = (work / 'saved.zip').read_bytes() == (folder / 'model.zip').read_bytes()

    before, after = turn_probe(window)
    report['probe_turned'] = {'before': before, 'after': after}
    combo = window.page._product_view_controller.get_widget()
    window.model.product_core.product_api.open_product(next(scan.glob('product*.h5')))
    window.spin(0.2)
    combo.setCurrentIndex(combo.count() - 1)
    window.spin(0.5)
    report['without_patterns'] = window.infer()
    window.model.settings_registry.save_settings(work / 'settings.ini')
    report['presets'] = presets(window)
    return report


def turn_probe(window: Window) -> tuple[str, str]:
    """Mirror the probe of the product, and back; return what the panel says before and after."""
    from ptychodus.api.probe import ProbeSequence

    item = window.model.product_core.product_repository[window.products().index('sim')].get_probe_item()
    old, before = item.get_probes(), window.text()
    item.assign(ProbeSequence(old.get_array()[..., ::-1] ** 2, None, old.get_pixel_geometry()))
    window.spin(0.1)
    after = window.text()
    item.assign(old)
    window.spin(0.1)
    return before, after


def button(window: Window, text: str) -> Any:
    from PyQt5.QtWidgets import QPushButton

    return next(item for item in window.panel().findChildren(QPushButton) if item.text() == text)


def presets(window: Window) -> dict[str, list[int]]:
    """Choose each preset as a user does; return epochs and iterations, and what is shown after a change."""
    from PyQt5.QtWidgets import QComboBox

    combo = next(item for item in window.panel().findChildren(QComboBox) if item.findText('best') >= 0)
    seen: dict[str, Any] = {}
    for name in ('fast', 'balanced', 'best'):
        combo.setCurrentText(name)
        combo.textActivated.emit(name)
        settings = window.settings
        seen[name] = [settings.training.nepochs.get_value(), settings.engine.refine_iterations.get_value()]
        assert combo.currentText() == name
    window.set_epochs(7)
    seen['after a change'] = combo.currentText()
    return seen


def untrained(window: Window, scan: Path, work: Path) -> dict[str, Any]:
    """An image without training, by the learned prior and by physics alone; a model goes before the prior."""
    report: dict[str, Any] = {}
    window.load(scan)
    window.until(lambda: 'roughly' in window.line('Infer:'))
    report['prior'] = without_training(window, work, 'ptychopinn_pinn', 'Infer:')
    window.choose('sim')
    report['forecast_after'] = window.line('Infer:')

    window.page._algorithm_parameter.set_value('ptychopinn_physics')
    window.choose('sim')
    report['train'] = [window.actions.train_button.isVisible(), window.line('Train:')]
    report['rows'] = fields_in_sight(window)
    window.shoot(work / 'physics-panel.png')
    report['physics'] = without_training(window, work, 'ptychopinn_physics', 'Reconstruct:')
    window.choose('sim')
    before = window.products()
    for _ in range(2):
        window.choose('sim')
        window.actions.reconstruct_button.click()
    report['queued'] = window.line('Now:')
    window.stop_after(0.5)
    report['products_kept'] = window.products() == before

    window.page._algorithm_parameter.set_value('ptychopinn_pinn')
    window.page._processing_api.load_model_from_file(scan.parent / 'other_size.zip')
    window.choose('sim')
    report['loaded'] = window.infer()
    button(window, 'Unload').click()
    window.spin(0.2)
    report['unloaded'] = window.infer()
    return report


def texts_asked_for(window: Window, model: Any, change: Callable[[], None]) -> int:
    """Return how often a list asks its model for a text when the model tells a change."""
    kind, seen = type(model), []
    original = kind.data
    kind.data = lambda self, *key: seen.append(key) or original(self, *key)
    change()
    window.spin(0.1)
    kind.data = original
    return len(seen)


def quality_in_a_run(window: Window) -> list[str]:
    """Begin and end a run into a product that tells of an earlier one; return what is said of its quality."""
    item = window.model.product_core.product_repository[window.products().index('sim')]
    comments = item.get_metadata_item().comments
    earlier, area = comments.get_value(), window.page._area
    comments.set_value('PtychoPINN cnn (run by pytorch): 64 patterns, deviance 1.25 per pixel')
    said = []
    for action in (lambda: window.choose('sim'), lambda: area.begin(item), area.end):
        action()
        window.spin(0.1)
        said.append(area.quality())
    comments.set_value(earlier)
    return said


def without_training(window: Window, work: Path, algorithm: str, line: str) -> dict[str, Any]:
    """Reconstruct the chosen product by an algorithm for which nothing is trained."""
    start = window.actions.reconstruct_button
    report = {
        'button': [start.text(), start.isEnabled(), ' '.join(start.toolTip().split())],
        'forecast': window.line(line),
        'panel': window.text(),
    }
    window.shoot(work / f'{algorithm}-before.png')
    drawn = count_images(window)
    start.click()
    report['head'] = window.line('Now:')
    report['bar'] = window.finish()
    report['images'] = len(drawn)
    window.choose(f'sim_{algorithm}')
    index = window.products().index(f'sim_{algorithm}')
    product = window.model.product_core.product_repository[index].get_product()
    report['comments'] = str(product.metadata.comments)
    report['quality'] = window.page._area.quality()
    report['map'] = window.page._area._maps[window.model.product_core.product_repository[index]].title
    report['contrast'] = float(np.ptp(np.angle(product.object_.get_array())))
    report['pane'] = window.pane()
    window.shoot(work / f'{algorithm}.png')
    return report


def fields_in_sight(window: Window) -> list[str]:
    """Return the labels of the panel's fields that are not hidden."""
    from PyQt5.QtWidgets import QFormLayout

    return [
        form.itemAt(row, QFormLayout.LabelRole).widget().text()
        for form in window.panel().findChildren(QFormLayout)
        for row in range(form.rowCount())
        if form.itemAt(row, QFormLayout.FieldRole).widget().isVisibleTo(window.panel())
    ]


def remembered(window: Window, scan: Path, work: Path) -> dict[str, Any]:
    """A new session with the settings of the last one has its model."""
    window.load(scan)
    return {**window.infer(), 'panel': window.text()}


def frameless(window: Window, scan: Path, work: Path) -> dict[str, Any]:
    """No framework is installed: the panel says so, and a run ends at once with the command to type."""
    from PyQt5.QtWidgets import QComboBox

    report: dict[str, Any] = {}
    window.load(scan)
    combo = next(item for item in window.panel().findChildren(QComboBox) if item.findText('tensorflow') >= 0)
    model: Any = combo.model()
    report['offered'] = {model.item(i).text(): model.item(i).isEnabled() for i in range(model.rowCount())}
    report['tool_tip'] = combo.toolTip()
    window.train(work / 'model')
    window.until(lambda: bool(window.failure()))
    report['training'] = window.failure()
    report['pane'] = window.pane()
    window.page._processing_api.load_model_from_file(scan.parent / 'model.zip')
    before = window.products()
    window.page._reconstruct()
    window.settle()
    report['inference'] = window.dialogs[-1:]
    report['pane_after_inference'] = window.pane()
    report['products_kept'] = window.products() == before
    report['files'] = names(work / 'model')
    return report


def looks(window: Window, scan: Path, work: Path) -> dict[str, Any]:
    """What is drawn and said without a run: wheel, plots, the Object page, a warning."""
    from PyQt5.QtWidgets import QComboBox, QSlider, QSpinBox

    report: dict[str, Any] = {}
    window.load(scan)
    window.spin(0.2)
    report['no_losses'] = window.page._area.no_losses()

    fields = [x for kind in (QSpinBox, QComboBox, QSlider) for x in window.panel().findChildren(kind)]
    report['fields'] = len(fields)
    report['fields_that_take_the_wheel'] = [str(x) for x in fields if turn_wheel(window, x)]
    box = window.panel().findChildren(QSpinBox)[1]
    box.setFocus()
    window.spin(0.1)
    report['field_that_was_clicked'] = turn_wheel(window, box)

    report |= images_on_the_object_page(window)
    report['quality_in_a_run'] = quality_in_a_run(window)
    report |= plots(window)
    report |= warnings_of_pixels(window)
    report |= served_in_turns(window)
    report |= names_with_markup(window, scan, work)
    return report


def turn_wheel(window: Window, field: Any) -> bool:
    """Turn the wheel over a field by a notch; return whether the field takes it or the panel gets it."""
    from PyQt5.QtCore import QPoint, QPointF, Qt
    from PyQt5.QtGui import QWheelEvent

    here, there = QPointF(5, 5), QPointF(field.mapToGlobal(QPoint(5, 5)))
    notch = QPoint(0, -120)
    event = QWheelEvent(here, there, QPoint(), notch, Qt.NoButton, Qt.NoModifier, Qt.NoScrollPhase, False)
    value = field.property('value') or field.property('currentIndex')
    window.app.sendEvent(field, event)
    changed = (field.property('value') or field.property('currentIndex')) != value
    return changed or event.isAccepted()


def images_on_the_object_page(window: Window) -> dict[str, Any]:
    """Draw an image of a run while the Object page shows its product, and then another product."""
    from PyQt5.QtGui import QHideEvent

    from ptychopinn_ptychodus.live import live_image

    repository = window.model.product_core.product_repository
    index = window.products().index('sim')
    item, area, picture = (
        repository[index],
        window.page._area,
        window.controller._object_image_controller.get_item(),
    )
    image = live_image(np.full((1500, 2000), 0.5 + 0.1j, np.complex64))
    pixel = item.get_object_item().get_object().get_pixel_geometry()
    area.begin(item)
    report: dict[str, Any] = {'out_of_sight': area.prepare(image, pixel).rendered is None}
    tree = window.view.object_view.tree_view

    def other_object() -> None:
        tree.model().update_item(index, item.get_object_item())

    asked = texts_asked_for(window, tree.model(), other_object)
    # A window that is put away hides what is hidden once more.
    window.app.sendEvent(tree, QHideEvent())
    window.view.object_action.trigger()
    report['texts_asked_for'] = [asked, texts_asked_for(window, tree.model(), other_object)]
    report['columns'] = [
        [tree.columnWidth(column), tree.sizeHintForColumn(column)]
        for column in range(tree.model().columnCount())
    ]
    tree.setCurrentIndex(tree.model().index(index, 0))
    window.spin(0.1)
    area.draw(item, area.prepare(image, pixel))
    area.draw(item, area.prepare(image, pixel))
    report['drawn'] = [picture.pixmap().width(), picture.pixmap().height(), picture.scale()]
    tree.setCurrentIndex(tree.model().index(1 - index, 0))
    report['drawn_elsewhere'] = area.draw(item, area.prepare(image, pixel)) or picture.scale()
    tree.setCurrentIndex(tree.model().index(index, 0))
    report['drawn_by_ptychodus'] = picture.scale()
    window.page.draw_image(object(), area.prepare(image, pixel))
    report['drawn_for_a_product_that_is_gone'] = picture.scale()
    area.end()
    window.view.processing_action.trigger()
    return report


def plots(window: Window) -> dict[str, Any]:
    """Plot losses over little and over much; return labels, scales and whether the labels are inside."""
    from ptychodus.api.product import LossValue

    report: dict[str, Any] = {}
    figure, axes = window.status.figure, window.status.axes
    for name, last in (('flat', 0.9), ('steep', 0.001)):
        losses = [LossValue(n, 0.96 - (0.96 - last) * (n - 1) / 5) for n in range(1, 7)]
        window.page.show_losses(losses, losses[:3], 2)
        window.spin(0.3)
        window.status.figure_canvas.draw()
        room, inside = figure.bbox, axes.get_tightbbox()
        report[f'{name}_labels_inside'] = bool(
            room.x0 <= inside.x0 and room.y0 <= inside.y0 and inside.x1 <= room.x1 and inside.y1 <= room.y1
        )
        report[f'{name}_scale'] = axes.get_yscale()
        report[f'{name}_epochs'] = [float(x) for x in axes.get_xticks() if 0.5 <= x <= 6.5]
        report[f'{name}_ticks'] = [tick.get_text() for tick in axes.get_yticklabels()]
    report['legend'] = [text.get_text() for text in axes.get_legend().get_texts()]
    window.choose('Unnamed')
    window.choose('sim')
    report['plot_of_another_product'] = window.page._area.no_losses()
    return report


def served_in_turns(window: Window) -> dict[str, Any]:
    """Let a run ask the window for several things that take long; a click comes in between."""
    done: list[str] = []

    def task(name: str) -> None:
        done.append(name)
        time.sleep(0.02)
        if name == 'second':
            raise ValueError(name)

    manager = window.model.ptychopinn_reconstructor_library.session.window.page._processing_api._task_manager
    window.spin(0.1)
    for name in ('first', 'second', 'third'):
        manager.put_foreground_task(partial(task, name))
    manager.run_foreground_tasks()
    at_once = list(done)
    window.spin(0.3)
    return {'served_at_once': at_once, 'served': done, 'turns_between_chores': turns_between_chores(window)}


def turns_between_chores(window: Window) -> list[int]:
    """Bring three things up to date; return how often events were idle before the second and third."""
    from PyQt5.QtCore import QEventLoop, QTimer

    chores = window.page._chores
    window.until(lambda: not chores.waits)
    loop, idle, turns, done = QEventLoop(), QTimer(), [0], []

    def look() -> None:
        turns[0] += 1
        if len(done) == 3:
            loop.quit()

    idle.timeout.connect(look)
    idle.start(0)
    for number in range(3):
        chores.later(lambda _=number: done.append(turns[0]))
    loop.exec_()
    idle.stop()
    return [later - earlier for earlier, later in pairwise(done)]


def names_with_markup(window: Window, scan: Path, work: Path) -> dict[str, Any]:
    """Name a model and a product as if they were HTML or a formula; return which texts Qt may format."""
    from ptychodus.api.product import LossValue
    from PyQt5.QtCore import Qt
    from PyQt5.QtWidgets import QApplication, QLabel

    name = '<b>$\\frac{x'
    item = window.model.product_core.product_repository[window.products().index('sim')]
    item.set_name(name)
    model = work / '<b>x<img src=y>.zip'
    model.write_bytes((scan.parent / 'model.zip').read_bytes())
    window.page._processing_api.load_model_from_file(model)
    window.choose(name)
    window.spin(0.2)
    window.page.show_failure('Training', f'{model} is damaged.')
    question = window.answer('Cancel')
    (work / 'held').mkdir()
    (work / 'held' / 'wts.h5.zip').touch()
    window.train(work / 'held')
    shown = [label for widget in QApplication.topLevelWidgets() for label in widget.findChildren(QLabel)]
    marked = [label for label in shown if '<b>' in label.text()]
    area = window.page._area
    area._curves = name, {'training': [LossValue(1, 0.5)]}, 0
    area._plot(None)
    window.status.figure_canvas.draw()
    tips = [x.toolTip() for x in (window.actions.train_button, *window.panel().findChildren(QLabel))]
    window.page._dialog.close()
    return {
        'marked_texts': len(marked),
        'formatted': [label.text() for label in marked if label.textFormat() != Qt.TextFormat.PlainText],
        'marked_question': question,
        'formatted_tips': [tip for tip in tips if '<b>' in tip],
        'marked_tips': len([tip for tip in tips if '&lt;b&gt;' in tip]),
        'title': window.status.axes.get_title(),
    }


def warnings_of_pixels(window: Window) -> dict[str, Any]:
    """Let Ptychodus build an object of other pixels than the scan's several times."""
    import logging

    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    log, listener = logging.getLogger('ptychodus.model.product.object.item'), Listener()
    log.addHandler(listener)
    item = window.model.product_core.product_repository[window.products().index('sim')]
    distance = item.get_metadata_item().detector_distance_m
    counts = []
    for change in (1.1, 1.0, 1.1):
        distance.set_value(distance.get_value() * change)
        for _ in range(5):
            item.get_object_item().rebuild()
        counts.append(len(said))
    window.model.processing_core.refresh()
    window.settle()
    for _ in range(5):
        item.get_object_item().rebuild()
    counts.append(len(said))
    log.removeHandler(listener)
    return {'warnings': counts}


def close(window: Window, scan: Path, work: Path) -> dict[str, Any]:
    """Closing the window while it trains."""
    window.load(scan)
    window.set_epochs(3000)
    window.train(work / 'closed')
    window.until(lambda: 'Epoch 1/' in window.pane())
    return {'close_s': window.close(), 'files': names(work / 'closed')}


STORIES: dict[str, Callable[[Window, Path, Path], dict[str, Any]]] = {
    'run': run,
    'trouble': trouble,
    'release': release,
    'models': models,
    'untrained': untrained,
    'remembered': remembered,
    'frameless': frameless,
    'close': close,
    'looks': looks,
}
