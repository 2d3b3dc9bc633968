"""How densely patterns overlap (clauses REF-03, NET-10 and STAGE-05)."""

import numpy as np
import pytest

from ptycho_engine.backends.base import create_backend
from ptycho_engine.data.scan import Scan
from ptycho_engine.pipeline.held_out import scan_patterns
from ptycho_engine.pipeline.overlap import overlap_of, scan_overlap
from ptycho_engine.pipeline.prepared import PreparedScan
from tests.conftest import small_scan


@pytest.mark.parametrize(('step', 'modes'), [(6.0, 1), (6.0, 2), (22.0, 1)])
def test_the_overlap_of_a_scan_is_that_of_its_illumination(step, modes):
    prepared = PreparedScan(Scan.from_raw(small_scan(points=6, size=32, modes=modes, step=step)))
    patterns = scan_patterns(prepared, None)
    physics = create_backend('pytorch').scan_physics(patterns)
    flat = physics.to_device(np.ones(patterns.shape, np.complex64))
    weight = physics.to_host(physics.evaluate(flat, np.arange(36), 'poisson').weight)
    expected = overlap_of(weight, patterns.brightest)
    # Sub-pixel remainders are left out of it.
    assert scan_overlap(prepared) == pytest.approx(expected, rel=0.05)
