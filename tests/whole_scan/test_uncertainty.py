"""How true the stated uncertainty of an image is (clause SOLVE-07 of specs/physics.md)."""

from dataclasses import astuple, dataclass, replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ptycho_engine import reconstruct
from ptycho_engine.config import InferenceConfig, PyTorchExecutionConfig
from ptycho_engine.config.training import BACKENDS
from ptycho_engine.formats.packaged import NO_MODEL, load_model
from ptycho_engine.reconstruction.result import Reconstructed, Reconstruction
from ptycho_engine.scoring.scores import align, scanned_box
from ptycho_engine.whole_scan import solver as solve_module
from ptycho_engine.whole_scan.uncertainty import PHYSICS_ALONE, WITH_PRIOR, squared_parts, stated_uncertainty
from tests.whole_scan.test_refine import dense_scan


@dataclass(frozen=True)
class Stated:
    """A result, what was stated of it, and how true that is."""

    result: Reconstruction
    shares: object
    of_square: np.ndarray
    """Part of each of the shares in the square of the uncertainty."""
    size: float
    """Relative to the true error, root mean squares over the scanned box."""
    correlation: float
    """With the true error, root mean square over a Gaussian of 4 px."""


def run(scan, model, monkeypatch, **options) -> Stated:
    kept = []

    def keep(parts, shares):
        kept.append((parts, shares))
        return stated_uncertainty(parts, shares)

    monkeypatch.setattr(solve_module, 'stated_uncertainty', keep)
    cpu = PyTorchExecutionConfig(accelerator='cpu')
    events = list(reconstruct(scan, model, InferenceConfig(**options), execution=cpu))
    assert isinstance(events[-1], Reconstructed)
    result = events[-1].reconstruction
    [(parts, shares)] = kept
    box = scanned_box(scan)
    power = np.array(astuple(shares)) * parts[(slice(None), *box)].mean(axis=(1, 2))
    aligned = align(scan.raw.objectGuess, result.object_array, box)
    error, stated = np.abs(aligned.result - aligned.truth), result.uncertainty[box]
    local = np.sqrt(gaussian_filter(error**2, 4))
    return Stated(
        result,
        shares,
        power / power.sum(),
        float(np.sqrt(np.mean(stated**2) / np.mean(error**2))),
        float(np.corrcoef(stated.ravel(), local.ravel())[0, 1]),
    )


@pytest.fixture(scope='module')
def patch():
    with pytest.MonkeyPatch.context() as context:
        yield context


@pytest.fixture(scope='module')
def sparse():
    return dense_scan(points=6, step=9.0, photons=1e5)


@pytest.fixture(scope='module')
def with_prior(sparse, patch):
    return run(sparse, None, patch)


@pytest.fixture(scope='module')
def by_physics(sparse, patch):
    return run(sparse, load_model(NO_MODEL), patch)


@pytest.fixture(scope='module')
def dense(patch):
    return run(dense_scan(points=14, step=3.0, photons=1e4), None, patch)


def test_solve_12_it_has_about_the_size_of_the_true_error(with_prior, by_physics, dense):
    for found in (with_prior, by_physics, dense):
        assert 1 / 1.5 < found.size < 1.5
    assert with_prior.shares is dense.shares is WITH_PRIOR
    assert by_physics.shares is PHYSICS_ALONE


def test_solve_12_it_is_large_where_the_error_is(with_prior, by_physics):
    assert with_prior.correlation > 0.5
    assert by_physics.correlation > 0.5


def test_solve_07_each_part_has_its_share(with_prior, by_physics, dense):
    """Golden numbers: they pin every constant."""
    np.testing.assert_allclose(with_prior.of_square, [0.089, 0.634, 0.166, 0.111], atol=0.03)
    np.testing.assert_allclose(by_physics.of_square, [0.086, 0, 0.455, 0.459], atol=0.03)
    np.testing.assert_allclose(dense.of_square, [0.220, 0.411, 0.369, 0], atol=0.03)


def test_solve_07_a_prior_that_was_left_out_is_no_part_of_it(sparse, by_physics, patch):
    good = load_model()
    spoiled = replace(good, weights={name: -3 * np.asarray(w) for name, w in good.weights.items()})
    found = run(sparse, spoiled, patch)
    assert found.shares is PHYSICS_ALONE
    np.testing.assert_allclose(
        found.result.uncertainty, by_physics.result.uncertainty, rtol=1e-2, equal_nan=True
    )


@pytest.mark.parametrize('backend', BACKENDS[1:])
def test_both_backends_state_the_same(sparse, with_prior, patch, backend):
    other = run(sparse, None, patch, backend=backend)
    np.testing.assert_allclose(
        other.result.uncertainty, with_prior.result.uncertainty, rtol=0.03, equal_nan=True
    )


SHAPE, BOX = (48, 60), (slice(10, 40), slice(12, 50))


def lit():
    weight = np.zeros(SHAPE, np.float32)
    weight[4:44, 4:56] = 400
    return weight


def test_a_phase_ramp_and_a_common_phase_are_no_error():
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    ramp = np.exp(1j * (2 + 0.02 * x - 0.03 * y)).astype(np.complex64)
    hill = np.exp(0.5j * np.exp(-((y - 25) ** 2 + (x - 30) ** 2) / 100)).astype(np.complex64)
    flat, turned, hilly = (squared_parts(obj, None, lit(), 1.0, BOX)[3][BOX] for obj in (hill**0, ramp, hill))
    assert flat.max() < 1e-8
    # Averages at the edge of what was scanned are a little off.
    assert turned.max() < 1e-3
    assert hilly.max() > 0.02
    both = squared_parts(hill * ramp, None, lit(), 1.0, BOX)[3][BOX]
    np.testing.assert_allclose(both[8:-8, 8:-8], hilly[8:-8, 8:-8], atol=0.05 * hilly.max())


def test_what_the_prior_changed_counts_where_it_did():
    change = np.zeros(SHAPE)
    change[20:24, 30:34] = 0.2
    obj = np.ones(SHAPE, np.complex64)
    before, after = (
        stated_uncertainty(squared_parts(obj, c, lit(), 3.0, BOX), WITH_PRIOR) for c in (None, change)
    )
    # The peak of 4×4 pixels, of variance 1.25, under a Gaussian of 4 px.
    peak = 16 * 0.2**2 / (2 * np.pi * (4**2 + 1.25))
    expected = np.sqrt(before[22, 32] ** 2 + WITH_PRIOR.prior * peak)
    assert after[22, 32] == pytest.approx(expected, rel=0.03)
    assert after[38, 14] == pytest.approx(before[38, 14], rel=1e-3)


def test_an_object_without_structure_has_photon_noise_alone():
    found = stated_uncertainty(squared_parts(np.ones(SHAPE, np.complex64), None, lit(), 1.0, BOX), WITH_PRIOR)
    assert found[25, 30] == pytest.approx(np.sqrt(WITH_PRIOR.noise / 400), rel=1e-3)
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[BOX]).all()


@pytest.mark.parametrize('box', [(slice(20, 21), slice(30, 31)), (slice(20, 21), BOX[1])])
def test_a_scan_of_one_position_or_one_line_has_one_too(box):
    parts = squared_parts(np.ones(SHAPE, np.complex64), None, lit(), 0.1, box)
    assert np.isfinite(parts[(slice(None), *box)]).all()


def test_solve_11_the_phase_is_not_in_doubt_without_limit():
    y = np.arange(SHAPE[0])[:, None]
    obj = np.broadcast_to(np.exp(0.4j * np.sin(y / 6)), SHAPE).astype(np.complex64)
    few, half, one = (squared_parts(obj, None, lit(), overlap, BOX)[3][BOX] for overlap in (0.1, 0.5, 1.0))
    np.testing.assert_array_equal(few, half)
    np.testing.assert_allclose(half, 16 * one)


def test_an_object_that_is_not_finite_has_none():
    obj = np.full(SHAPE, np.nan, np.complex64)
    assert np.isnan(stated_uncertainty(squared_parts(obj, None, lit(), 1.0, BOX), PHYSICS_ALONE)).all()
