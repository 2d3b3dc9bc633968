import numpy as np
import pytest

from ptycho_engine.data.scan import Scan
from ptycho_engine.pipeline.prepared import PreparedScan
from ptycho_engine.pipeline.quality import scan_box, score
from ptycho_engine.pipeline.stitch import Stitcher
from ptycho_engine.pipeline.synchronise import synchronise
from tests.conftest import small_scan


@pytest.fixture(scope='module')
def true_patches():
    raw = small_scan(points=12)
    prepared = PreparedScan(Scan.from_raw(raw), has_truth=True)
    groups = np.arange(len(raw), dtype=np.int32)[:, None]
    labels = prepared.batch(groups).labels[:, 0] * prepared.scale.probe_scale
    return prepared, labels, prepared.stitching_weights(groups[:, 0])


def stitched(prepared, patches, weight):
    stitcher = Stitcher(prepared.scan.grid.shape)
    stitcher.add(patches, weight, prepared.placement.corner)
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


def test_sti_02_true_patches_are_left_as_they_are(true_patches):
    prepared, patches, weight = true_patches
    factors = synchronise(patches, weight, prepared.placement.corner)
    np.testing.assert_allclose(factors, 1, atol=1e-4)


def test_sti_02_random_phases_are_repaired(true_patches):
    prepared, patches, weight = true_patches
    rng = np.random.default_rng(0)
    turned = patches * np.exp(2j * np.pi * rng.random(len(patches)))[:, None, None]
    assert judge(prepared, stitched(prepared, turned, weight).result()).phase_ssim < 0.3
    factors = synchronise(turned, weight, prepared.placement.corner)
    scores = judge(prepared, stitched(prepared, turned * factors[:, None, None], weight).result())
    assert scores.phase_ssim >= 0.99
    assert scores.nrmse <= 0.0015


def test_sti_02_a_lone_patch_and_patches_apart_are_no_trouble():
    patches = np.ones((3, 8, 8), complex)
    weight = np.ones((3, 8, 8))
    corner = np.array([[0, 0], [100, 0], [0, 100]])
    np.testing.assert_array_equal(synchronise(patches, weight, corner), 1)
    np.testing.assert_array_equal(synchronise(patches[:1], weight[:1], corner[:1]), 1)


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
