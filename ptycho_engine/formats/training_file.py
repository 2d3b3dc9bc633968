"""The flat HDF5 training file of Ptychodus 1.7: patterns, probe, object and positions in one file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import EngineError
from ..io.damage import reading
from ..io.hdf5 import open_hdf5
from ..patterns.frame_stack import StoredStack
from ..physics.geometry import ObjectGrid
from .npz import require_keys
from .product import ProductData
from .stack_files import hdf5_patterns

__all__ = ['is_training_file', 'read_training_file']

NEEDED = (
    'patterns',
    'bad_pixels',
    'probe',
    'object',
    'probe_position_x_px',
    'probe_position_y_px',
    'object_pixel_width_m',
    'object_pixel_height_m',
    'detector_object_distance_m',
    'photon_energy_eV',
)


def is_training_file(path: Path) -> bool:
    """Return whether a file is HDF5 with the patterns and positions of such a file."""
    try:
        with open_hdf5(path) as file:
            return 'patterns' in file and 'probe_position_x_px' in file
    except EngineError:
        return False


def read_training_file(path: Path) -> tuple[StoredStack, npt.NDArray[np.bool_], ProductData]:
    """Return the counts (n, h, w), the bad pixels (h, w) and the product that a training file holds.

    Positions are pixels of the object about its own centre, which is therefore the origin; scan indexes are
    consecutive.

    Raises
    ------
    DataKeyError, DataValueError, ProductError
        If something is missing or contradicts another item.
    """
    with reading(f'{path} is not a readable HDF5 file'), open_hdf5(path) as file:
        require_keys(file, NEEDED, str(path))
        counts = hdf5_patterns(file, 'probe_position_x_px')
        small = {name: np.asarray(file.dataset(name)[()]) for name in NEEDED if name != 'patterns'}
    with reading(f'{path} is not a training file of Ptychodus'):
        obj = small['object']
        if obj.ndim == 2:
            obj = obj[np.newaxis]
        pixel_width_m, pixel_height_m = (
            float(small[f'object_pixel_{side}_m']) for side in ('width', 'height')
        )
        height, width = obj.shape[-2:]
        grid = ObjectGrid(height, width, pixel_width_m=pixel_width_m, pixel_height_m=pixel_height_m)
        x_px, y_px = small['probe_position_x_px'], small['probe_position_y_px']
        x_m, y_m = ProductData.positions_m(x_px, y_px, grid)
        product = ProductData(
            name=path.stem,
            comments='',
            detector_distance_m=float(small['detector_object_distance_m']),
            photon_energy_eV=float(small['photon_energy_eV']),
            object_array=obj,
            object_pixel_width_m=pixel_width_m,
            object_pixel_height_m=pixel_height_m,
            probe=small['probe'],
            probe_pixel_width_m=pixel_width_m,
            probe_pixel_height_m=pixel_height_m,
            position_x_m=x_m,
            position_y_m=y_m,
            position_indexes=np.arange(len(x_m)),
        )
        bad_pixels = np.asarray(small['bad_pixels'], dtype=bool)
    return counts, bad_pixels, product
