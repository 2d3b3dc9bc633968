"""The window that an update works on (clauses LIVE-03, LIVE-07 and LIVE-09 of specs/live.md)."""

import numpy as np
import pytest

from ptycho_engine.live.canvas import Canvas, Rectangle
from ptycho_engine.live.neighbours import KEPT, Neighbours, near_groups
from ptycho_engine.live.window import HeldPhysics
from ptycho_engine.physics.newton import NewtonStep
from ptycho_engine.physics.preconditioner import illumination_variance, phase_preconditioner
from ptycho_engine.physics.scan_likelihood import NumpyScanPhysics
from ptycho_engine.scan.scan import Scan
from ptycho_engine.whole_scan.held_out import scan_patterns
from ptycho_engine.whole_scan.scan_model import ScanModel
from tests.conftest import small_scan


@pytest.fixture(scope='module')
def patterns():
    return scan_patterns(ScanModel(Scan.from_raw(small_scan(points=4, size=32, step=4.0))), None)


def reached(patterns, others):
    """Return how far a step moves the object from a flat one beside so much light of other frames."""
    physics = NumpyScanPhysics(patterns)
    flat = np.ones(patterns.shape, np.complex64)
    own = physics.evaluate(flat, np.arange(len(patterns)), 'poisson').weight
    slow = phase_preconditioner(illumination_variance(patterns.probe), patterns.shape)
    held = HeldPhysics(physics, flat, own + others * own, 1 / (1 + slow), len(patterns))
    step = NewtonStep(held, flat, held.light, 0.0, slow, len(patterns))
    for _ in range(8):
        step.improve()
    moved = step.reached - flat
    return np.sqrt((own * np.abs(moved) ** 2).sum() / own.sum()), held


def test_live_09_other_frames_hold_the_object_by_their_light(patterns):
    free, light, much = (reached(patterns, others)[0] for others in (0, 1, 100))
    assert free > 0.1
    assert 0.2 * free < light < 0.8 * free
    assert much < 0.05 * free


def test_live_09_they_hold_a_low_frequency_phase_as_weakly_as_patterns_do(patterns):
    """The energy of a phase that varies over the canvas, beside that of fine detail of the same size."""
    _, held = reached(patterns, 1e6)
    rows, columns = patterns.shape
    slow = np.cos(2 * np.pi * np.arange(rows) / rows)[:, None] * np.ones(columns)
    fine = (-1.0) ** np.arange(rows)[:, None] * np.ones(columns)
    flat = np.ones(patterns.shape, np.complex64)
    energy = {
        name: np.vdot(wave, held.curvature_along(flat, wave)).real / np.vdot(wave, wave).real
        for name, wave in (('slow', 1j * slow), ('fine', 1j * fine), ('amplitude', slow + 0j))
    }
    variance = illumination_variance(patterns.probe)
    expected = max((2 * np.pi / rows) ** 2 * variance, 1 / 16)
    assert energy['slow'] / energy['fine'] == pytest.approx(expected, rel=0.6)
    assert energy['amplitude'] > 0.7 * energy['fine']


def test_live_03_neighbours_are_near_and_spread():
    row, column = np.divmod(np.arange(400), 20)
    corner = 4 * np.stack([row, column], axis=1)
    known = Neighbours(32)
    known.add(np.arange(400), corner)
    middle = corner[210:211]
    distance = np.hypot(*(corner - middle).T)
    nearest = known.nearest(middle, 40, np.array([210]), 1.0)
    assert 210 not in nearest
    assert distance[nearest].max() <= np.sort(distance)[41]
    both = known.nearest(middle, 40, np.array([210]), 0.5)
    assert len(set(both)) == 40
    assert distance[both[:20]].max() <= np.sort(distance)[21]
    assert 30 < distance[both].max() <= 48
    assert not len(known.nearest(np.array([[900, 900]]), 40, np.array([]), 0.5))


def test_live_03_frames_far_apart_make_windows_of_their_own():
    corner = np.array([[0, 0], [10, 5], [300, 0], [4, 60], [310, 10]])
    assert [group.tolist() for group in near_groups(corner, 64)] == [[0, 1, 3], [2, 4]]


def test_live_07_a_place_that_is_measured_again_and_again_has_no_more_neighbours():
    known = Neighbours(32)
    known.add(np.arange(5000), np.full((5000, 2), 7))
    found = known.nearest(np.array([[7, 7]]), 10**6, np.array([]), 1.0)
    assert sorted(found) == list(range(5000 - KEPT, 5000))


def test_live_02_the_canvas_keeps_what_it_holds_while_it_grows():
    canvas = Canvas(8)
    rng = np.random.default_rng(0)
    whole = np.zeros((200, 200), np.float32)
    for corner in rng.integers(-90, 90, (60, 2)):
        canvas.light(corner[None], np.ones((1, 8, 8), np.float32))
        row, column = corner + 100
        whole[row : row + 8, column : column + 8] += 1
        place = Rectangle.around(corner[None], 8)
        canvas.put(place, np.full((8, 8), complex(*corner), np.complex64))
        assert canvas.window(place)[0][0, 0] == complex(*corner)
    obj, weight = canvas.window(Rectangle(-100, -100, 100, 100))
    np.testing.assert_array_equal(weight, whole)
    assert (obj[whole == 0] == 1).all()
    assert (obj[whole > 0] != 1).all()
    canvas.scale(2.0)
    again = canvas.window(Rectangle(-100, -100, 100, 100))
    np.testing.assert_allclose(again[0][whole > 0], 2 * obj[whole > 0])
    np.testing.assert_allclose(again[1], whole / 4)
