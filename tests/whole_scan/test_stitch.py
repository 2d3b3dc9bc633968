import numpy as np
import pytest

from ptycho_engine.reconstruction import synchronise as synchronisation
from ptycho_engine.reconstruction.predict import PatchStore
from ptycho_engine.reconstruction.report import PatchAgreement, half_set_resolution
from ptycho_engine.reconstruction.synchronise import synchronise
from ptycho_engine.scan.scan import Scan
from ptycho_engine.scoring.scores import scan_box, score
from ptycho_engine.whole_scan.scan_model import ScanModel
from ptycho_engine.whole_scan.stitch import Stitcher
from tests.conftest import small_scan


@pytest.fixture(scope='module')
def true_patches():
    raw = small_scan(points=12)
    prepared = ScanModel(Scan.from_raw(raw), has_truth=True)
    groups = np.arange(len(raw), dtype=np.int32)[:, None]
    labels = prepared.batch(groups).labels[:, 0] * prepared.scale.probe_scale
    return prepared, labels, prepared.stitching_weights(groups[:, 0])


def stitched(prepared, patches, weight):
    stitcher = Stitcher(prepared.scan.grid.shape)
    stitcher.add(patches * weight, weight, prepared.placement.corner)
    return stitcher


def judge(prepared, result):
    raw = prepared.scan.raw
    box = scan_box(raw.xcoords, raw.ycoords, raw.objectGuess.shape)
    return score(raw.objectGuess, result, box)


def test_sti_03_true_patches_give_the_object(true_patches):
    prepared, patches, weight = true_patches
    scores = judge(prepared, stitched(prepared, patches, weight).result())
    assert scores.nrmse <= 0.0015
    assert abs(scores.shift_x_px) < 0.01


def test_sti_01_patches_are_averaged_by_their_light_and_fade_where_there_is_little():
    """Patches of 1 and 3 in light of 1 and 3; in half a thousandth of that light two thirds are flat."""
    stitcher = Stitcher((10, 100))
    light = np.ones((2, 10, 100))
    light[1] = 3
    patches = light.copy()
    light[:, :, :5] *= 5e-4
    stitcher.add(patches * light, light, np.zeros((2, 2), int))
    found, mean = stitcher.result(), (1 * 1 + 3 * 3) / 4
    np.testing.assert_allclose(found[:, 5:], (mean + 1e-3) / (1 + 1e-3), rtol=1e-6)
    np.testing.assert_allclose(found[:, :5], (mean + 2) / 3, rtol=1e-6)
    np.testing.assert_array_equal(Stitcher((4, 4)).result(), 1)


def test_sti_02_true_patches_are_left_as_they_are(true_patches):
    prepared, patches, weight = true_patches
    factors = synchronise(patches * weight, prepared.placement.corner)
    np.testing.assert_allclose(factors, 1, atol=1e-6)


def test_sti_02_random_phases_are_repaired(true_patches):
    prepared, patches, weight = true_patches
    rng = np.random.default_rng(0)
    turned = patches * np.exp(2j * np.pi * rng.random(len(patches)))[:, None, None]
    assert judge(prepared, stitched(prepared, turned, weight).result()).phase_ssim < 0.3
    factors = synchronise(turned * weight, prepared.placement.corner)
    scores = judge(prepared, stitched(prepared, turned * factors[:, None, None], weight).result())
    assert scores.phase_ssim >= 0.99
    assert scores.nrmse <= 0.0015


@pytest.mark.parametrize('jitter', [0, 1])
def test_sti_02_places_visited_many_times_are_tied_to_one_another(true_patches, jitter):
    """Twelve patches at each place: the nearest of each are all at its own place."""
    prepared, patches, weight = true_patches
    chosen = np.repeat(np.arange(0, len(patches), 2), 12)
    rng = np.random.default_rng(0)
    weighted = (patches * weight)[chosen]
    corner = prepared.placement.corner[chosen]
    moved = rng.integers(-jitter, jitter + 1, corner.shape)
    weighted = np.stack([np.roll(w, -m, axis=(0, 1)) for w, m in zip(weighted, moved, strict=True)])
    turns = np.exp(2j * np.pi * rng.random(len(chosen)))
    factors = synchronise(weighted * turns[:, None, None], corner + moved) * turns
    assert np.abs(factors.mean()) > 0.9999


def test_sti_02_a_lone_patch_and_patches_apart_are_no_trouble():
    patches = np.ones((3, 8, 8), complex)
    weight = np.ones((3, 8, 8))
    corner = np.array([[0, 0], [100, 0], [0, 100]])
    np.testing.assert_array_equal(synchronise(patches * weight, corner), 1)
    np.testing.assert_array_equal(synchronise((patches * weight)[:1], corner[:1]), 1)


def test_patches_over_the_edge_are_cut_and_the_rest_is_flat():
    stitcher = Stitcher((20, 30))
    patch = np.full((1, 8, 8), 2 + 1j)
    for corner in ([-4, -4], [16, 26], [100, 100], [-8, 0]):
        stitcher.add(patch, np.ones((1, 8, 8)), np.array([corner]))
    result = stitcher.result()
    np.testing.assert_allclose(result[:4, :4], 2 + 1j, atol=2e-3)
    np.testing.assert_allclose(result[16:, 26:], 2 + 1j, atol=2e-3)
    np.testing.assert_array_equal(result[5:15, 5:25], 1)
    assert stitcher.weight.sum() == 32
    np.testing.assert_array_equal(Stitcher((3, 4)).result(), 1)


def test_mem_03_patches_on_disk_give_the_same_image(true_patches, monkeypatch):
    """In blocks and from a scratch file: the same factors and the same object as in memory."""
    prepared, patches, weight = true_patches
    rng = np.random.default_rng(1)
    weighted = (patches * weight * np.exp(2j * np.pi * rng.random(len(patches)))[:, None, None]).astype(
        np.complex64
    )
    corner = prepared.placement.corner
    in_memory = synchronise(weighted, corner)
    store = PatchStore(len(weighted), weighted.shape[-1], memory_limit=0)
    for start in range(0, len(weighted), 7):
        store[start : start + 7] = weighted[start : start + 7]
    np.testing.assert_array_equal(store[np.arange(len(store))], weighted)
    monkeypatch.setattr(synchronisation, 'BLOCK_BYTES', 10 * weighted[0].nbytes)
    np.testing.assert_allclose(synchronise(store, corner), in_memory, atol=1e-6)
    at_once = Stitcher(prepared.scan.grid.shape)
    at_once.add(weighted, weight, corner)
    again = Stitcher(prepared.scan.grid.shape, at_once.weight)
    for start in range(0, len(store), 5):
        again.add(store[start : start + 5], None, corner[start : start + 5])
    np.testing.assert_array_equal(again.result(), at_once.result())


def test_mem_03_a_block_of_overlaps_names_few_patches_beyond_its_own(monkeypatch):
    """So that memory stays bounded: neighbours, not patches from everywhere."""
    rng = np.random.default_rng(0)
    corner = rng.permutation(np.stack(np.meshgrid(np.arange(60), np.arange(60)), -1).reshape(-1, 2) * 8)
    reads = []

    class Spy:
        shape = (3600, 16, 16)

        def __getitem__(self, index):
            reads.append(len(index))
            return np.ones((len(index), 16, 16), np.complex64)

    monkeypatch.setattr(synchronisation, 'BLOCK_BYTES', 256 * 8 * 16 * 16)
    pairs, products = synchronisation.overlap_products(Spy(), corner)
    assert len(reads) >= 14
    assert max(reads) <= 2 * 256
    assert (products.real > 0).all()
    assert len(pairs) == len(products)


def test_quality_04_the_spread_is_that_of_the_predictions(true_patches):
    """Patches with noise of a known size around the truth, each with a phase of its own."""
    prepared, patches, weight = true_patches
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((2, *patches.shape)) * 0.03
    noisy = patches + noise[0] + 1j * noise[1]
    stitcher = stitched(prepared, noisy, weight)
    agreement = PatchAgreement(prepared.scan.grid.shape)
    turned = noisy * np.exp(2j * np.pi * rng.random(len(patches)))[:, None, None]
    odd = np.arange(len(patches)) % 2 == 1
    agreement.add(turned * weight, weight, prepared.placement.corner, odd)
    spread = agreement.spread(stitcher.result(), stitcher.weight)
    inside = scan_box(prepared.scan.raw.xcoords, prepared.scan.raw.ycoords, spread.shape)
    # Some of the scatter goes into the mean, which few patches make.
    assert np.median(spread[inside]) == pytest.approx(0.03 * 2**0.5, rel=0.25)
    assert np.isnan(spread[0, 0])
    assert 0.3 < (agreement.odd_weight.sum() / stitcher.weight.sum()) < 0.7


def test_quality_05_halves_that_agree_are_resolved_and_noise_is_not(true_patches):
    prepared, patches, weight = true_patches
    box = scan_box(prepared.scan.raw.xcoords, prepared.scan.raw.ycoords, prepared.scan.grid.shape)
    rng = np.random.default_rng(0)
    found = []
    for noise in (0.0, 2.0):
        halves = []
        for part in (slice(0, None, 2), slice(1, None, 2)):
            half = Stitcher(prepared.scan.grid.shape)
            scatter = noise * rng.standard_normal(patches[part].shape)
            half.add((patches[part] + scatter) * weight[part], weight[part], prepared.placement.corner[part])
            halves.append(half)
        found.append(half_set_resolution(*(half.result() for half in halves), box))
        assert np.allclose(halves[0].joined(halves[1]).weight, halves[0].weight + halves[1].weight)
    assert found[0] > 0.4 > found[1]
    assert np.isnan(half_set_resolution(*(half.result() for half in halves), (slice(0, 8), slice(0, 8))))
