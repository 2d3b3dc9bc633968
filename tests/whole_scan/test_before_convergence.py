"""The solver after one and three iterations is an independent computation's, constant for constant.

At convergence many constants make no difference: a tenfold error of one can leave the image as it is (REF-01
to REF-03, SOLVE-01, SOLVE-03, NET-02, FWD-04). The reference is ``tests/reference``, which shares no
code with the engine.
"""

from pathlib import Path

import numpy as np
import pytest

from ptycho_engine.backends.base import create_backend
from ptycho_engine.config import InferenceConfig, PyTorchExecutionConfig
from ptycho_engine.config.training import BACKENDS
from ptycho_engine.formats.packaged import load_model
from ptycho_engine.network.plan import build_plan
from ptycho_engine.whole_scan.object_solver import IterationCount, ObjectSolver
from ptycho_engine.whole_scan.scan_model import ScanModel
from ptycho_engine.whole_scan.solver import _PriorTrials
from tests.reference import denoiser, descent, optics
from tests.reference.denoiser import noise_seen
from tests.reference.descent import Learned, Measured, Variation, solved
from tests.whole_scan.test_refine import dense_scan

DOUBLE = PyTorchExecutionConfig(accelerator='cpu', precision='64-true')
SMOOTHING = 0.12

RELATIVE = 1e-6
"""Double precision on both sides, but for gains and probes, which are handed over in single precision."""


@pytest.fixture(scope='module')
def prepared():
    """A scan of two modes, dim enough that the bound of the dark counts, with bad pixels."""
    bad = np.random.default_rng(5).random((32, 32)) < 0.03
    return ScanModel(dense_scan(points=4, step=7.0, photons=2e4, modes=2, bad=bad))


def solver_of(prepared, backend_name):
    """Return a solver of production, from a flat object, and its backend."""
    model = load_model()
    backend = create_backend(backend_name, DOUBLE)
    backend.build(build_plan(model.config.model), model.weights)
    config = InferenceConfig(refine_smoothing=SMOOTHING)
    return ObjectSolver(prepared, backend, config, IterationCount(lambda: False, None)), backend, config


def measured_by(solver):
    """Return what the reference needs of the scan: numbers."""
    patterns = solver.patterns
    count, size = len(patterns), patterns.size
    fitted = np.ones((count, size * size), bool)
    for number in range(count):
        fitted[number, patterns.held_out[number % len(patterns.held_out)]] = False
    fitted = np.fft.fftshift(fitted.reshape(count, size, size), axes=(1, 2)) & patterns.valid
    return Measured(
        counts=patterns.amplitude(np.arange(count)).astype(np.float64) ** 2,
        probe=patterns.probe.astype(np.complex128),
        corner=patterns.placement.corner,
        subpixel_shift=patterns.placement.subpixel_shift,
        fitted=fitted,
        shape=patterns.shape,
    )


def assert_equal(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=RELATIVE * np.abs(expected - 1).max())


@pytest.mark.parametrize('backend_name', BACKENDS)
def test_solve_01_physics_alone_after_one_and_three_iterations(prepared, backend_name):
    solver, *_ = solver_of(prepared, backend_name)
    measured = measured_by(solver)
    flat = np.ones(measured.shape)
    illumination = measured.gradient(flat)[1]
    for iterations, _ in zip(range(1, 4), solver.descend(), strict=False):
        if iterations != 2:
            variation = Variation(illumination, SMOOTHING)
            expected = solved(measured, flat, variation, iterations, 60 * solver.patience)
            assert np.abs(expected - 1).max() > 0.1
            assert_equal(solver.physics.to_host(solver.current), expected)


@pytest.mark.parametrize('turned', [False, True])
@pytest.mark.parametrize('backend_name', BACKENDS)
def test_solve_03_with_the_prior_after_one_and_three_iterations(prepared, backend_name, turned):
    """The network's features, output and folding are looked at too (NET-02)."""
    solver, backend, config = solver_of(prepared, backend_name)
    measured, weights = measured_by(solver), load_model().weights
    flat = np.ones(measured.shape)
    illumination = measured.gradient(flat)[1]
    for _ in zip(range(3), solver.descend(), strict=False):
        pass
    plain = solver.physics.to_host(solver.current)
    trials = _PriorTrials(solver, backend, config)
    for iterations, _ in zip(range(1, 4), trials._attempt(0.4, phase_update=turned), strict=False):
        if iterations != 2:
            prior = Learned(
                illumination, SMOOTHING, lambda *seen: noise_seen(weights, *seen), 0.4, turned=turned
            )
            expected = solved(measured, plain, prior, iterations, None)
            assert np.abs(expected - plain).max() > 0.02
            assert_equal(solver.physics.to_host(solver.current), expected)


def test_the_reference_shares_no_code_with_the_engine():
    sources = [Path(module.__file__) for module in (denoiser, descent, optics)]
    for line in '\n'.join(source.read_text(encoding='utf-8') for source in sources).splitlines():
        if line.startswith(('import ', 'from ')):
            assert line.split()[1].split('.')[0] in (
                '__future__',
                'collections',
                'dataclasses',
                'numpy',
                'scipy',
                'tests',
            )
