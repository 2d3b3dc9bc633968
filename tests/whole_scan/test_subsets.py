"""Which patterns a step takes (clause REF-12)."""

import numpy as np
import pytest
from scipy.signal import fftconvolve

from ptycho_engine.whole_scan.subsets import (
    fewer_subsets,
    most_subsets,
    overlap_of,
    subsets_in_iteration,
)


def test_a_third_of_the_iterations_has_subsets_that_then_double():
    counts = [subsets_in_iteration(s, 30, 16) for s in range(1, 31)]
    assert counts == [16] * 10 + [8, 4, 2] + [1] * 17


def test_ref_12_only_dense_scans_have_subsets():
    light = np.full((10, 10), 10.0)
    assert most_subsets(overlap_of(light, 10.0), 100) == 1
    assert most_subsets(overlap_of(light, 1.0), 100) == 16
    assert most_subsets(overlap_of(light, 0.1), 100) == 32
    assert most_subsets(overlap_of(light, 1.0), 3) == 2


def test_ref_12_a_start_near_the_object_takes_a_quarter_as_many():
    assert [fewer_subsets(most) for most in (32, 16, 4, 2, 1)] == [8, 4, 1, 1, 1]


def test_ref_12_a_quarter_of_the_light_falls_where_more_patterns_do():
    """Of 100 pixels with 1, 2, ..., 100 patterns on them: those with more than 87 hold a quarter."""
    numbers = np.arange(1.0, 101.0)
    assert numbers[numbers > 87].sum() == pytest.approx(numbers.sum() / 4, rel=0.04)
    assert overlap_of(numbers * 7, 7.0) == pytest.approx(87, abs=1)


def test_ref_12_a_part_of_a_scan_has_the_subsets_of_the_whole():
    """Training looks at parts, of which more is edge; a network is to meet there what it meets on a scan."""
    step, sigma = 6, 8
    distance = np.arange(-30, 31)
    spot = np.exp(-(distance[:, None] ** 2 + distance**2) / (2 * sigma**2))

    def light(points):
        comb = np.zeros((points * step + 80,) * 2)
        comb[40 : 40 + points * step : step, 40 : 40 + points * step : step] = 1
        return fftconvolve(comb, spot, mode='same')

    whole, part = light(30), light(14)
    of_part, of_whole = overlap_of(part, 1.0), overlap_of(whole, 1.0)
    assert of_part == pytest.approx(of_whole, rel=0.05)
    assert most_subsets(of_part, 196) == most_subsets(of_whole, 900) > 1
