"""Why a training cannot begin, known before anything is started. Knows no Qt."""

from __future__ import annotations

from ptycho_engine.config.model import SIZE_MULTIPLE, SMALLEST_SIZE, fits_network
from ptycho_engine.errors import EngineError

from .conversion import UNSIZED
from .loaded_model import ScanFacts
from .settings import ReconstructorSettings

__all__ = ['NOTHING_TO_TRAIN', 'scan_obstacle', 'training_obstacle']

NOTHING_TO_TRAIN = 'Physics alone has no network to train; choose the algorithm PINN for one'


def training_obstacle(
    settings: ReconstructorSettings, model_type: str, scan: ScanFacts | None, why_no_scan: str
) -> str | None:
    """Return why *Train* cannot work, in a sentence; None if it can as far as is known.

    Parameters
    ----------
    settings : ReconstructorSettings
        As they are.
    model_type : str
        'pinn' or 'supervised'.
    scan : ScanFacts, optional
        The chosen product; None where it has no patterns.
    why_no_scan : str
        Why it has none.
    """
    try:
        config = settings.training_config(model_type)
        settings.execution_config()
        settings.start_from()
        data = settings.train_on()
    except EngineError as error:
        return str(error)
    if scan is None:
        return why_no_scan
    if data == 'folder':
        return None
    obstacle = scan_obstacle(scan, counts=data != 'simulation', any_size=config.model.of_objects)
    if obstacle is None and model_type == 'supervised' and data != 'simulation' and not scan.object_known:
        obstacle = (
            'Supervised training learns from a known object, but that of this product is flat. Choose the '
            'algorithm PINN, which needs none, or a product with its object.'
        )
    if obstacle and data == 'auto':
        obstacle += ' To train on files instead, set "Train on" to folder.'
    return obstacle


def scan_obstacle(scan: ScanFacts, *, counts: bool = True, any_size: bool = False) -> str | None:
    """Return why a product and its patterns cannot be worked on; None if they can, as far as is known.

    Parameters
    ----------
    scan : ScanFacts
        The chosen product.
    counts : bool
        Whether its patterns are used.
    any_size : bool
        Whether they may have a side that 'cnn' does not take.
    """
    if not scan.far_field:
        return (
            'The product says Near Field, which is not modelled. Say Far Field in its Edit dialog if the '
            'detector is there, or use a solver of Ptychodus that knows the near field.'
        )
    if not scan.sized:
        return UNSIZED
    height, width = scan.height, scan.width
    where = 'in the diffraction settings of Ptychodus'
    if height != width:
        return (
            f'The patterns are {height}×{width} pixels; PtychoPINN needs square ones. Crop them to '
            f'{_nearest(min(height, width))} {where}.'
        )
    if not any_size and not fits_network(width):
        return (
            f'The patterns are {height}×{width} pixels; the network cnn takes sides that are multiples of '
            f'{SIZE_MULTIPLE}, from {SMALLEST_SIZE} up. Crop or pad them to {_nearest(width)} {where}.'
        )
    if scan.n == 0:
        return 'No pattern of the dataset has a position; does the product belong to another scan?'
    if counts and scan.dark:
        return 'All diffraction patterns are dark: no valid pixel has a count. Check the data and the mask.'
    if not scan.finite:
        return (
            'The probe or the patterns hold values that are no numbers (NaN or infinite). Load them anew, or '
            'set such pixels to 0 in the file.'
        )
    return None


def _nearest(side: int) -> str:
    good = max(round(side / SIZE_MULTIPLE) * SIZE_MULTIPLE, SMALLEST_SIZE)
    if good > side > SMALLEST_SIZE:
        good = side // SIZE_MULTIPLE * SIZE_MULTIPLE
    return f'{good}×{good}'
