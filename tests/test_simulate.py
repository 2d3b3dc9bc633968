import numpy as np
import pytest

from ptycho_engine.errors import ConfigError, DataValueError
from ptycho_engine.physics.forward import cut_patches, predict_intensity
from ptycho_engine.physics.geometry import place_patches
from ptycho_engine.simulate import (
    OBJECT_FAMILIES,
    defocused_probe,
    illuminated_width,
    make_object,
    raster_positions,
    simulate_scan,
    without_truth,
)
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
    rate = predict_intensity(patches, raw.probeGuess.astype(complex), placement.remainder)
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

    from ptycho_engine.files.product import ProductData
    from ptycho_engine.physics.geometry import ObjectGrid

    obj, probe = run1084['objectGuess'], run1084['probeGuess']
    x, y = run1084['xcoords'], run1084['ycoords']
    # Ptychodus rounds corners down, we round to the nearest; where the remainder is positive they agree,
    # elsewhere the same exit wave lies one pixel further in its frame and only its rim differs.
    same = (place_patches(x, y, 64).remainder >= 0).all(axis=1)
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
    found = predict_intensity(cut_patches(obj, placement, 64), probe[None], placement.remainder)
    # Far away the Fresnel transform is a Fourier transform, up to the units of intensity.
    expected *= found.sum() / expected.sum()
    np.testing.assert_allclose(found, expected, atol=1e-4 * expected.max())


def test_mistakes_are_named(raw):
    rng = np.random.default_rng(0)
    with pytest.raises(DataValueError, match='positive mean count'):
        simulate_scan(raw.objectGuess, raw.probeGuess, [60], [60], photons=0, rng=rng)
    with pytest.raises(DataValueError, match='over the edge'):
        simulate_scan(raw.objectGuess, raw.probeGuess, [2], [60], photons=10, rng=rng)


def test_the_truth_can_be_taken_away(raw):
    blind = without_truth(raw)
    assert np.ptp(np.abs(blind.objectGuess)) == 0
    assert blind.objectGuess.shape == raw.objectGuess.shape


def test_the_raster_has_its_step_and_jitter():
    x, y = raster_positions(5, 7, 10.0, np.random.default_rng(0), jitter=0.2)
    assert len(x) == len(y) == 35
    assert np.abs(np.diff(x.reshape(5, 7), axis=1) - 10).max() <= 4
    assert abs(x.mean()) < 2
