"""What Ptychodus' window does for large scans, done faster (API-86)."""

from __future__ import annotations

import gc
import weakref
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

pytest.importorskip('ptychodus.api.settings')

from ptychodus.api import probe_positions
from ptychodus.api.geometry import PixelGeometry
from ptychodus.api.probe import ProbeSequence
from ptychodus.api.probe_positions import ProbePosition, ProbePositionSequence

from ptychopinn_ptychodus.chosen_product import _varies
from ptychopinn_ptychodus.scan_arrays import keep_listed_probes, work_on_scans_by_arrays

pytestmark = pytest.mark.ptychodus


def positions(counts: bool = False) -> list[ProbePosition]:
    rng = np.random.default_rng(0)
    return [
        ProbePosition(3 * n, *rng.normal(0, 1e-6, 2).tolist(), float(n) if counts else None) for n in range(9)
    ]


@pytest.mark.parametrize('counts', [False, True])
def test_positions_are_copied_as_they_are(monkeypatch: pytest.MonkeyPatch, counts: bool) -> None:
    """API-86: nothing is shared, and no point is built."""
    points = positions(counts)
    one = ProbePositionSequence(points)
    monkeypatch.setattr(ProbePositionSequence, '__init__', ProbePositionSequence.__init__)
    work_on_scans_by_arrays()
    with monkeypatch.context() as patch:
        patch.setattr(ProbePositionSequence, '__getitem__', lambda *_: pytest.fail('a point was built'))
        other = ProbePositionSequence(one)
    assert list(other) == list(one) == list(ProbePositionSequence(points)) == points
    assert not np.shares_memory(other._coordinates_m, one._coordinates_m)
    assert len(ProbePositionSequence()) == 0
    assert list(ProbePositionSequence(one[2:4])) == points[2:4]


def test_the_bounding_box_is_that_of_ptychodus(monkeypatch: pytest.MonkeyPatch) -> None:
    """API-86."""
    original = probe_positions.calculate_scan_geometry
    original = getattr(original, '__wrapped__', original)
    monkeypatch.setattr(probe_positions, 'calculate_scan_geometry', original)
    work_on_scans_by_arrays()
    sequence = ProbePositionSequence(positions())
    one, other = original(sequence), probe_positions.calculate_scan_geometry(sequence)
    assert probe_positions.calculate_scan_geometry is not original
    for name in ('minimum_x_m', 'maximum_x_m', 'minimum_y_m', 'maximum_y_m', 'length_m'):
        assert getattr(other, name) == pytest.approx(getattr(one, name))


def test_a_listed_probe_is_copied_once_while_a_product_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """API-86: what the list shows is always that of the product's probe of now."""
    pytest.importorskip('PyQt5.QtCore')
    from ptychodus.controller.probe import tree_model

    original = getattr(tree_model.try_get_probe, '__wrapped__', tree_model.try_get_probe)
    monkeypatch.setattr(tree_model, 'try_get_probe', original)
    keep_listed_probes()
    item = SimpleNamespace(probes=probes(1.0))
    item.get_probes = lambda: item.probes
    first = tree_model.try_get_probe(item)
    assert tree_model.try_get_probe(item) is first
    np.testing.assert_array_equal(first.get_array(), original(item).get_array())
    gone, item.probes = weakref.ref(first), probes(2.0)
    other = tree_model.try_get_probe(item)
    assert other.get_array()[0, 0, 0] == 2
    del first
    gc.collect()
    assert gone() is None
    item.probes = ProbeSequence(None, None, None)
    assert tree_model.try_get_probe(item) is None


def probes(value: float) -> ProbeSequence:
    return ProbeSequence(np.full((2, 4, 4), value, np.complex64), None, PixelGeometry(1e-8, 1e-8))


@pytest.mark.parametrize(
    ('pixel', 'noise', 'varies'), [(1, 0, False), (1, 1e-8, False), (1.5, 0, True), (1.5, 1e-8, True)]
)
def test_an_object_is_flat_if_no_pixel_differs(pixel: float, noise: float, varies: bool) -> None:
    """API-62: a pixel that is not among the few that are looked at first counts too."""
    array = np.full((1, 40, 50), 0.7 + 0.1j)
    array += noise * np.random.default_rng(0).normal(size=array.shape)
    array[0, 3, 5] *= pixel
    product = SimpleNamespace(object_=SimpleNamespace(get_array=lambda: array))
    assert _varies(cast(Any, product)) is varies
