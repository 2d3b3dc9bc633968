import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ptycho_engine.physics.geometry import (
    ObjectGrid,
    pixel_to_world,
    place_patches,
    world_to_pixel,
)

coordinate = st.floats(-1e4, 1e4)


@given(x=coordinate, y=coordinate, size=st.integers(8, 300))
def test_geo_01_and_03_corner_plus_remainder_is_the_patch_start(x, y, size):
    placed = place_patches([x], [y], size)
    start = np.array([y, x]) - (size - 1) / 2
    np.testing.assert_allclose(placed.corner[0] + placed.subpixel_shift[0], start, atol=1e-9)
    assert np.all(placed.subpixel_shift >= -0.5)
    assert np.all(placed.subpixel_shift < 0.5 + 1e-12)


@given(
    x=st.floats(-1e-3, 1e-3),
    centre=st.floats(-1e-3, 1e-3),
    pixel=st.floats(1e-10, 1e-6),
    width=st.integers(1, 5000),
)
def test_geo_02_world_and_pixel_are_inverse(x, centre, pixel, width):
    there = world_to_pixel(x, centre, pixel, width)
    back = pixel_to_world(there, centre, pixel, width)
    np.testing.assert_allclose(back, x, atol=1e-12)


def test_geo_02_the_middle_of_the_object_is_its_centre():
    assert world_to_pixel(3e-6, 3e-6, 5e-8, 227) == 113
    assert world_to_pixel(3e-6, 3e-6, 5e-8, 226) == 112.5


def test_geo_04_the_grid_around_a_scan_holds_every_patch():
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-50, 90, (2, 40))
    grid = ObjectGrid.around_scan(x, y, 32)
    corner = place_patches(x - grid.origin_x, y - grid.origin_y, 32).corner
    assert corner.min() == 0
    assert (corner.max(axis=0) + 32 == grid.shape).all()
