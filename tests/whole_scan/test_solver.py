"""An image from a flat object (clauses SOLVE-* of specs/physics.md)."""

import math
from dataclasses import replace

import numpy as np
import pytest

from ptycho_engine import reconstruct
from ptycho_engine.config import InferenceConfig, PyTorchExecutionConfig
from ptycho_engine.config.training import BACKENDS
from ptycho_engine.errors import Cancelled, ConfigError
from ptycho_engine.events import IterationDone
from ptycho_engine.formats.packaged import NO_MODEL, PACKAGED_PRIOR, load_model
from ptycho_engine.physics.newton import NewtonStep
from ptycho_engine.reconstruction.result import Reconstructed
from ptycho_engine.scan.scan import Scan
from ptycho_engine.scoring.scores import scanned_box, score
from ptycho_engine.whole_scan import object_solver as object_solver_module
from ptycho_engine.whole_scan import solver as solve_module
from ptycho_engine.whole_scan.object_solver import NEWTON_ITERATIONS, NEWTON_STEPS, SETTLING_ITERATIONS
from tests.whole_scan.test_refine import dense_scan

DENSE_NRMSE = 0.00717
"""Of physics alone on the dense scan below."""

CPU = PyTorchExecutionConfig(accelerator='cpu')


def run(scan, model, **options):
    """Return (events, Reconstruction)."""
    events = list(reconstruct(scan, model, InferenceConfig(**options), execution=CPU))
    assert isinstance(events[-1], Reconstructed)
    return events, events[-1].reconstruction


def scored(scan, result):
    return score(scan.raw.objectGuess, result.object_array, scanned_box(scan))


@pytest.fixture(scope='module')
def sparse():
    return dense_scan(points=6, step=9.0, photons=1e5)


@pytest.fixture(scope='module')
def by_physics(sparse):
    return run(sparse, load_model(NO_MODEL))


@pytest.fixture(scope='module')
def with_prior(sparse):
    return run(sparse, None)


def test_solve_01_physics_alone_finds_the_object(sparse, by_physics):
    """A golden number: it pins the gain of the low-frequency phase, its end, and when nothing moves any
    more."""
    events, result = by_physics
    found = scored(sparse, result)
    assert found.nrmse == pytest.approx(0.0350, rel=0.03)
    assert 'PtychoPINN by physics alone' in result.comments
    iterations = [event for event in events if isinstance(event, IterationDone)]
    assert iterations[0].n_iterations == 3 * 150
    assert len(iterations) >= 3 * 60
    assert iterations[-1].held_out_deviance < 0.5 * iterations[0].held_out_deviance


def test_solve_03_the_packaged_prior_makes_a_better_image(sparse, by_physics, with_prior):
    """On an object that it has never seen: a golden number, which pins weights and strengths."""
    plain, better = scored(sparse, by_physics[1]), scored(sparse, with_prior[1])
    assert better.nrmse == pytest.approx(0.0304, rel=0.03)
    assert better.nrmse < 0.9 * plain.nrmse
    assert better.amplitude_ssim > plain.amplitude_ssim
    assert better.phase_ssim > plain.phase_ssim - 0.003
    assert 'PtychoPINN with the learned prior' in with_prior[1].comments
    assert 'physics and the learned prior' in with_prior[1].comments
    assert with_prior[0][0].n_iterations == 3 * (150 + 4 * 8)
    # What is left is told as soon as it is known that physics has come to its end.
    last = [event for event in with_prior[0] if isinstance(event, IterationDone)][-1]
    assert last.n_iterations - last.iteration in (0, solve_module.PRIOR_ITERATIONS)


@pytest.fixture(scope='module')
def dense():
    return dense_scan(points=21, step=2.0, photons=1e5)


def test_solve_08_and_13_a_dense_scan_takes_steps_of_newtons_kind(dense):
    """A golden number: it pins their number, their iterations and the gain of the low-frequency phase in
    them."""
    events, result = run(dense, load_model(NO_MODEL))
    found = scored(dense, result)
    # Half as many iterations make 2 % of difference, two steps less 1.5 %, a tenth of the gain 1.3 %;
    # rounding far less.
    assert found.nrmse == pytest.approx(DENSE_NRMSE, rel=0.004)
    iterations = [event for event in events if isinstance(event, IterationDone)]
    assert len(iterations) == 4 + NEWTON_STEPS * (NEWTON_ITERATIONS + 1) + SETTLING_ITERATIONS
    assert iterations[-1].n_iterations == len(iterations)


def test_solve_08_steps_that_held_out_pixels_are_against_are_not_taken(dense, monkeypatch):
    """The object goes on from where it was, by steps of momentum."""
    _, plain = run(dense, load_model(NO_MODEL), calibrate='off')
    monkeypatch.setattr(NewtonStep, 'reached', property(lambda step: 0.5 * step._obj))
    events, result = run(dense, load_model(NO_MODEL), calibrate='off')
    assert (
        sum(isinstance(event, IterationDone) for event in events) > object_solver_module.PHASE_GAIN_ITERATIONS
    )
    assert scored(dense, result).nrmse < 1.1 * scored(dense, plain).nrmse


def test_solve_08_where_parts_of_the_scan_are_too_small_it_starts_again(dense, monkeypatch):
    monkeypatch.setattr(object_solver_module, 'RUNAWAY', 0.0)
    _, plain = run(dense, load_model(NO_MODEL))
    assert scored(dense, plain).nrmse < 1.2 * DENSE_NRMSE


def test_solve_04_a_prior_that_does_not_suit_the_object_is_dropped(sparse, by_physics):
    good = load_model()
    spoiled = replace(good, weights={name: -3 * np.asarray(w) for name, w in good.weights.items()})
    _, result = run(sparse, spoiled)
    np.testing.assert_allclose(result.object_array, by_physics[1].object_array, atol=2e-5)
    assert 'physics and total variation' in result.comments


def test_solve_05_it_works_for_any_size_of_patterns(sparse):
    """Not only for those that networks of scans are for."""
    raw = sparse.raw
    size = 30
    cut = slice(1, 1 + size)
    odd = replace(
        raw,
        diffraction=np.ascontiguousarray(raw.diffraction[:, cut, cut]),
        probeGuess=raw.probeGuess[:, cut, cut],
        objectGuess=None,
        bad_pixels=None,
    )
    _, result = run(Scan.from_raw(odd), None)
    assert math.isfinite(result.deviance)


@pytest.mark.parametrize('backend', BACKENDS[1:])
def test_both_backends_make_the_same_image(sparse, with_prior, backend):
    _, other = run(sparse, None, backend=backend)
    box = with_prior[1].weight > 0
    difference = np.abs(other.object_array - with_prior[1].object_array)[box]
    # Rounding in single precision, carried through 180 iterations.
    assert np.sqrt(np.mean(difference**2)) < 2e-3


def test_it_can_be_stopped(sparse):
    asked = iter([False] * 5 + [True] * 100)
    with pytest.raises(Cancelled):
        list(reconstruct(sparse, None, execution=CPU, should_stop=lambda: next(asked)))


def test_rpie_belongs_to_networks_of_scans(sparse):
    with pytest.raises(ConfigError, match='refine_method'):
        run(sparse, None, refine_method='rpie')


def test_the_packaged_prior_is_small():
    assert PACKAGED_PRIOR.stat().st_size < 3 << 20
