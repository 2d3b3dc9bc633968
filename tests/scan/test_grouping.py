"""GROUP clauses: groups, the neighbours they are drawn from, and the split into training and validation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptycho_engine.errors import DataValueError
from ptycho_engine.scan.grouping import build_groups, covering_groups, group_coverage
from ptycho_engine.scan.neighbours import NOBODY, Neighbourhood, find_neighbours
from ptycho_engine.scan.split import split_validation


def scattered(n: int, seed: int = 0, coincident: bool = False) -> np.ndarray:
    xy = np.random.default_rng(seed).random((n, 2)) * 6 * np.sqrt(n)
    if coincident:
        xy[: n // 2] = xy[0]
    return xy


scans = {
    'n': st.integers(8, 120),
    'seed': st.integers(0, 2**31),
    'coincident': st.booleans(),
    'n_datasets': st.integers(1, 2),
}


@settings(deadline=None, max_examples=60)
@given(gridsize=st.integers(1, 5), K=st.integers(1, 30), **scans)
def test_group_01_groups_are_valid_covering_and_reproducible(n, gridsize, K, seed, coincident, n_datasets):
    xy = scattered(n, seed, coincident)
    labels = np.arange(n) % n_datasets
    if n // n_datasets < gridsize**2:
        with pytest.raises(DataValueError, match='smaller gridsize'):
            build_groups(xy, gridsize, K, seed=seed, scan_index=labels)
        return
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    groups = build_groups(xy, gridsize, K, seed=seed, scan_index=labels)
    assert groups.shape == (n, gridsize**2)
    assert groups.dtype == np.int32
    assert groups.min() >= 0
    assert groups.max() < n
    assert (groups[:, 0] == np.arange(n)).all()
    assert (np.diff(np.sort(groups, axis=1), axis=1) > 0).all()
    assert (labels[groups] == labels[groups[:, :1]]).all()
    assert group_coverage(groups, n).fraction == 1
    np.testing.assert_array_equal(groups, build_groups(xy, gridsize, K, seed=seed, scan_index=labels))
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002
    near = find_neighbours(xy, max(K, gridsize**2 - 1), labels)
    few = covering_groups(Neighbourhood.whole(near), gridsize, K, seed)
    assert set(few.ravel()) == set(range(n))
    assert (np.diff(np.sort(few, axis=1), axis=1) > 0).all()
    assert (labels[few] == labels[few[:, :1]]).all()


@settings(deadline=None, max_examples=40)
@given(count=st.integers(1, 9), **scans)
def test_group_02_neighbours_are_the_nearest_of_the_same_dataset(n, count, seed, coincident, n_datasets):
    xy = scattered(n, seed, coincident)
    labels = np.arange(n) % n_datasets
    near = find_neighbours(xy, count, labels)
    apart = np.hypot(*(xy[:, None] - xy[None]).transpose(2, 0, 1))
    apart[labels[:, None] != labels[None]] = np.inf
    np.fill_diagonal(apart, np.inf)
    expected = np.full((n, count), np.inf)
    expected[:, : n - 1] = np.sort(apart, axis=1)[:, : min(count, n - 1)]
    found = np.where(near == NOBODY, np.inf, np.take_along_axis(apart, near, axis=1))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_group_02_rounding_errors_do_not_change_the_neighbours():
    """On a raster many distances are equal; a file in metres gives them back with other last digits."""
    x, y = np.meshgrid(np.arange(30) * 6.3, np.arange(20) * 6.3)
    xy = np.stack([x.ravel(), y.ravel()], axis=1)
    metres = (xy * 5e-8) / 5e-8
    assert (metres != xy).any()
    np.testing.assert_array_equal(build_groups(xy, 2, seed=3), build_groups(metres, 2, seed=3))


@settings(deadline=None, max_examples=40)
@given(share=st.floats(0.3, 1), **scans)
def test_group_03_a_part_sees_only_itself(n, seed, coincident, n_datasets, share):
    xy = scattered(n, seed, coincident)
    labels = np.arange(n) % n_datasets
    rng = np.random.default_rng(seed)
    members = rng.choice(n, max(int(share * n), 1), replace=False)
    enough = min((labels[members] == label).sum() for label in range(n_datasets)) > 3
    whole = Neighbourhood.whole(find_neighbours(xy, 7, labels))
    if not enough:
        present = len(set(labels[members])) == n_datasets
        if present:
            with pytest.raises(DataValueError, match='smaller gridsize'):
                whole.part(members, 3, xy, labels)
        return
    part = whole.part(members, 3, xy, labels)
    np.testing.assert_array_equal(part.members, np.sort(members))
    known = part.near != NOBODY
    assert np.isin(part.near[known], members).all()
    assert (known.sum(axis=1) >= 3).all()
    assert (np.diff(known.astype(int), axis=1) <= 0).all()
    groups = covering_groups(part, 2, 7, seed)
    assert set(groups.ravel()) == set(members.tolist())


def test_group_03_thin_parts_find_their_neighbours_by_tree_and_by_comparison_alike(monkeypatch):
    xy = scattered(4000)
    members = np.random.default_rng(1).choice(4000, 400, replace=False)
    whole = Neighbourhood.whole(find_neighbours(xy, 7))
    compared = whole.part(members, 3, xy)
    monkeypatch.setattr('ptycho_engine.scan.neighbours.BRUTE_FORCE', 0)
    np.testing.assert_array_equal(compared.near, whole.part(members, 3, xy).near)


def test_members_are_the_nearest_neighbours():
    xy = np.stack([np.arange(30.0), np.zeros(30)], axis=1)
    groups = build_groups(xy, 2, K=4, seed=0)
    assert np.abs(groups - groups[:, :1]).max() <= 4


def test_group_04_fewer_groups_than_patterns():
    xy = scattered(20)
    assert build_groups(xy, 1, n_groups=7).shape == (7, 1)
    np.testing.assert_array_equal(build_groups(xy, 1, n_groups=3, sequential=True)[:, 0], [0, 1, 2])
    coverage = group_coverage(build_groups(xy, 1, n_groups=7), 20)
    assert str(coverage) == '7 of 20 patterns (35 %)'
    with pytest.raises(DataValueError, match='gridsize 5 needs at least 25'):
        build_groups(xy, 5)
    with pytest.raises(DataValueError, match='needs at least 4 patterns in each dataset, found 2'):
        build_groups(xy, 2, scan_index=np.arange(20) // 18)


def test_group_05_oversampling_draws_different_groups_around_a_pattern():
    xy = scattered(20)
    with pytest.raises(DataValueError, match='oversampling'):
        build_groups(xy, 2, n_groups=21)
    groups = build_groups(xy, 2, K=7, n_groups=20 * 35, oversample=True)
    sets = {(row[0], *sorted(row[1:])) for row in groups.tolist()}
    assert len(sets) == 20 * 35  # all choices of 3 among 7, around each pattern
    wide = build_groups(xy, 2, K=4, n_groups=200, oversample=True, pool=12)
    narrow = build_groups(xy, 2, K=4, n_groups=200, oversample=True)
    assert np.isin(narrow[:, 1:], find_neighbours(xy, 4)[narrow[:, 0]]).sum() > 0
    near = find_neighbours(xy, 12)
    rank = [[near[row[0]].tolist().index(m) for m in row[1:]] for row in wide]
    assert np.max(rank) > 3
    rank = [[near[row[0]].tolist().index(m) for m in row[1:]] for row in narrow]
    assert np.max(rank) == 3


def test_group_06_covering_groups_are_few():
    xy = scattered(2000)
    whole = Neighbourhood.whole(find_neighbours(xy, 7))
    groups = covering_groups(whole, 2, 7, seed=0)
    assert 500 <= len(groups) < 700
    assert np.isin(groups[:, 1:], whole.near[groups[:, 0]]).all()
    np.testing.assert_array_equal(groups, covering_groups(whole, 2, 7, seed=0))
    assert (
        len(covering_groups(whole, 2, 7, seed=1)) != len(groups)
        or (groups != covering_groups(whole, 2, 7, seed=1)).any()
    )
    assert len(covering_groups(whole, 1)) == 2000


@settings(deadline=None)
@given(
    n=st.integers(1, 300),
    fraction=st.floats(0, 0.5),
    smallest=st.sampled_from([1, 4, 9]),
    n_datasets=st.integers(1, 3),
)
def test_split_01_the_split_parts_each_dataset(n, fraction, smallest, n_datasets):
    xy = scattered(n, n)
    labels = np.arange(n) % n_datasets
    training, validation = split_validation(xy, fraction, smallest=smallest, scan_index=labels)
    np.testing.assert_array_equal(np.sort(np.concatenate([training, validation])), np.arange(n))
    for array in (training, validation):
        assert (np.diff(array) > 0).all()
    for label in range(min(n_datasets, n)):
        size, kept = (labels == label).sum(), (labels[validation] == label).sum()
        assert size - kept >= 1
        wanted = round(size * fraction)
        assert kept in ((wanted,) if wanted >= smallest or fraction == 0 else (0, smallest))
        if fraction > 0 and size >= 4 * smallest:
            assert kept >= smallest


@pytest.mark.parametrize('n', [400, 1000, 10000])
def test_split_02_blocks_are_compact_and_spread_over_the_scan(n):
    side = int(np.sqrt(n))
    x, y = np.meshgrid(np.arange(side), np.arange(side))
    xy = np.stack([x.ravel(), y.ravel()], axis=1) * 6.0
    training, validation = split_validation(xy, 0.1)
    near = find_neighbours(xy, 4)
    inside = np.isin(near, validation)

    def alone(members):
        """Part of some patterns that have no training neighbour."""
        return np.isin(near[members], members).all(axis=1).mean()

    evenly = np.arange(0, len(xy), 10)
    assert alone(evenly) == 0
    assert alone(validation) > 0.25
    assert inside[training].any(axis=1).mean() < 0.15
    assert len({(bool(a > side * 3), bool(b > side * 3)) for a, b in xy[validation]}) >= 2
