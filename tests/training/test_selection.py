"""GROUP, SPLIT and CACHE clauses as training and reconstruction keep them."""

import hashlib
import logging
from dataclasses import replace

import numpy as np
import pytest

from ptycho_engine.config import InferenceConfig, ModelConfig, TrainingConfig
from ptycho_engine.errors import DataValueError
from ptycho_engine.reconstruction.predict import scan_groups
from ptycho_engine.scan import neighbours
from ptycho_engine.scan.raw_data import RawData
from ptycho_engine.scan.scan import Scan
from ptycho_engine.training import sources
from ptycho_engine.training.simulated import SimulatedScans
from ptycho_engine.training.sources import MeasuredScans
from tests.conftest import small_scan

BASE = TrainingConfig(
    model=ModelConfig(architecture='cnn', gridsize=2), n_groups=None, validation_fraction=0.25
)


def drawn(scan: Scan, epoch: int = 1, **changes) -> np.ndarray:
    """Return the training groups of an epoch."""
    return MeasuredScans([scan], replace(BASE, **changes)).training(epoch)[0].groups


def test_group_07_a_subsample_is_all_that_is_seen(scan):
    source = MeasuredScans([scan], replace(BASE, n_subsample=32))
    training, validation = source.training(1)[0].groups, source.validation()[0].groups
    assert len(np.unique(training)) == 24
    assert len(np.unique(validation)) == 8
    assert not np.intersect1d(training, validation).size
    again = drawn(scan, n_subsample=32, subsample_seed=0)
    np.testing.assert_array_equal(training, again)
    other = drawn(scan, n_subsample=32, subsample_seed=1)
    assert set(other[:, 0]) != set(training[:, 0])
    assert len(np.unique(drawn(scan, n_subsample=1000))) == 48


def test_group_07_a_subsample_is_shared_by_size(scan):
    small = Scan.from_raw(scan.raw.select(np.arange(32)))
    source = MeasuredScans([scan, small], replace(BASE, n_subsample=48, validation_fraction=0))
    assert [len(np.unique(item.groups)) for item in source.training(1)] == [32, 16]


def test_group_04_sequential_groups_are_the_first_and_stay(scan):
    groups = drawn(scan, n_groups=10, sequential_sampling=True)
    np.testing.assert_array_equal(groups, drawn(scan, 2, n_groups=10, sequential_sampling=True))
    assert (np.diff(groups[:, 0]) > 0).all()
    training = np.unique(drawn(scan))
    np.testing.assert_array_equal(groups[:, 0], training[:10])
    assert (drawn(scan, n_groups=10) != drawn(scan, 2, n_groups=10)).any()


def test_group_05_oversampling_is_a_choice(scan):
    assert len(drawn(scan, n_groups=200)) == 200
    assert len(drawn(scan, n_groups=200, enable_oversampling=False)) == 48
    narrow = drawn(scan, n_groups=200, neighbor_count=4)
    wide = drawn(scan, n_groups=200, neighbor_count=4, neighbor_pool_size=20)

    def reach(groups):
        x, y = scan.raw.xcoords[groups], scan.raw.ycoords[groups]
        return np.hypot(x - x[:, :1], y - y[:, :1]).max()

    assert reach(wide) > 1.5 * reach(narrow)


def test_group_04_coverage_is_logged(scan, caplog):
    caplog.set_level(logging.INFO)
    drawn(scan, n_groups=10)
    assert 'Scan 1: 48 patterns train, 16 validate, 0 are left out.' in caplog.messages
    assert any(m.startswith('An epoch draws 10 groups of 4: ') and 'of 48' in m for m in caplog.messages)
    groups = scan_groups(scan, 2, InferenceConfig())
    assert f'{len(groups)} groups of 4 hold 64 of 64 patterns (100 %).' in caplog.messages


def test_group_01_datasets_of_one_scan_are_never_mixed():
    raw = small_scan()
    labels = np.arange(64) % 2
    both = Scan.from_raw(replace(raw, scan_index=labels))
    source = MeasuredScans([both], BASE)
    for groups in (
        source.training(1)[0].groups,
        source.validation()[0].groups,
        scan_groups(both, 2, InferenceConfig()),
    ):
        assert (labels[groups] == labels[groups[:, :1]]).all()
        assert set(labels[groups[:, 0]]) == {0, 1}
    lonely = Scan.from_raw(replace(raw, scan_index=(np.arange(64) == 5).astype(int)))
    with pytest.raises(DataValueError, match='dataset'):
        MeasuredScans([lonely], BASE)


@pytest.mark.parametrize('switched_on', [True, False])
def test_cache_02_training_and_reconstruction_share_it(tmp_path, monkeypatch, switched_on):
    small_scan().to_file(tmp_path / 'a.npz')
    scan = Scan.from_raw(RawData.from_file(tmp_path / 'a.npz'))
    config = replace(BASE, use_groups_cache=switched_on)
    first = MeasuredScans([scan], config).training(1)[0].groups
    path = tmp_path / 'a.g2k7.groups_cache.npz'
    assert path.exists() == switched_on
    if not switched_on:
        np.testing.assert_array_equal(first, drawn(scan))
        return
    before = hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns
    fresh = scan_groups(Scan.from_raw(small_scan()), 2, InferenceConfig())

    def forbidden(*args, **kwargs):
        raise AssertionError('a tree was built')

    # The quick look at whether a scan agrees with itself asks for distances of its own.
    monkeypatch.setattr(sources, '_warn_of_disagreement', lambda prepared: None)
    monkeypatch.setattr(neighbours, 'cKDTree', forbidden)
    np.testing.assert_array_equal(MeasuredScans([scan], config).training(1)[0].groups, first)
    assert len(drawn(scan, n_subsample=20, seed=3)) == 15
    assert SimulatedScans(scan, config).training(1)
    np.testing.assert_array_equal(scan_groups(scan, 2, InferenceConfig()), fresh)
    assert (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns) == before
    with pytest.raises(AssertionError, match='a tree'):
        scan_groups(scan, 2, InferenceConfig(use_groups_cache=False))


def test_group_06_what_a_reconstruction_may_choose(scan):
    def covering(**changes):
        return scan_groups(scan, 2, InferenceConfig(**changes))

    base = covering()
    np.testing.assert_array_equal(base, covering())
    assert covering(seed=1).tolist() != base.tolist()
    x, y = scan.raw.xcoords, scan.raw.ycoords

    def reach(groups):
        return np.hypot(x[groups] - x[groups[:, :1]], y[groups] - y[groups[:, :1]]).max()

    assert reach(covering(neighbor_count=20)) > 1.3 * reach(base)
