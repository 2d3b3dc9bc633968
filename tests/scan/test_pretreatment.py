"""Patterns made to fit, bad pixels and centring (PRE-*)."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ptycho_engine.config import TrainingConfig
from ptycho_engine.errors import DataValueError
from ptycho_engine.patterns.inpainting import Inpainter
from ptycho_engine.patterns.stack import Patterns
from ptycho_engine.physics.forward import deviance, predict_intensity
from ptycho_engine.scan.centring import warn_if_off_centre
from ptycho_engine.scan.pretreatment import bin_scan, crop_probe, crop_scan, pretreat, resampled
from ptycho_engine.scan.raw_data import RawData
from ptycho_engine.scan.scan import Scan, load_scan
from ptycho_engine.simulate import raster_positions, simulate_scan
from ptycho_engine.simulate.directory import settings_text, write_scan
from ptycho_engine.training.sources import MeasuredScans
from ptycho_engine.whole_scan.scan_model import ScanModel
from tests.conftest import small_scan


def smooth_scan(size: int = 64, width_px: float = 2.5, blur: float = 6, photons: float = 1e6) -> Scan:
    """A scan of a smooth object under a small smooth probe: neither crop nor bin loses much of it."""
    rng = np.random.default_rng(4)
    distance = np.arange(size) - (size - 1) / 2
    bell = np.exp(-(distance**2) / (4 * width_px**2))
    x, y = raster_positions(5, 5, 4.0, rng)
    side = size + 30
    noise = gaussian_filter(rng.standard_normal((2, side, side)), (0, blur, blur)) * blur * 2
    truth = (1 - 0.2 * np.abs(noise[0])) * np.exp(0.5j * noise[1])
    probe = bell[:, None] * bell + 0j
    raw = simulate_scan(truth, probe, x + side / 2, y + side / 2, photons=photons, rng=rng)
    return Scan.from_raw(raw)


def misfit(scan: Scan) -> float:
    """Deviance per pixel of a scan's patterns from what its own probe and object predict."""
    prepared = ScanModel(scan)
    indices = np.arange(len(scan.raw))
    patches = prepared.cut(prepared.pad(scan.raw.objectGuess), indices)
    rate = predict_intensity(patches, scan.raw.probeGuess, prepared.placement.subpixel_shift)
    return float(deviance(np.square(scan.raw.diffraction[:]), rate, prepared.valid).mean())


@pytest.mark.parametrize('size', [32, 40, 48, 64])
def test_pre_01_a_cropped_probe_predicts_the_kept_pixels(size):
    probe = small_scan(3, 64, modes=2).probeGuess
    start = 32 - size // 2
    whole, kept = (
        (np.abs(np.fft.fftshift(np.fft.fft2(p, norm='ortho'), axes=(-2, -1))) ** 2)
        for p in (probe, crop_probe(probe, size))
    )
    part = slice(start, start + size)
    np.testing.assert_allclose(kept, whole[:, part, part], rtol=1e-3, atol=1e-6 * whole.max())


def test_pre_01_a_cropped_probe_stays_in_the_middle():
    y, x = np.indices((64, 64)) - 31.5
    probe = np.exp(-((y - 4) ** 2 + (x + 7) ** 2) / 50) + 0j
    cropped = crop_probe(probe[None], 32)[0]
    weight = np.abs(cropped) ** 2 / (np.abs(cropped) ** 2).sum()
    v, u = np.indices((32, 32)) - 15.5
    assert (weight * v).sum() == pytest.approx(2, abs=1e-3)
    assert (weight * u).sum() == pytest.approx(-3.5, abs=1e-3)


def test_pre_02_cropping_and_binning_keep_the_forward_model():
    """What probe, object and positions predict after either fits the treated counts almost as before."""
    scan = smooth_scan()
    before = misfit(scan)
    assert before < 1.2
    cropped, binned = crop_scan(scan, 32), bin_scan(scan, 2)
    assert (cropped.raw.N, binned.raw.N) == (32, 32)
    counts = np.square(scan.raw.diffraction, dtype=np.float64)
    assert np.square(binned.raw.diffraction[:]).sum() == pytest.approx(counts.sum(), rel=1e-4)
    for treated, worth in ((cropped, 0.05), (binned, 0.1)):
        flat = replace(treated.raw, objectGuess=np.ones_like(treated.raw.objectGuess))
        assert misfit(treated) < worth * misfit(replace(treated, raw=flat))
    moved = replace(cropped.raw, xcoords=cropped.raw.xcoords + 1)
    assert misfit(replace(cropped, raw=moved)) > 3 * misfit(cropped)
    unramped = replace(binned.raw, probeGuess=scan.raw.probeGuess[:, 16:48, 16:48])
    assert misfit(replace(binned, raw=unramped)) > 3 * misfit(binned)


def test_pre_03_positions_object_and_grid_follow(tmp_path):
    raw = small_scan(points=4, size=32)
    write_scan(tmp_path, raw, name='x', settings=settings_text(1, 1))
    scan = load_scan(tmp_path)
    cropped = crop_scan(scan, 16)
    assert cropped.product is not None
    assert cropped.product.object_pixel_width_m == pytest.approx(2 * scan.product.object_pixel_width_m)
    assert cropped.product.probe_pixel_width_m == pytest.approx(2 * scan.product.probe_pixel_width_m)
    assert cropped.grid.shape == tuple(-(-side // 2) for side in scan.grid.shape)
    assert cropped.product.probe.shape[-1] == cropped.raw.N == 16
    np.testing.assert_array_equal(cropped.product.position_x_m, scan.product.position_x_m)
    x, y = cropped.product.positions_px()
    np.testing.assert_allclose(cropped.raw.xcoords, x, atol=1e-6)
    np.testing.assert_allclose(cropped.raw.ycoords, y, atol=1e-6)
    assert 'cropped from 32 to 16' in cropped.product.comments

    wide = scan.raw.probeGuess * 0
    wide[:, 12:20, 12:20] = 1
    narrow = replace(scan, raw=replace(scan.raw, probeGuess=wide), product=replace(scan.product, probe=wide))
    binned = bin_scan(narrow, 2)
    assert binned.grid == scan.grid
    np.testing.assert_array_equal(binned.raw.xcoords, scan.raw.xcoords)
    assert binned.product.probe.shape[-1] == 16
    both = pretreat(narrow, binning=2, crop=8)
    assert both.raw.N == 8
    assert pretreat(scan) is scan


def test_pre_03_a_scan_without_object_gets_a_canvas_of_its_own():
    raw = replace(small_scan(4, 32), objectGuess=None)
    cropped = crop_scan(Scan.from_raw(raw), 16)
    assert cropped.raw.objectGuess is None
    np.testing.assert_allclose(cropped.raw.xcoords, raw.xcoords / 2)
    assert cropped.grid.width == pytest.approx(np.ptp(raw.xcoords) / 2 + 16, abs=2)


def test_pre_04_masks_follow_and_lazy_patterns_give_the_same(tmp_path):
    mask = np.zeros((32, 32), bool)
    mask[9, 12] = mask[20, 21:25] = True
    raw = replace(
        small_scan(3, 32, bad_pixels=mask),
        probeGuess=np.pad(np.ones((1, 8, 8)), ((0, 0), *[(12, 12)] * 2)) + 0j,
    )
    raw.to_file(tmp_path / 'x.npz', compressed=False)
    lazy = RawData.from_file(tmp_path / 'x.npz', memory_limit=0)
    for treat in (
        lambda scan: crop_scan(scan, 16),
        lambda scan: crop_scan(scan, 16, centre=(14, 18)),
        lambda scan: bin_scan(scan, 2),
        lambda scan: pretreat(scan, binning=2, crop=12, centre=(7, 9)),
    ):
        treated, from_file = treat(Scan.from_raw(raw)).raw, treat(Scan.from_raw(lazy)).raw
        np.testing.assert_allclose(from_file.diffraction[:], treated.diffraction[:], rtol=1e-6)
        np.testing.assert_array_equal(from_file.bad_pixels, treated.bad_pixels)
        assert not np.any(treated.diffraction[:][:, treated.bad_pixels])
    assert isinstance(crop_scan(Scan.from_raw(lazy), 16).raw.diffraction, Patterns)
    binned = bin_scan(Scan.from_raw(raw), 2).raw
    expected = np.square(raw.diffraction).reshape(9, 16, 2, 16, 2).sum(axis=(2, 4))
    good = ~binned.bad_pixels
    assert binned.bad_pixels.sum() == 4
    np.testing.assert_allclose(np.square(binned.diffraction[:, good]), expected[:, good], rtol=1e-5)


@pytest.mark.parametrize(
    ('treat', 'message'),
    [
        (lambda scan: crop_scan(scan, 48), '48×48 pixels around row 16, column 16 does not lie inside'),
        (lambda scan: crop_scan(scan, 24, (8, 16)), 'around row 8, column 16 does not lie inside'),
        (lambda scan: bin_scan(scan, 3), 'cannot be binned 3×3'),
        (lambda scan: bin_scan(scan, 4), 'of the light of the probe lies outside; crop'),
    ],
)
def test_pre_05_what_cannot_be_done_is_refused(treat, message):
    with pytest.raises(DataValueError, match=message):
        treat(Scan.from_raw(small_scan(3, 32)))


def test_pre_05_known_patches_cannot_be_resampled():
    raw = small_scan(3, 32)
    known = replace(raw, Y=np.ones((9, 32, 32)))
    with pytest.raises(DataValueError, match='known object patches Y'):
        crop_scan(Scan.from_raw(known), 16)


def test_resampling_keeps_the_middle_and_smooth_objects():
    y, x = np.indices((41, 50))
    obj = np.exp(1j * (0.02 * (x - 24.5) + 0.03 * (y - 20)))
    small = resampled(obj, 2)
    v, u = np.indices(small.shape)
    expected = np.exp(1j * (0.02 * 2 * (u - 12) + 0.03 * 2 * (v - 10)))
    np.testing.assert_allclose(small[3:-3, 3:-3], expected[3:-3, 3:-3], atol=3e-3)


def test_pre_06_bad_pixels_are_filled_from_around_them():
    """Exact where the amplitude is linear, also across a large beam stop; between the extremes elsewhere."""
    rng = np.random.default_rng(0)
    bad = rng.random((40, 40)) < 0.05
    bad[14:27, 12:25] = True
    bad[:, 33] = True
    y, x = np.indices((40, 40), dtype=np.float64)
    linear = (5 + 0.1 * y + 0.2 * x).astype(np.float32)
    damaged = np.where(bad, 0, np.stack([linear, 2 * linear])).astype(np.float32)
    inpainter = Inpainter(bad)
    inpainter.fill(damaged)
    inner = np.s_[:, 1:-1, 1:-1]
    np.testing.assert_allclose(damaged[inner], np.stack([linear, 2 * linear])[inner], rtol=0.02)
    random = rng.random((3, 2, 40, 40)).astype(np.float32)
    filled = random.copy()
    filled[..., bad] = 0
    inpainter.fill(filled)
    np.testing.assert_array_equal(filled[..., ~bad], random[..., ~bad])
    assert filled.min() >= random[..., ~bad].min()
    assert filled.max() <= random[..., ~bad].max()
    Inpainter(np.zeros((4, 4), bool)).fill(filled)


def test_pre_06_the_network_sees_filled_pixels_and_the_loss_does_not():
    mask = np.zeros((32, 32), bool)
    mask[14:18, 13:20] = True
    scan = Scan.from_raw(small_scan(3, 32, bad_pixels=mask))
    prepared = ScanModel(scan)
    batch = prepared.batch(np.arange(4, dtype=np.int32)[:, None])
    assert (batch.amplitude[..., mask] > 0).any()
    assert not batch.illumination.valid[mask].any()
    assert not np.any(scan.raw.diffraction[:, mask])
    hidden = np.square(scan.raw.diffraction[:, ~mask]).sum() / 9
    assert prepared.scale.mean_counts == pytest.approx(hidden, rel=1e-5)


def test_pre_07_patterns_off_centre_are_told(caplog):
    raw = small_scan(4, 64)
    assert np.hypot(*warn_if_off_centre(raw)) < 3
    assert not caplog.text
    rolled = replace(raw, diffraction=np.roll(raw.diffraction, (5, -4), axis=(1, 2)), source='run 7')
    off = warn_if_off_centre(rolled)
    np.testing.assert_allclose(off, (5, -4), atol=1.5)
    assert 'run 7: the patterns are off centre' in caplog.text
    assert 'ptychopinn prepare' in caplog.text
    caplog.clear()
    tilt = np.exp(2j * np.pi * (5 * np.arange(64)[:, None] - 4 * np.arange(64)) / 64)
    warn_if_off_centre(replace(rolled, probeGuess=raw.probeGuess * tilt))
    assert not caplog.text


def test_pre_07_a_hot_pixel_is_not_off_centre(caplog):
    raw = small_scan(4, 64)
    hot = raw.diffraction.copy()
    hot[:, 5, 60] = 500
    warn_if_off_centre(replace(raw, diffraction=hot))
    assert not caplog.text


def test_pre_07_zero_frequency_in_the_corner_is_told(caplog):
    raw = small_scan(4, 64)
    warn_if_off_centre(replace(raw, diffraction=np.fft.ifftshift(raw.diffraction, axes=(1, 2))))
    assert 'the middle of the patterns is in their corners' in caplog.text
    assert 'crop' not in caplog.text


def test_pre_07_training_says_it(caplog):
    raw = small_scan(4, 64)
    rolled = replace(raw, diffraction=np.roll(raw.diffraction, 9, axis=1))
    MeasuredScans([Scan.from_raw(raw)], TrainingConfig())
    assert 'off centre' not in caplog.text
    MeasuredScans([Scan.from_raw(rolled)], TrainingConfig())
    assert 'off centre' in caplog.text
