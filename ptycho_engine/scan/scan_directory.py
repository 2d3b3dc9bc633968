"""A scan written as a Ptychodus directory: ``diffraction.h5`` and ``product.h5``."""

from __future__ import annotations

from pathlib import Path

from ..errors import DataValueError
from ..formats.diffraction_file import AssembledPatterns, write_diffraction_file
from ..formats.product import write_product
from ..io.folder_lock import sole_writer
from ..io.staging import staged
from ..patterns.count_stack import CountStack
from ..physics.geometry import wavelength_m
from .scan import DIFFRACTION_FILE, PRODUCT_FILE, Scan

__all__ = ['write_scan_directory']


def write_scan_directory(directory: Path, scan: Scan) -> None:
    """Write counts and product of a scan, in blocks, for Ptychodus and for every command of ours.

    They replace those of an earlier scan together.

    Raises
    ------
    DataValueError
        If the scan has no product, or its product no energy or distance: the files need the pixel size of
        the detector.
    """
    raw, product = scan.raw, scan.product
    if product is None:
        raise DataValueError(
            f'{raw.source} has no physical scale, which a Ptychodus directory needs; write an NPZ file '
            'instead, or give --energy-eV, --distance-m and --pixel-size-m to ptychopinn convert.'
        )
    for name, flag in (('photon_energy_eV', 'energy-eV'), ('detector_distance_m', 'distance-m')):
        if not getattr(product, name) > 0:
            raise DataValueError(
                f'{raw.source}: {name} is {getattr(product, name)}; expected a positive number, which a '
                f'Ptychodus directory needs. Give --{flag}, or write an NPZ file instead.'
            )
    far = wavelength_m(product.photon_energy_eV) * product.detector_distance_m / raw.N
    patterns = AssembledPatterns(
        counts=CountStack(raw.diffraction),
        indexes=product.position_indexes,
        bad_pixels=~raw.valid,
        detector_pixel_width_m=far / product.object_pixel_width_m,
        detector_pixel_height_m=far / product.object_pixel_height_m,
    )
    with sole_writer(directory, 'ptychopinn'), staged(directory) as staging:
        write_product(staging.path(PRODUCT_FILE), product)
        write_diffraction_file(staging.path(DIFFRACTION_FILE), patterns)
