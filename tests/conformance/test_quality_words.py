"""What the window says of the quality of a result, from the comments of its product (API-83)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import cast

import numpy as np
import pytest

from ptycho_engine.reconstruction.report import QualityReport
from ptycho_engine.whole_scan.refine import Refinement
from ptycho_engine.whole_scan.scan_model import ScanModel
from ptycho_engine.whole_scan.solver import Solution
from ptychopinn_ptychodus.quality import Figures, figures_of, remark_on_simulated, simulated_epochs

REFINEMENT = Refinement(
    object_array=np.ones((2, 2), np.complex64),
    probe=None,
    position_shift=None,
    uncertainty=np.ones((2, 2), np.float32),
    start='network',
    kept=True,
    averaged=True,
    iterations=25,
    deviance_before=1.87,
    deviance_after=1.0325,
    seconds=1.0,
)
REPORT = QualityReport(
    deviance=0.98, frc50=0.2914, coverage=0.987, uncertainty=0.0213, refinement=REFINEMENT.sentence
)


def comments(report: QualityReport) -> str:
    line = f'PtychoPINN cnn (pinn, gridsize 1, trained by pytorch): 64 patterns, {report.sentence}'
    return f'made for a test\nPtychoPINN is mentioned here\n{line}\nModel: /a/deviance 7 per pixel/model.zip'


def test_all_figures_of_a_report_are_found_again() -> None:
    """API-83: what the engine writes, the window reads."""
    found = figures_of(comments(REPORT))
    assert found == Figures(1.032, held_out=True, frc50=0.291, uncertainty=0.021, coverage=0.987)


def test_figures_of_a_refinement_that_was_dropped_are_the_networks() -> None:
    dropped = replace(REFINEMENT, kept=False, deviance_after=1.9)
    found = figures_of(comments(replace(REPORT, refinement=dropped.sentence)))
    assert found is not None
    assert found.deviance == 1.87


def test_without_a_refinement_all_pixels_are_judged() -> None:
    found = figures_of(comments(replace(REPORT, refinement='', frc50=math.nan, uncertainty=math.nan)))
    assert found == Figures(0.98, held_out=False, frc50=None, uncertainty=None, coverage=0.987)
    assert len(found.lines(None)) == 2


@pytest.mark.parametrize('strength', [0.0, 0.4])
def test_of_a_solution_from_a_flat_object_the_held_out_pixels_count(strength: float) -> None:
    """API-83, API-88: without a network."""
    solution = Solution(
        object_array=np.ones((2, 2), np.complex64),
        weight=np.ones((2, 2), np.float32),
        uncertainty=np.ones((2, 2), np.float32),
        prepared=cast(ScanModel, None),
        calibrated=('positions by 0.2 px (root mean square)',),
        suspected=(),
        strength=strength,
        iterations=91,
        still=True,
        deviance=0.4226,
        held_out=np.full(1, 0.4226),
        seconds=1.0,
    )
    found = figures_of(comments(replace(REPORT, refinement=solution.sentence, frc50=math.nan)))
    assert found == Figures(0.4226, held_out=True, frc50=None, uncertainty=0.021, coverage=0.987)


def test_the_last_of_several_reconstructions_counts() -> None:
    both = comments(REPORT) + '\n' + comments(replace(REPORT, refinement='', deviance=3.0))
    found = figures_of(both)
    assert found is not None
    assert found.deviance == 3.0


@pytest.mark.parametrize('text', ['', 'a scan of mine\ndeviance 2 per pixel', 'PtychoPINN deviance', 'µ\x00'])
def test_comments_of_others_have_no_figures(text: str) -> None:
    found = figures_of(text)
    assert found is None or found.lines(1e-8) == []


def test_figures_are_told_in_plain_words() -> None:
    """API-83."""
    found = figures_of(comments(REPORT))
    assert found is not None
    fit, resolution, uncertainty, coverage = found.lines(20e-9)
    assert fit.startswith('Fit: deviance 1.03 per pixel on pixels that were held out')
    assert 'details of 34.4 nm (1.7 pixels)' in resolution
    assert '0.021 of the amplitude' in uncertainty
    assert '99%' in coverage


def test_the_epochs_on_simulated_objects_are_kept_in_the_comments() -> None:
    """API-84."""
    assert simulated_epochs('') == 0
    assert simulated_epochs(f'a\n{remark_on_simulated(3)}\nb\n{remark_on_simulated(20)}\nc') == 20
    assert simulated_epochs(f'Losses of epochs 1 to {"9" * 5000}: on simulated objects.') == 999_999_999
