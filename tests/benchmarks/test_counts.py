"""What a reconstruction costs in passes and operations does not grow unseen."""

import numpy as np
import pytest

from tests.benchmarks.bench_counts import (
    LOOKS,
    counted_passes,
    operations_of_an_iteration,
    passes_of,
    scene_scan,
)

MOST_PASSES, MOST_OPERATIONS, MOST_WAITS = 64, 760, 3
"""Lower them as the counts fall."""


@pytest.fixture(scope='module')
def scan():
    """A dense scan, 289 patterns at steps of 6 px."""
    return scene_scan('6px-1e5')


def test_passes_of_a_default_reconstruction(scan):
    found = passes_of(scan)
    assert {'first steps', 'physics', 'prior'} <= {stage for stage, _ in found}
    assert 40 < sum(found.values()) <= MOST_PASSES
    # Each trial of the prior is judged once, and the image before it; what is known is not judged again.
    assert found['prior', 'judged'] in (3, 4)
    assert found['around', 'judged'] == 1


def test_operations_of_an_iteration(scan):
    patterns, operations, waits = operations_of_an_iteration(scan)
    assert patterns == len(scan.raw)
    assert 100 < operations <= MOST_OPERATIONS
    assert waits <= MOST_WAITS


def test_a_subset_is_a_part_of_a_pass():
    class Few:
        _patterns = range(8)

    with counted_passes() as found:
        from ptycho_engine.physics.scan_likelihood import ScanLikelihood

        with pytest.raises(AttributeError):
            ScanLikelihood.evaluate(Few(), None, np.arange(2), 'poisson')
    assert found == {('around', 'looked'): 0.25}
    assert ScanLikelihood.evaluate.__name__ in LOOKS
