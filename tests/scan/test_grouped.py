"""GROUPED and CONTAINER clauses: the grouped dictionary and the containers made of it."""

import copy
import importlib.util
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from ptycho_engine import PtychoDataContainer, PtychoDataContainerTorch, RawData, RawDataTorch
from ptycho_engine.errors import DataValueError
from ptycho_engine.physics.forward import predict_intensity
from ptycho_engine.physics.geometry import place_patches
from ptycho_engine.upstream.containers import NAMES, ContainerArrays
from tests.conftest import small_scan

KEYS = {
    'diffraction',
    'X_full',
    'Y',
    'coords_nn',
    'coords_offsets',
    'coords_relative',
    'coords_start_nn',
    'coords_start_offsets',
    'coords_start_relative',
    'nn_indices',
    'objectGuess',
}


@pytest.fixture(scope='module')
def noiseless():
    """A scan of so many photons that the noise does not matter."""
    return small_scan(photons=1e9)


@pytest.mark.parametrize('gridsize', [1, 2])
def test_grouped_01_shapes_types_and_values(raw, gridsize):
    grouped = raw.generate_grouped_data(64, K=7, nsamples=20, gridsize=gridsize, seed=5)
    size = gridsize**2
    assert set(grouped) == KEYS
    indices = grouped['nn_indices']
    assert indices.shape == (20, size)
    assert indices.dtype == np.int32
    for name in ('diffraction', 'X_full'):
        assert grouped[name].shape == (20, 64, 64, size)
        assert grouped[name].dtype == np.float32
    assert grouped['Y'].dtype == np.complex64
    for prefix in ('coords', 'coords_start'):
        assert grouped[f'{prefix}_nn'].shape == grouped[f'{prefix}_relative'].shape == (20, 1, 2, size)
        assert grouped[f'{prefix}_offsets'].shape == (20, 1, 2, 1)
        assert grouped[f'{prefix}_nn'].dtype == np.float64
    np.testing.assert_array_equal(grouped['diffraction'], raw.diffraction[indices].transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(grouped['coords_nn'][:, 0, 0], raw.xcoords[indices])
    np.testing.assert_array_equal(grouped['coords_nn'][:, 0, 1], raw.ycoords[indices])
    mean = grouped['coords_nn'].mean(axis=-1, keepdims=True)
    np.testing.assert_allclose(grouped['coords_offsets'], mean)
    np.testing.assert_allclose(grouped['coords_relative'], -(grouped['coords_nn'] - mean))
    np.testing.assert_array_equal(grouped['coords_start_nn'], grouped['coords_nn'])
    again = raw.generate_grouped_data(64, 7, 20, gridsize, 5)
    for name in KEYS:
        np.testing.assert_array_equal(grouped[name], again[name])


def test_grouped_02_the_input_is_normalised_over_the_whole_scan(raw):
    grouped = raw.generate_grouped_data(64, nsamples=7, gridsize=2, K=7)
    factor = np.sqrt(32**2 / (raw.diffraction.astype(float) ** 2).sum(axis=(1, 2)).mean())
    np.testing.assert_allclose(grouped['X_full'], grouped['diffraction'] * factor, rtol=1e-5)
    ten = replace(raw, diffraction=raw.diffraction * np.sqrt(10).astype(np.float32))
    np.testing.assert_allclose(
        ten.generate_grouped_data(64, nsamples=7, gridsize=2, K=7)['X_full'], grouped['X_full'], rtol=1e-5
    )


def test_grouped_03_labels_lie_at_the_positions_of_their_patterns(noiseless):
    """Patches that are cut at mirrored positions of the group would not predict its patterns."""
    grouped = noiseless.generate_grouped_data(64, K=7, gridsize=2)
    for channel in range(4):
        rows = grouped['nn_indices'][:, channel]
        placement = place_patches(noiseless.xcoords[rows], noiseless.ycoords[rows], 64)
        rate = predict_intensity(
            grouped['Y'][..., channel], noiseless.probeGuess.astype(complex), placement.subpixel_shift
        )
        measured = grouped['diffraction'][..., channel]
        assert np.corrcoef(np.sqrt(rate).ravel(), measured.ravel())[0, 1] > 0.9999
    known = replace(noiseless, Y=np.full((64, 64, 64), 2j))
    assert (known.generate_grouped_data(64, K=7, gridsize=2)['Y'] == 2j).all()
    blind = replace(noiseless, objectGuess=None)
    assert blind.generate_grouped_data(64)['Y'] is None
    assert blind.generate_grouped_data(64)['objectGuess'] is None


def test_grouped_04_planned_positions_and_bad_pixels(raw):
    mask = np.zeros((64, 64), bool)
    mask[29:32, 27] = True
    planned = replace(
        raw, xcoords_start=raw.xcoords + 1, ycoords_start=raw.ycoords - 2, bad_pixels=mask
    ).generate_grouped_data(64, K=7, gridsize=2)
    np.testing.assert_allclose(
        planned['coords_start_nn'] - planned['coords_nn'],
        np.broadcast_to(np.array([1, -2])[:, None], planned['coords_nn'].shape),
    )
    assert (planned['diffraction'][:, mask] == 0).all()
    factor = planned['X_full'][:, ~mask].max() / planned['diffraction'].max()
    whole = raw.diffraction[planned['nn_indices']].transpose(0, 2, 3, 1) * factor
    filled, lost = planned['X_full'][:, mask], whole[:, mask]
    assert np.abs(filled - lost).mean() < 0.5 * lost.mean()
    assert (filled > 0).mean() > 0.9
    assert raw.diffraction[:, mask].any()


def test_grouped_05_how_many_groups(raw):
    assert len(raw.generate_grouped_data(64)['nn_indices']) == 64
    assert len(raw.generate_grouped_data(64, nsamples=9999)['nn_indices']) == 64
    many = raw.generate_grouped_data(64, 7, 200, 2, enable_oversampling=True, neighbor_pool_size=12)
    assert len(many['nn_indices']) == 200
    first = raw.generate_grouped_data(64, 7, 5, 2, sequential_sampling=True)['nn_indices'][:, 0]
    np.testing.assert_array_equal(first, np.arange(5))
    with pytest.raises(DataValueError, match='oversampling'):
        raw.generate_grouped_data(64, 7, 65, 2)
    with pytest.raises(DataValueError, match='give N = 64'):
        raw.generate_grouped_data(32)


def as_numpy(value) -> np.ndarray:
    return value.numpy() if hasattr(value, 'numpy') else value


def test_container_01_attributes(raw):
    grouped = raw.generate_grouped_data(64, 7, 10, 2)
    arrays = ContainerArrays.from_grouped(grouped, raw.probeGuess)
    assert (
        *('X', 'Y', 'Y_I', 'Y_phi', 'coords_nominal', 'coords_true'),
        *('local_offsets', 'global_offsets', 'nn_indices', 'probe', 'YY_full'),
        *('coords', 'probeGuess'),
    ) == NAMES
    np.testing.assert_allclose(arrays.norm_Y_I * arrays.X, grouped['diffraction'], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(arrays.YY_full, raw.objectGuess)
    assert arrays.coords is arrays.coords_nominal
    assert arrays.probeGuess is arrays.probe
    np.testing.assert_array_equal(arrays.X, grouped['X_full'])
    np.testing.assert_allclose(arrays.Y_I * np.exp(1j * arrays.Y_phi), arrays.Y, atol=1e-5)
    np.testing.assert_array_equal(arrays.local_offsets, grouped['coords_relative'])
    np.testing.assert_array_equal(arrays.global_offsets, grouped['coords_offsets'])
    assert arrays.probe.shape == (64, 64)
    assert arrays.coords_true.dtype == np.float32
    blind = replace(raw, objectGuess=None).generate_grouped_data(64)
    assert (ContainerArrays.from_grouped(blind, raw.probeGuess).Y == 1).all()
    modes = small_scan(points=3, modes=2)
    assert ContainerArrays.from_grouped(modes.generate_grouped_data(64), modes.probeGuess).probe.shape == (
        2,
        64,
        64,
    )


@pytest.mark.parametrize('kind', [PtychoDataContainer, PtychoDataContainerTorch])
def test_container_02_tensors_equal_the_arrays(raw, kind):
    if importlib.util.find_spec(kind.framework) is None:
        pytest.skip(f'{kind.framework} is not installed')
    container = kind.from_raw_data(raw, K=7, nsamples=10, gridsize=2, seed=3)
    expected = ContainerArrays.from_grouped(raw.generate_grouped_data(64, 7, 10, 2, 3), raw.probeGuess)
    assert len(container) == 10
    assert container.norm_Y_I == expected.norm_Y_I
    for name in NAMES:
        value, array = getattr(container, name), getattr(expected, name)
        assert type(value).__module__.startswith(kind.framework)
        assert value is getattr(container, name)
        assert as_numpy(value).dtype == array.dtype
        np.testing.assert_array_equal(as_numpy(value), array)
    with pytest.raises(AttributeError, match='nothing'):
        container.nothing  # noqa: B018


def test_container_03_raw_data_torch_delegates(raw, tmp_path):
    raw.to_file(tmp_path / 'a.npz')
    ours = RawDataTorch.from_file(tmp_path / 'a.npz')
    theirs = RawData.from_file(tmp_path / 'a.npz')
    assert len(ours) == 64
    np.testing.assert_array_equal(copy.copy(ours).xcoords, raw.xcoords)
    a, b = (r.generate_grouped_data(64, 7, 12, 2, 1) for r in (ours, theirs))
    for name in KEYS:
        np.testing.assert_array_equal(a[name], b[name])
    np.testing.assert_array_equal(as_numpy(ours.container(K=7, gridsize=2).nn_indices)[:, 0], np.arange(64))


def test_container_04_without_frameworks_the_attributes_are_arrays(tmp_path, raw):
    """A process that cannot find the frameworks gets NumPy arrays, and loads neither."""
    raw.to_file(tmp_path / 'a.npz')
    code = """
import importlib.util, sys
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name in ('torch', 'tensorflow') else real(name, *a)
import numpy as np
from ptycho_engine import PtychoDataContainer, PtychoDataContainerTorch, RawData
raw = RawData.from_file(sys.argv[1])
for kind in (PtychoDataContainer, PtychoDataContainerTorch):
    container = kind.from_raw_data(raw, K=7, nsamples=5, gridsize=2)
    assert type(container.X) is np.ndarray and type(container.probe) is np.ndarray
assert not {'torch', 'tensorflow'} & set(sys.modules)
"""
    subprocess.run([sys.executable, '-c', code, str(tmp_path / 'a.npz')], check=True)


def test_from_simulation_and_from_coords(raw):
    args = (raw.xcoords, raw.ycoords, raw.probeGuess, raw.objectGuess)
    made = RawData.from_simulation(*args, np.arange(64) // 32, photons=1e6, seed=4)
    assert (made.diffraction.astype(float) ** 2).sum(axis=(1, 2)).mean() == pytest.approx(1e6, rel=0.01)
    np.testing.assert_array_equal(made.scan_index, np.arange(64) // 32)
    np.testing.assert_array_equal(
        made.diffraction, RawData.from_simulation(*args, photons=1e6, seed=4).diffraction
    )
    plain = RawData.from_coords_without_pc(raw.xcoords, raw.ycoords, raw.diffraction, raw.probeGuess)
    np.testing.assert_array_equal(plain.xcoords_start, raw.xcoords)
    assert plain.objectGuess is None
