"""QUALITY-06 and QUALITY-07: two results against each other, without a truth."""

import numpy as np
import pytest

from ptycho_engine.errors import DataValueError
from ptycho_engine.physics.geometry import ObjectGrid
from ptycho_engine.reconstruction.evaluate import ObjectFile, on_common_grid
from ptycho_engine.scoring.comparison import compare, half_bit_line
from ptycho_engine.simulate import make_object

BOX = slice(20, 180), slice(16, 176)


@pytest.fixture(scope='module')
def truth():
    return make_object('dead-leaves', (200, 196), np.random.default_rng(1), absorption=0.4, phase=0.8)


def noisy(truth, sigma, seed):
    rng = np.random.default_rng(seed)
    return truth + sigma * (rng.normal(size=truth.shape) + 1j * rng.normal(size=truth.shape))


def test_quality_06_a_ramp_and_a_factor_are_no_difference(truth):
    y, x = np.indices(truth.shape) / 200
    other = 1.7 * np.exp(1j * (2.5 * x - 1.5 * y + 0.3)) * truth
    found = compare(truth, other, BOX)
    assert found.nrmse < 1e-3
    assert found.half_bit == pytest.approx(0.5)
    assert found.phase_ssim > 0.999


def test_quality_06_noise_of_their_own_ends_the_agreement_where_signal_equals_it(truth):
    """More noise, less detail; and pure noise agrees in nothing."""
    limits = [compare(noisy(truth, s, 1), noisy(truth, s, 2), BOX).half_bit for s in (0.03, 0.1, 0.3)]
    assert limits == sorted(limits, reverse=True)
    assert limits[0] > 2 * limits[-1]
    nothing = compare(noisy(0 * truth, 1, 1), noisy(0 * truth, 1, 2), BOX)
    assert nothing.half_bit < 0.05
    found = compare(noisy(truth, 0.1, 1), noisy(truth, 0.1, 2), BOX)
    assert found.to_row().keys() == {
        *('nrmse', 'amplitude_ssim', 'phase_ssim', 'half_bit', 'shift_x_px', 'shift_y_px')
    }


def test_quality_06_the_half_bit_line_is_that_of_the_paper():
    """It falls from 1 for rings of few pixels to 0.1716 for many."""
    line = half_bit_line((512, 512))
    assert (np.diff(line[::16]) < 0).all()
    assert line[0] > 0.4
    assert line[-1] == pytest.approx(0.2071 / 1.2071, abs=0.05)
    assert half_bit_line((64, 64))[-1] > line[-1]


def placed(array, pixel=2e-8, centre=(0.0, 0.0), x=None, y=None):
    grid = ObjectGrid(
        *array.shape, pixel_width_m=pixel, pixel_height_m=pixel, center_x_m=centre[1], center_y_m=centre[0]
    )
    return ObjectFile(path='a', object_array=array, x=x, y=y, grid=grid)


def test_quality_07_objects_on_other_canvases_are_cut_to_what_both_cover(truth):
    whole = placed(truth, x=np.array([30.0, 90.0]), y=np.array([40.0, 60.0]))
    # Rows 10 to 169, columns 5 to 204 of the whole, which ends at 195.
    part = np.pad(truth, ((0, 0), (0, 9)))[10:170, 5:]
    centre = ((10 + 159 / 2 - 199 / 2) * 2e-8, (5 + 199 / 2 - 195 / 2) * 2e-8)
    other = placed(part, centre=centre)
    a, b = on_common_grid(whole, other)
    np.testing.assert_array_equal(a.object_array, b.object_array)
    assert a.object_array.shape == (160, 191)
    np.testing.assert_allclose(a.x, [25, 85])
    np.testing.assert_allclose(a.y, [30, 50])
    with pytest.raises(DataValueError, match=r'has pixels of 2\.1e-08 m but'):
        on_common_grid(whole, placed(part, pixel=2.1e-8))
    with pytest.raises(DataValueError, match='lie apart'):
        on_common_grid(whole, placed(part, centre=(1.0, 0.0)))
    with pytest.raises(DataValueError, match='nothing says where they lie'):
        on_common_grid(whole, ObjectFile(path='b', object_array=part))
