"""What photon noise alone leaves of a deviance, by drawing photons."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptycho_engine.physics.forward import deviance
from ptycho_engine.physics.noise import noise_deviance


@pytest.mark.parametrize('rate', [1e-5, 1e-3, 0.01, 0.1, 1.0, 10.0, 59.0, 61.0, 1e4])
def test_it_is_the_mean_of_drawn_patterns(rate):
    draws = 400_000
    counts = np.random.default_rng(3).poisson(rate, (draws, 1, 1))
    good = np.ones((1, 1), bool)
    found = deviance(counts, np.full(counts.shape, rate), good)
    # Five standard errors of the mean; the table is interpolated to 1e-3.
    limit = 5 * found.std() / np.sqrt(draws) + 1e-3 * found.mean()
    assert abs(found.mean() - noise_deviance(np.array(rate))) < limit


def test_the_table_and_the_series_of_many_photons_meet():
    """``1 + 1 / (6 r)`` beyond 60 photons; there the next term is 1e-4 of it."""
    below, above = noise_deviance(np.array([59.999, 60.001]))
    assert above == pytest.approx(below, abs=2e-4)
    assert above == pytest.approx(1 + 1 / 360, abs=2e-4)


@given(st.lists(st.floats(0, 1e12), min_size=1))
def test_it_is_finite_and_at_most_that_of_a_few_photons(rates):
    found = noise_deviance(np.array(rates))
    assert (found >= 0).all()
    # The largest value, near three photons.
    assert (found < 1.2).all()
