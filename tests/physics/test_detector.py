"""Where pixels of the detector are at fault, at the edges of the rule (CAL-03)."""

import numpy as np
import pytest

from ptycho_engine.physics.detector import unexplained_pixels
from ptycho_engine.physics.likelihood import Residuals

PATTERNS = 40.0


def at_fault(counts, expected, misfits):
    """Return the pixels (N, N) at fault where so many counts are measured and expected over a scan."""
    shape = np.shape(counts)
    images = (np.broadcast_to(image, shape) for image in (counts, expected, misfits, PATTERNS))
    told = Residuals(*(np.fft.ifftshift(np.array(image, float)) for image in images))
    return unexplained_pixels(told, told)


@pytest.mark.parametrize(('dead', 'found'), [(153, 153), (154, 0)])
def test_cal_03_more_than_15_percent_of_the_pixels_are_none(dead, found):
    """Of 1024: then it is the model that is wrong."""
    counts = np.full(1024, 1e3)
    counts[:dead] = 0
    assert at_fault(counts.reshape(32, 32), 1e3, 0).sum() == found


@pytest.mark.parametrize(('counts', 'misfits', 'found'), [(8.1e3, 21, 1), (7.9e3, 21, 0), (8.1e3, 19, 0)])
def test_cal_03_a_hot_pixel_holds_8_times_its_neighbours_in_most_patterns(counts, misfits, found):
    image, far_off = np.full((32, 32), 1e3), np.zeros((32, 32))
    image[4, 9], far_off[4, 9] = counts, misfits
    bad = at_fault(image, 1e3, far_off)
    assert bad.sum() == found
    assert bad[4, 9] == bool(found)


@pytest.mark.parametrize(
    ('expected', 'part', 'found'), [(31.0, 0.019, 1), (31.0, 0.021, 0), (29.0, 0.0, 0), (29.0, 0.019, 0)]
)
def test_cal_03_a_dead_pixel_holds_less_than_2_percent_of_30_counts(expected, part, found):
    counts = np.full((32, 32), expected)
    counts[4, 9] *= part
    assert at_fault(counts, expected, 0).sum() == found


@pytest.mark.parametrize(('beside', 'found'), [(3.1, 2), (2.9, 1)])
def test_cal_03_beside_a_dead_pixel_3_counts_are_enough(beside, found):
    expected = np.full((32, 32), 1e3)
    expected[4, 10] = beside
    counts = expected.copy()
    counts[4, 9:11] = 0
    assert at_fault(counts, expected, 0).sum() == found
