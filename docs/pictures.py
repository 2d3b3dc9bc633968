"""Make the pictures of the window in this documentation: ``python docs/pictures.py [STATE ...]``.

The real window is driven on an offscreen platform with a small simulated scan, and each state is grabbed.
Without names all states are made, which takes some minutes.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / 'tests' / 'conformance'))

from small_png import write_small  # noqa: E402
from training_stories import both_button  # noqa: E402
from window_driver import Window  # noqa: E402

WIDTH_PX = 1000
LARGEST_BYTES = 100_000
SETTINGS = {
    'PtychoPINNModel': {'NumFiltersScale': '2'},
    'PtychoPINNTraining': {'NumEpochs': '4', 'BatchSize': '4'},
    'PtychoPINNEngine': {'Architecture': 'prior', 'NumGroups': '24'},
}


class Camera:
    """A window with a scan, and where its pictures go."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.window = Window(folder / 'IN')

    def shoot(self, state: str) -> None:
        """Keep the window as it is now."""
        from PIL import Image

        self.window.spin(0.5)
        path = HERE / 'pictures' / f'{state}.png'
        self.window.view.grab().save(str(path))
        with Image.open(path) as picture:
            small = picture.convert('RGB').resize((WIDTH_PX, picture.height * WIDTH_PX // picture.width))
        write_small(small, path)
        size = path.stat().st_size
        print(f'{path.relative_to(HERE.parent)}: {size / 1000:.0f} kB')
        if size > LARGEST_BYTES:
            raise SystemExit(f'{path} is larger than {LARGEST_BYTES} bytes.')


def rest(camera: Camera) -> None:
    """A scan is loaded, and nothing has been done."""
    camera.shoot('rest')


def training(camera: Camera) -> None:
    """A training is on its way; then it is stopped."""
    window = camera.window
    window.set_epochs(300)
    before = len(window.pane())
    window.train(camera.folder / 'stopped')
    window.until(lambda: 'Epoch 6/' in window.pane()[before:])
    window.spin(1.5)
    camera.shoot('training')
    window.stop_after(0)
    camera.shoot('stopped')


def queue(camera: Camera) -> None:
    """*Train and infer*: what runs and what waits, and *Stop* that ends both."""
    window = camera.window
    window.set_epochs(300)
    # Before any other training, whose model would serve.
    both_button(window).click()
    window.until(lambda: 'Epoch 5/' in window.pane())
    window.spin(1.5)
    camera.shoot('queue')
    window.stop_after(0)
    window.choose('sim')


def grey(camera: Camera) -> None:
    """A product with patterns that are not square: the buttons are grey and the panel says why."""
    import numpy as np
    from scan_maker import write_patterns

    window, folder = camera.window, camera.folder / 'oblong'
    folder.mkdir()
    write_patterns(folder, np.full((64, 64, 80), 3, np.uint16))
    api = window.model.workflow_api
    data = api.load_assembled_diffraction_data(folder / 'diffraction.h5')
    api.load_product(camera.folder / 'IN' / 'product.h5', diffraction=data)
    window.choose(window.products()[-1])
    camera.shoot('grey')
    window.choose('sim')


def inference(camera: Camera) -> None:
    """The object while it is made, the result, its uncertainty and the losses of its model."""
    window = camera.window
    window.set_epochs(4)
    window.train(camera.folder / 'trained')
    window.finish()
    window.actions.reconstruct_button.click()
    for title in ('The first', 'Amplitude'):
        window.until(lambda title=title: window.page._area._image.titles()[0].startswith(title))
    camera.shoot('inference')
    window.finish()
    for number, state in ((1, 'result'), (2, 'uncertainty'), (0, 'losses')):
        window.page._area._tabs.setCurrentIndex(number)
        camera.shoot(state)


def error(camera: Camera) -> None:
    """A training on a file without patterns: the pane, and the dialog beside the window."""
    import numpy as np
    from PyQt5.QtWidgets import QApplication

    window = camera.window
    folder = camera.folder / 'files'
    folder.mkdir()
    np.savez(folder / 'scan.npz', xcoords=np.zeros(3), ycoords=np.zeros(3), probeGuess=np.zeros((8, 8)))
    window.settings.engine.train_on.set_value('folder')
    window.train(folder)
    window.until(lambda: bool(window.failure()))
    window.spin(1.5)
    camera.shoot('error')
    dialog = next(x for x in QApplication.topLevelWidgets() if x is window.page._dialog)
    path = HERE / 'pictures' / 'error-dialog.png'
    dialog.grab().save(str(path))
    window.settings.engine.train_on.set_value('auto')


STATES: dict[str, Callable[[Camera], None]] = {
    'rest': rest,
    'grey': grey,
    'queue': queue,
    'training': training,
    'inference': inference,
    'error': error,
}


def main() -> None:
    """Make the pictures of the states that are named, or all."""
    from scan_maker import simulated_scan, write_scan

    names = sys.argv[1:] or list(STATES)
    unknown = [name for name in names if name not in STATES]
    if unknown:
        raise SystemExit(f'There is no state {unknown[0]!r}; choose of {", ".join(STATES)}.')
    (HERE / 'pictures').mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        write_scan(Path(folder) / 'IN', simulated_scan(grid=8), SETTINGS)
        camera = Camera(Path(folder))
        with camera.window.model:
            camera.window.load(Path(folder) / 'IN')
            for name in names:
                STATES[name](camera)


if __name__ == '__main__':
    multiprocessing.freeze_support()
    main()
