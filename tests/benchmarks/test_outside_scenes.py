"""The scans of the benchmark are made without the package, and by the same physics."""

import ast
import inspect

import numpy as np
import pytest

from ptycho_engine.physics.forward import cut_patches, predict_intensity
from ptycho_engine.physics.geometry import place_patches
from tests.benchmarks import outside_scenes
from tests.benchmarks.outside_scenes import KINDS, SETS, SIZE, intensities, make_scene


def test_they_share_no_code_with_the_package():
    tree = ast.parse(inspect.getsource(outside_scenes))
    modules = [node.module or '' for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    modules += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert 'numpy' in modules
    assert not [name for name in modules if 'ptycho' in name]


@pytest.mark.parametrize('kind', KINDS)
def test_the_package_predicts_their_counts(kind):
    scene = make_scene(kind, SETS['tuning'][0], '24px-1e5')
    placement = place_patches(scene.x, scene.y, SIZE)
    patches = cut_patches(scene.truth, placement, SIZE)
    predicted = predict_intensity(patches, scene.probe[None], placement.subpixel_shift)
    expected = intensities(scene.truth, scene.probe, scene.x, scene.y)
    np.testing.assert_allclose(predicted, expected, rtol=1e-4, atol=1e-4 * expected.max())
    assert scene.counts.sum(axis=(1, 2)).mean() == pytest.approx(1e5, rel=2e-3)


def test_sets_have_no_object_in_common():
    numbers = [number for members in SETS.values() for number in members]
    assert len(numbers) == len(set(numbers))
