"""The data pipeline by the names of the original's plans (specs/data_contracts.md, CONTAINER and MEM)."""

import logging
from dataclasses import replace

import numpy as np
import pytest

from ptycho_engine import (
    MemmapDatasetBridge,
    PtychoDataContainer,
    PtychoDataContainerTorch,
    RawData,
    RawDataTorch,
)
from ptycho_engine.config import InferenceConfig, TrainingConfig
from ptycho_engine.errors import DataValueError
from ptycho_engine.patterns import frame_stack
from ptycho_engine.upstream import params
from tests.conftest import small_scan

GROUPS = {'K': 4, 'nsamples': 10, 'gridsize': 2, 'seed': 42}


@pytest.fixture(scope='module')
def minimal_raw_data() -> RawData:
    return small_scan(points=5)


@pytest.fixture
def minimal_npz_file(minimal_raw_data, tmp_path):
    minimal_raw_data.to_file(tmp_path / 'minimal.npz', compressed=False)
    return tmp_path / 'minimal.npz'


@pytest.fixture(autouse=True)
def params_cfg_snapshot():
    before = dict(params.cfg)
    yield
    params.cfg.clear()
    params.cfg.update(before)


def as_numpy(value) -> np.ndarray:
    return value.numpy() if hasattr(value, 'numpy') else value


class TestRawDataTorchAdapter:
    def test_raw_data_torch_matches_tensorflow(self, minimal_raw_data):
        """CONTAINER-03 and CONTAINER-05: made as the original makes it, it draws the same groups."""
        raw = minimal_raw_data
        theirs = RawDataTorch(
            xcoords=raw.xcoords,
            ycoords=raw.ycoords,
            diff3d=raw.diffraction,
            probeGuess=raw.probeGuess[0],
            scan_index=np.arange(len(raw)),
            objectGuess=raw.objectGuess,
            config=TrainingConfig(nepochs=7),
        )
        assert params.cfg['nepochs'] == 7
        ours = raw.generate_grouped_data(64, use_groups_cache=False, **GROUPS)
        grouped = theirs.generate_grouped_data(N=64, use_groups_cache=False, **GROUPS)
        for name, value in ours.items():
            np.testing.assert_array_equal(grouped[name], value, err_msg=name)
        with pytest.raises(DataValueError, match='needs a RawData, or xcoords, ycoords'):
            RawDataTorch(raw.xcoords)


class TestDataContainerParity:
    @pytest.mark.parametrize('kind', [PtychoDataContainer, PtychoDataContainerTorch])
    def test_data_container_shapes_and_dtypes(self, kind, minimal_raw_data):
        """CONTAINER-05: a container of a grouped dictionary and the probe, with every attribute."""
        raw = minimal_raw_data
        grouped = raw.generate_grouped_data(64, use_groups_cache=False, **GROUPS)
        container = kind(grouped, raw.probeGuess[0])
        for name, shape, dtype in (
            ('X', (10, 64, 64, 4), np.float32),
            ('Y', (10, 64, 64, 4), np.complex64),
            ('Y_I', (10, 64, 64, 4), np.float32),
            ('coords', (10, 1, 2, 4), np.float32),
            ('coords_nominal', (10, 1, 2, 4), np.float32),
            ('coords_true', (10, 1, 2, 4), np.float32),
            ('global_offsets', (10, 1, 2, 1), np.float64),
            ('nn_indices', (10, 4), np.int32),
            ('probe', (64, 64), np.complex64),
            ('probeGuess', (64, 64), np.complex64),
            ('YY_full', raw.objectGuess.shape, np.complex64),
        ):
            value = as_numpy(getattr(container, name))
            assert value.shape == shape, name
            assert value.dtype == dtype, name
        assert isinstance(container.norm_Y_I, float)
        measured = container.norm_Y_I * as_numpy(container.X)
        np.testing.assert_allclose(measured, grouped['diffraction'], rtol=1e-5, atol=1e-5)
        blind = replace(raw, objectGuess=None).generate_grouped_data(64, use_groups_cache=False)
        assert kind(blind, raw.probeGuess).YY_full is None
        with pytest.raises(DataValueError, match='needs the probe'):
            kind(grouped)


class TestGroundTruthLoading:
    def test_y_patches_are_complex64(self, minimal_raw_data):
        """GROUPED-03 and CONTAINER-01: known patches are complex, and |Y| their amplitude."""
        container = PtychoDataContainerTorch.from_raw_data(minimal_raw_data, nsamples=3)
        patches = as_numpy(container.Y)
        assert patches.dtype == np.complex64
        assert np.abs(np.angle(patches)).max() > 0.1
        np.testing.assert_allclose(np.abs(patches), as_numpy(container.Y_I), rtol=1e-5)
        assert minimal_raw_data.norm_Y_I is None


class TestMemmapBridgeParity:
    def test_memmap_loader_matches_raw_data_torch(self, minimal_raw_data, minimal_npz_file, tmp_path):
        """MEM-13: the bridge as the original makes it, its attributes, and its end."""
        config = InferenceConfig(n_subsample=9)
        bridge = MemmapDatasetBridge(minimal_npz_file, config, tmp_path / 'memmap')
        assert params.cfg['n_subsample'] == 9
        assert bridge.config is config
        grouped = bridge.get_grouped_data(N=64, K=4, nsamples=10, gridsize=2, seed=42)
        expected = RawDataTorch(minimal_raw_data).generate_grouped_data(N=64, **GROUPS)
        for name, value in expected.items():
            np.testing.assert_array_equal(grouped[name], value, err_msg=name)
        assert grouped['diffraction'].shape == (10, 64, 64, 4)
        assert grouped['diffraction'].dtype == np.float32
        assert (bridge.npz_path, bridge.path) == (minimal_npz_file, minimal_npz_file)
        np.testing.assert_array_equal(bridge.diff3d[3], minimal_raw_data.diffraction[3])
        np.testing.assert_array_equal(bridge.xcoords, minimal_raw_data.xcoords)
        assert bridge.probeGuess.dtype == bridge.objectGuess.dtype == np.complex64
        assert len(bridge.raw_data_torch) == len(bridge) == 25
        with pytest.raises(AttributeError, match='no_such_name'):
            _ = bridge.no_such_name
        bridge.close()
        with pytest.raises(DataValueError, match='the bridge is closed'):
            bridge.get_patterns([0])
        with MemmapDatasetBridge(str(minimal_npz_file)) as opened:
            assert len(opened) == 25
        assert 'closed' in repr(opened)

    def test_memmap_bridge_stages_in_the_folder(self, minimal_raw_data, tmp_path, monkeypatch, caplog):
        """MEM-13: what is compressed is staged in `memmap_dir`, without a name."""
        monkeypatch.setattr(frame_stack, 'MEMORY_LIMIT_BYTES', 0)
        where = []
        made = frame_stack.scratch_array
        monkeypatch.setattr(frame_stack, 'scratch_array', lambda *a: where.append(a[-1]) or made(*a))
        minimal_raw_data.to_file(tmp_path / 'packed.npz')
        bridge = MemmapDatasetBridge(tmp_path / 'packed.npz', None, tmp_path / 'new' / 'memmap')
        np.testing.assert_array_equal(bridge.diff3d[4], minimal_raw_data.diffraction[4])
        assert where == [tmp_path / 'new' / 'memmap']
        assert list((tmp_path / 'new' / 'memmap').iterdir()) == []

    def test_deterministic_generation_validation(self, minimal_npz_file):
        """MEM-06 and GROUPED-01: equal seeds give equal groups, other seeds others."""
        bridge = MemmapDatasetBridge(minimal_npz_file, TrainingConfig())
        first, again = (bridge.get_grouped_data(64, 4, 10, 2, seed=7) for _ in range(2))
        other = bridge.get_grouped_data(64, 4, 10, 2, seed=8)
        np.testing.assert_array_equal(first['nn_indices'], again['nn_indices'])
        assert (first['nn_indices'] != other['nn_indices']).any()

    def test_memmap_bridge_accepts_diffraction_legacy(self, minimal_raw_data, tmp_path, caplog):
        """NPZ-01 and NPZ-02: 'diffraction' before 'diff3d', and a KeyError with both and what was found."""
        raw = minimal_raw_data
        rest = {'probeGuess': raw.probeGuess[0], 'xcoords': raw.xcoords, 'ycoords': raw.ycoords}
        np.savez(tmp_path / 'legacy.npz', diff3d=raw.diffraction, **rest)
        legacy = MemmapDatasetBridge(tmp_path / 'legacy.npz', TrainingConfig())
        np.testing.assert_array_equal(legacy.diff3d[:], raw.diffraction)
        np.savez(tmp_path / 'both.npz', diffraction=raw.diffraction, diff3d=2 * raw.diffraction, **rest)
        with caplog.at_level(logging.WARNING):
            both = MemmapDatasetBridge(tmp_path / 'both.npz', TrainingConfig())
        np.testing.assert_array_equal(both.diff3d[:], raw.diffraction)
        assert "holds both 'diffraction' and 'diff3d'" in caplog.text
        np.savez(tmp_path / 'none.npz', **rest)
        with pytest.raises(KeyError, match=r"none\.npz holds no.*'diffraction'.*'diff3d'.*probeGuess"):
            MemmapDatasetBridge(tmp_path / 'none.npz', TrainingConfig())
