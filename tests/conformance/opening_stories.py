"""Stories of the window in which files of ours are opened by its own dialogs, as a user clicks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptycho_engine.scan.product_exchange import OBJECT_PIXEL_SIZE_M

if TYPE_CHECKING:
    from window_driver import Window

__all__ = ['OPENING_STORIES']

FILES = {
    'diffraction.h5': ('PtychoPINN_Scan', 'product.h5', 'Ptychodus'),
    'scan.npz': ('PtychoPINN_Scan', 'scan.npz', 'PtychoPINN'),
    'scan.cxi': ('CXI', 'scan.cxi', '*.cxi'),
    'odd/diffraction.h5': ('PtychoPINN_Scan', 'odd/product.h5', 'Ptychodus'),
}
"""File of the patterns: its reader, the product, and a word of the name of its kind."""


def opening(window: Window, scan: Path, work: Path) -> dict[str, Any]:
    """Open each kind of file on *Diffraction*, the product on *Products*, and infer."""
    report: dict[str, Any] = {}
    for name, (reader, product, kind) in FILES.items():
        patterns = open_patterns(window, scan / name, reader, crop='odd' not in name)
        report[name] = {**patterns, **open_product(window, scan / product, kind)}
    window.view.processing_action.trigger()
    window.model.processing_core.algorithm_parameter.set_value('ptychopinn_physics')
    window.choose(window.products()[-1])
    before = len(window.products())
    window.page._reconstruct()
    window.finish()
    report['products'] = len(window.products()) - before
    report['unsized'] = unsized(window, scan / 'unknown.npz')
    report['pane'] = window.pane()
    report['dialogs'] = window.dialogs
    return report


def open_patterns(window: Window, path: Path, reader: str, *, crop: bool) -> dict[str, Any]:
    """Click through *Open File...*: file and reader, *Next*, *Next*, *Finish*; *Crop* as it is, or off."""
    from PyQt5.QtWidgets import QWizard

    wizard = window.controller._diffraction_controller._wizard_controller
    wizard.open_dataset()
    files = wizard._file_view_controller
    files._file_type_view_controller.get_parameter().set_value(reader)
    window.model.diffraction_core.diffraction_settings.file_path.set_value(path)
    window.spin(0.1)
    for _ in range(2):
        wizard._wizard.button(QWizard.WizardButton.NextButton).click()
        window.spin(0.2)
    window.model.diffraction_core.diffraction_settings.crop_enabled.set_value(crop)
    wizard._wizard.button(QWizard.WizardButton.FinishButton).click()
    dataset = list(window.model.diffraction_core.repository)[-1]
    window.until(lambda: dataset.get_assembled_data().get_num_patterns() > 1)
    window.settle()
    data = dataset.get_assembled_data()
    return {
        'patterns': list(data.get_patterns_shape()),
        'type': str(data.get_patterns_dtype()),
        'detector_m': data.get_pixel_geometry().width_m,
    }


def unsized(window: Window, path: Path) -> dict[str, Any]:
    """Open a scan that says no energy and no distance, look, edit them, and infer."""
    patterns = open_patterns(window, path, 'PtychoPINN_Scan', crop=True)
    item = choose_product(window, path, 'PtychoPINN')
    window.view.processing_action.trigger()
    window.choose(window.products()[-1])
    page = window.page
    page._area._tabs.setCurrentIndex(1)
    window.spin(0.2)
    report = {
        'said': page._our_offers().why_no_inference(),
        'enabled': window.actions.reconstruct_button.isEnabled(),
        'titles': page._area._image.titles(),
    }
    before = len(window.products())
    page._reconstruct()
    window.settle()
    report['queue'] = window.model.ptychopinn_reconstructor_library.session.queue.sentence()
    report['left'] = len(window.products()) - before
    window.choose(item.get_name())
    metadata, wavelength_m = item.get_metadata_item(), 1.2398419843320026e-10
    # Of the pixels that a scan without lengths is taken to have.
    metadata.detector_distance_m.set_value(OBJECT_PIXEL_SIZE_M * 64 * patterns['detector_m'] / wavelength_m)
    metadata.photon_energy_eV.set_value(10_000.0)
    window.spin(0.2)
    report['then'] = page._our_offers().why_no_inference()
    page._reconstruct()
    window.finish()
    report['made'] = len(window.products()) - before
    return report


def open_product(window: Window, path: Path, kind: str) -> dict[str, Any]:
    """Open a product and return the sizes of its pixels."""
    item = choose_product(window, path, kind)
    geometry, own = item.get_geometry(), item.get_object_item().get_object().get_geometry()
    return {
        'implied_m': geometry.get_object_plane_pixel_geometry().width_m,
        'object_m': own.pixel_width_m,
        'probe_m': item.get_probe_item().get_probes().get_pixel_geometry().width_m,
    }


def choose_product(window: Window, path: Path, kind: str) -> Any:
    """Click *Open File...* on *Products*, and choose the dataset that was opened last; return the product."""
    from PyQt5.QtWidgets import QInputDialog

    repository = window.model.product_core.product_repository
    filters = list(window.controller._product_controller._api.get_open_file_filters())
    name_filter = next(name for name in filters if kind in name and (kind != 'Ptychodus' or '*.h5' in name))
    before = len(repository)
    factory = window.controller._file_dialog_factory
    factory.get_open_file_path = lambda *_, **__: (path, name_filter)
    QInputDialog.getItem = staticmethod(lambda *words, **__: (last_of(words[3]), True))
    window.controller._product_controller._open_product_from_file()
    window.until(lambda: len(repository) > before)
    window.settle()
    return repository[len(repository) - 1]


def last_of(labels: list[str]) -> str:
    """Return the dataset that was opened last; the unbound entry is not one."""
    return [label for label in labels if 'unbound' not in label][-1]


OPENING_STORIES = {'opening': opening}
