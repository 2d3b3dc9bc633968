"""The project's own fixture by the names of the original's plans (FIXTURE-01, FIXTURE-02 and FIXTURE-07)."""

import json
import logging
import time
from pathlib import Path

import numpy as np
import pytest

from ptycho_engine import MemmapDatasetBridge, RawData, TrainingConfig, load_scan, train
from ptycho_engine.config import PyTorchExecutionConfig

FIXTURE = Path(__file__).parents[1] / 'fixtures' / 'pytorch_integration' / 'minimal_dataset_v1.npz'


class TestFixtureContract:
    def test_fixture_outputs_match_contract(self):
        expected = {
            'diffraction': ((64, 64, 64), np.float32),
            'objectGuess': ((227, 226), np.complex64),
            'probeGuess': ((64, 64), np.complex64),
            'xcoords': ((64,), np.float64),
            'ycoords': ((64,), np.float64),
            'xcoords_start': ((64,), np.float64),
            'ycoords_start': ((64,), np.float64),
        }
        with np.load(FIXTURE, allow_pickle=False) as file:
            assert set(file) == {*expected, '_metadata'}
            for name, (shape, dtype) in expected.items():
                assert file[name].shape == shape
                assert file[name].dtype == dtype
            assert np.isfinite(file['diffraction']).all()
            assert file['diffraction'].min() >= 0
            assert json.loads(str(file['_metadata']))['axis_order'] == 'n,H,W'

    def test_metadata_content_valid(self):
        record = json.loads(FIXTURE.with_suffix('.json').read_text())
        assert record['subset_strategy'] == 'first_n_positions'
        assert record['subset_size'] == 64
        assert {'version', 'created', 'generator_script', 'generator_commit', 'sha256_checksum'} <= set(
            record
        )

    def test_coordinate_coverage(self):
        raw = RawData.from_file(FIXTURE)
        assert np.ptp(raw.xcoords) > 30
        assert np.ptp(raw.ycoords) > 30


class TestFixtureIntegrationSmoke:
    def test_fixture_loads_with_rawdata(self, caplog):
        """Its shape fits both orders of axes, and it says which it has: there is nothing to warn of."""
        with caplog.at_level(logging.WARNING):
            raw = RawData.from_file(FIXTURE)
            MemmapDatasetBridge(FIXTURE)
            load_scan(FIXTURE)
        assert caplog.text == ''
        assert len(raw) == 64

    def test_two_epochs_take_less_than_25_seconds(self, tmp_path):
        """Of processor time, each pattern once in an epoch, with the other settings as they come."""
        begun = time.process_time()
        execution = PyTorchExecutionConfig(accelerator='cpu')
        list(
            train([load_scan(FIXTURE)], TrainingConfig(nepochs=2, n_groups=64), tmp_path, execution=execution)
        )
        assert (tmp_path / 'wts.h5.zip').is_file()
        assert time.process_time() - begun < 25


@pytest.mark.parametrize('stated', ['n,H,W', 'H,W,n', 'something else', None])
def test_npz_03_a_cube_is_read_in_the_order_that_it_states(stated, tmp_path, caplog):
    with np.load(FIXTURE) as file:
        arrays = {name: file[name] for name in ('diffraction', 'probeGuess', 'xcoords', 'ycoords')}
    right = arrays['diffraction']
    if stated == 'H,W,n':
        arrays['diffraction'] = right.transpose(1, 2, 0)
    if stated is not None:
        arrays['_metadata'] = np.array(json.dumps({'axis_order': stated}))
    np.savez(tmp_path / 'cube.npz', **arrays)
    with caplog.at_level(logging.WARNING):
        raw = RawData.from_file(tmp_path / 'cube.npz')
    np.testing.assert_allclose(raw.diffraction, right, rtol=1e-4)
    assert ('fit both axis orders' in caplog.text) == (stated in (None, 'something else'))
    # What we write of it says it.
    caplog.clear()
    raw.to_file(tmp_path / 'again.npz')
    RawData.from_file(tmp_path / 'again.npz')
    assert 'fit both' not in caplog.text
