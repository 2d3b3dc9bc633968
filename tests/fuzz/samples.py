"""One good file of each kind, small enough to be read many times a second."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np

from ptycho_engine.config import ModelConfig, TrainingConfig
from ptycho_engine.config.files import write_sections
from ptycho_engine.formats.archive import ModelArchive, save_archive
from ptycho_engine.formats.checkpoint import Checkpoint, Progress, save_checkpoint
from ptycho_engine.network.plan import build_plan, initial_weights
from ptycho_engine.scan.groups_cache import cache_paths, cached_neighbours
from ptycho_engine.scan.product_exchange import ExportMeta, export_product_from_rawdata
from ptycho_engine.scan.raw_data import RawData
from ptycho_engine.simulate.directory import write_scan
from tests.conftest import small_scan
from tests.formats.test_archive import small_model

from .linked import make_linked

GRIDSIZE, NEIGHBOURS = 2, 5
SIDE = 32


@dataclass(frozen=True)
class Samples:
    """Good files below a folder, all of one scan of nine patterns of 32×32."""

    folder: Path
    npz: Path
    stored_npz: Path
    directory: Path
    bundle: Path
    """A product that holds its patterns."""
    training: Path
    """The flat training file of Ptychodus 1.7."""
    archive: Path
    checkpoint: Path
    cache: Path
    toml: Path
    yaml: Path
    json: Path


def make_samples(folder: Path) -> Samples:
    """Write the files."""
    raw = small_scan(points=3, size=SIDE, photons=1e4)
    raw = replace(raw, bad_pixels=np.zeros((SIDE, SIDE), bool))
    paths = Samples(
        folder=folder,
        npz=folder / 'scan.npz',
        stored_npz=folder / 'stored.npz',
        directory=folder / 'directory',
        bundle=folder / 'bundle.h5',
        training=folder / 'training.h5',
        archive=folder / 'wts.h5.zip',
        checkpoint=folder / 'checkpoint.zip',
        cache=cache_paths(folder / 'scan.npz', GRIDSIZE, NEIGHBOURS)[0],
        toml=folder / 'train.toml',
        yaml=folder / 'train.yaml',
        json=folder / 'train.json',
    )
    raw.to_file(paths.npz)
    raw.to_file(paths.stored_npz, compressed=False)
    meta = ExportMeta(name='scan', comments='nine patterns', detector_distance_m=2.0, probe_energy_eV=1e4)
    export_product_from_rawdata(raw, paths.bundle, meta, include_diffraction=True)
    write_scan(paths.directory, raw, name='scan', settings='')
    make_linked(folder / 'linked', paths.directory)
    _write_training_file(paths.training, raw)
    model = _model()
    save_archive(paths.archive, model)
    save_checkpoint(paths.checkpoint, _checkpoint(model))
    xy = np.stack([raw.xcoords, raw.ycoords], axis=1)
    cached_neighbours(xy, GRIDSIZE, NEIGHBOURS, dataset=paths.npz)
    for path in (paths.toml, paths.yaml, paths.json):
        write_sections(path, [TrainingConfig(model=ModelConfig(N=SIDE))])
    return paths


def _write_training_file(path: Path, raw: RawData) -> None:
    assert raw.objectGuess is not None
    height, width = raw.objectGuess.shape
    with h5py.File(path, 'w') as file:
        file['patterns'] = np.square(np.asarray(raw.diffraction[:], float)).round().astype(np.uint16)
        file['bad_pixels'] = np.zeros((SIDE, SIDE), bool)
        file['probe'] = raw.probeGuess[np.newaxis]
        file['object'] = raw.objectGuess[np.newaxis]
        file['probe_position_x_px'] = raw.xcoords - (width - 1) / 2
        file['probe_position_y_px'] = raw.ycoords - (height - 1) / 2
        file['object_pixel_width_m'] = file['object_pixel_height_m'] = 5e-8
        file['detector_object_distance_m'] = 2.0
        file['photon_energy_eV'] = 1e4


def _model() -> ModelArchive:
    config = TrainingConfig(model=ModelConfig(N=SIDE, n_filters_scale=1, architecture='cnn'))
    return replace(
        small_model(),
        config=config,
        probe=np.ones((1, SIDE, SIDE), np.complex64),
        weights=initial_weights(build_plan(config.model), 1),
    )


def _checkpoint(model: ModelArchive) -> Checkpoint:
    state = {f'{name}/speed': np.zeros_like(value) for name, value in model.weights.items()}
    progress = Progress(3, 0.5, 2, {'rate': 0.25}, 'abc')
    return Checkpoint(model, progress, model.weights, {**state, 'steps': np.array([7], np.float32)})
