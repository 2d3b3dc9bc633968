"""Where pixels of the detector are at fault, at the edges of the rules (CAL-03, CAL-15)."""

import numpy as np
import pytest

from ptycho_engine.physics.detector import stuck_pixels, unexplained_pixels
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


VALID = np.ones((32, 32), bool)


def photons(mean=40.0, frames=40, seed=0):
    return np.random.default_rng(seed).poisson(mean, (frames, 32, 32)).astype(np.float32)


@pytest.mark.parametrize('dose', [1e3, 1e4, 1e6, 1e8])
@pytest.mark.parametrize('frames', [16, 49, 256])
def test_cal_15_no_pixel_that_counts_is_stuck(dose, frames):
    """Not in dark parts, beside a beam stop, nor where patterns do not change at all."""
    y, x = np.mgrid[:32, :32] - 16
    mean = np.exp(-(x**2 + y**2) / 60)
    mean *= dose / mean.sum()
    mean[np.hypot(y, x) < 3] = 0
    for seed in range(5):
        counts = photons(mean, frames, seed)
        assert not stuck_pixels(counts, VALID).any()
        limit = np.quantile(counts, 0.9)
        assert not stuck_pixels(np.minimum(counts, limit), VALID).any()


@pytest.mark.parametrize('value', [6.0, 40.0, 500.0])
@pytest.mark.parametrize('wavering', [0, 1])
def test_cal_15_pixels_that_show_the_same_number_are_stuck(value, wavering):
    counts = photons()
    jitter = np.random.default_rng(1).integers(-wavering, wavering + 1, (len(counts), 32))
    counts[:, 9] = value + (jitter if value > 6 else 0)
    stuck = stuck_pixels(counts, VALID)
    assert stuck[9].all()
    assert stuck.sum() == 32


@pytest.mark.parametrize(('value', 'frames', 'found'), [(5, 16, 1), (4.9, 16, 0), (5, 15, 0)])
def test_cal_15_few_counts_or_patterns_tell_nothing(value, frames, found):
    counts = photons(frames=frames)
    counts[:, 4, 9] = value
    assert stuck_pixels(counts, VALID).sum() == found


def test_cal_15_patterns_without_noise_say_nothing():
    """Of a simulation, or averaged over many exposures: then all pixels scatter too little."""
    counts = np.random.default_rng(0).uniform(20, 60, (1, 32, 32)) * np.ones((40, 1, 1))
    counts[:, :2] = photons()[:, :2]
    assert not stuck_pixels(counts, VALID).any()
    averaged = photons(4000.0) / 100
    averaged[:, 9] = 40
    assert not stuck_pixels(averaged, VALID).any()
    # A few beside photons, of which most see none, are no pixels that count.
    sparse = np.zeros((40, 32, 32))
    sparse[:, 4, :5], sparse[:, 9] = 30, 4.9
    assert not stuck_pixels(sparse, VALID).any()


def test_cal_15_what_lies_at_the_largest_value_may_be_saturated():
    counts = photons()
    counts[:, 4, 9] = counts.max() + 7
    assert stuck_pixels(counts, VALID)[4, 9]
    counts[3, 20, 20] = counts.max()
    assert not stuck_pixels(counts, VALID).any()
    assert not stuck_pixels(counts, np.zeros_like(VALID)).any()
