"""The whole scan as one group: the same numbers as in training, and a better image than patches give."""

from dataclasses import replace

import numpy as np
import pytest

from ptycho_engine.backends.base import create_backend
from ptycho_engine.config import InferenceConfig, ModelConfig, PyTorchExecutionConfig
from ptycho_engine.config.training import BACKENDS
from ptycho_engine.data.scan import Scan
from ptycho_engine.errors import Cancelled
from ptycho_engine.network.plan import build_plan, initial_weights
from ptycho_engine.physics.unrolled import UnrolledState, advance, physics_step, upright
from ptycho_engine.pipeline import coupled
from ptycho_engine.pipeline.coupled import CoupledObject, WholeScan
from ptycho_engine.pipeline.held_out import scan_patterns
from ptycho_engine.pipeline.predict import predict_whole
from ptycho_engine.pipeline.prepared import PreparedScan
from ptycho_engine.pipeline.quality import align, scan_box, score
from tests.backends.test_parity import scattered_weights
from tests.conftest import small_scan
from tests.pipeline.test_refine import dense_scan

CPU = PyTorchExecutionConfig(accelerator='cpu')
MODEL = ModelConfig(N=32, gridsize=3, n_filters_scale=1, unrolled_steps=3)
PLAN = build_plan(MODEL)


@pytest.fixture(scope='module')
def prepared():
    bad = np.zeros((32, 32), bool)
    bad[10:12, 5:9] = True
    # Without an object the canvas is that of the patches, as that of a group is.
    raw = replace(small_scan(points=3, size=32, modes=2, bad_pixels=bad), objectGuess=None)
    return PreparedScan(Scan.from_raw(raw), MODEL)


def whole_scan(prepared, backend_name='pytorch', stop=lambda: False, held_out_seed=None):
    weights = scattered_weights(PLAN)
    backend = create_backend(backend_name, CPU)
    backend.build(PLAN, weights)
    return WholeScan(backend, PLAN, weights, prepared, stop, held_out_seed), backend


def finished(run):
    """Return what a generator yields, and what it returns."""
    found = []
    while True:
        try:
            found.append(next(run))
        except StopIteration as end:
            return found, end.value


@pytest.mark.parametrize('backend_name', BACKENDS)
def test_net_05_a_scan_as_one_group_is_what_training_computes(prepared, backend_name):
    network, backend = whole_scan(prepared, backend_name)
    (*_, last) = network.run(np.arange(9))
    expected = backend.predict(prepared.batch(np.arange(9, dtype=np.int32)[None]))[0]
    found = prepared.cut(prepared.pad(last.object_array), np.arange(9))
    light = prepared.stitching_weights(np.arange(9)) > 1e-3 * prepared.illumination.good.size
    assert light.any()
    assert np.abs(expected - 1).max() > 0.01
    np.testing.assert_allclose(found[light], expected[light], atol=2e-4 * np.abs(expected).max())


@pytest.mark.parametrize('backend_name', BACKENDS)
def test_net_01_a_phase_that_the_whole_object_shares_changes_nothing(prepared, backend_name):
    """Steps let it drift, on dense scans by radians, and no network has learned objects of all phases."""
    network, _ = whole_scan(prepared, backend_name)
    start = network.look()[0].before
    _, expected = finished(network.run(np.arange(9), start=start))
    before = (start.obj - start.change) * np.exp(1.5j).astype(np.complex64)
    _, found = finished(network.run(np.arange(9), start=UnrolledState(start.obj, start.obj - before)))
    np.testing.assert_allclose(found.object_array, expected.object_array, atol=1e-5)
    light = np.random.default_rng(0).random(start.obj.shape).astype(np.float32)
    obj = start.obj * np.exp(2.0j).astype(np.complex64)
    turned, as_it_was = upright(UnrolledState(obj, obj - before), light), upright(start, light)
    np.testing.assert_allclose(turned.obj, as_it_was.obj, atol=1e-5)
    np.testing.assert_allclose(turned.change, as_it_was.change, atol=1e-5)


def test_net_01_what_is_upright_stays_as_it_is(prepared):
    """A start that is used again and again is what it was the first time, to the last bit."""
    network, _ = whole_scan(prepared)
    (first, *_) = network.look()
    for _ in range(3):
        (again, *_) = network.look(first.before)
        np.testing.assert_array_equal(again.before.obj, first.before.obj)
        np.testing.assert_array_equal(again.features, first.features)


def test_net_01_corrections_see_dense_scans_upright(monkeypatch):
    def phase(network):
        (seen,) = network.look()
        _, light = network._gradient(seen.before.obj, np.arange(121))
        return abs(np.angle((light * seen.before.obj).sum()))

    assert phase(dense_network(64)[0]) < 1e-5
    monkeypatch.setattr(coupled, 'upright', lambda state, light: state)
    assert phase(dense_network(64)[0]) > 0.05


def dense_network(physics_steps, corrections=1):
    """An untrained network on 121 positions so near to each other that subsets are used."""
    model = replace(MODEL, physics_steps=physics_steps, unrolled_steps=corrections)
    prepared = PreparedScan(dense_scan(points=11, step=2.0), model)
    plan = build_plan(model)
    weights = initial_weights(plan, 0)
    backend = create_backend('pytorch', CPU)
    backend.build(plan, weights)
    return WholeScan(backend, plan, weights, prepared, lambda: False), prepared


def nrmse_of(found, prepared):
    raw = prepared.scan.raw
    return score(
        raw.objectGuess, found.object_array, scan_box(raw.xcoords, raw.ycoords, raw.objectGuess.shape)
    ).nrmse


def test_net_10_physics_steps_bring_the_object_near_before_any_training():
    without, with_them = (
        nrmse_of(finished(network.run(np.arange(121)))[1], prepared)
        for network, prepared in map(dense_network, (0, 64))
    )
    assert without > 0.1
    assert with_them < 0.03


def test_net_10_subsets_give_the_same_object_for_less(monkeypatch):
    network, prepared = dense_network(64)
    asked = []
    gradient = network._gradient

    def counted(obj, part):
        asked.append(len(part))
        return gradient(obj, part)

    monkeypatch.setattr(network, '_gradient', counted)
    _, quick = finished(network.run(np.arange(121)))
    cost = sum(asked)
    asked.clear()
    _, whole = finished(network.run(np.arange(121), most=1))
    assert cost < sum(asked) / 2
    assert nrmse_of(quick, prepared) < 1.3 * nrmse_of(whole, prepared)


def test_net_10_the_slow_phase_is_turned_before_the_first_correction_only(monkeypatch):
    """What a correction smooths away, the patterns ask for again; the turn would amplify its slow part."""
    network, _ = dense_network(64, corrections=2)
    events = []

    def stepped(*arguments, turn):
        events.append('turn' if turn else 'plain')
        return physics_step(*arguments, turn=turn)

    def corrected(*arguments):
        events.append('correction')
        return advance(*arguments)

    monkeypatch.setattr(coupled, 'physics_step', stepped)
    monkeypatch.setattr(coupled, 'advance', corrected)
    finished(network.run(np.arange(121), most=1))
    first = events.index('correction')
    assert events[:first] == ['turn'] * 64
    assert events.count('correction') > 1
    assert set(events[first:]) == {'correction', 'plain'}


def test_net_10_steps_that_run_away_start_again_without_subsets(monkeypatch, caplog):
    network, _ = dense_network(8)
    _, expected = finished(network.run(np.arange(121), most=1))
    monkeypatch.setattr(coupled, 'RUNAWAY_POWER', 0.0)
    with caplog.at_level('INFO', 'ptychopinn'):
        _, found = finished(network.run(np.arange(121)))
    np.testing.assert_array_equal(found.object_array, expected.object_array)
    assert 'starting again' in caplog.text


@pytest.mark.parametrize('changes', [{'gridsize': 1}, {'object_big': False}])
def test_net_10_lone_patterns_get_no_physics_steps(changes):
    assert PLAN.physics_steps == MODEL.physics_steps > 0
    assert build_plan(replace(MODEL, **changes)).physics_steps == 0


def test_an_object_larger_than_a_tile_is_corrected_alike(prepared, monkeypatch):
    whole, _ = whole_scan(prepared)
    (*_, expected) = whole.run(np.arange(9))
    monkeypatch.setattr(coupled, 'TILE', 16)
    tiled, _ = whole_scan(prepared)
    monkeypatch.setattr(coupled, 'HALO', 48)
    (*_, found) = tiled.run(np.arange(9))
    np.testing.assert_allclose(found.object_array, expected.object_array, atol=1e-4)


def test_many_blocks_of_patterns_add_up_to_one(prepared, monkeypatch):
    (*_, expected) = whole_scan(prepared)[0].run(np.arange(9))
    monkeypatch.setattr(coupled, 'PIXELS_AT_ONCE', 2 * 32**2)
    (*_, found) = whole_scan(prepared)[0].run(np.arange(9))
    np.testing.assert_allclose(found.object_array, expected.object_array, atol=1e-4)
    np.testing.assert_allclose(found.weight, expected.weight, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize('seed', [0, None])
def test_ref_04_the_network_does_not_see_the_pixels_that_judge_a_refinement(prepared, seed):
    raw = prepared.scan.raw
    changed = PreparedScan(Scan.from_raw(replace(raw, diffraction=raw.diffraction.copy())), MODEL)
    # The scale is measured before, so that only the network can tell the difference.
    assert changed.illumination.input_scale > 0
    held = scan_patterns(prepared, 0).held_out
    rows, columns = np.unravel_index(held[np.arange(9) % len(held)], (32, 32))
    which = np.arange(9)[:, None], (rows + 16) % 32, (columns + 16) % 32
    changed.scan.raw.diffraction[which] += 20
    (*_, expected) = whole_scan(prepared, held_out_seed=seed)[0].run(np.arange(9))
    (*_, found) = whole_scan(changed, held_out_seed=seed)[0].run(np.arange(9))
    assert np.array_equal(found.object_array, expected.object_array) == (seed == 0)


def test_a_stop_is_heard_between_blocks(prepared):
    network, _ = whole_scan(prepared, stop=lambda: True)
    with pytest.raises(Cancelled):
        next(network.run(np.arange(9)))


@pytest.mark.parametrize('smoothing', [None, 0.12])
def test_quality_04_halves_of_the_scan_or_its_refinement_give_the_uncertainty(prepared, smoothing):
    network, _ = whole_scan(prepared)
    box = (slice(10, 20), slice(10, 20))
    done, prediction = finished(predict_whole(network, prepared, box, smoothing))
    counts = [event.done for event in done if hasattr(event, 'done')]
    assert counts == sorted(counts)
    assert counts[-1] == 9
    scanned = np.isfinite(prediction.uncertainty)
    assert scanned.any()
    assert (prediction.uncertainty[scanned] >= 0).all()
    np.testing.assert_array_equal(prediction.object_array[prediction.weight == 0], 1)


def test_quality_04_the_physics_shows_where_an_object_is_wrong(monkeypatch):
    scan = Scan.from_raw(small_scan(points=6, size=32, photons=1e6))
    dense = PreparedScan(scan, MODEL)
    network, _ = whole_scan(dense)
    truth = scan.raw.objectGuess / np.float32(dense.scale.probe_scale)
    height, width = truth.shape
    wrong = truth * np.exp(0.8j * np.arange(width) / width)
    wrong[height // 2 - 4 : height // 2 + 4, width // 2 - 4 : width // 2 + 4] *= np.exp(0.4j)
    weight = network.run(np.arange(36)).__next__().weight

    def found(members, most=None):
        yield CoupledObject(wrong.astype(np.complex64), weight, 1.0)
        return CoupledObject(wrong.astype(np.complex64), weight, 1.0)

    monkeypatch.setattr(network, 'run', found)
    box = scan_box(scan.raw.xcoords, scan.raw.ycoords, truth.shape)
    _, prediction = finished(predict_whole(network, dense, box, 0.12))
    aligned = align(truth, wrong, box)
    error = np.abs(aligned.result - aligned.truth)
    assert np.corrcoef(prediction.uncertainty[box].ravel(), error.ravel())[0, 1] > 0.6


def test_a_single_pattern_has_no_halves(prepared):
    alone = replace(prepared, scan=replace(prepared.scan, raw=prepared.scan.raw.select(np.array([4]))))
    network, _ = whole_scan(alone)
    _, prediction = finished(predict_whole(network, alone, (slice(0, 10), slice(0, 10)), 0.12))
    assert np.isnan(prediction.resolution)


def test_whole_scan_false_predicts_groups():
    assert InferenceConfig().whole_scan
    assert build_plan(MODEL).couples
    assert not build_plan(replace(MODEL, object_big=False)).couples
    assert build_plan(replace(MODEL, gridsize=1)).couples
    assert not build_plan(ModelConfig(N=32, gridsize=2, architecture='cnn')).couples
