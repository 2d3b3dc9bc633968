"""Coherent (OPR) modes: a probe that varies over the scan (OPR-*)."""

from dataclasses import fields, replace

import numpy as np
import pytest

from ptycho_engine.backends.base import create_backend
from ptycho_engine.config.training import BACKENDS
from ptycho_engine.errors import DataValueError
from ptycho_engine.physics.coherent import CoherentModes, coherent_modes, in_product, of_product
from ptycho_engine.physics.forward import cut_patches, predict_intensity
from ptycho_engine.physics.probe import mode_intensity
from ptycho_engine.physics.scan_likelihood import NumpyScanPhysics
from ptycho_engine.whole_scan.held_out import scan_patterns
from ptycho_engine.whole_scan.scan_model import ScanModel
from tests.reference.optics import light, moved, probe_of_position, rate
from tests.whole_scan.test_refine import dense_scan


def product_modes(coherent=3, incoherent=2, n=9, seed=0):
    """Return probes (c, P, 16, 16) and weights (n, c) as a product has them."""
    rng = np.random.default_rng(seed)
    shape = coherent, incoherent, 16, 16
    probes = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    return probes.astype(np.complex64), rng.uniform(0.2, 1, (n, coherent))


def probes_of(mean, varying):
    """Return the first incoherent mode (n, N, N) of each position."""
    return mean[0] + np.tensordot(varying.weights, varying.modes, 1)


def test_opr_01_the_probe_of_a_position_is_that_of_the_reference():
    """The first incoherent mode is the weighted sum, the others are those of the first coherent mode."""
    probes, weights = product_modes()
    mean, varying = of_product(probes, weights, 'made for a test')
    for row, first in zip(weights, probes_of(mean, varying), strict=True):
        expected = probe_of_position(probes, row)
        np.testing.assert_allclose(first, expected[0], atol=2e-6)
        np.testing.assert_allclose(mean[1:], expected[1:], atol=1e-6)


def test_opr_01_patterns_are_those_of_the_reference():
    probes, weights = product_modes()
    rng = np.random.default_rng(2)
    patches = rng.standard_normal((9, 16, 16)) + 1j * rng.standard_normal((9, 16, 16))
    shift = rng.uniform(-0.5, 0.5, (9, 2))
    mean, varying = of_product(probes, weights, 'made for a test')
    found = predict_intensity(patches, mean.astype(complex), shift, varying)
    for number, patch in enumerate(patches):
        expected = rate(patch, moved(probe_of_position(probes, weights[number]), *shift[number]))
        np.testing.assert_allclose(found[number], expected, rtol=2e-4, atol=1e-4 * expected.max())


def test_opr_02_all_ways_to_state_the_same_probes_become_one():
    probes, weights = product_modes(n=12)
    mean, varying = of_product(probes, weights, 'made for a test')
    mixed = np.array([[1.0, 0.3, -0.2], [0.1, -1.5, 0.4], [0.6, 0.2, 0.9]])
    others = probes.copy()
    others[:, 0] = np.tensordot(np.linalg.inv(mixed), probes[:, 0], 1)
    again, also = of_product(others, weights @ mixed, 'made for a test')
    np.testing.assert_allclose(again, mean, atol=1e-5)
    np.testing.assert_allclose(also.modes, varying.modes, atol=1e-4)
    np.testing.assert_allclose(also.weights, varying.weights, atol=1e-5)
    np.testing.assert_allclose(varying.weights.mean(axis=0), 0, atol=1e-12)
    products = varying.weights.T @ varying.weights
    np.testing.assert_allclose(products, np.diag(np.diag(products)), atol=1e-9)
    assert (np.diff(np.diag(products)) < 0).all()
    flat = varying.modes.reshape(len(varying), -1)
    np.testing.assert_allclose(
        (flat @ flat.conj().T).real, np.linalg.norm(mean[0]) ** 2 * np.eye(3), rtol=1e-5, atol=1e-3
    )


def test_opr_02_weights_that_are_alike_leave_one_probe():
    """As those with which pty-chi begins: 1 for the first mode, next to nothing for the others."""
    probes, _ = product_modes()
    weights = np.tile([2.0, 0, 0], (9, 1)) + 1e-6 * np.random.default_rng(0).standard_normal((9, 3))
    mean, varying = of_product(probes, weights, 'made for a test')
    assert varying is None
    np.testing.assert_allclose(mean[0], 2 * probes[0, 0], rtol=1e-4)


def test_opr_02_without_weights_the_first_mode_is_the_probe():
    probes, _ = product_modes()
    mean, varying = of_product(probes, None, 'made for a test')
    assert varying is None
    np.testing.assert_array_equal(mean, probes[0])


@pytest.mark.parametrize(
    ('spoil', 'words'),
    [
        (lambda w: np.where(w == w.max(), np.nan, w), 'NaN or infinite'),
        (lambda w: 0 * w, 'no light in the mean'),
    ],
)
def test_opr_01_weights_that_cannot_be_are_told(spoil, words):
    probes, weights = product_modes()
    with pytest.raises(DataValueError, match=f'one.h5: .*{words}'):
        of_product(probes, spoil(weights), 'one.h5')


def test_opr_03_the_mean_light_is_that_of_all_positions():
    """Also of a part of a scan, whose weights have another mean."""
    probes, weights = product_modes(n=12)
    mean, varying = of_product(probes, weights, 'made for a test')
    for chosen in (slice(None), slice(3, 7)):
        every = [light(probe_of_position(probes, row)) for row in weights[chosen]]
        found = mode_intensity(varying.at(chosen).averaged(mean))
        np.testing.assert_allclose(found, np.mean(every, axis=0), rtol=1e-4, atol=1e-4)


def test_opr_04_a_product_takes_a_varying_probe_and_gives_it_back():
    probes, weights = product_modes()
    mean, varying = of_product(probes, weights, 'made for a test')
    written, rows = in_product(probes, weights, mean, varying)
    assert written.shape == (4, 2, 16, 16)
    np.testing.assert_array_equal(rows[:, 0], 1)
    assert not written[1:, 1:].any()
    for row, ours, theirs in zip(weights, rows, range(9), strict=True):
        np.testing.assert_allclose(
            probe_of_position(written, ours), probe_of_position(probes, row), atol=1e-5, err_msg=str(theirs)
        )


def test_opr_04_a_probe_that_does_not_vary_is_the_mean_of_the_weighted_modes():
    probes, _ = product_modes()
    weights = np.tile([2.0, 0.5, 0], (9, 1))
    found = np.random.default_rng(3).standard_normal((2, 16, 16)).astype(np.complex64)
    written, rows = in_product(probes, weights, found, None)
    assert rows is weights
    np.testing.assert_array_equal(written[1:, 0], probes[1:, 0])
    np.testing.assert_allclose(probe_of_position(written, rows[0]), found, atol=1e-6)


def drifting(prepared, seed=4):
    """Return the patterns of a scan under a probe that varies by two modes, and an object."""
    rng = np.random.default_rng(seed)
    patterns = scan_patterns(prepared, 0)
    slope = np.arange(32) - 15.5
    changes = np.stack([1j * slope * patterns.probe[0], slope[:, None] * patterns.probe[0]])
    changes *= (np.linalg.norm(patterns.probe) / np.linalg.norm(changes, axis=(1, 2)))[:, None, None]
    probe, varying = coherent_modes(patterns.probe, changes, 0.3 * rng.standard_normal((len(patterns), 2)))
    obj = prepared.pad(prepared.scan.raw.objectGuess.astype(np.complex64))
    return replace(patterns, probe=probe, coherent=varying), obj


@pytest.mark.parametrize('modes', [1, 2])
def test_opr_05_the_likelihood_is_that_of_single_scans_each_with_its_probe(modes):
    """A scan of one pattern has one probe, whatever there is beside it."""
    patterns, obj = drifting(ScanModel(dense_scan(points=3, modes=modes)))
    whole = NumpyScanPhysics(patterns)
    everything = np.arange(len(patterns))
    evaluation = whole.evaluate(obj, everything, 'poisson')
    forces = whole.experiment_gradient(obj, everything)
    gradient, power, forces_alone = 0, np.zeros(obj.shape), []
    for number in everything:
        probe = patterns.probe.copy()
        probe[0] += np.tensordot(patterns.coherent.weights[number], patterns.coherent.modes, 1)
        alone = NumpyScanPhysics(replace(patterns, probe=probe, coherent=None))
        one = alone.experiment_gradient(obj, np.array([number]))
        gradient, power = gradient + one.evaluation.gradient, power + one.evaluation.weight
        forces_alone.append(one.force[0])
    np.testing.assert_allclose(evaluation.gradient, gradient, atol=1e-4 * np.abs(gradient).max())
    np.testing.assert_allclose(evaluation.weight, power, rtol=1e-3, atol=1e-3 * power.max())
    np.testing.assert_allclose(forces.force, forces_alone, atol=1e-3 * np.abs(forces_alone).max())


@pytest.mark.parametrize('modes', [1, 2])
def test_opr_07_the_forces_on_modes_and_weights_are_the_gradient_of_the_likelihood(modes):
    patterns, obj = drifting(ScanModel(dense_scan(points=3, modes=modes)))
    varying, placement = patterns.coherent, patterns.placement
    probe = patterns.probe.astype(complex)
    patches = cut_patches(obj.astype(complex), placement, 32)
    rng = np.random.default_rng(1)

    def rate(varying):
        return predict_intensity(patches, probe, placement.subpixel_shift, varying) + 0.01

    # Near the rate, where no step is bounded.
    counts = rate(varying) * rng.uniform(0.5, 2, (len(patterns), 32, 32))
    patterns = replace(
        patterns,
        probe=probe,
        coherent=replace(varying, modes=varying.modes.astype(complex)),
        amplitude=lambda chosen: np.sqrt(counts[chosen]),
        held_out=np.empty((1, 0), np.int64),
    )
    found = (
        NumpyScanPhysics(patterns).experiment_gradient(obj.astype(complex), np.arange(len(patterns))).coherent
    )

    def slope(**direction):
        values = []
        for h in (1e-6, -1e-6):
            moved = {name: getattr(varying, name) + h * values for name, values in direction.items()}
            expected = rate(replace(varying, **moved))
            values.append((expected - counts * np.log(expected)).sum() / 2)
        return (values[0] - values[1]) / 2e-6

    weights = rng.standard_normal(varying.weights.shape)
    assert 2 * (found.force * weights).sum() == pytest.approx(slope(weights=weights), rel=1e-4)
    change = rng.standard_normal(varying.modes.shape) + 1j * rng.standard_normal(varying.modes.shape)
    expected = slope(modes=change)
    assert 2 * (found.modes.conj() * change).real.sum() == pytest.approx(expected, rel=1e-4)
    assert (np.linalg.eigvalsh(found.curvature) > 0).all()
    light = np.abs(patches) ** 2
    np.testing.assert_allclose(found.modes_weight, np.tensordot(varying.weights.T**2, light, 1), rtol=1e-5)
    product = np.einsum('kyx,lyx,jyx->jkl', varying.modes.conj(), varying.modes, light).real
    np.testing.assert_allclose(found.curvature, product, rtol=1e-4, atol=1e-4 * product.max())


def test_opr_05_one_coherent_mode_costs_nothing(monkeypatch):
    patterns = scan_patterns(ScanModel(dense_scan(points=3)), 0)
    physics = NumpyScanPhysics(patterns)
    monkeypatch.setattr('ptycho_engine.physics.scan_likelihood.CACHE_BYTES', 0)
    _, _, scan = next(physics._each())
    assert scan.changes is None
    assert scan.weights is None
    assert next(NumpyScanPhysics(patterns)._each())[2].probes is None, 'no probe of each pattern is kept'


def test_opr_03_a_flat_object_predicts_the_mean_counts_of_a_drifting_scan():
    raw = dense_scan(points=3).raw
    rng = np.random.default_rng(0)
    modes = raw.probeGuess * np.exp(1j * rng.uniform(0, 3, (1, 32, 32))).astype(np.complex64)
    varying = CoherentModes(modes, rng.uniform(-0.9, 0.9, (len(raw), 1)))
    prepared = ScanModel(replace(dense_scan(points=3), raw=replace(raw, coherent=varying)))
    patterns = scan_patterns(prepared, 0)
    flat = np.ones(patterns.shape, np.complex64)
    patches = cut_patches(flat, patterns.placement, 32)
    found = predict_intensity(patches, patterns.probe, patterns.placement.subpixel_shift, patterns.coherent)
    assert found.sum(axis=(1, 2)).mean() == pytest.approx(prepared.scale.mean_counts, rel=1e-4)


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('modes', [1, 2])
def test_opr_05_each_backend_agrees_with_numpy(backend, modes):
    patterns, obj = drifting(ScanModel(dense_scan(points=4, modes=modes)))
    ours, reference = create_backend(backend).scan_physics(patterns), NumpyScanPhysics(patterns)
    chosen = np.array([3, 0, 7, 12, 11])
    for _ in range(2):
        a, b = (p.experiment_gradient(p.to_device(obj), chosen) for p in (ours, reference))
        x, y = ours.to_host(a.evaluation.gradient), b.evaluation.gradient
        assert np.abs(x - y).max() < 1e-3 * np.abs(y).max()
        pairs = [(a, b, name) for name in ('probe', 'force', 'curvature')]
        pairs += [(a.coherent, b.coherent, field.name) for field in fields(a.coherent)]
        for one, other, name in pairs:
            x, y = getattr(one, name), getattr(other, name)
            assert np.abs(x - y).max() < 1e-3 * np.abs(y).max(), name
        np.testing.assert_allclose(
            ours.held_out_each(ours.to_device(obj)), reference.held_out_each(obj), rtol=1e-3
        )
        # Another experiment, whose probes are made for each block at first.
        patterns = replace(patterns, coherent=replace(patterns.coherent, weights=-patterns.coherent.weights))
        before = reference.held_out(obj)
        for physics in (ours, reference):
            physics.set_experiment(patterns)
        assert reference.held_out(obj) != pytest.approx(before, rel=1e-3)
