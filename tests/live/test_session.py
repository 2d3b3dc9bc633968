"""A live session (clauses LIVE-01 to LIVE-09 and LIVE-17 of specs/live.md)."""

import math
from dataclasses import asdict, replace

import numpy as np
import pytest

from ptycho_engine import reconstruct
from ptycho_engine.config import InferenceConfig, PyTorchExecutionConfig
from ptycho_engine.errors import ConfigError, DataValueError
from ptycho_engine.formats.packaged import NO_MODEL, load_model, of_objects
from ptycho_engine.live import frame_store
from ptycho_engine.live.quality import UnseenCurve, UnseenPoint
from ptycho_engine.live.session import open_session
from ptycho_engine.live.settling import Look, Settling
from ptycho_engine.physics.geometry import ObjectGrid
from ptycho_engine.reconstruction.result import Reconstructed
from ptycho_engine.scan.scan import Scan
from ptycho_engine.scoring.scores import scanned_box, score
from tests.conftest import small_scan

CPU = PyTorchExecutionConfig(accelerator='cpu')
QUICK = InferenceConfig(calibrate='off')


@pytest.fixture(scope='module')
def raw():
    return small_scan(points=9, size=32, step=4.0)


def session(raw, **options):
    chosen = {
        'domain': 'amplitude',
        'execution': CPU,
        'config': QUICK,
        'model': load_model(NO_MODEL),
        **options,
    }
    return open_session(raw.probeGuess, chosen.pop('grid', Scan.from_raw(raw).grid), **chosen)


def places(raw, chosen=slice(None)):
    return np.stack([raw.ycoords[chosen], raw.xcoords[chosen]], axis=1)


def pushed(raw, pieces, order=None, **options):
    """Return a session into which a scan was pushed in pieces of so many frames."""
    live = session(raw, **options)
    order = np.arange(len(raw)) if order is None else order
    rng = np.random.default_rng(0)
    while len(order):
        count = pieces if isinstance(pieces, int) else int(rng.integers(1, 20))
        part, order = order[:count], order[count:]
        live.push(raw.diffraction[part], places(raw, part), part)
    return live


def batch(raw, members=slice(None)):
    scan = Scan.from_raw(raw)
    part = Scan(raw.select(np.arange(len(raw))[members]), scan.grid)
    *_, last = reconstruct(part, load_model(NO_MODEL), QUICK, execution=CPU)
    assert isinstance(last, Reconstructed)
    return last.reconstruction


def nrmse(raw, obj, members=slice(None)):
    scan = Scan.from_raw(raw)
    part = Scan(raw.select(np.arange(len(raw))[members]), scan.grid)
    return score(raw.objectGuess, obj, scanned_box(part)).nrmse


@pytest.fixture(scope='module')
def whole(raw):
    return batch(raw)


@pytest.mark.parametrize('pieces', [1, 8, 50, 'random'])
def test_live_01_the_end_is_the_result_of_the_whole_scan(raw, whole, pieces):
    """In whatever pieces and order the frames came."""
    order = np.random.default_rng(3).permutation(len(raw))
    result = pushed(raw, pieces, order).close()
    np.testing.assert_allclose(result.object_array, whole.object_array, rtol=0, atol=1e-5)
    assert result.n_patterns == len(raw)


def test_live_02_the_image_is_near_that_of_the_same_frames_at_any_time(raw, whole):
    """Half of the scan, and all of it."""
    half = slice(0, 45)
    live = pushed(raw, 8, np.arange(45))
    for _ in range(3):
        live.improve()
    assert nrmse(raw, live.snapshot().object_array, half) < 1.5 * nrmse(
        raw, batch(raw, half).object_array, half
    )
    rest = np.arange(45, 81)
    live.push(raw.diffraction[rest], places(raw, rest), rest)
    for _ in range(8):
        live.improve()
    shot = live.snapshot()
    assert nrmse(raw, shot.object_array) < 1.3 * nrmse(raw, whole.object_array)
    np.testing.assert_allclose(shot.weight, whole.weight, rtol=0.12, atol=0.02 * whole.weight.max())
    assert shot.counts.used == 81
    known = np.isfinite(shot.uncertainty())
    assert known.mean() > 0.2
    assert 0 < np.median(shot.uncertainty()[known]) < 0.2 * shot.probe_scale


def test_live_02_the_grid_grows_with_the_scan(raw):
    """To that of a whole scan of the same frames, wherever it goes on to."""
    order = np.arange(len(raw))[::-1]
    live = session(raw, grid=None)
    first = order[:10]
    live.push(raw.diffraction[first], places(raw, first), first)
    assert live.snapshot().grid == ObjectGrid.around_scan(raw.xcoords[first], raw.ycoords[first], raw.N)
    early = live.snapshot().object_array
    live.push(raw.diffraction[order[10:]], places(raw, order[10:]), order[10:])
    shot = live.snapshot()
    assert shot.grid == ObjectGrid.around_scan(raw.xcoords, raw.ycoords, raw.N)
    assert shot.object_array.shape == shot.grid.shape
    assert early.shape < shot.object_array.shape
    top, left = int(shot.grid.origin_y), int(shot.grid.origin_x)
    truth = raw.objectGuess[top : top + shot.grid.height, left : left + shot.grid.width]
    box = scanned_box(Scan.from_raw(raw))
    inner = tuple(slice(b.start - o, b.stop - o) for b, o in zip(box, (top, left), strict=True))
    assert score(truth, shot.object_array, inner).nrmse < 0.08


def test_live_02_the_scale_is_that_of_the_probe_however_the_counts_change(raw):
    """Frames far away, sixteen times as bright: the image here stays what it was."""
    live = session(raw, grid=None)
    live.push(raw.diffraction[:16], places(raw, slice(0, 16)), np.arange(16))
    before = live.snapshot()
    live.push(4 * raw.diffraction[16:], places(raw, slice(16, 81)) + np.array([0, 400]), np.arange(16, 81))
    after = live.snapshot()
    assert after.probe_scale > 3 * before.probe_scale
    (top, left), here = (round(before.grid.origin_y), round(before.grid.origin_x)), before.object_array.shape
    row, column = top - round(after.grid.origin_y), left - round(after.grid.origin_x)
    again = after.object_array[row : row + here[0], column : column + here[1]]
    lit = before.weight > 0.1 * before.weight.max()
    np.testing.assert_allclose(again[lit], before.object_array[lit], rtol=1e-3)


def test_live_03_an_update_reaches_no_farther_than_its_neighbours(raw):
    live = pushed(raw, 8, np.arange(72))
    before = live.snapshot().object_array
    live.push(raw.diffraction[80:81], places(raw, slice(80, 81)), [80])
    moved = np.abs(live.snapshot().object_array - before) > 0
    y, x = raw.ycoords[80], raw.xcoords[80]
    assert moved[round(y), round(x)]
    wide = pushed(small_scan(points=9, size=32, step=24.0), 8)
    before = wide.snapshot().object_array
    wide.improve()
    moved = np.abs(wide.snapshot().object_array - before) > 0
    assert 0 < moved.mean() < 0.5


def test_live_04_positions_may_be_late_early_twice_or_never(raw):
    live = session(raw)
    n = len(raw)
    live.place([40], places(raw, slice(40, 41)))
    live.push(raw.diffraction, indices=np.arange(n))
    assert (live.counts.frames, live.unplaced) == (n, n - 1)
    assert live.snapshot().counts.used == 1
    late = np.random.default_rng(1).permutation(np.delete(np.arange(n), [3, 40]))
    live.place(late, places(raw, late))
    live.place(late[:5], places(raw, late[:5]) + 100)
    shot = live.snapshot()
    assert (shot.counts.used, live.unplaced, shot.counts.repeated) == (n - 1, 1, 5)
    scan = live.scan()
    kept = np.delete(np.arange(n), 3)
    np.testing.assert_array_equal(scan.raw.scan_index, kept)
    np.testing.assert_array_equal(scan.raw.xcoords, raw.xcoords[kept])
    np.testing.assert_array_equal(scan.raw.diffraction, raw.diffraction[kept])
    assert nrmse(raw, shot.object_array) < 0.08


def test_live_04_frames_that_come_twice_are_left_out(raw):
    live = session(raw)
    live.push(raw.diffraction[:10], places(raw, slice(0, 10)), np.arange(10))
    live.push(raw.diffraction[5:15], places(raw, slice(5, 15)), np.arange(5, 15))
    assert live.snapshot().counts.used == 15
    # Each of the five as a frame and as a position.
    assert live.counts.repeated == 10
    np.testing.assert_array_equal(live.scan().raw.diffraction, raw.diffraction[:15])


def test_live_04_a_frame_far_off_or_dark_or_of_marks_is_counted_and_left_out(raw):
    live = session(raw, domain='counts')
    counts = np.square(raw.diffraction).round().astype(np.uint16)
    place = places(raw)
    place[4] = 1e7, -1e7
    place[5] = np.inf, 0
    counts[6] = 0
    counts[7] = 65535
    counts[8, 3, 4] = 65535
    live.push(counts[:40], place[:40])
    shot = live.snapshot()
    assert (shot.counts.astray, shot.counts.dark, shot.counts.used) == (2, 2, 36)
    assert shot.object_array.shape == Scan.from_raw(raw).grid.shape
    bad = live.scan().raw.bad_pixels
    assert bad[3, 4]
    assert bad.sum() == 1


def test_live_05_a_batch_is_predicted_before_it_is_used(raw):
    """Frames of another object are told from those of this one; the same frames fitted would not be."""
    half = np.arange(48)
    live = pushed(raw, 8, half)
    again = np.random.default_rng(5).poisson(np.square(raw.diffraction[16:24])).astype(np.float32)
    live.push(np.sqrt(again), places(raw, slice(16, 24)), np.arange(1000, 1008))
    right = live.curve.points[-1]
    assert (right.known, right.frames) == (8, 48)
    live.push(raw.diffraction[24:32], places(raw, slice(0, 8)), np.arange(2000, 2008))
    wrong = live.curve.points[-1]
    # The rates of frames that were measured already are known to twice their photon noise.
    assert 1 < right.deviance / right.noise < 3
    assert wrong.deviance / wrong.noise > 5
    assert live.curve.points[0].known == 0
    assert live.curve.points[0].new_area > 7


def point(frames, excess, *, new_area=0.0):
    return UnseenPoint(frames, 1 + excess, 1.0, 8, new_area, 8 * 4096)


def curve_of(excess, new_area):
    curve = UnseenCurve()
    for frames in range(8, 1600, 8):
        curve.add(point(frames, excess(frames), new_area=new_area(frames)))
    return curve


def test_live_06_unseen_frames_and_the_area_are_those_of_the_last_tenth():
    flat = curve_of(lambda n: 0.3 if n < 1400 else 0.1, lambda n: 8 if n < 300 else 0)
    assert flat.unseen == pytest.approx(1.1)
    assert flat.growth == 0
    assert curve_of(lambda n: 0, lambda n: 1.0).growth == pytest.approx(0.1, abs=0.01)
    assert math.isnan(UnseenCurve().unseen)


def settled(**values):
    """Return what one look at an image tells that is good enough but for some values."""
    settling = Settling()
    look = Look(frames=45, error=0.3, gain=0.4, change=math.nan, area=900)
    settling.looks += [
        look,
        Look(**{**asdict(look), 'frames': 90, 'error': 0.1, 'gain': 0.2, 'change': 0.1, **values}),
    ]
    return settling.quality(curve_of(lambda n: 0.1, lambda n: 0))


def test_live_17_enough_is_where_little_is_to_be_gained_and_the_image_is_as_good_as_it_says():
    by_noise = settled()
    assert by_noise.enough
    assert 'error about 10 %, enough' in by_noise.sentence
    closing = settled(gain=0.31)
    assert not closing.enough
    assert 'half as many more lower it by 31 %' in closing.sentence
    assert not settled(change=0.2).enough
    assert not settled(change=math.nan).enough
    assert not settled(area=1200).enough
    assert not settled(frames=89).enough
    assert math.isnan(Settling().quality(UnseenCurve()).gain)
    assert not Settling().quality(UnseenCurve()).enough


def test_live_06_what_more_frames_would_leave_is_that_of_the_frames_when_they_have_come(raw):
    """Half of a scan in no order foretells the uncertainty of three quarters of it."""
    again = small_scan(points=16, size=32, step=2.0, photons=1e5)
    order = np.random.default_rng(4).permutation(len(again))
    live = pushed(again, 8, order[:128])
    shot = live.snapshot()
    live.push(again.diffraction[order[128:192]], places(again, order[128:192]), order[128:192])
    later = live.snapshot()
    now, foretold = shot.stated_errors(0.5)
    found, _ = later.stated_errors(0.5)
    whole = shot.uncertainty()[shot.box]
    # What is looked at for it, a part of the grid, changes nothing.
    assert now == pytest.approx(float(np.sqrt(np.nanmean(np.square(whole)))), rel=1e-3)
    assert foretold < 0.87 * now
    assert foretold == pytest.approx(found, rel=0.06)


def test_live_17_a_scan_that_has_covered_its_area_says_enough_and_one_on_its_way_does_not(raw):
    """Over and over the same area, in any order; row after row."""
    again = small_scan(points=16, size=32, step=2.0, photons=1e5)
    order = np.random.default_rng(4).permutation(len(again))
    live = session(again)
    said = []
    for start in range(0, len(order), 8):
        part = order[start : start + 8]
        live.push(again.diffraction[part], places(again, part), part)
        live.improve()
        said.append(live.quality.enough)
    assert not any(said[:3])
    assert all(said[-8:])
    assert live.quality.error == pytest.approx(nrmse(again, live.snapshot().object_array), rel=0.6)
    rows = session(again)
    for start in range(0, len(again), 8):
        part = np.arange(start, start + 8)
        rows.push(again.diffraction[part], places(again, part), part)
        assert not rows.quality.enough


def test_live_17_a_change_is_told_where_the_grid_has_grown(raw):
    """Of the same image, turned by a phase and a ramp, none; of new area, all of it."""
    live = session(raw, grid=None)
    live.push(raw.diffraction[:45], places(raw, slice(0, 45)), np.arange(45))
    shot = live.snapshot()
    settling = Settling()
    settling.look(replace(shot, position=shot.position[:34]))
    turn = 1.1 * np.exp(1j * (0.7 + 0.01 * np.arange(shot.grid.width)))
    settling.look(replace(shot, object_array=(shot.object_array * turn).astype(np.complex64)))
    assert math.isnan(settling.looks[0].change)
    assert settling.looks[1].change < 1e-4
    live.push(raw.diffraction[45:], places(raw, slice(45, 81)), np.arange(45, 81))
    settling.look(live.snapshot())
    assert settling.looks[2].change > 0.05
    first, same, grown = (look.area for look in settling.looks)
    assert first < same
    assert 1.5 * same < grown < 2.5 * same


def test_live_07_frames_beyond_the_budget_are_on_disk_and_count_alike(raw, whole, monkeypatch):
    monkeypatch.setattr(frame_store, 'CHUNK_BYTES', 20 * 32 * 32 * 4)
    live = pushed(raw, 8, budget=1)
    assert live.frames_on_disk == len(raw) - 20
    np.testing.assert_array_equal(live.scan().raw.diffraction, raw.diffraction)
    np.testing.assert_allclose(live.close().object_array, whole.object_array, rtol=0, atol=1e-5)


def test_live_08_what_cannot_be_is_refused_in_a_sentence(raw):
    live = session(raw)
    with pytest.raises(DataValueError, match=r'shape \(2, 16, 16\).*\(b, 32, 32\)'):
        live.push(np.ones((2, 16, 16)))
    with pytest.raises(DataValueError, match=r'positions have shape \(3, 2\); expected \(2, 2\)'):
        live.push(raw.diffraction[:2], places(raw, slice(0, 3)))
    with pytest.raises(DataValueError, match='2 frames have 3 numbers'):
        live.push(raw.diffraction[:2], indices=[1, 2, 3])
    assert live.counts.frames == 0
    with pytest.raises(DataValueError, match='no frame with a position'):
        live.snapshot()
    with pytest.raises(DataValueError, match='nothing to reconstruct'):
        live.close()
    with pytest.raises(ConfigError, match='domain'):
        session(raw, domain='intensity')
    with pytest.raises(ConfigError, match='network of patterns'):
        session(raw, model=of_objects('cnn'))
    with pytest.raises(DataValueError, match='bad_pixels has shape'):
        session(raw, bad_pixels=np.zeros((3, 3), bool))
