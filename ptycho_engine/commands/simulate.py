"""Simulate a scan with a known probe, object and positions.

Writes into the output directory
  scan.npz         the scan for `ptychopinn train` (DATA-001; a flat object)
  diffraction.h5   the counts            } together a Ptychodus directory, ready for
  product.h5       probe, positions and  } `ptychodus -b train -i DIR -o OUT`
                   a flat object         }
  settings.ini     selects PtychoPINN    }
  truth.h5         a product with the true object, to compare with

example:
  ptychopinn simulate --from run.npz --photons 1e5 --output scan
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy import constants

from ..data.diffraction_file import AssembledPatterns, write_diffraction_file
from ..data.npz import read_arrays, require_keys
from ..data.raw_data import RawData
from ..errors import DataValueError
from ..files.atomic import atomic_path
from ..files.product import ProductData, write_product
from ..physics.geometry import ObjectGrid
from ..physics.probe import as_mode_stack
from ..simulate import simulate_scan, without_truth


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ptychopinn simulate``."""
    parser.add_argument(
        '--from',
        dest='source',
        type=Path,
        required=True,
        metavar='NPZ',
        help='NPZ with probeGuess, objectGuess (the truth), xcoords and ycoords',
    )
    parser.add_argument('--output', type=Path, required=True, metavar='DIR', help='output directory')
    parser.add_argument('--photons', type=float, default=1e5, help='mean counts per pattern (default: 1e5)')
    parser.add_argument('--seed', type=int, default=0, help='seed of the noise (default: 0)')
    parser.add_argument(
        '--pixel-size-m', type=float, default=5e-8, help='object pixel in metres (default: 5e-8)'
    )
    parser.add_argument(
        '--photon-energy-ev', type=float, default=1e4, help='photon energy in eV (default: 1e4)'
    )
    parser.add_argument(
        '--detector-distance-m', type=float, default=2.0, help='metres to the detector (default: 2)'
    )
    parser.add_argument('--epochs', type=int, default=20, help='NumEpochs in settings.ini (default: 20)')
    parser.add_argument('--gridsize', type=int, default=1, help='GridSize in settings.ini (default: 1)')


def run(options: argparse.Namespace) -> None:
    """Simulate and write all files."""
    arrays = read_arrays(options.source)
    needed = ('probeGuess', 'objectGuess', 'xcoords', 'ycoords')
    require_keys(arrays, needed, str(options.source))
    for name in ('pixel_size_m', 'photon_energy_ev', 'detector_distance_m'):
        if not getattr(options, name) > 0:
            raise DataValueError(
                f'--{name.replace("_", "-")} is {getattr(options, name)}; expected a positive number.'
            )
    raw = simulate_scan(
        arrays['objectGuess'],
        as_mode_stack(arrays['probeGuess'], f'{options.source}: probeGuess'),
        arrays['xcoords'],
        arrays['ycoords'],
        photons=options.photons,
        rng=np.random.default_rng(options.seed),
    )
    write_scan(
        options.output,
        raw,
        name=options.source.stem,
        pixel_size_m=options.pixel_size_m,
        photon_energy_eV=options.photon_energy_ev,
        detector_distance_m=options.detector_distance_m,
        settings=settings_text(options.epochs, options.gridsize),
    )
    print(
        f'Wrote {len(raw)} patterns of {raw.N}×{raw.N} pixels, {options.photons:g} counts each, to '
        f'{options.output}.'
    )


def settings_text(epochs: int, gridsize: int) -> str:
    """Return a ``settings.ini`` that selects PtychoPINN."""
    return (
        '[Processing]\nAlgorithm = PtychoPINN_PINN\n\n'
        f'[PtychoPINNModel]\nGridSize = {gridsize}\n\n'
        f'[PtychoPINNTraining]\nNumEpochs = {epochs}\nBatchSize = 16\n'
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
) -> None:
    """Write a simulated scan as NPZ and as a Ptychodus directory, the truth to a file of its own."""
    truth = raw.objectGuess
    assert truth is not None
    flat = without_truth(raw)
    assert flat.objectGuess is not None
    flat.to_file(directory / 'scan.npz')

    counts = np.rint(np.square(raw.diffraction, dtype=np.float64))
    largest = counts.max()
    wavelength_m = constants.h * constants.c / (photon_energy_eV * constants.e)
    detector_pixel_m = wavelength_m * detector_distance_m / (raw.N * pixel_size_m)
    bad = np.zeros((raw.N, raw.N), bool) if raw.bad_pixels is None else raw.bad_pixels
    patterns = AssembledPatterns(
        counts=counts.astype(np.uint16 if largest < 2**16 else np.uint32),
        indexes=np.arange(len(raw)),
        bad_pixels=bad,
        detector_pixel_width_m=detector_pixel_m,
        detector_pixel_height_m=detector_pixel_m,
    )
    write_diffraction_file(directory / 'diffraction.h5', patterns)

    height, width = truth.shape
    grid = ObjectGrid(height, width, pixel_width_m=pixel_size_m, pixel_height_m=pixel_size_m)
    x_m, y_m = ProductData.positions_m(raw.xcoords, raw.ycoords, grid)
    for file_name, obj, remark in (
        ('product.h5', flat.objectGuess, 'simulated scan; the object is a flat start'),
        ('truth.h5', truth, 'the true object of a simulated scan'),
    ):
        product = ProductData(
            name=name,
            comments=remark,
            detector_distance_m=detector_distance_m,
            photon_energy_eV=photon_energy_eV,
            object_array=obj,
            object_pixel_width_m=pixel_size_m,
            object_pixel_height_m=pixel_size_m,
            probe=raw.probeGuess,
            probe_pixel_width_m=pixel_size_m,
            probe_pixel_height_m=pixel_size_m,
            probe_photon_count=float(counts.sum(axis=(1, 2)).mean()),
            position_x_m=x_m,
            position_y_m=y_m,
            position_indexes=np.arange(len(raw)),
        )
        write_product(directory / file_name, product)
    with atomic_path(directory / 'settings.ini') as temporary:
        temporary.write_text(settings)
