"""A simulated scan in files: as NPZ, and as a Ptychodus directory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ..formats.diffraction_file import AssembledPatterns, write_diffraction_file
from ..formats.product import ProductData, write_product
from ..io.folder_lock import sole_writer
from ..io.staging import staged
from ..physics.geometry import ObjectGrid, wavelength_m
from ..scan.product_exchange import with_lengths
from ..scan.raw_data import RawData
from .detector import without_truth

__all__ = ['FILES', 'settings_text', 'write_scan']

FILES = ('scan.npz', 'diffraction.h5', 'product.h5', 'truth.h5', 'settings.ini')
"""What :func:`write_scan` writes."""


def settings_text(epochs: int, gridsize: int) -> str:
    """Return a ``settings.ini`` that selects PtychoPINN."""
    return (
        '[Processing]\nAlgorithm = PtychoPINN_PINN\n\n'
        f'[PtychoPINNModel]\nGridSize = {gridsize}\n\n'
        f'[PtychoPINNTraining]\nNumEpochs = {epochs}\n'
    )


def write_scan(
    directory: Path,
    raw: RawData,
    *,
    name: str,
    pixel_size_m: float = 5e-8,
    photon_energy_eV: float = 1e4,
    detector_distance_m: float = 2.0,
    settings: str,
    with_truth: bool = False,
) -> None:
    """Write a simulated scan as NPZ and as a Ptychodus directory, the truth to a file of its own.

    The object of the scan itself is flat, or with `with_truth` the truth, as labels for supervised training.
    """
    truth = raw.objectGuess
    assert truth is not None
    given = raw if with_truth else without_truth(raw)
    assert given.objectGuess is not None
    counts = np.rint(np.square(raw.diffraction, dtype=np.float64))
    # The largest value of a type would be taken for the mark of a bad pixel.
    smallest_type = np.promote_types(np.uint16, np.min_scalar_type(int(counts.max()) + 1))
    detector_pixel_m = wavelength_m(photon_energy_eV) * detector_distance_m / (raw.N * pixel_size_m)
    patterns = AssembledPatterns(
        counts=counts.astype(smallest_type),
        indexes=np.arange(len(raw)),
        bad_pixels=~raw.valid,
        detector_pixel_width_m=detector_pixel_m,
        detector_pixel_height_m=detector_pixel_m,
    )
    height, width = truth.shape
    grid = ObjectGrid(height, width, pixel_width_m=pixel_size_m, pixel_height_m=pixel_size_m)
    x_m, y_m = ProductData.positions_m(raw.xcoords, raw.ycoords, grid)
    product = ProductData(
        name=name,
        comments=f'simulated scan; the object is {"the truth" if with_truth else "a flat start"}',
        detector_distance_m=detector_distance_m,
        photon_energy_eV=photon_energy_eV,
        object_array=given.objectGuess,
        object_pixel_width_m=pixel_size_m,
        object_pixel_height_m=pixel_size_m,
        probe=raw.probeGuess,
        probe_pixel_width_m=pixel_size_m,
        probe_pixel_height_m=pixel_size_m,
        probe_photon_count=float(counts[:, raw.valid].sum(axis=1).mean()),
        position_x_m=x_m,
        position_y_m=y_m,
        position_indexes=np.arange(len(raw)),
    )
    truthful = replace(product, object_array=truth, comments='the true object of a simulated scan')
    with sole_writer(directory, 'ptychopinn'), staged(directory) as staging:
        write_product(staging.path('product.h5'), product)
        write_diffraction_file(staging.path('diffraction.h5'), patterns)
        with_lengths(given, product).to_file(staging.path('scan.npz'))
        write_product(staging.path('truth.h5'), truthful)
        staging.path('settings.ini').write_text(settings, encoding='utf-8')
