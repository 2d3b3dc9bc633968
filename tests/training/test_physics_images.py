"""The prior learns from images that physics makes of whole scans, judged by pixels kept from it (NET-11)."""

import gc
import logging
import weakref
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptycho_engine.backends.base import create_backend
from ptycho_engine.config import ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho_engine.config.training import BACKENDS
from ptycho_engine.errors import Cancelled, DivergedError
from ptycho_engine.events import BatchDone, EpochDone
from ptycho_engine.formats.archive import load_archive
from ptycho_engine.formats.packaged import load_model
from ptycho_engine.network.denoiser import LOOKS as SEEN
from ptycho_engine.network.plan import build_plan
from ptycho_engine.physics.learned_prior import noise_told
from ptycho_engine.physics.likelihood import draw_held_out
from ptycho_engine.scan.scan import Scan
from ptycho_engine.training import simulated, sources
from ptycho_engine.training.physics_images import (
    HELD_OUT_FRACTION,
    LOOKS,
    VALIDATION_SEED,
    PhysicsImage,
    PhysicsImages,
    physics_image,
)
from ptycho_engine.training.simulated import ObjectVariety, SimulatedScans
from ptycho_engine.training.sources import GroupedScan, MeasuredScans
from ptycho_engine.training.subscan import GROUPS_OF_PART, MOST_PATTERNS, part_of
from ptycho_engine.training.train import train
from ptycho_engine.whole_scan.held_out import scan_patterns
from ptycho_engine.whole_scan.scan_model import ScanModel
from ptycho_engine.whole_scan.solver import STRENGTHS
from tests.conftest import small_scan

CPU = PyTorchExecutionConfig(accelerator='cpu')
MODEL = ModelConfig(gridsize=2)
GROUPS = np.array([[0, 1, 5, 6], [12, 13, 17, 18], [19, 24, 23, 18]], np.int32)


def never():
    return False


def images_of(model=MODEL, stop=never):
    plan, backend = build_plan(model), create_backend('pytorch', CPU)
    backend.build(plan, load_model().weights)
    return PhysicsImages(backend, plan, stop)


@pytest.fixture(scope='module')
def prepared():
    bad = np.zeros((32, 32), bool)
    bad[4:6, 9] = True
    return ScanModel(Scan.from_raw(small_scan(points=5, size=32, bad_pixels=bad)), MODEL, has_truth=True)


@pytest.fixture(scope='module')
def batch(prepared):
    (item,) = images_of().validation([GroupedScan(prepared, GROUPS)])
    return item.batch(GROUPS)


def test_net_11_groups_are_cut_from_the_image_of_the_scan_with_its_truth(batch, prepared):
    side = batch.truth.shape[-1]
    assert batch.looks.shape == (len(STRENGTHS), 3, len(SEEN), side, side)
    corner = batch.corner - batch.corner.min(axis=1, keepdims=True)
    for group, (patches, truth) in enumerate(zip(batch.labels, batch.truth, strict=True)):
        for (row, column), patch in zip(corner[group], patches, strict=True):
            np.testing.assert_allclose(truth[row : row + 32, column : column + 32], patch, rtol=1e-6)
    backend = create_backend('pytorch', CPU)
    backend.build(build_plan(MODEL), load_model().weights)
    image = physics_image(prepared, backend, VALIDATION_SEED, never)
    for group, (row, column) in enumerate(batch.corner.min(axis=1) + prepared.margin):
        window = np.s_[row : row + 32, column : column + 32]
        for strength, look in zip(STRENGTHS, batch.looks, strict=True):
            seen = dict(zip(SEEN, look[group, :, :32, :32], strict=True))
            np.testing.assert_allclose(
                seen['object_real'] + 1j * seen['object_imag'], image.object_array[window], atol=1e-5
            )
            told = noise_told(strength, image.curvature[window])
            np.testing.assert_allclose(seen['deviation'], told, rtol=1e-5)
            np.testing.assert_allclose(
                seen['light'], image.weight[window] / image.peak_illumination, rtol=1e-5
            )


def test_net_11_what_judges_was_not_shown(batch, prepared):
    """Counts of the pixels that losses look at may be anything: the images do not know them."""
    share = batch.judged.mean(axis=(-2, -1))
    np.testing.assert_allclose(share, HELD_OUT_FRACTION * prepared.valid.mean(), rtol=0.05)
    assert not (batch.judged & ~prepared.valid).any()
    raw = prepared.scan.raw
    other = raw.diffraction.copy()
    held_out = draw_held_out(prepared.valid, HELD_OUT_FRACTION, VALIDATION_SEED)
    for number, pattern in enumerate(np.fft.ifftshift(other, axes=(-2, -1))):
        pattern.reshape(-1)[held_out[number % len(held_out)]] += 1.0
        other[number] = np.fft.fftshift(pattern)
    assert (other != raw.diffraction).mean() == pytest.approx(share.mean(), rel=0.05)
    # The scale is measured on all pixels.
    changed = ScanModel(
        Scan.from_raw(replace(raw, diffraction=other)), MODEL, has_truth=True, known_scale=prepared.scale
    )
    (item,) = images_of().validation([GroupedScan(changed, GROUPS)])
    np.testing.assert_array_equal(item.batch(GROUPS).looks, batch.looks)


def test_net_12_epochs_take_turns_and_each_image_is_made_once(prepared, monkeypatch):
    made = []

    def counted(prepared, backend, seed, *arguments):
        made.append(seed)
        return physics_image(prepared, backend, seed, *arguments)

    monkeypatch.setattr('ptycho_engine.training.physics_images.physics_image', counted)
    images = images_of()
    batches = [
        images.training([GroupedScan(prepared, GROUPS)], epoch)[0].batch(GROUPS)
        for epoch in range(1, LOOKS + 2)
    ]
    assert sorted(made) == list(range(1, LOOKS + 1))
    assert all((a.judged != b.judged).any() for a, b in pairwise(batches))
    np.testing.assert_array_equal(batches[-1].judged, batches[0].judged)
    told = [batch.looks[0, :, SEEN.index('deviation')].max() for batch in batches[:2]]
    assert max(told) / min(told) == pytest.approx(max(STRENGTHS) / min(STRENGTHS), rel=1e-3)
    images.validation([GroupedScan(prepared, GROUPS)])
    assert VALIDATION_SEED in made


def test_a_cnn_learns_from_the_patterns_alone(prepared):
    model = ModelConfig(N=32, n_filters_scale=1, architecture='cnn')
    plan, backend = build_plan(model), create_backend('pytorch', CPU)
    (item,) = PhysicsImages(backend, plan, never).training([GroupedScan(prepared, GROUPS)], 1)
    assert item.batch(GROUPS).looks is None


def test_run_03_it_can_be_stopped(prepared):
    with pytest.raises(Cancelled):
        images_of(stop=lambda: True).validation([GroupedScan(prepared, GROUPS)])


@given(st.integers(0, 2**32 - 1), st.integers(1, 400), st.integers(1, 25), st.floats(0.5, 60), st.booleans())
def test_sim_15_parts_are_of_one_dataset(seed, n, fewest, step, two):
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
def test_sim_15_a_part_lies_inside_the_scan(seed, points):
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


@pytest.mark.parametrize('backend', BACKENDS)
def test_simulated_scans_of_one_kind_teach_the_prior_that_kind(backend, tmp_path):
    """On objects that it never saw it is better than the packaged prior that it began with."""
    scan = Scan.from_raw(small_scan(points=5, size=32, step=8.0, photons=2e3))
    config = TrainingConfig(
        backend=backend, nepochs=2, n_groups=64, learning_rate=1e-2, validation_fraction=0.2
    )
    variety = ObjectVariety(families=('siemens',), absorption=0.5, phase=1.0)
    events = train(SimulatedScans(scan, config, variety=variety), config, tmp_path, execution=CPU)
    epochs = [event for event in events if isinstance(event, EpochDone)]
    assert any(epoch.best for epoch in epochs)
    packaged, trained = load_model().weights, load_archive(tmp_path)
    assert any((trained.weights[name] != packaged[name]).any() for name in packaged)
    assert trained.config.model.architecture == 'prior'


def test_where_no_epoch_is_better_the_packaged_prior_is_kept_and_it_is_said(tmp_path, caplog):
    scan = Scan.from_raw(small_scan(points=4, size=32))
    # So long steps only do harm.
    config = TrainingConfig(nepochs=9, n_groups=16, learning_rate=1.0, early_stop_patience=2)
    with caplog.at_level(logging.INFO, 'ptychopinn'):
        epochs = [e for e in train([scan], config, tmp_path, execution=CPU) if isinstance(e, EpochDone)]
    assert [epoch.best for epoch in epochs] == [False, False]
    assert 'Before training: validation deviance' in caplog.text
    assert 'is kept: there is nothing to train here' in caplog.text
    packaged = load_model().weights
    for name, value in load_archive(tmp_path).weights.items():
        np.testing.assert_array_equal(value, packaged[name])


def test_run_09_what_a_prior_starts_from_replaces_no_earlier_model(tmp_path, caplog, monkeypatch):
    """A run that is stopped in its first epoch has completed none, though it has weights from the start."""
    monkeypatch.setattr('ptycho_engine.training.physics_images.physics_image', flat_image)
    (tmp_path / 'wts.h5.zip').write_bytes(b'a model of an earlier run')
    scan = Scan.from_raw(small_scan(points=4, size=32))
    seen = []
    config = TrainingConfig(n_groups=16)
    events = train([scan], config, tmp_path, execution=CPU, should_stop=lambda: bool(seen))
    with caplog.at_level(logging.INFO, 'ptychopinn'):
        for event in events:
            seen.append(event)
    assert (tmp_path / 'wts.h5.zip').read_bytes() == b'a model of an earlier run'
    assert (tmp_path / 'wts.stopped.h5.zip').is_file()
    assert 'nothing to train' not in caplog.text


def test_run_04_a_prior_that_diverges_in_its_first_epoch_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr('ptycho_engine.training.physics_images.physics_image', flat_image)
    scan = Scan.from_raw(small_scan(points=4, size=32))
    config = TrainingConfig(n_groups=16, learning_rate=1e6, gradient_clip_val=None)
    with pytest.raises(DivergedError, match='not finite in the first epoch'):
        list(train([scan], config, tmp_path, execution=CPU))


def test_net_13_large_scans_are_brought_there_in_parts(monkeypatch, caplog):
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
    assert f'draws 100 groups of 4: {len(taken)} of 400 patterns' in caplog.text
    assert len(drawn) == 2
    assert sum(len(item.groups) for item in held_out) == 2 * GROUPS_OF_PART
    for item in drawn:
        part = item.ready().prepared
        assert len(part) <= MOST_PATTERNS
        assert part.scale == source.reference.scale
        batch, own = part.batch(item.groups[:3]), positions_of(part)[item.groups[:3]]
        rows = np.array(
            [[np.flatnonzero((positions_of(whole.reference) == xy).all(axis=1))[0] for xy in g] for g in own]
        )
        expected = whole.reference.batch(rows.astype(np.int32))
        for name in ('amplitude', 'subpixel_shift', 'labels'):
            np.testing.assert_allclose(getattr(batch, name), getattr(expected, name), rtol=1e-5, atol=1e-6)
    again = source.training(1)[0]
    np.testing.assert_array_equal(*(positions_of(item.ready().prepared) for item in (again, drawn[0])))
    assert (source.training(2)[0].groups != drawn[0].groups).any()
    (item,) = images_of().training([drawn[0].ready()], 1)
    assert item.batch(item.groups[:4]).looks.shape[1] == 4


def positions_of(prepared):
    raw = prepared.scan.raw
    return np.stack([raw.xcoords, raw.ycoords], axis=1)


def flat_image(prepared, backend, seed, stop):
    """Stands for :func:`physics_image`, which takes its time."""
    if stop():
        raise Cancelled('The reconstruction was stopped.')
    held_out = draw_held_out(prepared.valid, HELD_OUT_FRACTION, seed)
    patterns = scan_patterns(prepared, seed, multiple=8, held_out=held_out)
    flat = np.ones(patterns.shape, np.complex64)
    return PhysicsImage(flat, flat.real, patterns.peak_illumination, held_out)


def test_run_01_and_03_many_scans_are_made_ready_few_at_a_time(monkeypatch, tmp_path):
    """Memory does not grow with the number of simulated objects, and a stop on the way ends the epoch."""
    ready, made = [], []
    original = PhysicsImages.training

    def watched(self, grouped, epoch):
        gc.collect()
        assert not any(scan() for scan in made)
        made.extend(weakref.ref(item.prepared) for item in grouped)
        ready.append(len(grouped))
        return original(self, grouped, epoch)

    monkeypatch.setattr(PhysicsImages, 'training', watched)
    monkeypatch.setattr('ptycho_engine.training.physics_images.physics_image', flat_image)
    monkeypatch.setattr(simulated, 'GROUPS_OF_PART', 4)
    scan = Scan.from_raw(small_scan(points=3, size=32))
    config = TrainingConfig(nepochs=1, n_groups=44, batch_size=4, validation_fraction=0)
    variety = ObjectVariety(absorption=0.5, phase=1.0)
    events = list(train(SimulatedScans(scan, config, variety=variety), config, tmp_path, execution=CPU))
    assert ready == [8, 3]
    fractions = [event.fraction for event in events if isinstance(event, BatchDone)]
    np.testing.assert_allclose(fractions, np.arange(1, 12) / 11)
    stop = lambda: len(ready) > 2  # noqa: E731
    with pytest.raises(Cancelled):
        list(
            train(
                SimulatedScans(scan, config, variety=variety),
                config,
                tmp_path,
                execution=CPU,
                should_stop=stop,
            )
        )
    assert len(load_archive(tmp_path).history) == 1


def test_parts_follow_the_rules_of_sampling(monkeypatch):
    scan = Scan.from_raw(small_scan(points=20, size=32))
    config = TrainingConfig(model=ModelConfig(), n_groups=1000, validation_fraction=0)
    monkeypatch.setattr(sources, 'WHOLE_PIXELS', 1 << 10)
    for item in MeasuredScans([scan], replace(config, enable_oversampling=False)).training(1):
        assert len(np.unique(item.groups)) == len(item.groups)
    sequential = replace(config, n_groups=8, sequential_sampling=True)
    (item,) = MeasuredScans([scan], sequential).training(1)
    np.testing.assert_array_equal(item.groups[:, 0], np.arange(8))
