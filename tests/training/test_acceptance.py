"""A trained prior is kept only where the solver makes better images with it."""

import logging
from contextlib import closing

import numpy as np
import pytest

from ptycho_engine.backends.base import create_backend
from ptycho_engine.config import InferenceConfig, ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho_engine.errors import Cancelled
from ptycho_engine.formats.archive import load_archive
from ptycho_engine.formats.packaged import load_model
from ptycho_engine.network.plan import training_plan
from ptycho_engine.scan.scan import Scan
from ptycho_engine.simulate import without_truth
from ptycho_engine.training import state
from ptycho_engine.training.acceptance import gives_better_images
from ptycho_engine.training.train import train
from ptycho_engine.whole_scan.object_solver import ObjectSolver
from ptycho_engine.whole_scan.scan_model import ScanModel
from ptycho_engine.whole_scan.solver import held_out_with_each, solve
from tests.conftest import small_scan

CPU = PyTorchExecutionConfig(accelerator='cpu')
SHORT = TrainingConfig(nepochs=1, n_groups=16, batch_size=8)


def value_of(generator):
    """Return what a generator returns when it ends."""
    while True:
        try:
            next(generator)
        except StopIteration as ended:
            return ended.value


@pytest.fixture(scope='module')
def scan():
    return Scan.from_raw(without_truth(small_scan(points=6, size=32, photons=3e3, step=5.0)))


@pytest.fixture(scope='module')
def spoiled():
    """Give the packaged prior with noise as large as its weights."""
    rng = np.random.default_rng(0)
    good = load_model().weights
    return {name: (w + w.std() * rng.standard_normal(w.shape)).astype(np.float32) for name, w in good.items()}


@pytest.mark.parametrize('name', ['pytorch', 'tensorflow'])
def test_stage_03_the_solver_tells_the_better_prior(scan, spoiled, name, caplog):
    good = load_model().weights
    prepared = ScanModel(scan, ModelConfig())
    with closing(create_backend(name, CPU if name == 'pytorch' else None)) as backend:
        backend.build(training_plan(SHORT, 1), good)
        assert gives_better_images(backend, [prepared], spoiled, good, lambda: False)
        with caplog.at_level(logging.INFO, 'ptychopinn.train'):
            assert not gives_better_images(backend, [prepared], good, spoiled, lambda: False)
            assert 'is as good in the solver and is kept' in caplog.text
            # One that changes nothing is no better.
            assert not gives_better_images(backend, [prepared], good, dict(good), lambda: False)
        with pytest.raises(Cancelled):
            gives_better_images(backend, [prepared], good, spoiled, lambda: True)


def test_stage_03_both_priors_go_on_from_one_image_of_physics(scan, spoiled, monkeypatch):
    """Which is solved once; each makes of it what the solver makes with it alone, to the last bit."""
    good = load_model().weights
    prepared = ScanModel(scan, ModelConfig())
    physics = []
    finish = ObjectSolver.finish
    monkeypatch.setattr(ObjectSolver, 'finish', lambda *a, **k: physics.append(a) or finish(*a, **k))
    with closing(create_backend('pytorch', CPU)) as backend:
        backend.build(training_plan(SHORT, 1), good)
        both = value_of(held_out_with_each(prepared, backend, (good, spoiled), lambda: False))
        assert len(physics) == 1
        for weights, held_out in zip((good, spoiled), both, strict=True):
            backend.set_weights(weights)
            config = InferenceConfig(calibrate='off')
            alone = value_of(solve(prepared, backend, config, lambda: False, learned=True))
            np.testing.assert_array_equal(held_out, alone.held_out)
    assert (both[0] != both[1]).any()


@pytest.mark.parametrize('better', [False, True])
def test_stage_03_a_run_keeps_what_the_solver_is_for(scan, tmp_path, monkeypatch, better):
    asked = []

    def judged(backend, scans, started, trained, stop):
        asked.append((started, trained))
        assert [item.scan for item in scans] == [scan]
        return better

    monkeypatch.setattr(state, 'gives_better_images', judged)
    # What it starts from counts for nothing here, so that the epoch is the best.
    monkeypatch.setattr(state.TrainingRun, 'judge_start', lambda run, loss: None)
    list(train([scan], SHORT, tmp_path, execution=CPU))
    ((started, trained),) = asked
    packaged, kept = load_model().weights, load_archive(tmp_path / 'wts.h5.zip').weights
    for name, weights in packaged.items():
        np.testing.assert_array_equal(started[name], weights)
        np.testing.assert_array_equal(kept[name], trained[name] if better else weights)
    assert any((trained[name] != weights).any() for name, weights in packaged.items())


def test_stage_03_a_stopped_run_and_one_without_judges_are_not_compared(scan, tmp_path, monkeypatch):
    monkeypatch.setattr(state, 'gives_better_images', lambda *_: pytest.fail('compared'))
    monkeypatch.setattr(state.TrainingRun, 'judge_start', lambda run, loss: None)
    unjudged = TrainingConfig(nepochs=1, n_groups=16, batch_size=8, validation_fraction=0)
    list(train([scan], unjudged, tmp_path / 'unjudged', execution=CPU))
    more = TrainingConfig(nepochs=3, n_groups=16, batch_size=8)
    epochs = 0

    def stop():
        return epochs > 0

    for event in train([scan], more, tmp_path / 'stopped', execution=CPU, should_stop=stop):
        epochs += type(event).__name__ == 'EpochDone'
    assert epochs == 1
