"""Hits of single pixels in single frames, as of cosmic rays (NPZ-24)."""

import numpy as np
import pytest

from ptycho_engine.live.kept_frames import KeptFrames
from ptycho_engine.patterns.single_hits import SingleHits, looked_at
from ptycho_engine.scan.pretreatment import crop_scan
from ptycho_engine.scan.scan import load_scan
from tests.conftest import small_scan
from tests.whole_scan.test_calibrate import run

FRAMES, SIZE = 49, 32
FEWEST_FRAMES = 16


@pytest.fixture(scope='module')
def raw():
    return small_scan(7, SIZE, photons=1e5)


@pytest.fixture(scope='module')
def counts(raw):
    return np.rint(np.square(raw.diffraction, dtype=np.float64))


@pytest.fixture(scope='module')
def hit(counts):
    """(n, N, N) where a hit is put: one pixel of each frame, far above what it shows otherwise."""
    rng = np.random.default_rng(3)
    chosen = np.zeros(counts.shape, bool)
    dark = 1 + np.argwhere(counts.max(axis=0)[1:-1, 1:-1] < 30)
    for frame, (row, column) in enumerate(dark[rng.integers(0, len(dark), len(counts))]):
        chosen[frame, row, column] = True
    return chosen


def loaded(tmp_path, raw, diffraction, **arrays):
    own = {name: getattr(raw, name) for name in ('probeGuess', 'xcoords', 'ycoords')}
    np.savez(tmp_path / 'x.npz', diffraction=diffraction, **{**own, **arrays})
    return load_scan(tmp_path / 'x.npz')


def lines(scan):
    return [line for line in scan.raw.assumed if 'cosmic rays' in line]


KINDS = {
    'counts': lambda counts: counts.astype(np.uint32),
    'counts times a gain': lambda counts: (3.7 * counts).astype(np.float32),
    'amplitudes': lambda counts: np.sqrt(counts).astype(np.float32),
    'normalised amplitudes': lambda counts: (0.01 * np.sqrt(counts)).astype(np.float32),
}


@pytest.mark.parametrize('kind', KINDS)
def test_npz_24_hits_take_the_median_of_their_neighbours(tmp_path, raw, counts, hit, kind):
    scan = loaded(tmp_path, raw, KINDS[kind](np.where(hit, 1000, counts)))
    found = np.square(scan.raw.diffraction, dtype=np.float64)
    np.testing.assert_allclose(found[~hit], counts[~hit], rtol=1e-3, atol=1e-3)
    assert found[hit].max() <= counts.max(axis=0)[hit.any(axis=0)].max()
    (line,) = lines(scan)
    assert line.startswith(f'{FRAMES} single pixels in {FRAMES} of {FRAMES} patterns looked at ')


def test_npz_24_counts_stay_whole_where_two_neighbours_are_in_the_middle():
    frames = np.ones((FEWEST_FRAMES, 5, 5), np.float32)
    frames[0, :, 3:] = 2
    frames[0, 2, 2] = 100
    # Five neighbours have 1 and three have 2; with one of the five bad there are four and three.
    bad = np.zeros((5, 5), bool)
    bad[1, 1] = True
    found = frames.copy()
    assert SingleHits.of(frames, bad, roots=False).replace(found).tolist() == [0]
    assert found[0, 2, 2] == 1
    frames[0, 3, 1] = frames[0, 2, 1] = 2
    assert SingleHits.of(frames, ~np.ones_like(bad), roots=False).replace(frames).tolist() == [0]
    assert frames[0, 2, 2] == 2


@pytest.mark.parametrize(
    ('value', 'neighbours', 'is_hit'),
    [
        (33, 0, True),
        (32, 0, False),
        (1000, 3, True),
        (1000, 4, False),
    ],
)
def test_npz_24_a_hit_is_many_times_what_is_usual_and_shared_by_four_pixels_at_most(
    value, neighbours, is_hit
):
    """Usual is 4 counts; other pixels beside it that are as bright share its charge, or are light."""
    frames = np.full((FEWEST_FRAMES, 7, 7), 4, np.float32)
    around = [(2, 2), (2, 3), (2, 4), (3, 2)][:neighbours]
    frames[0, 0, 0] = 1
    frames[5, 3, 3] = value
    for row, column in around:
        frames[5, row, column] = value
    found = frames.copy()
    hits = SingleHits.of(frames, np.zeros((7, 7), bool), roots=False)
    hits.replace(found)
    assert (found[5, 3, 3] == 4) == is_hit


@pytest.mark.parametrize(
    ('count', 'size', 'most'), [(1000, 64, 128), (1000, 512, 64), (1000, 1024, 16), (9, 64, 9)]
)
def test_npz_24_sixteen_frames_and_more_are_looked_at(count, size, most):
    """Of large ones fewer than of small ones, for the sake of memory, but enough to tell up to 1024×1024."""
    chosen = looked_at(count, size)
    assert len(chosen) == most
    assert (chosen[0], chosen[-1]) == (0, count - 1)


@pytest.mark.parametrize('roots', [False, True])
@pytest.mark.parametrize(('count', 'is_hit'), [(21, True), (19, False)])
def test_npz_24_few_counts_in_the_dark_are_no_hit(count, is_hit, roots):
    frames = np.zeros((FEWEST_FRAMES, 7, 7), np.float32)
    frames[5, 3, 3], frames[7, 1, 1] = count, 1
    found = 3 * (np.sqrt(frames) if roots else frames)
    hits = SingleHits.of(found, np.zeros((7, 7), bool), roots=roots)
    assert len(hits.replace(found)) == is_hit


def test_npz_24_what_a_pixel_shows_three_times_is_usual_and_few_frames_tell_nothing():
    frames = np.full((FEWEST_FRAMES, 7, 7), 1, np.float32)
    frames[:3, 3, 3] = 1000
    clean = np.zeros((7, 7), bool)
    assert not len(SingleHits.of(frames, clean, roots=False).replace(frames))
    assert SingleHits.of(frames[1:], clean, roots=False) is None


@pytest.mark.parametrize(
    ('row', 'column', 'beside', 'is_hit'),
    [
        (3, 4, 2, True),
        (3, 4, 3, False),
        (7, 4, 2, True),
        (7, 4, 3, False),
        (7, 7, 1, True),
        (7, 7, 2, False),
    ],
)
def test_npz_24_of_neighbours_that_are_valid_most_must_be_dark(row, column, beside, is_hit):
    """Those that are bad, or beyond the edge, are not dark: of five or three fewer may be bright."""
    frames = np.zeros((FEWEST_FRAMES, 8, 8), np.float32)
    frames[7] = 1
    bad = np.zeros((8, 8), bool)
    bad[2] = True
    frames[2, row, column] = 500
    around = [(row, column - 1), (row, column + 1), (row + 1, column - 1), (row - 1, column - 1)]
    inside = [(y, x) for y, x in around if y < 8 and x < 8 and not bad[y, x]]
    for y, x in inside[:beside]:
        frames[2, y, x] = 500
    found = frames.copy()
    SingleHits.of(frames, bad, roots=False).replace(found)
    assert (found[2, row, column] == 0) == is_hit
    nothing = np.ones_like(bad)
    nothing[row, column] = False
    alone = SingleHits.of(frames, nothing, roots=False)
    assert not len(alone.replace(frames))


@pytest.mark.parametrize('gain', [1, 50])
@pytest.mark.parametrize('photons', [1e2, 1e3, 1e5, 1e7])
@pytest.mark.parametrize('seed', range(3))
def test_npz_24_clean_patterns_are_left_alone(tmp_path, photons, seed, gain):
    """Single photons in the dark, whatever number stands for one, are none."""
    raw = small_scan(7, SIZE, photons=photons, seed=seed)
    counts = gain * np.rint(np.square(raw.diffraction, dtype=np.float64)).astype(np.uint32)
    scan = loaded(tmp_path, raw, counts)
    assert not lines(scan)
    np.testing.assert_array_equal(np.square(scan.raw.diffraction, dtype=np.float64).round(), counts)


def test_npz_24_they_are_found_beside_a_mask_and_in_a_window(tmp_path, raw, counts, hit):
    bad = np.zeros((SIZE, SIZE), bool)
    bad[16] = True
    diffraction = np.where(hit, 1000, counts).astype(np.uint32)
    whole = loaded(tmp_path, raw, diffraction, bad_pixels=bad)
    cropped = crop_scan(whole, SIZE - 8)
    inner = slice(4, -4)
    np.testing.assert_array_equal(
        cropped.raw.diffraction[:], np.asarray(whole.raw.diffraction)[:, inner, inner]
    )
    assert np.asarray(whole.raw.diffraction).max() ** 2 < 1.01 * counts.max()


def test_npz_24_hits_do_not_change_an_image(raw, counts, hit, tmp_path):
    def nrmse(diffraction):
        scan = loaded(tmp_path, raw, diffraction.astype(np.uint32), objectGuess=raw.objectGuess)
        error, result = run(scan.raw)
        assert ('cosmic rays' in result.comments) == (diffraction is not counts)
        return error

    assert nrmse(np.where(hit, 1000, counts)) < 1.05 * nrmse(counts)


def test_npz_24_a_live_session_replaces_them_and_its_result_says_so(counts, hit):
    frames = KeptFrames(np.zeros((SIZE, SIZE), bool), 'counts', 1 << 26, 'x')
    spoiled = np.where(hit, 1000, counts).astype(np.uint32)
    frames.keep(spoiled[:10])
    assert np.asarray(frames.patterns()).max() ** 2 > 999
    frames.keep(spoiled[10:])
    found = np.square(np.asarray(frames.patterns()), dtype=np.float64)
    np.testing.assert_allclose(found[~hit], counts[~hit], rtol=1e-5, atol=1e-3)
    assert found[hit].max() < 100
    assert frames.told[0].startswith(f'{FRAMES} single pixels in {FRAMES} of {FRAMES} patterns')


def test_npz_24_hits_do_not_hide_a_pedestal(tmp_path, raw, counts):
    """Frames of a CCD, some of whose dark pixels are hit: without the pedestal off they make no image."""
    rng = np.random.default_rng(4)
    struck = counts.copy()
    inside = np.pad(np.ones((SIZE - 2, SIZE - 2), bool), 1)
    for frame, pixels in zip(
        struck, rng.permutation(np.flatnonzero(inside))[: 5 * FRAMES].reshape(-1, 5), strict=True
    ):
        frame.flat[pixels] += 5000
    values = 2.7 * struck + 100 + rng.normal(0, 2, counts.shape)
    scan = loaded(tmp_path, raw, values.astype(np.float32))
    assert any('with a pedestal; it is taken off' in line for line in scan.raw.assumed)
    assert len(lines(scan)) == 1
    found = np.square(np.asarray(scan.raw.diffraction), dtype=np.float64)
    assert np.corrcoef(found.ravel(), counts.ravel())[0, 1] > 0.98
