import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptycho_engine.data.grouping import build_groups, covering_groups, split_validation
from ptycho_engine.errors import DataValueError


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(4, 120),
    gridsize=st.sampled_from([1, 2]),
    K=st.integers(1, 12),
    seed=st.integers(0, 2**31),
    coincident=st.booleans(),
)
def test_groups_are_valid_covering_and_reproducible(n, gridsize, K, seed, coincident):
    xy = np.random.default_rng(seed).random((n, 2)) * 50
    if coincident:
        xy[: n // 2] = xy[0]
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    groups = build_groups(xy, gridsize, K, seed=seed)
    assert groups.shape == (n, gridsize**2)
    assert groups.dtype == np.int32
    assert groups.min() >= 0
    assert groups.max() < n
    assert (groups[:, 0] == np.arange(n)).all()
    assert all(len(set(row)) == gridsize**2 for row in groups.tolist())
    np.testing.assert_array_equal(groups, build_groups(xy, gridsize, K, seed=seed))
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002
    few = covering_groups(xy, gridsize, K, seed)
    assert set(few.ravel()) == set(range(n))


def test_members_are_the_nearest_neighbours():
    xy = np.stack([np.arange(30.0), np.zeros(30)], axis=1)
    groups = build_groups(xy, 2, K=4, seed=0)
    assert np.abs(groups - groups[:, :1]).max() <= 4


def test_fewer_and_more_groups_than_patterns():
    xy = np.random.default_rng(0).random((20, 2))
    assert build_groups(xy, 1, n_groups=7).shape == (7, 1)
    np.testing.assert_array_equal(build_groups(xy, 1, n_groups=3, sequential=True)[:, 0], [0, 1, 2])
    with pytest.raises(DataValueError, match='oversampling'):
        build_groups(xy, 2, n_groups=21)
    assert build_groups(xy, 2, n_groups=50, oversample=True).shape == (50, 4)
    with pytest.raises(DataValueError, match='gridsize 5 needs at least 25'):
        build_groups(xy, 5)


@given(n=st.integers(1, 300), fraction=st.floats(0, 0.5))
def test_the_split_parts_the_scan(n, fraction):
    xy = np.random.default_rng(n).random((n, 2))
    training, validation = split_validation(xy, fraction)
    assert len(training) >= 1
    np.testing.assert_array_equal(np.sort(np.concatenate([training, validation])), np.arange(n))


def test_validation_is_spread_over_the_scan():
    x, y = np.meshgrid(np.arange(20.0), np.arange(20.0))
    xy = np.stack([x.ravel(), y.ravel()], axis=1)
    _, validation = split_validation(xy, 0.05)
    quadrants = {(bool(a > 9.5), bool(b > 9.5)) for a, b in xy[validation]}
    assert len(validation) == 20
    assert len(quadrants) == 4
