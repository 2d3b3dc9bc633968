"""When a solution ends, and what belongs to it (SOLVE-02, -03, -06, -08, -10 and -13)."""

import math

import numpy as np
import pytest

from ptycho_engine.backends.base import create_backend
from ptycho_engine.config import InferenceConfig, PyTorchExecutionConfig
from ptycho_engine.formats.packaged import load_model
from ptycho_engine.network.plan import build_plan
from ptycho_engine.physics.descent import AcceleratedDescent
from ptycho_engine.physics.newton import NewtonStep
from ptycho_engine.physics.scan_likelihood import NumpyScanPhysics
from ptycho_engine.whole_scan import solver
from ptycho_engine.whole_scan.calibrate import Calibrator
from ptycho_engine.whole_scan.held_out import scan_patterns
from ptycho_engine.whole_scan.object_solver import IterationCount, ObjectSolver
from ptycho_engine.whole_scan.scan_model import ScanModel
from tests.whole_scan.test_refine import dense_scan

STEPS = {'sparse': 9.0, 'dense': 5.0}
"""Of the scan, in pixels: fewer than 1.2 patterns fall on a pixel, or more, but not four."""


@pytest.fixture(scope='module')
def prepared():
    return {name: ScanModel(dense_scan(points=4, step=step)) for name, step in STEPS.items()}


def solver_of(prepared):
    model, backend = load_model(), create_backend('pytorch', PyTorchExecutionConfig(accelerator='cpu'))
    backend.build(build_plan(model.config.model), model.weights)
    config = InferenceConfig()
    return ObjectSolver(prepared, backend, config, IterationCount(lambda: False, None)), backend, config


@pytest.fixture
def changes(monkeypatch):
    """Let iterations cost nothing and change the object by what the list says, its last number from then
    on."""
    values, one_more = [], []
    monkeypatch.setattr(
        AcceleratedDescent, 'iterate', lambda self, subsets: float(len(one_more.append(1) or one_more))
    )
    monkeypatch.setattr(
        AcceleratedDescent, 'change', property(lambda self: values[min(len(one_more), len(values)) - 1])
    )
    return values


@pytest.mark.parametrize(('kind', 'times'), [('dense', 1), ('sparse', 3)])
@pytest.mark.parametrize(
    ('told', 'ends_after', 'still'),
    [([4.1e-4], 150, False), ([3.9e-4], 60, True), ([1.0] * 99 + [3.9e-4], 100, True)],
)
def test_solve_02_it_ends_when_little_moves_between_60_and_150_iterations(
    prepared, changes, kind, times, told, ends_after, still
):
    """Three times as many where patterns hardly overlap."""
    changes += [value for value in told for _ in range(times)]
    object_solver, *_ = solver_of(prepared[kind])
    turning, count = [], 0
    for _ in object_solver.descend():
        count += 1
        turning.append(object_solver.descent.phase_gain)
    late = len(told) > 1
    assert count == (times * (ends_after - 1) + 1 if late else times * ends_after)
    assert object_solver.still == still
    # The gain of the low-frequency phase falls linearly to nothing over the first 60 (SOLVE-01).
    expected = [max(0, 1 - number / (60 * times)) for number in range(1, count + 1)]
    np.testing.assert_allclose(turning, expected, atol=1e-12)


@pytest.mark.parametrize(('kind', 'times'), [('dense', 1), ('sparse', 3)])
def test_solve_03_eight_iterations_follow_at_each_strength(prepared, changes, kind, times):
    changes.append(1.0)
    object_solver, backend, config = solver_of(prepared[kind])
    trials = solver._PriorTrials(object_solver, backend, config)
    assert len(list(trials._attempt(0.25, phase_update=False))) == 8 * times


def test_solve_02_the_change_is_weighted_by_the_illumination(prepared):
    object_solver, *_ = solver_of(prepared['sparse'])
    before = np.array(object_solver.current)
    next(iter(object_solver.iterate()))
    moved = np.abs(np.array(object_solver.current) - before) ** 2
    weight = np.array(object_solver.weight)
    expected = math.sqrt((weight * moved).sum() / weight.sum())
    assert object_solver.descent.change == pytest.approx(expected, rel=1e-4)


def test_solve_06_a_scan_is_calibrated_between_physics_and_the_prior(prepared, monkeypatch):
    order = []

    def noted(name, result=None):
        def call(self, *arguments):
            order.append(name)
            return result
            yield

        return call

    monkeypatch.setattr(ObjectSolver, 'begin', noted('physics'))
    monkeypatch.setattr(Calibrator, 'calibrate', noted('calibration'))
    monkeypatch.setattr(solver._PriorTrials, 'choose', noted('prior', 0.0))
    _, backend, config = solver_of(prepared['dense'])
    for _ in solver.solve(prepared['dense'], backend, config, lambda: False, learned=True):
        pass
    assert order == ['physics', 'calibration', 'prior']


@pytest.mark.parametrize(
    ('deviances', 'tried', 'chosen'),
    [
        # Each the deviance at (strength, turned); physics alone leaves 1.
        ({(0.25, False): 0.8, (0.4, False): 0.7, (0.4, True): 0.6, (0.15, True): 0.65}, 4, 0.4),
        ({(0.25, False): 0.7, (0.4, False): 0.8, (0.25, True): 0.75}, 3, 0.25),
        ({(0.25, False): 0.8, (0.4, False): 0.9, (0.25, True): 0.7, (0.15, True): 0.6}, 4, 0.15),
        ({(0.25, False): 1.4, (0.4, False): 1.5, (0.25, True): 1.3}, 3, 0.0),
    ],
)
def test_solve_10_the_better_strength_is_tried_with_variation_free_and_then_the_weakest(
    prepared, monkeypatch, deviances, tried, chosen
):
    object_solver, backend, config = solver_of(prepared['sparse'])
    trials = solver._PriorTrials(object_solver, backend, config)
    count = len(object_solver.patterns)
    scatter = 1e-3 * np.random.default_rng(0).standard_normal(count)
    of_object, asked = {id(object_solver.current): 1.0}, []

    def with_prior(prior):
        key = prior._strength, prior._phase_update
        asked.append(key)
        obj = object_solver.current + 0
        of_object[id(obj)] = deviances[key]
        kept.append(obj)
        return obj
        yield

    kept = []
    monkeypatch.setattr(trials, '_with_prior', with_prior)
    monkeypatch.setattr(object_solver.physics, 'held_out_each', lambda obj: of_object[id(obj)] + scatter)
    trials._tried[0.0] = solver._Tried(object_solver.current, 1.0 + scatter)
    choice = trials.choose()
    with pytest.raises(StopIteration) as ended:
        next(choice)
    assert ended.value.value == chosen
    assert asked == list(deviances)
    assert len(asked) == tried


@pytest.mark.parametrize(('step', 'subsets'), [(4.0, []), (3.5, [4, 2])])
def test_solve_08_four_patterns_on_a_pixel_are_enough_for_steps_of_newtons_kind(step, subsets, monkeypatch):
    object_solver, *_ = solver_of(ScanModel(dense_scan(points=6, step=step)))
    assert (object_solver.overlap >= 4) == bool(subsets)
    assert object_solver.overlap < 8
    counts = []
    monkeypatch.setattr(AcceleratedDescent, 'iterate', lambda self, parts: counts.append(len(parts)) or 1.0)
    for number, _ in enumerate(object_solver.descend(), 1):
        if number == 3:
            break
    assert [count for count in counts if count > 1] == subsets


def test_solve_13_a_step_descends_along_the_likelihood_and_a_quadratic_variation():
    """Differences below half the photon noise count as squares: the weights of edges in closed form."""
    prepared = ScanModel(dense_scan(points=3, photons=1e4))
    physics = NumpyScanPhysics(scan_patterns(prepared, 0))
    count = len(prepared)
    obj = prepared.pad(prepared.scan.raw.objectGuess).astype(np.complex64)
    found = physics.evaluate(obj, np.arange(count), 'poisson')
    weight, smoothing = found.weight, 0.12
    step = NewtonStep(physics, obj, weight, smoothing, np.zeros(obj.shape, np.complex64), count)
    slope = np.zeros((2, *obj.shape), complex)
    slope[0, :-1], slope[1, :, :-1] = np.diff(obj, axis=0), np.diff(obj, axis=1)
    light = weight + 0.05 * weight.max()
    edges = smoothing * np.sqrt(weight / ((np.abs(slope) ** 2).sum(axis=0) + 0.5**2 / light))
    bent = edges * slope
    back = -bent[0] - bent[1]
    back[1:] += bent[0, :-1]
    back[:, 1:] += bent[1, :, :-1]
    expected = -found.gradient - back
    np.testing.assert_allclose(step._residual, expected, atol=1e-4 * np.abs(expected).max())
