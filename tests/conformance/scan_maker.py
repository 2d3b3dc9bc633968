"""A small Ptychodus directory, written by Ptychodus' own API, and settings that keep a run short."""

from __future__ import annotations

import configparser
from pathlib import Path

import numpy as np
from ptychodus.api.assemble import AssembledDiffractionData
from ptychodus.api.constants import energy_eV_to_wavelength_m
from ptychodus.api.geometry import PixelGeometry
from ptychodus.api.io import save_diffraction_data, save_product
from ptychodus.api.object import Object, ObjectCenter
from ptychodus.api.probe import ProbeSequence
from ptychodus.api.probe_positions import ProbePosition, ProbePositionSequence
from ptychodus.api.product import Product, ProductMetadata

from ptycho_engine.config import ModelConfig, TrainingConfig
from ptycho_engine.formats.archive import ModelArchive, save_archive
from ptycho_engine.network.plan import initial_weights, training_plan
from ptycho_engine.physics.scaling import ScaleRecord
from ptycho_engine.scan.raw_data import RawData
from ptycho_engine.simulate import defocused_probe, make_object, raster_positions, simulate_scan

PIXEL_M = 20e-9
DETECTOR_PIXEL_M = 75e-6
ENERGY_EV = 8800.0
CENTER_M = (3.0e-6, -1.5e-6)
"""Object centre, away from the origin so that a lost centre shows."""

QUICK = {
    'Processing': {'Algorithm': 'PtychoPINN_PINN'},
    'PtychoPINNModel': {'NumFiltersScale': '1'},
    'PtychoPINNTraining': {'NumEpochs': '2', 'BatchSize': '8'},
    'PtychoPINNEngine': {
        'NumGroups': '32',
        'Architecture': 'cnn',
        # A run that is to be stopped must not end by itself.
        'EarlyStopPatience': '1000',
        'Accelerator': 'cpu',
    },
}


def simulated_scan(
    size: int = 64, grid: int = 8, seed: int = 3, step: float = 5.0, modes: int = 1
) -> RawData:
    """Return grid × grid patterns of size × size pixels of a random object, `step` pixels apart."""
    rng = np.random.default_rng(seed)
    x, y = raster_positions(grid, grid, step, rng)
    x, y = x - x.min() + size / 2 + 1, y - y.min() + size / 2 + 1
    shape = (int(y.max() + size / 2) + 3, int(x.max() + size / 2) + 6)
    obj = make_object('dead-leaves', shape, rng)
    probe = defocused_probe(size, rng)
    weaker = [0.3**k * np.roll(probe, 4 * k, axis=-1) for k in range(modes)]
    return simulate_scan(obj, np.concatenate(weaker), x, y, photons=1e5, rng=rng)


def product_of(raw: RawData, name: str = 'sim', layers: int = 1) -> Product:
    """Return a product with a flat object, where the positions lie as in `raw`."""
    assert raw.objectGuess is not None
    height, width = raw.objectGuess.shape
    pixel = PixelGeometry(width_m=PIXEL_M, height_m=PIXEL_M)
    x_m = CENTER_M[0] + (raw.xcoords - (width - 1) / 2) * PIXEL_M
    y_m = CENTER_M[1] + (raw.ycoords - (height - 1) / 2) * PIXEL_M
    positions = [
        ProbePosition(index, float(x), float(y)) for index, (x, y) in enumerate(zip(x_m, y_m, strict=True))
    ]
    return Product(
        metadata=ProductMetadata(
            name=name,
            comments='made for a test',
            # So that Ptychodus computes the pixel size that the object has.
            detector_distance_m=PIXEL_M * raw.N * DETECTOR_PIXEL_M / energy_eV_to_wavelength_m(ENERGY_EV),
            photon_energy_eV=ENERGY_EV,
            probe_photon_count=1e5,
            exposure_time_s=0.1,
            mass_attenuation_m2_per_kg=1.5,
            tomography_angle_deg=12.0,
            focus_object_distance_m=1e-4,
            tilt_angle_deg=3.0,
        ),
        probe_positions=ProbePositionSequence(positions),
        probes=ProbeSequence(raw.probeGuess, None, pixel),
        object_=Object(
            np.ones((layers, height, width), np.complex64),
            pixel,
            ObjectCenter(*CENTER_M),
            [1e-6] * (layers - 1),
        ),
        losses=[],
    )


def write_scan(directory: Path, raw: RawData, settings: dict[str, dict[str, str]] | None = None) -> Path:
    """Write ``diffraction.h5``, ``product.h5`` and ``settings.ini``."""
    directory.mkdir(parents=True, exist_ok=True)
    counts = np.rint(raw.diffraction.astype(np.float64) ** 2).astype(np.int32)
    write_patterns(directory, counts)
    save_product(directory / 'product.h5', product_of(raw))
    write_settings(directory, settings or {})
    return directory


def write_patterns(directory: Path, counts: np.ndarray) -> None:
    """Write ``diffraction.h5`` with counts (n, h, w) and no bad pixels."""
    save_diffraction_data(
        directory / 'diffraction.h5',
        AssembledDiffractionData(
            np.arange(len(counts)),
            counts,
            PixelGeometry(width_m=DETECTOR_PIXEL_M, height_m=DETECTOR_PIXEL_M),
            np.zeros(counts.shape[1:], bool),
        ),
    )


def write_settings(directory: Path, changes: dict[str, dict[str, str]]) -> None:
    """Write ``settings.ini``: a quick run with `changes` on top."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_dict(QUICK)
    parser.read_dict(changes)
    with (directory / 'settings.ini').open('w') as file:
        parser.write(file)


def write_model(path: Path, probe: np.ndarray, gridsize: int = 1) -> Path:
    """Write an untrained model of the quick settings' network, for patterns of the probe's (P, N, N) size."""
    probe = np.asarray(probe, np.complex64)
    config = TrainingConfig(
        model=ModelConfig(N=probe.shape[-1], n_filters_scale=1, architecture='cnn', gridsize=gridsize)
    )
    scale = ScaleRecord(probe_scale=1.0, mean_counts=1e5, input_scale=0.1)
    weights = initial_weights(training_plan(config, len(probe)), 0)
    history = [{'epoch': 1.0, 'training_deviance': 2.5}]
    save_archive(path, ModelArchive(config, scale, probe, weights, 'pytorch', history))
    return path
