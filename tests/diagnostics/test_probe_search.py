"""PROBE clauses: a probe that nobody has measured, from the patterns alone."""

from dataclasses import replace

import numpy as np
import pytest

from ptycho_engine.diagnostics.probe_search import search_probe
from ptycho_engine.diagnostics.trials import probe_width
from ptycho_engine.scan.scan import Scan
from ptycho_engine.simulate.recipe import Recipe


@pytest.mark.parametrize(
    ('kind', 'more'),
    [('defocused', {'defocus_rad': 9.0}), ('defocused', {'defocus_rad': -4.0}), ('zone-plate', {})],
)
def test_probe_01_and_02_the_focus_is_found(kind, more) -> None:
    """Of either sign, of pupils of different kinds, to 0.9 of correlation with the probe of the scan."""
    raw = Recipe(probe=kind, points='12x12', seed=3, **more).simulate()
    blind = np.zeros_like(raw.probeGuess)
    blind[:, 32, 32] = 1
    found = search_probe(Scan.from_raw(replace(raw, probeGuess=blind, objectGuess=None)))
    truth, modes = raw.probeGuess[0], found.modes[0]
    correlation = abs(np.vdot(truth, modes)) / np.linalg.norm(truth) / np.linalg.norm(modes)
    assert correlation > 0.95
    assert found.ratio < 1.3
    # In the square root of counts, so that a flat object predicts the mean pattern.
    counts = np.square(raw.diffraction, dtype=np.float64).sum(axis=(1, 2)).mean()
    assert float((np.abs(modes) ** 2).sum()) == pytest.approx(counts, rel=0.1)


def test_probe_03_a_beam_without_overlap_is_not_taken() -> None:
    """A focus explains each of few patterns by itself; it is left out where wider beams can be."""
    raw = Recipe(points='5x5', step_px=9, seed=5, defocus_rad=9.0).simulate()
    blind = np.zeros_like(raw.probeGuess)
    blind[:, 32, 32] = 1
    found = search_probe(Scan.from_raw(replace(raw, probeGuess=blind, objectGuess=None)))
    assert probe_width(replace(raw, probeGuess=found.modes)) > 2 * 9 * 0.8
