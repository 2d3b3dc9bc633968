import numpy as np
import pytest

from ptycho_engine.errors import ConfigError, DataValueError
from ptycho_engine.physics.forward import cut_patches, predict_intensity
from ptycho_engine.physics.geometry import place_patches
from ptycho_engine.scan.scan import load_scan
from ptycho_engine.simulate import (
    OBJECT_FAMILIES,
    defocused_probe,
    illuminated_width,
    make_object,
    random_bad_pixels,
    raster_positions,
    simulate_scan,
    spiral_positions,
    with_incoherent_modes,
    without_truth,
    zone_plate_probe,
)
from ptycho_engine.simulate.directory import write_scan
from tests.conftest import small_scan


@pytest.mark.parametrize('family', OBJECT_FAMILIES)
def test_objects_are_reproducible_bounded_and_not_flat(family):
    a, b, c = (
        make_object(family, (90, 110), np.random.default_rng(s), absorption=0.4, phase=0.7) for s in (0, 0, 1)
    )
    assert a.shape == (90, 110)
    assert a.dtype == np.complex64
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()
    assert np.ptp(np.angle(a)) > 0.1
    assert np.abs(a).max() <= 1.01
    assert np.abs(a).min() >= np.exp(-0.4) * 0.8
    with pytest.raises(ConfigError, match='dead-leaves'):
        make_object('cats', (9, 9), np.random.default_rng(0))


def test_a_composite_uses_all_that_absorption_and_phase_allow():
    obj = make_object('composite', (120, 140), np.random.default_rng(4), absorption=0.5, phase=0.9)
    assert np.abs(obj).min() == pytest.approx(np.exp(-0.5), rel=1e-5)
    assert np.abs(obj).max() == pytest.approx(1, rel=1e-5)
    assert np.angle(obj).min() == pytest.approx(-0.9, rel=1e-5)
    assert np.angle(obj).max() == pytest.approx(0.9, rel=1e-5)


@pytest.mark.parametrize('width', [12.0, 19.0, 25.0])
def test_the_probe_has_the_wanted_width_and_sits_in_the_middle(width):
    probe = defocused_probe(64, np.random.default_rng(0), width_px=width)
    assert illuminated_width(probe) == pytest.approx(width, rel=0.02)
    intensity = np.abs(probe[0]) ** 2
    index = np.arange(64)
    assert (intensity.sum(axis=0) * index).sum() == pytest.approx(31.5, abs=2)
    assert intensity.sum() == pytest.approx(1, rel=1e-4)


def test_fwd_01_counts_follow_the_exact_forward_model():
    raw = small_scan(points=4, photons=1e7, modes=2)
    placement = place_patches(raw.xcoords, raw.ycoords, raw.N)
    patches = cut_patches(raw.objectGuess, placement, raw.N)
    rate = predict_intensity(patches, raw.probeGuess.astype(complex), placement.subpixel_shift)
    counts = raw.diffraction.astype(float) ** 2
    np.testing.assert_allclose(counts, np.rint(counts), atol=0.05)
    assert counts.sum(axis=(1, 2)).mean() == pytest.approx(1e7, rel=1e-3)
    chi = (counts - rate)[rate > 20] / np.sqrt(rate[rate > 20])
    assert chi.std() == pytest.approx(1, abs=0.03)


def test_simulated_patterns_are_those_of_ptychodus(run1084):
    """Ptychodus' own simulator is the independent referee of geometry, sign and scale."""
    from ptychodus.api.geometry import PixelGeometry
    from ptychodus.api.object import Object, ObjectCenter
    from ptychodus.api.probe import ProbeSequence
    from ptychodus.api.probe_positions import ProbePosition, ProbePositionSequence
    from ptychodus.api.product import Product, ProductMetadata
    from ptychodus.api.simulate.diffraction import generate_diffraction_data

    from ptycho_engine.formats.product import ProductData
    from ptycho_engine.physics.geometry import ObjectGrid

    obj, probe = run1084['objectGuess'], run1084['probeGuess']
    x, y = run1084['xcoords'], run1084['ycoords']
    # Ptychodus rounds corners down, we round to the nearest; where the subpixel_shift is positive they agree,
    # elsewhere the same exit wave lies one pixel further in its frame and only its rim differs.
    same = (place_patches(x, y, 64).subpixel_shift >= 0).all(axis=1)
    x, y = x[same][:5], y[same][:5]
    grid = ObjectGrid(*obj.shape, pixel_width_m=5e-8, pixel_height_m=5e-8, center_x_m=1e-6)
    x_m, y_m = ProductData.positions_m(x, y, grid)
    pixel = PixelGeometry(width_m=5e-8, height_m=5e-8)
    product = Product(
        metadata=ProductMetadata('x', '', 1e5, 1e4, 0.0, 0.0, 0.0, 0.0),
        probe_positions=ProbePositionSequence(
            [
                ProbePosition(index=i, x_m=float(a), y_m=float(b))
                for i, (a, b) in enumerate(zip(x_m, y_m, strict=True))
            ]
        ),
        probes=ProbeSequence(array=probe[None, None], opr_weights=None, pixel_geometry=pixel),
        object_=Object(
            array=obj[None],
            pixel_geometry=pixel,
            center=ObjectCenter(x_m=1e-6, y_m=0.0),
            layer_spacing_m=[],
        ),
        losses=[],
    )
    expected = np.array(generate_diffraction_data(product).get_patterns())
    placement = place_patches(x, y, 64)
    found = predict_intensity(cut_patches(obj, placement, 64), probe[None], placement.subpixel_shift)
    # Far away the Fresnel transform is a Fourier transform, up to the units of intensity.
    expected *= found.sum() / expected.sum()
    np.testing.assert_allclose(found, expected, atol=1e-4 * expected.max())


def test_mistakes_are_named(raw):
    rng = np.random.default_rng(0)
    with pytest.raises(DataValueError, match='positive mean count'):
        simulate_scan(raw.objectGuess, raw.probeGuess, [60], [60], photons=0, rng=rng)
    with pytest.raises(DataValueError, match='over the edge'):
        simulate_scan(raw.objectGuess, raw.probeGuess, [2], [60], photons=10, rng=rng)
    for photons, background, words in (
        (np.inf, 0, 'photons is inf; expected a positive mean count'),
        (1e25, 0, r'1e\+25 photons in a pattern, .* more than 9e\+18 counts'),
        (1e308, 0, r'more than 9e\+18 counts'),
        (10, np.inf, 'background is inf; expected 0 or more'),
        (10, 1e19, r'1e\+19 counts of background, .* more than 9e\+18 counts'),
    ):
        with pytest.raises(DataValueError, match=words):
            simulate_scan(
                raw.objectGuess, raw.probeGuess, [60], [60], photons=photons, background=background, rng=rng
            )
    with pytest.raises(DataValueError, match='no light comes through'):
        simulate_scan(raw.objectGuess * 0, raw.probeGuess, [60], [60], photons=10, rng=rng)


def test_counts_that_need_many_bits_are_written_whole(tmp_path):
    bright = small_scan(points=2, size=32, photons=1e14)
    write_scan(tmp_path, bright, name='x', settings='')
    amplitude = load_scan(tmp_path).raw.diffraction
    assert amplitude.max() ** 2 > 2**33
    np.testing.assert_allclose(amplitude, bright.diffraction, rtol=1e-6)


def test_the_truth_can_be_taken_away(raw):
    blind = without_truth(raw)
    assert np.ptp(np.abs(blind.objectGuess)) == 0
    assert blind.objectGuess.shape == raw.objectGuess.shape


def test_the_raster_has_its_step_and_jitter():
    x, y = raster_positions(5, 7, 10.0, np.random.default_rng(0), jitter=0.2)
    assert len(x) == len(y) == 35
    assert np.abs(np.diff(x.reshape(5, 7), axis=1) - 10).max() <= 4
    assert abs(x.mean()) < 2


WAVELENGTH_M, PIXEL_M, ZONE_M = 1.24e-10, 2e-8, 8e-8


def beam(defocus_m: float, **options) -> np.ndarray:
    return zone_plate_probe(96, PIXEL_M, WAVELENGTH_M, zone_width_m=ZONE_M, defocus_m=defocus_m, **options)[0]


def test_sim_06_a_zone_plate_obeys_geometry_and_diffraction():
    # Without a stop the focus is an Airy disc whose first dark ring has the radius 1.22 outermost zones.
    focus = np.abs(beam(0, central_stop=0)) ** 2
    profile = focus[48, 48:]
    assert np.argmax(np.diff(profile) > 0) == pytest.approx(1.22 * ZONE_M / PIXEL_M - 0.5, abs=1)
    # Far from focus the beam is the shadow of the aperture: as wide as the cone, dark behind the stop.
    defocus = 8e-4
    cone_px = defocus * WAVELENGTH_M / ZONE_M / PIXEL_M
    shadow = np.abs(beam(defocus, central_stop=0.4)) ** 2
    radius = np.hypot(*np.meshgrid(np.arange(96) - 47.5, np.arange(96) - 47.5))
    assert shadow[radius < cone_px / 2 * 1.1].sum() > 0.93
    assert shadow[radius < cone_px / 2 * 0.3].mean() < 0.4 * shadow[radius < cone_px / 2].mean()
    # The same distance before the focus gives the complex conjugate, seen in the pupil.
    after, before = (np.fft.fft2(beam(z)) for z in (defocus, -defocus))
    np.testing.assert_allclose(np.abs(after), np.abs(before), atol=1e-4)
    assert np.abs(np.vdot(beam(defocus), beam(-defocus))) < 0.5


def test_sim_07_incoherent_modes_are_orthogonal_and_share_the_power():
    main = beam(5e-4)
    modes = with_incoherent_modes(3 * main, 4, decay=0.5)
    assert modes.shape == (4, 96, 96)
    flat = modes.reshape(4, -1).astype(complex)
    power = (np.abs(flat) ** 2).sum(axis=1)
    assert power.sum() == pytest.approx(9, rel=1e-4)
    np.testing.assert_allclose(power[1:] / power[:-1], 0.5, rtol=1e-4)
    gram = flat @ flat.conj().T
    assert np.abs(gram - np.diag(np.diag(gram))).max() < 1e-4 * power[0]
    np.testing.assert_allclose(flat[0] / np.sqrt(power[0]), main.ravel(), atol=1e-5)
    np.testing.assert_allclose(with_incoherent_modes(main, 1)[0], main, atol=1e-6)


def test_sim_08_a_spiral_has_one_position_for_each_square_of_its_step():
    from scipy.spatial import cKDTree

    x, y = spiral_positions(2000, 5.0)
    inside = np.hypot(x, y) < 80
    assert inside.sum() == pytest.approx(np.pi * 80**2 / 25, rel=0.02)
    points = np.stack([x, y], axis=1)
    nearest = cKDTree(points).query(points, k=2)[0][:, 1]
    assert nearest.min() > 0.7 * 5


def test_sim_03_bad_pixels_and_background(raw):
    mask = random_bad_pixels(64, 0.1, np.random.default_rng(0))
    assert mask.sum() == round(0.1 * 64 * 64)
    made = simulate_scan(
        raw.objectGuess,
        raw.probeGuess,
        raw.xcoords,
        raw.ycoords,
        photons=1e5,
        rng=np.random.default_rng(1),
        bad_pixels=mask,
        background=3.0,
    )
    assert (made.diffraction[:][:, mask] == 0).all()
    np.testing.assert_array_equal(made.bad_pixels, mask)
    corner = made.diffraction[:][:, :8, :8][:, ~mask[:8, :8]] ** 2
    assert corner.mean() == pytest.approx(3, rel=0.1)
