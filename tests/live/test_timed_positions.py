"""Positions of frames by time (clause LIVE-21 of specs/live.md)."""

import numpy as np

from ptycho_engine.live.timed_positions import TimedPositions


def test_live_21_a_frame_is_placed_between_the_samples_of_both_axes():
    timed = TimedPositions()
    for number in range(5):
        timed.frame(number, 10.0 + number)
    assert timed.placed()[0] == []
    timed.sample('y', [10.5, 12.5], [100, 104])
    timed.sample('x', [9.0, 11.5], [0, 25])
    numbers, place = timed.placed()
    assert numbers == [1]
    np.testing.assert_allclose(place, [[101, 20]])
    timed.sample('x', [11.0, 20.0], [999, 110])
    numbers, place = timed.placed()
    assert numbers == [2]
    np.testing.assert_allclose(place, [[103, 30]])
    timed.sample('y', [20.0], [104])
    numbers, place = timed.placed()
    assert numbers == [3, 4]
    np.testing.assert_allclose(place, [[104, 40], [104, 50]])
    # Before the first sample nobody knows where it was.
    assert len(timed) == 1
