"""WAYS-01: however a scan comes in, its groups and tensors are the same."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from ptycho_engine import PtychoDataContainer, PtychoDataContainerTorch, RawData
from ptycho_engine.config import InferenceConfig, ModelConfig, TrainingConfig
from ptycho_engine.patterns import frame_stack as stored
from ptycho_engine.reconstruction.predict import scan_groups
from ptycho_engine.scan.scan import Scan, load_scan
from ptycho_engine.simulate import (
    defocused_probe,
    make_object,
    raster_positions,
    simulate_scan,
    without_truth,
)
from ptycho_engine.simulate.directory import settings_text, write_scan
from ptycho_engine.training.sources import MeasuredScans
from ptycho_engine.upstream.containers import NAMES, ContainerArrays
from ptycho_engine.upstream.memmap import MemmapDatasetBridge

WAYS = ('npz', 'counts', 'legacy', 'directory', 'export', 'memmap', 'compressed memmap')
GROUPING = {'K': 7, 'nsamples': 20, 'gridsize': 2, 'seed': 3, 'use_groups_cache': False}


@pytest.fixture(scope='module')
def reference() -> RawData:
    """A regular raster, whose many equal distances a rounding error would order anew."""
    rng = np.random.default_rng(0)
    probe = defocused_probe(32, rng, width_px=9)
    x, y = raster_positions(6, 6, 4.3, rng, jitter=0)
    obj = make_object('dead-leaves', (64, 70), rng)
    raw = simulate_scan(obj, probe, x + 34.7, y + 31.5, photons=1e4, rng=rng)
    return without_truth(raw)


def written(reference: RawData, folder: Path, way: str) -> RawData:
    """Write the scan in one form and read it back."""
    path = folder / 'scan.npz'
    arrays = {
        'probeGuess': reference.probeGuess[0],
        'objectGuess': reference.objectGuess,
        'xcoords': reference.xcoords,
        'ycoords': reference.ycoords,
    }
    amplitude = np.asarray(reference.diffraction[:])
    counts = np.rint(amplitude.astype(float) ** 2).astype(np.uint16)
    match way:
        case 'npz' | 'memmap' | 'compressed memmap':
            reference.to_file(path, compressed=way == 'compressed memmap')
        case 'counts':
            np.savez(path, diffraction=counts, **arrays)
        case 'legacy':
            doubled = {k: v.astype(np.complex128) if np.iscomplexobj(v) else v for k, v in arrays.items()}
            np.savez(path, diff3d=amplitude.transpose(1, 2, 0).astype(np.float64), **doubled)
        case 'export':  # as Ptychodus 1.7 exports training data
            start = {'xcoords_start': reference.xcoords, 'ycoords_start': reference.ycoords}
            mask = np.zeros(counts.shape, bool)
            modes = {**arrays, 'probeGuess': reference.probeGuess}
            np.savez(path, diff3d=counts, bad_pixels=mask, scan_index=np.zeros(36, int), **modes, **start)
        case 'directory':
            write_scan(folder, reference, name='scan', settings=settings_text(1, 1))
            return load_scan(folder).raw
    if 'memmap' in way:
        return MemmapDatasetBridge(path).raw_data
    return RawData.from_file(path)


@pytest.mark.parametrize('way', WAYS)
def test_ways_01_groups_are_equal_and_tensors_to_a_millionth(reference, way, tmp_path, monkeypatch):
    if 'memmap' in way:
        monkeypatch.setattr(stored, 'MEMORY_LIMIT_BYTES', 0)
    raw = written(reference, tmp_path, way)
    expected = reference.generate_grouped_data(32, **GROUPING)
    found = raw.generate_grouped_data(32, **GROUPING)
    np.testing.assert_array_equal(found['nn_indices'], expected['nn_indices'])
    config = TrainingConfig(model=ModelConfig(gridsize=2), use_groups_cache=False, n_groups=50)
    for ours, theirs in zip(groups_of(raw, config), groups_of(reference, config), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    arrays = ContainerArrays.from_grouped(expected, reference.probeGuess)
    for kind in (PtychoDataContainer, PtychoDataContainerTorch):
        if importlib.util.find_spec(kind.framework) is None:
            continue
        container = kind.from_grouped(found, raw.probeGuess)
        for name in NAMES:
            value = getattr(container, name).numpy()
            assert value.dtype == getattr(arrays, name).dtype
            np.testing.assert_allclose(value, getattr(arrays, name), rtol=1e-6, atol=1e-6, err_msg=name)


def groups_of(raw: RawData, config: TrainingConfig) -> list[np.ndarray]:
    """Return the groups of training, validation and reconstruction."""
    scan = Scan.from_raw(raw)
    source = MeasuredScans([scan], config)
    drawn = [*source.training(1), *source.validation()]
    inference = InferenceConfig(use_groups_cache=False)
    return [*(item.groups for item in drawn), scan_groups(scan, 2, inference)]
