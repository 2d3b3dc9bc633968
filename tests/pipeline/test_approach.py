"""Training looks at what a network meets in a whole scan, judged by pixels that it was not shown."""

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptycho_engine.backends.base import create_backend
from ptycho_engine.config import InferenceConfig, ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho_engine.data.scan import Scan
from ptycho_engine.errors import Cancelled
from ptycho_engine.events import BatchDone, Reconstructed
from ptycho_engine.files.archive import load_archive
from ptycho_engine.network.plan import build_plan, initial_weights
from ptycho_engine.physics.refinement import draw_held_out
from ptycho_engine.physics.unrolled import FEATURES
from ptycho_engine.pipeline import sources
from ptycho_engine.pipeline.approach import JUDGED_FRACTION, VALIDATION_SEED, Approach
from ptycho_engine.pipeline.parts import GROUPS_OF_PART, MOST_PATTERNS, part_of
from ptycho_engine.pipeline.prepared import PreparedScan
from ptycho_engine.pipeline.quality import scan_box, score
from ptycho_engine.pipeline.reconstruct import reconstruct
from ptycho_engine.pipeline.simulated import SimulatedScans
from ptycho_engine.pipeline.sources import GroupedScan, MeasuredScans
from ptycho_engine.pipeline.train import train
from tests.backends.test_parity import scattered_weights
from tests.conftest import small_scan

CPU = PyTorchExecutionConfig(accelerator='cpu')
MODEL = ModelConfig(N=32, gridsize=2, n_filters_scale=1, unrolled_steps=2, physics_steps=16)
GROUPS = np.array([[0, 1, 5, 6], [12, 13, 17, 18], [19, 24, 23, 18]], np.int32)


def approach_of(model=MODEL, stop=lambda: False):
    plan = build_plan(model)
    backend = create_backend('pytorch', CPU)
    backend.build(plan, scattered_weights(plan))
    return Approach(backend, plan, stop)


@pytest.fixture(scope='module')
def prepared():
    bad = np.zeros((32, 32), bool)
    bad[4:6, 9] = True
    return PreparedScan(Scan.from_raw(small_scan(points=5, size=32, bad_pixels=bad)), MODEL, has_truth=True)


def batch_of(approach, prepared):
    (item,) = approach.validation([GroupedScan(prepared, GROUPS)])
    return item.batch(GROUPS)


def test_groups_are_cut_from_the_scan_with_its_truth(prepared):
    batch = batch_of(approach_of(), prepared)
    side = batch.truth.shape[-1]
    assert batch.features.shape == (2, 3, len(FEATURES), side, side)
    corner = batch.corner - batch.corner.min(axis=1, keepdims=True)
    for group, (patches, truth) in enumerate(zip(batch.labels, batch.truth, strict=True)):
        for (row, column), patch in zip(corner[group], patches, strict=True):
            np.testing.assert_allclose(truth[row : row + 32, column : column + 32], patch, rtol=1e-6)
    # Neighbouring groups see the same object where they overlap.
    apart = np.diff(batch.corner.min(axis=1)[1:], axis=0)[0]
    first, second = batch.features[:, 1], batch.features[:, 2]
    rows, columns = (slice(max(-d, 0), 32 - max(d, 0)) for d in apart)
    np.testing.assert_array_equal(
        second[..., rows, columns],
        first[
            ...,
            rows.start + apart[0] : rows.stop + apart[0],
            columns.start + apart[1] : columns.stop + apart[1],
        ],
    )
    assert abs(first[0] - first[1]).max() > 0.01


def test_what_judges_was_not_shown(prepared):
    """Counts of the pixels that losses look at may be anything: the features do not know them."""
    batch = batch_of(approach_of(), prepared)
    share = batch.judged.mean(axis=(-2, -1))
    np.testing.assert_allclose(share, JUDGED_FRACTION * prepared.good.mean(), rtol=0.05)
    assert not (batch.judged & ~prepared.good).any()
    raw = prepared.scan.raw
    other = raw.diffraction.copy()
    held_out = draw_held_out(prepared.good, JUDGED_FRACTION, VALIDATION_SEED)
    for number, pattern in enumerate(np.fft.ifftshift(other, axes=(-2, -1))):
        pattern.reshape(-1)[held_out[number % len(held_out)]] += 1.0
        other[number] = np.fft.fftshift(pattern)
    assert (other != raw.diffraction).mean() == pytest.approx(share.mean(), rel=0.05)
    changed = PreparedScan(Scan.from_raw(replace(raw, diffraction=other)), MODEL, has_truth=True)
    # The gauge is measured on all pixels.
    changed.__dict__['scale'] = prepared.scale
    np.testing.assert_array_equal(batch_of(approach_of(), changed).features, batch.features)


def test_the_way_to_the_first_correction_is_gone_once(prepared):
    approach = approach_of()
    first, again = (batch_of(approach, prepared) for _ in range(2))
    np.testing.assert_allclose(again.features, first.features, atol=1e-5)
    weights = {name: 2 * value for name, value in approach._backend.weights().items()}
    approach._backend.set_weights(weights)
    later = batch_of(approach, prepared)
    np.testing.assert_allclose(later.features[0], first.features[0], atol=1e-5)
    assert abs(later.features[1] - first.features[1]).max() > 0.01


def test_each_epoch_is_judged_by_other_pixels(prepared):
    approach = approach_of()
    (one,), (other,) = (approach.training([GroupedScan(prepared, GROUPS)], epoch) for epoch in (1, 2))
    assert (one.batch(GROUPS).judged != other.batch(GROUPS).judged).any()


def test_networks_that_take_no_whole_scan_start_from_the_groups(prepared):
    approach = approach_of(replace(MODEL, physics_steps=0, object_big=False))
    assert batch_of(approach, prepared).features is None


def test_it_can_be_stopped(prepared):
    with pytest.raises(Cancelled):
        batch_of(approach_of(stop=lambda: True), prepared)


@given(st.integers(0, 2**32 - 1), st.integers(1, 400), st.integers(1, 25), st.floats(0.5, 60), st.booleans())
def test_parts_are_of_one_dataset(seed, n, fewest, step, two):
    rng = np.random.default_rng(seed)
    raw = small_scan(points=2, size=32)
    x, y = rng.uniform(0, step * np.sqrt(n), (2, n))
    index = np.arange(n) % 2 if two else None
    raw = replace(
        raw,
        diffraction=np.ones((n, 32, 32), np.float32),
        xcoords=x,
        ycoords=y,
        scan_index=index,
        objectGuess=None,
    )
    members = np.flatnonzero(rng.random(n) < 0.7)
    if len(members) == 0:
        members = np.arange(n)
    found = part_of(raw, members, fewest, rng)
    assert set(found) <= set(members)
    assert (np.diff(found) > 0).all()
    own = members if index is None else members[index[members] == index[found[0]]]
    assert min(fewest, len(own)) <= len(found) <= max(MOST_PATTERNS, fewest)


@given(st.integers(0, 2**32 - 1), st.integers(7, 20))
def test_a_part_lies_inside_the_scan(seed, points):
    """Patterns at the scan's own edge have the neighbours there that they have in the whole scan."""
    y, x = (axis.ravel().astype(float) for axis in np.mgrid[:points, :points] * 16.0)
    raw = replace(
        small_scan(points=2, size=32),
        diffraction=np.ones((points**2, 32, 32), np.float32),
        xcoords=x,
        ycoords=y,
        objectGuess=None,
    )
    found = part_of(raw, np.arange(points**2), 1, np.random.default_rng(seed))
    # 80 px of positions 16 px apart: five or six along each axis, also for a middle at the scan's corner.
    for axis in (x[found], y[found]):
        assert 64 <= np.ptp(axis) <= 80


def test_a_network_learns_to_improve_on_the_physics(tmp_path):
    """At few photons: what it was trained on are simulated objects, what it is tried on is another one."""
    raw = small_scan(points=9, size=32, photons=5e3)
    scan = Scan.from_raw(raw)
    config = TrainingConfig(
        model=replace(MODEL, gridsize=1, physics_steps=32), nepochs=6, n_groups=256, batch_size=4, seed=1
    )
    for _ in train(SimulatedScans(scan, config), config, tmp_path, execution=CPU):
        pass
    trained = load_archive(tmp_path)
    untrained = replace(trained, weights=initial_weights(build_plan(trained.config.model), 0))
    box = scan_box(raw.xcoords, raw.ycoords, raw.objectGuess.shape)
    scores = []
    for archive in (untrained, trained):
        *_, done = reconstruct(scan, archive, InferenceConfig(refine_iterations=0), execution=CPU)
        assert isinstance(done, Reconstructed)
        scores.append(score(raw.objectGuess, done.reconstruction.object_array, box))
    physics, network = scores
    assert network.nrmse < 0.85 * physics.nrmse
    assert network.amplitude_ssim > physics.amplitude_ssim


def test_large_scans_are_brought_there_in_parts(monkeypatch, caplog):
    """What an epoch costs follows from its groups, not from the size of the scan."""
    raw = small_scan(points=20, size=32)
    scan = Scan.from_raw(raw)
    config = TrainingConfig(model=MODEL, n_groups=100, realspace_mae_weight=1.0, validation_fraction=0.1)
    whole = MeasuredScans([scan], config)
    assert [item.ready().prepared for item in whole.training(1)] == [whole.reference]
    monkeypatch.setattr(sources, 'WHOLE_PIXELS', 1 << 10)
    source = MeasuredScans([scan], config)
    caplog.set_level('INFO', 'ptychopinn.train')
    drawn, held_out = source.training(1), source.validation()
    assert sum(len(item.groups) for item in drawn) == 100
    taken = {
        tuple(xy) for item in drawn for xy in positions_of(item.ready().prepared)[item.groups].reshape(-1, 2)
    }
    assert f'draws 100 groups of 4: {len(taken)} of 360 patterns' in caplog.text
    assert len(drawn) == 2
    kept_out = {tuple(xy) for item in held_out for xy in positions_of(item.prepared)}
    for item in drawn:
        part = item.ready().prepared
        assert len(part) <= MOST_PATTERNS
        assert part.scale == source.reference.scale
        assert not kept_out & {tuple(xy) for xy in positions_of(part)}
        batch, own = part.batch(item.groups[:3]), positions_of(part)[item.groups[:3]]
        rows = np.array(
            [[np.flatnonzero((positions_of(whole.reference) == xy).all(axis=1))[0] for xy in g] for g in own]
        )
        expected = whole.reference.batch(rows.astype(np.int32))
        for name in ('amplitude', 'remainder', 'labels'):
            np.testing.assert_allclose(getattr(batch, name), getattr(expected, name), rtol=1e-5, atol=1e-6)
    again = source.training(1)[0]
    np.testing.assert_array_equal(*(positions_of(item.ready().prepared) for item in (again, drawn[0])))
    assert (source.training(2)[0].groups != drawn[0].groups).any()
    (item,) = approach_of().training([drawn[0].ready()], 1)
    assert item.batch(item.groups[:4]).features.shape[1] == 4


def positions_of(prepared):
    raw = prepared.scan.raw
    return np.stack([raw.xcoords, raw.ycoords], axis=1)


def test_many_scans_are_made_ready_few_at_a_time(monkeypatch, tmp_path):
    """Memory does not grow with the number of simulated objects, and a stop on the way ends the epoch."""
    ready, made = [], []
    original = Approach.training

    def watched(self, grouped, epoch):
        gc.collect()
        assert not any(scan() for scan in made)
        made.extend(weakref.ref(item.prepared) for item in grouped)
        ready.append(len(grouped))
        return original(self, grouped, epoch)

    monkeypatch.setattr(Approach, 'training', watched)
    scan = Scan.from_raw(small_scan(points=4, size=32))
    config = TrainingConfig(
        model=replace(MODEL, gridsize=1, physics_steps=4, unrolled_steps=1),
        nepochs=1,
        n_groups=11 * GROUPS_OF_PART,
        batch_size=64,
    )
    events = list(train(SimulatedScans(scan, config), config, tmp_path, execution=CPU))
    assert ready == [8, 3]
    fractions = [event.fraction for event in events if isinstance(event, BatchDone)]
    np.testing.assert_allclose(fractions, np.arange(1, 12) / 11)
    stop = lambda: len(ready) > 2  # noqa: E731
    with pytest.raises(Cancelled):
        list(train(SimulatedScans(scan, config), config, tmp_path, execution=CPU, should_stop=stop))
    assert len(load_archive(tmp_path).history) == 1


def test_parts_follow_the_rules_of_sampling(monkeypatch):
    scan = Scan.from_raw(small_scan(points=20, size=32))
    config = TrainingConfig(model=replace(MODEL, gridsize=1), n_groups=1000, validation_fraction=0)
    monkeypatch.setattr(sources, 'WHOLE_PIXELS', 1 << 10)
    for item in MeasuredScans([scan], replace(config, enable_oversampling=False)).training(1):
        assert len(np.unique(item.groups)) == len(item.groups)
    sequential = replace(config, n_groups=8, sequential_sampling=True)
    (item,) = MeasuredScans([scan], sequential).training(1)
    np.testing.assert_array_equal(item.groups[:, 0], np.arange(8))
