"""Probe and counts in any unit give one image (clauses GAU-03 and GAU-05)."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from ptycho_engine.errors import DataValueError
from ptycho_engine.physics.descent import AcceleratedDescent
from ptycho_engine.physics.scaling import MOST_COUNTS, PRESUMED_COUNTS, measure_scale
from ptycho_engine.physics.scan_likelihood import NumpyScanPhysics
from ptycho_engine.reconstruction.fit import judge_fit
from ptycho_engine.scan.raw_data import RawData
from ptycho_engine.scan.scan import Scan
from ptycho_engine.whole_scan.held_out import scan_patterns
from ptycho_engine.whole_scan.scan_model import ScanModel
from tests.conftest import small_scan

# So much light that neither the background in the likelihood nor photon noise is seen.
BRIGHT = replace(small_scan(points=4, size=32, photons=1e9, step=4.0), objectGuess=None)


def scaled(counts: float, probe: float) -> RawData:
    return replace(
        BRIGHT,
        diffraction=BRIGHT.diffraction * np.float32(np.sqrt(counts)),
        probeGuess=BRIGHT.probeGuess * np.complex64(probe),
    )


def image(raw: RawData) -> tuple[np.ndarray, ScanModel]:
    """Return what some iterations of physics make of a flat object, in the scale of the scan's own probe."""
    prepared = ScanModel(Scan.from_raw(raw))
    patterns = scan_patterns(prepared, None)
    physics = NumpyScanPhysics(patterns)
    everything = np.arange(len(raw))
    flat = physics.to_device(np.ones(patterns.shape, np.complex64))
    descent = AcceleratedDescent(physics, flat, None, np.zeros(patterns.shape, np.complex64))
    for _ in range(4):
        descent.iterate([everything])
    return physics.to_host(descent.current) * np.float32(prepared.scale.probe_scale), prepared


EXPECTED = image(BRIGHT)[0]


@settings(max_examples=15, deadline=None)
@given(st.floats(-55, 55), st.floats(-30, 30))
@example(20.0, 30.0)
@example(0.0, 30.0)
@example(0.0, -30.0)
@example(-40.0, 0.0)
@example(-54.0, -30.0)
def test_scales_are_conventions(counts_exponent, probe_exponent):
    """GAU-03, GAU-05: counts times a and probe times p change the object by √a / p and nothing else."""
    # From a photon in a pattern to thousands of them the background of the likelihood is seen.
    assume(not -9 < counts_exponent < -3)
    assume(abs(counts_exponent / 2 - probe_exponent) < 30)
    counts, probe = 10**counts_exponent, 10**probe_exponent
    found, prepared = image(scaled(counts, probe))
    relative = found.astype(np.complex128) * (probe / np.sqrt(counts))
    np.testing.assert_allclose(relative, EXPECTED, atol=1e-2 * np.abs(EXPECTED).max())
    factor, deviance, *_ = judge_fit(prepared, found)
    assert factor == pytest.approx(1, rel=0.1)
    assert np.isfinite(deviance)


@pytest.mark.parametrize(('factor', 'engine'), [(1e20, MOST_COUNTS), (1e-20, PRESUMED_COUNTS), (1.0, None)])
def test_the_unit(factor, engine):
    """GAU-05: what no detector counts is taken for so many counts; what one may count stays as it is."""
    raw = scaled(factor, 1.0)
    scale = measure_scale(raw.diffraction, raw.probeGuess)
    expected = scale.mean_counts if engine is None else engine
    assert scale.mean_counts / scale.unit**2 == pytest.approx(expected)
    prepared = ScanModel(Scan.from_raw(raw))
    counts = np.square(prepared.amplitude(np.arange(len(raw)))).sum(axis=(1, 2)).mean(dtype=np.float64)
    assert counts == pytest.approx(expected, rel=1e-4)
    assert (np.abs(prepared.illumination.probe) ** 2).sum() == pytest.approx(expected, rel=1e-3)


def test_the_object_must_fit_in():
    """GAU-05: probe and counts that are too unlike are refused in one sentence."""
    for counts, probe in ((1e-40, 1e25), (1e40, 1e-25)):
        raw = scaled(counts, probe)
        with pytest.raises(DataValueError, match='beyond single precision'):
            measure_scale(raw.diffraction, raw.probeGuess)
