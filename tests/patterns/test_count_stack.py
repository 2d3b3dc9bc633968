"""CONVERT-01: counts in files are whole numbers of the smallest type, where they are whole."""

import numpy as np
import pytest

from ptycho_engine.patterns.count_stack import CountStack


@pytest.mark.parametrize(
    ('largest', 'expected'), [(7, 'uint16'), (65534, 'uint16'), (65535, 'uint32'), (3_000_000, 'uint32')]
)
def test_convert_01_the_largest_value_of_a_type_stays_free(largest, expected):
    """It would be taken for the mark of a bad pixel."""
    counts = np.full((3, 4, 4), largest, np.float64)
    counts[1, 2, 3] = 2
    stack = CountStack(np.sqrt(counts).astype(np.float32))
    assert stack.dtype == expected
    np.testing.assert_array_equal(stack[0:3], counts)


def test_convert_01_what_is_not_whole_stays_as_it_is():
    amplitude = np.full((2, 4, 4), 1.3, np.float32)
    stack = CountStack(amplitude)
    assert stack.dtype == np.float32
    np.testing.assert_allclose(stack[0:2], 1.69, rtol=1e-6)
