import numpy as np
import pytest

from ptycho_engine.physics.forward import (
    cut_patches,
    deviance,
    modulus_floor,
    predict_intensity,
    shift_probe,
)
from ptycho_engine.physics.geometry import place_patches
from ptycho_engine.physics.groups import Canvas, group_window, merge_and_cut
from ptycho_engine.physics.operations import NUMPY
from ptycho_engine.physics.probe import fourier_shift, mode_intensity
from ptycho_engine.physics.scaling import measure_scale
from tests.conftest import small_scan


def patches_of(raw, count=6):
    placement = place_patches(raw.xcoords[:count], raw.ycoords[:count], raw.N)
    return cut_patches(raw.objectGuess, placement, raw.N).astype(complex), placement.subpixel_shift


@pytest.mark.parametrize('modes', [1, 3])
def test_fwd_01_energy_is_kept_and_modes_add_as_intensities(modes):
    raw = small_scan(points=3, modes=modes)
    patches, subpixel_shift = patches_of(raw)
    probe = raw.probeGuess.astype(complex)
    intensity = predict_intensity(patches, probe, subpixel_shift)
    waves = shift_probe(NUMPY, probe, subpixel_shift) * patches[:, None]
    energy = mode_intensity(waves).sum(axis=(1, 2))
    np.testing.assert_allclose(intensity.sum(axis=(1, 2)), energy, rtol=1e-12)
    apart = sum(predict_intensity(patches, mode[None], subpixel_shift) for mode in probe)
    np.testing.assert_allclose(intensity, apart, rtol=1e-9, atol=1e-12)


def test_fwd_01_an_open_aperture_diffracts_to_the_middle():
    intensity = predict_intensity(np.ones((1, 32, 32)), np.ones((1, 32, 32), complex), np.zeros((1, 2)))
    assert np.unravel_index(intensity[0].argmax(), (32, 32)) == (16, 16)
    np.testing.assert_allclose(intensity.sum(), 32 * 32)


def test_geo_03_a_shift_moves_towards_larger_indices():
    """By whole pixels as `roll` does, and by half of one as a smooth wave tells."""
    rng = np.random.default_rng(1)
    image = rng.standard_normal((16, 12)) + 1j * rng.standard_normal((16, 12))
    np.testing.assert_allclose(fourier_shift(image, [3, -2]), np.roll(image, (3, -2), (0, 1)), atol=1e-12)
    rows = np.arange(16)[:, None] * np.ones(12)
    found = fourier_shift(np.exp(2j * np.pi * rows / 16), [0.5, 0.0])
    np.testing.assert_allclose(found, np.exp(2j * np.pi * (rows - 0.5) / 16), atol=1e-12)


def test_geo_03_moving_the_probe_equals_moving_the_object_the_other_way():
    """A band-limited object shows that the subpixel_shift has the right sign."""
    rng = np.random.default_rng(0)
    spectrum = np.zeros((64, 64), complex)
    spectrum[:6, :6] = rng.standard_normal((6, 6)) + 1j * rng.standard_normal((6, 6))
    obj = np.fft.ifft2(spectrum) * 200
    probe = small_scan(points=2).probeGuess.astype(complex)
    by_probe = predict_intensity(obj[None], probe, np.array([[0.3, -0.4]]))
    by_object = predict_intensity(fourier_shift(obj[None], np.array([[-0.3, 0.4]])), probe, np.zeros((1, 2)))
    np.testing.assert_allclose(by_probe, by_object, rtol=1e-6, atol=1e-6 * by_probe.max())


def test_loss_01_deviance_is_zero_for_a_perfect_prediction_and_one_at_the_noise():
    good = np.ones((64, 64), bool)
    counts = np.full((1, 64, 64), 50.0)
    assert deviance(counts, counts, good) == pytest.approx(0, abs=1e-5)
    noisy = np.random.default_rng(0).poisson(counts).astype(float)
    # The deviance of Poisson counts about their own rate has mean 1 + O(1 / rate).
    assert deviance(noisy, counts, good) == pytest.approx(1.0, abs=0.05)


def test_fwd_03_merging_patches_that_agree_changes_nothing(raw):
    placement = place_patches(raw.xcoords[:4], raw.ycoords[:4], raw.N)
    patches = cut_patches(raw.objectGuess, placement, raw.N)[None].astype(complex)
    probe = raw.probeGuess.astype(complex)
    probes = shift_probe(NUMPY, probe, placement.subpixel_shift)
    window = group_window(NUMPY, probes, mode_intensity(probe).max())[None]
    start = placement.corner - placement.corner.min(axis=0)
    canvas = Canvas(NUMPY, start[None], raw.N, int(start.max()) + raw.N)
    np.testing.assert_allclose(merge_and_cut(NUMPY, patches, window, canvas), patches, atol=1e-6)


def test_fwd_02_the_floor_of_a_modulus_is_a_millionth_of_the_mean_light():
    probe = np.full((2, 8, 8), 3 + 4j)
    assert modulus_floor(probe) == pytest.approx(1e-6 * 50)


def test_cut_patches_refuses_a_patch_over_the_edge(raw):
    with pytest.raises(IndexError):
        cut_patches(raw.objectGuess, place_patches([2.0], [2.0], raw.N), raw.N)


def test_gau_01_the_flat_object_predicts_the_mean_counts():
    mask = np.zeros((64, 64), bool)
    mask[30:34, 30:34] = True
    raw = small_scan(points=4, bad_pixels=mask)
    scale = measure_scale(raw.diffraction, raw.probeGuess, raw.bad_pixels)
    probe = (raw.probeGuess * scale.probe_scale).astype(complex)
    flat = predict_intensity(np.ones((1, 64, 64)), probe, np.zeros((1, 2)))
    assert flat[0][~mask].sum() == pytest.approx(scale.mean_counts, rel=1e-5)
    assert scale.input_scale**2 * scale.mean_counts == pytest.approx(32**2)
