"""Refinement of an object by the physics of the whole scan (clauses REF-* of specs/physics.md)."""

import math
from dataclasses import fields, replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ptycho_engine import progress
from ptycho_engine.backends.base import create_backend
from ptycho_engine.config import InferenceConfig, ModelConfig, TrainingConfig
from ptycho_engine.config.training import BACKENDS
from ptycho_engine.errors import Cancelled, ConfigError
from ptycho_engine.events import IterationDone
from ptycho_engine.formats.archive import ModelArchive
from ptycho_engine.network.plan import initial_weights, training_plan
from ptycho_engine.physics import scan_likelihood
from ptycho_engine.physics.descent import ReferencedVariation, RegularisedPIE, TotalVariation
from ptycho_engine.physics.forward import deviance, predict_intensity
from ptycho_engine.physics.likelihood import Evaluation, draw_held_out
from ptycho_engine.physics.likelihood_terms import residual_factor
from ptycho_engine.physics.operations import NUMPY
from ptycho_engine.physics.preconditioner import illumination_variance, phase_preconditioner
from ptycho_engine.physics.scan_likelihood import NumpyScanPhysics
from ptycho_engine.reconstruction.reconstruct import reconstruct
from ptycho_engine.reconstruction.result import PartialObject
from ptycho_engine.scan.scan import Scan
from ptycho_engine.scoring.scores import align, scan_box, score
from ptycho_engine.simulate import defocused_probe, make_object, raster_positions, simulate_scan
from ptycho_engine.whole_scan import refine as refine_module
from ptycho_engine.whole_scan.held_out import fit_and_noise, scan_patterns
from ptycho_engine.whole_scan.ramp import with_ramp_of
from ptycho_engine.whole_scan.refine import refine
from ptycho_engine.whole_scan.scan_model import ScanModel
from ptycho_engine.whole_scan.subsets import SPARSE_OVERLAP, overlap_of


def dense_scan(points=7, photons=1e5, step=3.0, modes=1, bad=None, seed=0) -> Scan:
    rng = np.random.default_rng(seed)
    probe = defocused_probe(32, rng, width_px=9.0)
    if modes > 1:
        probe = np.concatenate([probe, 0.5 * np.roll(probe, 3, axis=-1)])
    x, y = raster_positions(points, points, step, rng)
    side = int(points * step) + 44
    truth = make_object('dead-leaves', (side, side), rng, absorption=0.3, phase=0.6)
    middle = (side - 1) / 2
    raw = simulate_scan(truth, probe, x + middle, y + middle, photons=photons, rng=rng, bad_pixels=bad)
    return Scan.from_raw(raw)


def finished(prepared, start=None, backend=None, stop=lambda: False, **options):
    """Run a refinement; return (events, Refinement)."""
    if start is None:
        start = np.ones(prepared.scan.grid.shape, np.complex64)
    run = refine(prepared, backend or create_backend('pytorch'), start, InferenceConfig(**options), stop)
    events = []
    while True:
        try:
            events.append(next(run))
        except StopIteration as end:
            return events, end.value


def scored(prepared, obj):
    raw = prepared.scan.raw
    return score(raw.objectGuess, obj, scan_box(raw.xcoords, raw.ycoords, raw.objectGuess.shape))


@pytest.fixture(scope='module')
def dense() -> ScanModel:
    return ScanModel(dense_scan())


@pytest.fixture(scope='module')
def exact():
    """Return patterns in double precision, their physics, an object and its likelihood.

    Counts are near the rate, so that no step is bounded and the direction is a gradient.
    """
    rng = np.random.default_rng(3)
    prepared = ScanModel(dense_scan(points=3, modes=2, bad=rng.random((32, 32)) < 0.05))
    patterns = scan_patterns(prepared, 0)
    patterns = replace(patterns, probe=patterns.probe.astype(np.complex128))
    corner = patterns.placement.corner
    obj = prepared.pad(prepared.scan.raw.objectGuess).astype(complex)

    intensity, background = rng.uniform(0.5, 2, len(patterns)), rng.uniform(0, 3, (32, 32))
    patterns = replace(patterns, intensity=intensity, background=background)

    def rate(
        o,
        probe=patterns.probe,
        subpixel_shift=patterns.placement.subpixel_shift,
        intensity=intensity,
        background=background,
    ):
        windows = np.lib.stride_tricks.sliding_window_view(o, (32, 32))
        own = predict_intensity(windows[corner[:, 0], corner[:, 1]], probe, subpixel_shift)
        return intensity[:, None, None] * own + background + 0.01

    counts = rate(obj) * rng.uniform(0.5, 2, (len(patterns), 32, 32))
    physics = NumpyScanPhysics(replace(patterns, amplitude=lambda chosen: np.sqrt(counts[chosen])))
    held = np.zeros((len(patterns), 32 * 32), bool)
    sets = np.arange(len(patterns)) % len(patterns.held_out)
    np.put_along_axis(held, patterns.held_out[sets], True, axis=1)
    held = np.fft.fftshift(held.reshape(counts.shape), axes=(-2, -1))

    def loss(o, **experiment):
        expected = rate(o, **experiment)
        return (expected - counts * np.log(expected))[patterns.valid & ~held].sum() / 2

    return patterns, physics, obj, loss


def slope(loss, at, direction, h=1e-6):
    return (loss(at + h * direction) - loss(at - h * direction)) / (2 * h)


def random_like(array):
    rng = np.random.default_rng(8)
    return rng.standard_normal(array.shape) + 1j * rng.standard_normal(array.shape)


# A gradient is with respect to the conjugate: half of (d/dRe + i d/dIm) of twice the loss.


def test_ref_01_the_gradient_is_that_of_the_likelihood(exact):
    patterns, physics, obj, loss = exact
    gradient = physics.evaluate(obj, np.arange(len(patterns)), 'poisson').gradient
    direction = random_like(obj)
    found = 2 * float((gradient.conj() * direction).real.sum())
    assert found == pytest.approx(slope(loss, obj, direction), rel=1e-4)


def test_solve_08_the_curvature_is_that_of_the_likelihood_where_it_fits(exact):
    """There the second derivative is Fisher's information: half of it in units of the gradient."""
    patterns, _, obj, _ = exact
    windows = np.lib.stride_tricks.sliding_window_view(obj, (32, 32))
    corner, subpixel_shift = patterns.placement.corner, patterns.placement.subpixel_shift
    own = predict_intensity(windows[corner[:, 0], corner[:, 1]], patterns.probe, subpixel_shift)
    rate = patterns.intensity[:, None, None] * own + patterns.background + 0.01
    fitting = NumpyScanPhysics(replace(patterns, amplitude=lambda chosen: np.sqrt(rate[chosen])))
    direction, everything = random_like(obj), np.arange(len(patterns))
    found = fitting.curvature_along(obj, direction)
    ahead, behind = (
        fitting.evaluate(obj + h * direction, everything, 'poisson').gradient for h in (1e-5, -1e-5)
    )
    bent = float((direction.conj() * (ahead - behind)).real.sum()) / 2e-5
    # Where the rate is as small as the background, the second derivative has a part beside it.
    assert float((direction.conj() * found).real.sum()) == pytest.approx(bent, rel=1e-2)
    weight = fitting.evaluate(obj, everything, 'poisson').weight
    assert float((direction.conj() * found).real.sum()) < float((weight * np.abs(direction) ** 2).sum())


def test_ref_07_the_gradient_of_the_probe_is_that_of_the_likelihood(exact):
    patterns, physics, obj, loss = exact
    gradient = physics.experiment_gradient(obj, np.arange(len(patterns))).probe
    direction = random_like(patterns.probe)
    expected = slope(lambda probe: loss(obj, probe=probe), patterns.probe, direction)
    assert 2 * float((gradient.conj() * direction).real.sum()) == pytest.approx(expected, rel=1e-4)


def test_ref_08_the_force_on_a_position_is_the_gradient_of_the_likelihood(exact):
    patterns, physics, obj, loss = exact
    found = physics.experiment_gradient(obj, np.arange(len(patterns)))
    direction = random_like(patterns.placement.subpixel_shift).real
    expected = slope(lambda r: loss(obj, subpixel_shift=r), patterns.placement.subpixel_shift, direction)
    assert 2 * float((found.force * direction).sum()) == pytest.approx(expected, rel=1e-4)
    assert (np.linalg.eigvalsh(found.curvature) > 0).all()


def test_cal_12_unbiased_forces_of_few_counts_scatter_about_nothing(exact):
    """Where hardly a photon falls on a pixel, bounded steps pull at a right probe all the same."""
    patterns, _, obj, _ = exact
    probe = patterns.probe / np.sqrt(5e3)
    dim = replace(patterns, probe=probe, background=None, intensity=None)
    windows = np.lib.stride_tricks.sliding_window_view(obj, (32, 32))
    corner = dim.placement.corner
    rate = predict_intensity(windows[corner[:, 0], corner[:, 1]], probe, dim.placement.subpixel_shift)
    rng, everything = np.random.default_rng(0), np.arange(len(dim))
    drawn = [np.sqrt(rng.poisson(rate)) for _ in range(40)]
    physics = [NumpyScanPhysics(replace(dim, amplitude=lambda chosen, a=a: a[chosen])) for a in drawn]

    def power(unbiased):
        """That of the mean force, in units of what its scatter makes it."""
        forces = np.stack(
            [each.experiment_gradient(obj, everything, unbiased=unbiased).probe for each in physics]
        )
        mean = forces.mean(axis=0)
        scatter = (np.abs(forces - mean) ** 2).sum() / (len(forces) - 1)
        return len(forces) * (np.abs(mean) ** 2).sum() / scatter

    assert power(True) == pytest.approx(1, abs=0.2)
    assert power(False) > 2


def test_cal_01_the_forces_on_intensities_and_background_are_the_gradient_of_the_likelihood(exact):
    patterns, physics, obj, loss = exact
    found = physics.experiment_gradient(obj, np.arange(len(patterns)))
    rng = np.random.default_rng(4)
    factor = rng.random(len(patterns))
    along = slope(lambda t: loss(obj, intensity=patterns.intensity * (1 + t * factor)), 0, 1)
    assert 2 * along == pytest.approx((factor * found.intensity_force).sum(), rel=1e-5)
    image = rng.random((patterns.size, patterns.size))
    along = slope(lambda t: loss(obj, background=patterns.background + t * np.fft.fftshift(image)), 0, 1)
    assert 2 * along == pytest.approx((image * found.background_force).sum(), rel=1e-5)


def test_ref_11_the_step_is_bounded_in_the_dark():
    amplitude, rate = np.full(3, 10.0), np.array([1e-12, 1.0, 100.0])
    factor = residual_factor(NUMPY, amplitude, rate, 0.01, 1e-6, 'poisson')
    assert (np.abs(factor * np.sqrt(rate + 0.01)) <= 1.0001 * amplitude).all()
    assert factor[2] == pytest.approx(0, abs=1e-3)
    np.testing.assert_allclose(residual_factor(NUMPY, amplitude, rate, 0.01, 0, 'amplitude')[1:], [-9, 0])


def calibrated(patterns):
    """Return the patterns with everything else that belongs to an experiment."""
    rng = np.random.default_rng(5)
    placement = replace(patterns.placement, subpixel_shift=patterns.placement.subpixel_shift + 0.3)
    return replace(
        patterns,
        probe=patterns.probe * np.complex64(1.1),
        placement=placement,
        intensity=rng.uniform(0.5, 1.5, len(patterns)),
        background=rng.uniform(0.5, 3, patterns.valid.shape),
    )


@pytest.mark.parametrize('backend', BACKENDS)
def test_solve_08_what_is_kept_for_the_curvature_belongs_to_its_object_and_experiment(backend, monkeypatch):
    """Fields at the detector are kept from one direction to the next, where there is room for them."""
    prepared = ScanModel(dense_scan(points=4))
    patterns = scan_patterns(prepared, 2)
    obj = prepared.pad(prepared.scan.raw.objectGuess.astype(np.complex64))
    keeping = create_backend(backend).scan_physics(patterns)
    with monkeypatch.context() as patched:
        patched.setattr(scan_likelihood, 'CACHE_BYTES', 0)
        making = create_backend(backend).scan_physics(patterns)
    cuts, cut = [], keeping._device.cut
    monkeypatch.setattr(keeping._device, 'cut', lambda *a: cuts.append(0) or cut(*a), raising=True)
    first, second = ((o, keeping.to_device(o), making.to_device(o)) for o in (obj, obj * np.complex64(1.1)))
    for step, (host, ours, theirs) in enumerate([first, first, second, first, first]):
        if step == 4:
            for physics in (keeping, making):
                physics.set_experiment(calibrated(patterns))
        turned = host.conj() * np.complex64(1j**step)
        cuts.clear()
        found = keeping.to_host(keeping.curvature_along(ours, keeping.to_device(turned)))
        assert len(cuts) == (1 if step == 1 else 2)
        expected = making.to_host(making.curvature_along(theirs, making.to_device(turned)))
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize('backend', ['numpy', *BACKENDS])
def test_ref_17_saturated_pixels_ask_for_no_less_light(backend):
    """Those that are cut, and of which more is predicted, are as if they were not there."""
    prepared = ScanModel(dense_scan(points=3, modes=1))
    patterns = scan_patterns(prepared, 2)
    truth = prepared.scan.raw.objectGuess / prepared.scale.probe_scale
    obj = prepared.pad(truth.astype(np.complex64))
    everything = np.arange(len(patterns))
    amplitude = patterns.amplitude(everything)
    limit = np.float32(np.quantile(amplitude, 0.95))
    cut = np.minimum(amplitude, limit)
    saturated = replace(patterns, amplitude=lambda chosen: cut[chosen], ceiling=float(limit) * (1 - 1e-5))
    # What more light is predicted for by far agrees with any prediction once it is that prediction.
    windows = np.lib.stride_tricks.sliding_window_view(obj, (32, 32))
    corner, shift = patterns.placement.corner, patterns.placement.subpixel_shift
    rate = predict_intensity(windows[corner[:, 0], corner[:, 1]], patterns.probe, shift) + 0.01
    content = np.where((amplitude >= limit) & (rate > cut**2), np.sqrt(rate), cut).astype(np.float32)
    agreeing = NumpyScanPhysics(replace(patterns, amplitude=lambda chosen: content[chosen]))
    made = NumpyScanPhysics if backend == 'numpy' else create_backend(backend).scan_physics
    ours = made(saturated)
    a, b = (
        ours.evaluate(ours.to_device(obj), everything, 'poisson'),
        agreeing.evaluate(obj, everything, 'poisson'),
    )
    assert np.abs(ours.to_host(a.gradient) - b.gradient).max() < 1e-3 * np.abs(b.gradient).max()
    assert a.held_out == pytest.approx(b.held_out, rel=1e-3)
    naive = NumpyScanPhysics(replace(saturated, ceiling=np.inf)).evaluate(obj, everything, 'poisson')
    assert np.abs(naive.gradient - b.gradient).max() > 0.1 * np.abs(b.gradient).max()
    fit, known = fit_and_noise(saturated, obj), fit_and_noise(agreeing._patterns, obj)
    assert fit.fitted / fit.fitted_noise == pytest.approx(known.fitted / known.fitted_noise, rel=0.15)
    turned = ours.curvature_along(ours.to_device(obj), ours.to_device(obj))
    more = NumpyScanPhysics(replace(saturated, ceiling=np.inf)).curvature_along(obj, obj)
    assert np.abs(ours.to_host(turned)).sum() < 0.95 * np.abs(more).sum()


@pytest.mark.parametrize('modes', [1, 2])
@pytest.mark.parametrize('likelihood', ['poisson', 'amplitude'])
@pytest.mark.parametrize('backend', BACKENDS)
def test_ref_01_each_backend_agrees_with_numpy(backend, modes, likelihood):
    bad = np.random.default_rng(3).random((32, 32)) < 0.05
    prepared = ScanModel(dense_scan(points=4, modes=modes, bad=bad))
    patterns = scan_patterns(prepared, 2)
    ours, reference = create_backend(backend).scan_physics(patterns), NumpyScanPhysics(patterns)
    obj = prepared.pad(prepared.scan.raw.objectGuess.astype(np.complex64)) * np.complex64(1.02)
    chosen = np.array([3, 0, 7, 12])
    a, b = (p.evaluate(p.to_device(obj), chosen, likelihood) for p in (ours, reference))
    assert a.held_out == pytest.approx(b.held_out, rel=1e-4)
    for name in ('gradient', 'weight'):
        x, y = ours.to_host(getattr(a, name)), getattr(b, name)
        assert np.abs(x - y).max() < 1e-4 * np.abs(y).max()
    assert ours.held_out(ours.to_device(obj)) == pytest.approx(reference.held_out(obj), rel=1e-4)
    for x, y in zip(ours.gradient_power(ours.to_device(obj)), reference.gradient_power(obj), strict=True):
        assert np.abs(ours.to_host(x) - y).max() < 1e-3 * np.abs(y).max()
    x, y = (
        p.to_host(p.curvature_along(p.to_device(obj), p.to_device(obj.conj()))) for p in (ours, reference)
    )
    assert np.abs(x - y).max() < 1e-3 * np.abs(y).max()
    for p in (ours, reference):
        p.set_experiment(calibrated(patterns))
    np.testing.assert_allclose(
        ours.held_out_each(ours.to_device(obj)), reference.held_out_each(obj), rtol=1e-3
    )
    a, b = (p.evaluate(p.to_device(obj), chosen, likelihood) for p in (ours, reference))
    for name in ('gradient', 'weight'):
        x, y = ours.to_host(getattr(a, name)), getattr(b, name)
        assert np.abs(x - y).max() < 1e-4 * np.abs(y).max()
    x, y = ours.residuals(ours.to_device(obj)), reference.residuals(obj)
    for field in fields(x):
        a, b = getattr(x, field.name), getattr(y, field.name)
        assert np.abs(a - b).max() < 1e-3 * np.abs(b).max(), field.name
    some = np.random.default_rng(6).permutation(len(patterns))[:11]
    x, y = ours.experiment_gradient(ours.to_device(obj), some), reference.experiment_gradient(obj, some)
    assert x.coherent is None
    for field in fields(x)[1:-1]:
        a, b = getattr(x, field.name), getattr(y, field.name)
        assert np.abs(a - b).max() < 1e-3 * np.abs(b).max(), field.name
    for part in ('gradient', 'weight'):
        a, b = ours.to_host(getattr(x.evaluation, part)), getattr(y.evaluation, part)
        assert np.abs(a - b).max() < 1e-3 * np.abs(b).max(), part
    assert x.evaluation.held_out == pytest.approx(y.evaluation.held_out, rel=1e-3)
    gain = phase_preconditioner(illumination_variance(patterns.probe), patterns.shape)
    x = ours.to_host(ours.filtered(ours.to_device(obj).real, ours.to_device(gain)))
    np.testing.assert_allclose(x, reference.filtered(obj.real, gain), atol=1e-3)


@pytest.mark.parametrize('backend', BACKENDS)
def test_ref_01_patterns_that_do_not_fit_on_the_device_give_the_same(dense, monkeypatch, backend):
    patterns = scan_patterns(dense, 0)
    results = []
    for limit in (2**31, 0):
        monkeypatch.setattr('ptycho_engine.physics.scan_likelihood.CACHE_BYTES', limit)
        physics = create_backend(backend).scan_physics(patterns)
        flat = physics.to_device(np.ones(patterns.shape, np.complex64))
        results.append(physics.to_host(physics.evaluate(flat, np.arange(20), 'poisson').gradient))
    np.testing.assert_allclose(results[0], results[1], atol=1e-4 * np.abs(results[0]).max())


def test_ref_14_rpie_steps_by_0_3_for_up_to_16_patterns_at_a_time(monkeypatch):
    """``conj(P) Δψ / (0.7 |P|² + 0.3 max |P|²)``, the patterns of a subset together."""
    gradient, weight = np.full((4, 4), 2 - 1j), np.full((4, 4), 3.0)
    asked = []

    class Physics:
        def evaluate(self, obj, subset, likelihood):
            asked.append((list(subset), likelihood))
            return Evaluation(gradient, weight, 5.0)

    pie = RegularisedPIE(Physics(), np.ones((4, 4), complex), 10.0)
    assert pie.iterate([np.array([1, 2])]) == 5.0
    np.testing.assert_allclose(pie.current, 1 - (2 - 1j) / (0.7 * 3 + 0.3 * 10))
    assert asked == [([1, 2], 'amplitude')]
    counts = []

    def watched(self, subsets):
        counts.append(len(subsets))
        return 0.0

    monkeypatch.setattr(RegularisedPIE, 'iterate', watched)
    for points, expected in ((8, 4), (9, 6)):
        counts.clear()
        finished(ScanModel(dense_scan(points=points)), refine_iterations=1, refine_method='rpie')
        assert set(counts) == {expected}


def test_ref_02_the_prior_smooths_noise_and_keeps_an_edge():
    rng = np.random.default_rng(0)
    step = np.where(np.arange(40) < 20, 1.0, 0.6)[None, :] * np.ones((40, 1)) + 0j
    weight = np.full((40, 40), 400.0)
    noisy = step + 0.05 * (rng.standard_normal((40, 40)) + 1j * rng.standard_normal((40, 40)))
    prior = TotalVariation(weight, 1.0)
    for _ in range(20):
        smooth = prior(noisy, weight)
    assert np.abs(smooth - step).std() < 0.4 * np.abs(noisy - step).std()
    assert abs(smooth[:, :18].mean() - smooth[:, 22:].mean()) == pytest.approx(0.4, abs=0.05)
    np.testing.assert_array_equal(TotalVariation(weight, 0.0)(noisy, weight), noisy)


def test_ref_13_edges_that_a_network_knows_are_kept():
    """Lines that noise hides from total variation alone; the reference has them, and errors of its own."""
    rng = np.random.default_rng(2)
    truth = np.ones((48, 48), np.complex64)
    truth[::6] = 0.8
    weight = np.full(truth.shape, 25.0, np.float32)

    def disturbed(size):
        noise = rng.standard_normal((*truth.shape, 2)) @ [1, 1j]
        return (truth + size * noise).astype(np.complex64)

    noisy, reference = disturbed(0.1), truth + np.float32(0.1)
    reference[20:30, 20:30] += 0.3

    def settled(prior):
        for _ in range(100):
            found = prior(noisy, weight)
        return np.sqrt(np.mean(np.abs(found - truth) ** 2))

    known = settled(ReferencedVariation(weight, 0.5, reference))
    assert known < 0.8 * min(settled(TotalVariation(weight, c)) for c in (0.12, 0.25, 0.5))
    assert known < 0.5 * np.sqrt(np.mean(np.abs(reference - truth) ** 2))


def test_ref_03_slow_phase_is_moved_further_and_the_mean_not_at_all():
    gain = phase_preconditioner(
        illumination_variance(defocused_probe(32, np.random.default_rng(0), width_px=9.0)), (64, 48)
    )
    assert gain[0, 0] == 0
    assert gain[1, 0] > gain[2, 0] > 0
    assert gain[20, 20] == 0


def test_ref_03_the_gain_is_that_of_the_width_of_the_probe():
    """``1 / (2π f w)² − 1`` up to 15; a probe of one pixel counts as one pixel wide."""
    point = np.zeros((1, 32, 32), np.complex64)
    point[0, 16, 16] = 1
    assert illumination_variance(point) == 1
    pair = np.zeros((2, 32, 32), np.complex64)
    pair[0, 10, 16] = pair[1, 22, 16] = 1
    # 36 square pixels along one axis, none along the other.
    assert illumination_variance(pair) == pytest.approx(18)
    gain = phase_preconditioner(18.0, (128, 64))
    for row, column in ((1, 0), (3, 0), (125, 2), (2, 63)):
        f = np.hypot((row + 64) % 128 / 128 - 0.5, (column + 32) % 64 / 64 - 0.5)
        assert gain[row, column] == pytest.approx(np.clip(1 / ((2 * np.pi * f) ** 2 * 18) - 1, 0, 15))
    assert gain.max() == 15


def test_ref_04_held_out_pixels_are_good_ones_and_carry_no_gradient(dense):
    good = np.ones((32, 32), bool)
    good[:, 16:20] = False
    held = draw_held_out(good, 0.02, 0)
    assert held.shape == (8, round(0.02 * good.sum()))
    assert np.fft.ifftshift(good).ravel()[held].all()
    patterns = scan_patterns(dense, 0)
    flat = np.ones(patterns.shape, np.complex64)

    def gradient(amplitude):
        changed = NumpyScanPhysics(replace(patterns, amplitude=amplitude))
        return changed.evaluate(flat, np.array([0]), 'poisson').gradient

    def brighter(chosen):
        counts = np.fft.ifftshift(patterns.amplitude(chosen), axes=(-2, -1)).reshape(len(chosen), -1)
        np.put_along_axis(counts, patterns.held_out[chosen % 8], 1e3, axis=1)
        return np.fft.fftshift(counts.reshape(-1, 32, 32), axes=(-2, -1))

    np.testing.assert_array_equal(gradient(patterns.amplitude), gradient(brighter))


def test_refined_from_flat_the_object_is_found_in_place(dense):
    events, result = finished(dense, refine_iterations=20)
    assert [e.iteration for e in events if isinstance(e, IterationDone)] == list(range(1, len(events) + 1))
    assert result.kept
    assert result.deviance_after < result.deviance_before
    scores = scored(dense, result.object_array)
    assert scores.amplitude_ssim > 0.9
    assert scores.phase_ssim > 0.9
    assert abs(scores.shift_x_px) < 0.05
    assert abs(scores.shift_y_px) < 0.05
    inside = scan_box(dense.scan.raw.xcoords, dense.scan.raw.ycoords, dense.scan.grid.shape)
    assert np.isfinite(result.uncertainty[inside]).all()
    assert np.isnan(result.uncertainty[0, 0])


@pytest.mark.parametrize('photons', [1e4, 1e6])
def test_ref_06_the_stated_error_has_about_the_size_of_the_true_one(photons):
    prepared = ScanModel(dense_scan(photons=photons))
    _, found = finished(prepared, refine_iterations=60, refine_smoothing=0.0)
    raw = prepared.scan.raw
    box = scan_box(raw.xcoords, raw.ycoords, raw.objectGuess.shape)
    scale = np.float32(prepared.scale.probe_scale)
    aligned = align(raw.objectGuess, found.object_array * scale, box)
    stated = np.sqrt(np.mean(np.square(found.uncertainty[box] * scale)))
    true = np.sqrt(np.mean(np.abs(aligned.result - aligned.truth) ** 2))
    # A lower bound: what all patterns get wrong alike is not in it.
    assert 0.5 * true < stated < 1.1 * true


def test_both_backends_refine_to_the_same_object(dense):
    objects = [
        finished(dense, backend=create_backend(backend), refine_iterations=5)[1].object_array
        for backend in BACKENDS
    ]
    assert np.abs(objects[0] - objects[1]).max() < 2e-3


def test_ref_04_a_perfect_start_is_not_made_worse(dense):
    truth = (dense.scan.raw.objectGuess / dense.scale.probe_scale).astype(np.complex64)
    _, result = finished(dense, truth, refine_iterations=6, refine_smoothing=0.0)
    assert result.deviance_after <= result.deviance_before
    rate = predict_intensity(
        dense.cut(dense.pad(result.object_array), np.arange(len(dense))),
        dense.illumination.probe.astype(complex),
        dense.placement.subpixel_shift,
    )
    assert deviance(dense.scan.raw.diffraction**2.0, rate, dense.valid).mean() < 1.0


@pytest.mark.parametrize('method', ['accelerated', 'rpie'])
def test_ref_05_a_misleading_start_loses_to_the_flat_one(dense, method):
    """Phase vortices are what iterations do not mend."""
    side = dense.scan.grid.shape[0]
    y, x = np.mgrid[:side, :side] - side / 2
    vortices = np.exp(3j * np.arctan2(y, x)).astype(np.complex64)
    _, result = finished(dense, vortices, refine_iterations=9, refine_method=method)
    assert result.start == 'flat'
    assert result.kept
    assert scored(dense, result.object_array).nrmse < 0.15


def test_ref_15_no_other_start_is_tried_where_little_but_noise_is_left(dense, caplog):
    truth = (dense.scan.raw.objectGuess / dense.scale.probe_scale).astype(np.complex64)
    caplog.set_level('INFO', 'ptychopinn.refine')
    events, result = finished(dense, truth, refine_iterations=6)
    assert 'no flat start' in caplog.text
    assert result.start == 'network'
    assert sum(isinstance(event, IterationDone) for event in events) == 6
    caplog.clear()
    finished(dense, np.roll(truth, 3, axis=0), refine_iterations=6)
    assert 'from the flat start' in caplog.text
    # Numbers that scatter less than counts of photons say nothing about noise.
    caplog.clear()
    raw = dense.scan.raw
    dimmed = replace(raw, diffraction=raw.diffraction / 4, probeGuess=raw.probeGuess / 4)
    faint = ScanModel(Scan.from_raw(dimmed))
    finished(faint, truth, refine_iterations=6)
    assert 'from the flat start' in caplog.text
    # Of very many photons noise is nothing, but half a percent of the amplitude is little.
    bright = ScanModel(dense_scan(photons=1e9))
    truth = (bright.scan.raw.objectGuess / bright.scale.probe_scale).astype(np.complex64)
    y = np.arange(truth.shape[0])[:, None]
    for error, text in ((0.001, 'no flat start'), (0.03, 'from the flat start')):
        caplog.clear()
        finished(bright, truth * (1 + error * np.sin(y)).astype(np.complex64), refine_iterations=6)
        assert text in caplog.text


def sparse_and_learned(photons, step=10.0, wrong=0.2):
    """Return a sparse scan, and an object as a network might make it: its error is its own."""
    sparse = ScanModel(dense_scan(points=6, step=step, photons=photons))
    truth = (sparse.scan.raw.objectGuess / sparse.scale.probe_scale).astype(np.complex64)
    rng = np.random.default_rng(2)
    error = rng.standard_normal(truth.shape) + 1j * rng.standard_normal(truth.shape)
    return sparse, (truth + wrong * gaussian_filter(error, 1.5)).astype(np.complex64)


@pytest.mark.parametrize(
    ('step', 'photons', 'wrong', 'iterations', 'ratio'),
    [(12.0, 1e5, 0.2, 60, 0.8), (4.0, 1e4, 0.1, 30, 0.95)],
)
def test_ref_03_noise_does_not_turn_the_slow_phase_of_a_good_object(
    step, photons, wrong, iterations, ratio, monkeypatch
):
    sparse, learned = sparse_and_learned(photons, step, wrong)
    _, gentle = finished(sparse, learned, refine_iterations=iterations)
    monkeypatch.setattr(refine_module, 'GENTLE', 1.0)
    _, full = finished(sparse, learned, refine_iterations=iterations)
    assert gentle.start == full.start == 'network'
    errors = [scored(sparse, obj).nrmse for obj in (learned, full.object_array, gentle.object_array)]
    assert errors[2] < ratio * min(errors[:2])


@pytest.mark.parametrize('step', [6.0, 4.0])
def test_ref_03_a_wrong_slow_phase_is_turned_as_far_as_from_flat(step, monkeypatch):
    sparse, learned = sparse_and_learned(photons=1e5, step=step, wrong=0.1)
    patterns = scan_patterns(sparse, 0)
    flat = np.ones(patterns.shape, np.complex64)
    light = NumpyScanPhysics(patterns).evaluate(flat, np.arange(len(patterns)), 'poisson').weight
    assert overlap_of(light, patterns.peak_illumination) > SPARSE_OVERLAP
    y, x = (np.linspace(-1, 1, n) for n in learned.shape)
    wrong = learned * np.exp(1.5j * (y[:, None] ** 2 - x**2)).astype(np.complex64)
    _, found = finished(sparse, wrong, refine_iterations=30)
    monkeypatch.setattr(refine_module, 'CLEARLY', math.inf)
    _, gentle = finished(sparse, wrong, refine_iterations=30)
    assert found.deviance_after < gentle.deviance_after
    monkeypatch.setattr(refine_module, 'GENTLE', 1.0)
    _, full = finished(sparse, wrong, refine_iterations=30)
    np.testing.assert_array_equal(found.object_array, full.object_array)


@pytest.mark.parametrize(('step', 'start'), [(12.0, 'flat'), (2.0, 'learned')])
def test_ref_03_elsewhere_it_is_turned_as_far_as_ever(step, start, monkeypatch):
    scan, learned = sparse_and_learned(photons=1e5, step=step)
    start = np.ones_like(learned) if start == 'flat' else learned
    _, one = finished(scan, start, refine_iterations=5)
    monkeypatch.setattr(refine_module, 'GENTLE', 0.0)
    _, other = finished(scan, start, refine_iterations=5)
    np.testing.assert_array_equal(one.object_array, other.object_array)


def test_ref_10_where_light_is_scarce_the_mean_with_the_network_errs_less(monkeypatch):
    sparse, learned = sparse_and_learned(photons=2e4, wrong=0.14)
    _, mean = finished(sparse, learned, refine_iterations=20)
    assert mean.averaged
    assert 'averaged with the network' in mean.sentence
    assert mean.deviance_after < mean.deviance_before
    monkeypatch.setattr(refine_module, 'FEW_COUNTS', 0.0)
    _, refined = finished(sparse, learned, refine_iterations=20)
    assert not refined.averaged
    errors = [scored(sparse, obj).nrmse for obj in (learned, refined.object_array, mean.object_array)]
    assert errors[2] < 0.9 * min(errors[:2])


@pytest.mark.parametrize(('counts', 'tried'), [(560, True), (640, False)])
def test_ref_10_a_mean_is_tried_where_fewer_than_600_counts_fall_on_a_pixel(monkeypatch, counts, tried):
    def level(prepared):
        patterns = scan_patterns(prepared, 0)
        flat = np.ones(patterns.shape, np.complex64)
        light = NumpyScanPhysics(patterns).evaluate(flat, np.arange(len(patterns)), 'poisson').weight
        return overlap_of(light, patterns.peak_illumination) * patterns.peak_illumination

    bright = 2e4 * counts / level(sparse_and_learned(photons=2e4, wrong=0.1)[0])
    sparse, learned = sparse_and_learned(photons=bright, wrong=0.1)
    assert level(sparse) == pytest.approx(counts, rel=0.02)
    asked = []
    monkeypatch.setattr(
        refine_module, '_mean', lambda physics, refined, *_: asked.append(1) or (refined, math.inf)
    )
    finished(sparse, learned, refine_iterations=2)
    assert bool(asked) == tried


@pytest.mark.parametrize(('fall', 'ends_after'), [(0.5e-4, 25), (2e-4, 60)])
def test_ref_04_refinement_ends_after_20_iterations_without_a_fall_of_1e_4(fall, ends_after):
    """Five falls of a percent, then small ones of the value before; those that count go on to the end."""
    values = [1.0]
    for number in range(100):
        values.append(values[-1] * (0.99 if number < 5 else 1 - fall))
    solver = SimpleNamespace(
        config=InferenceConfig(refine_iterations=60),
        accelerated=True,
        iterate=lambda run, number: (values[number], number),
        show=lambda run: (),
        physics=SimpleNamespace(held_out=lambda obj: math.inf),
    )
    best = refine_module._Best(None, values[0], None)
    run, experiment = SimpleNamespace(current=0), SimpleNamespace(patterns=None)
    steps = refine_module._go_on(solver, run, 0, experiment, best)
    assert len(list(steps)) == ends_after


@pytest.mark.parametrize('wrong', ['low-frequency phase', 'noise'])
def test_ref_16_held_out_pixels_choose_the_share_of_the_phase(wrong):
    """A network's low-frequency phase is mended; what noise adds to a phase and to an amplitude is left
    out."""
    sparse, _ = sparse_and_learned(photons=2e4)
    patterns = scan_patterns(sparse, 0)
    physics = NumpyScanPhysics(patterns)
    truth = sparse.pad((sparse.scan.raw.objectGuess / sparse.scale.probe_scale).astype(np.complex64))
    y, x = (np.linspace(-1, 1, n) for n in truth.shape)
    slow = truth * np.exp(1.5j * (y[:, None] ** 2 - x**2)).astype(np.complex64)
    noisy = truth + 0.2 * gaussian_filter(random_like(truth), 0.7).astype(np.complex64)
    light = physics.evaluate(truth, np.arange(len(patterns)), 'poisson').weight
    refined, network = (truth, slow) if wrong == 'low-frequency phase' else (noisy, truth)
    mean, value = refine_module._mean(physics, refined, network, light)
    assert value == physics.held_out(mean)
    lit = light > 0.1 * light.max()

    def error(obj):
        return np.sqrt(np.mean(np.abs(with_ramp_of(truth, obj, light) - truth)[lit] ** 2))

    assert error(mean) < (0.35 * error(slow) if wrong == 'low-frequency phase' else 0.25 * error(noisy))


def test_ref_16_a_mean_that_predicts_held_out_pixels_worse_is_left(monkeypatch):
    sparse, learned = sparse_and_learned(photons=2e4)
    monkeypatch.setattr(
        refine_module, '_mean', lambda physics, refined, *_: (refined, 1.001 * physics.held_out(refined))
    )
    _, refined = finished(sparse, learned, refine_iterations=20)
    assert not refined.averaged
    assert refined.deviance_after < refined.deviance_before / 1.05


def test_ref_10_a_network_that_is_much_worse_is_left_behind():
    sparse, learned = sparse_and_learned(photons=1e5)
    _, refined = finished(sparse, learned, refine_iterations=20)
    assert refined.kept
    assert not refined.averaged
    assert scored(sparse, refined.object_array).nrmse < 0.6 * scored(sparse, learned).nrmse


def test_bad_pixels_and_modes_are_honoured():
    bad = np.zeros((32, 32), bool)
    bad[14:18, 10:13] = True
    scan = dense_scan(points=6, modes=2, bad=bad)
    _, result = finished(ScanModel(scan), refine_iterations=20)
    assert scored(ScanModel(scan), result.object_array).nrmse < 0.08


def scatter(error, scan):
    """Root mean square of position errors (n, 2); a linear distortion may as well be the object's."""
    at = np.stack([np.ones(len(scan.raw)), scan.raw.xcoords, scan.raw.ycoords], axis=1)
    left = error - at @ np.linalg.lstsq(at, error, rcond=None)[0]
    return float(np.sqrt(np.square(left).sum(axis=1).mean()))


@pytest.mark.parametrize('method', ['accelerated', 'rpie'])
def test_ref_07_a_wrong_probe_is_mended(method):
    scan = dense_scan()
    f = np.fft.fftfreq(32)
    defocus = np.exp(8j * (f[:, None] ** 2 + f**2))
    wrong = np.fft.ifft2(np.fft.fft2(scan.raw.probeGuess) * defocus)
    prepared = ScanModel(replace(scan, raw=replace(scan.raw, probeGuess=wrong)))
    options = {'refine_iterations': 40, 'refine_method': method}
    _, without = finished(prepared, **options)
    _, mended = finished(prepared, refine_probe=True, **options)
    assert without.probe is None
    assert mended.position_shift is None
    assert 'with the probe' in mended.sentence
    true = scan.raw.probeGuess

    def likeness(probe):
        return abs(np.vdot(probe, true)) / np.linalg.norm(probe) / np.linalg.norm(true)

    assert 1 - likeness(mended.probe) < 0.3 * (1 - likeness(wrong))
    # The power is the scale.
    engine = prepared.illumination.probe
    assert np.linalg.norm(mended.probe) == pytest.approx(np.linalg.norm(engine), rel=1e-4)
    assert mended.deviance_after < without.deviance_after
    box_of = ScanModel(scan)
    assert scored(box_of, mended.object_array).nrmse < 0.7 * scored(box_of, without.object_array).nrmse


def test_ref_08_wrong_positions_are_mended_and_reported():
    scan = dense_scan(points=12)
    error = np.random.default_rng(5).normal(0, 0.3, (len(scan.raw), 2))
    raw = replace(scan.raw, xcoords=scan.raw.xcoords + error[:, 1], ycoords=scan.raw.ycoords + error[:, 0])
    prepared = ScanModel(replace(scan, raw=raw))
    _, without = finished(prepared, refine_iterations=60)
    _, mended = finished(prepared, refine_iterations=60, refine_positions=True)
    assert mended.probe is None
    assert 'with positions by' in mended.sentence
    assert scatter(error + mended.position_shift, scan) < 0.55 * scatter(error, scan)
    np.testing.assert_allclose(mended.position_shift.mean(axis=0), 0, atol=1e-6)
    box_of = ScanModel(scan)
    assert scored(box_of, mended.object_array).nrmse < 0.7 * scored(box_of, without.object_array).nrmse


def test_ref_09_what_is_right_is_left_alone(dense):
    _, plain = finished(dense, refine_iterations=20)
    _, both = finished(dense, refine_iterations=20, refine_probe=True, refine_positions=True)
    assert np.square(both.position_shift).sum(axis=1).mean() ** 0.5 < 0.15
    assert scored(dense, both.object_array).nrmse < 1.1 * scored(dense, plain.object_array).nrmse


def test_what_is_there_is_shown_while_it_is_refined(monkeypatch):
    """Partial objects converge to the result, on its grid and in its scale; none where nobody looks."""
    monkeypatch.setattr(progress, 'PREVIEW_INTERVAL_S', 0.0)
    monkeypatch.setattr(progress, 'PREVIEW_SHARE', 1e9)
    scan = dense_scan(points=5)
    prepared = ScanModel(scan)
    config = TrainingConfig(model=ModelConfig(N=32, n_filters_scale=1, architecture='cnn'))
    plan = training_plan(config, 1)
    model = ModelArchive(config, prepared.scale, scan.raw.probeGuess, initial_weights(plan, 0), 'pytorch', [])
    events = list(reconstruct(scan, model, InferenceConfig(refine_iterations=6, batch_size=8)))
    kinds = [type(event) for event in events]
    iterations = [number for number, kind in enumerate(kinds) if kind is IterationDone]
    assert all(kinds[number + 1] is PartialObject for number in iterations)
    shown = [event.reconstruction.object_array for event in events if isinstance(event, PartialObject)]
    assert len(shown) > len(iterations), 'nothing was shown while the network predicted'
    final = events[-1].reconstruction.object_array
    assert all(part.shape == final.shape and part.dtype == np.complex64 for part in shown)
    distance = [np.linalg.norm(part - final) / np.linalg.norm(final) for part in shown[-6:]]
    assert distance[-1] < 0.2 * distance[0]
    assert not any(isinstance(event, PartialObject) for event in finished(prepared, refine_iterations=2)[0])


def test_showing_takes_a_small_part_of_the_time(monkeypatch):
    clock = iter([0.0, 0.0, 0.0, 0.4, 0.6, 1.6, 5.0, 11.0, 12.0, 12.0])
    monkeypatch.setattr(progress.time, 'perf_counter', lambda: next(clock))
    limiter = progress.RateLimiter()
    event = IterationDone(1, 1, 0.0)
    assert list(limiter.show(lambda: event)) == [event]  # the first at once
    assert list(limiter.show(lambda: event)) == []  # 0.4 s
    assert list(limiter.show(lambda: event)) == [event]  # 0.6 s, and it takes 1 s
    assert list(limiter.show(lambda: event)) == []  # 5.0 s
    assert list(limiter.show(lambda: event)) == []  # 11.0 s
    assert list(limiter.show(lambda: event)) == [event]  # 12.0 s


def test_a_refinement_can_be_stopped(dense):
    asked = []

    def stop():
        asked.append(True)
        return len(asked) > 4

    with pytest.raises(Cancelled):
        finished(dense, stop=stop, refine_iterations=10)
    assert len(asked) == 5


@pytest.mark.parametrize(
    'wrong',
    [
        {'refine_iterations': -1},
        {'refine_method': 'magic'},
        {'refine_smoothing': -0.1},
        {'refine_probe': True, 'refine_iterations': 0},
        {'refine_positions': True, 'refine_iterations': 0},
    ],
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        InferenceConfig(**wrong)


def test_ref_07_what_no_iteration_could_refine_is_not_said_to_be_refined(dense, caplog):
    _, result = finished(dense, refine_iterations=1, refine_probe=True, refine_positions=True)
    assert result.kept
    assert (result.probe, result.position_shift) == (None, None)
    assert 'with the probe' not in result.sentence
    assert 'give more refine_iterations' in caplog.text
