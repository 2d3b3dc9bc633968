"""A deviance that is no finite number is called that, and never counts as better (DOUBT-02)."""

import math
from dataclasses import replace

import numpy as np
import pytest

from ptycho_engine.backends.base import create_backend
from ptycho_engine.config import InferenceConfig
from ptycho_engine.reconstruction.report import QualityReport
from ptycho_engine.scan.scan import Scan
from ptycho_engine.whole_scan.refine import refine
from ptycho_engine.whole_scan.scan_model import ScanModel
from tests.conftest import small_scan


@pytest.mark.parametrize('value', [math.nan, math.inf])
def test_the_line_of_a_result_says_so(value):
    report = QualityReport(deviance=value, frc50=math.nan, coverage=1.0, uncertainty=math.nan, refinement='')
    assert 'no finite number' in report.sentence
    assert 'deviance nan' not in report.sentence
    assert 'deviance inf' not in report.sentence
    assert 'no finite' not in replace(report, deviance=1.0).sentence


def test_a_start_that_is_not_finite_is_left_behind():
    prepared = ScanModel(Scan.from_raw(small_scan(points=5, size=32, step=4.0)))
    start = np.full(prepared.scan.grid.shape, np.nan, np.complex64)
    events = refine(
        prepared, create_backend('pytorch'), start, InferenceConfig(refine_iterations=6), lambda: False
    )
    try:
        while True:
            next(events)
    except StopIteration as end:
        result = end.value
    assert result.kept
    assert result.start == 'flat'
    assert math.isfinite(result.deviance_after)
    assert np.isfinite(result.object_array).all()
    assert 'not a finite number →' in result.sentence


def test_a_refinement_that_is_not_finite_is_dropped_with_a_word():
    prepared = ScanModel(Scan.from_raw(small_scan(points=5, size=32, step=4.0)))
    bright = np.full(prepared.scan.grid.shape, 1e30, np.complex64)
    config = InferenceConfig(refine_iterations=3)
    events = refine(prepared, create_backend('pytorch'), bright, config, lambda: False)
    try:
        while True:
            next(events)
    except StopIteration as end:
        result = end.value
    assert 'nan' not in result.sentence
    assert ' inf' not in result.sentence
