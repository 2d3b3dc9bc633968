"""The page on doctor has every sentence that it can say of data and of the installation."""

import itertools
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ptycho_engine.diagnostics import (
    agreement,
    changes,
    doubts,
    frameworks,
    installation,
    scan_checks,
)
from ptycho_engine.diagnostics.causes import CALIBRATED, Cause, Causes
from ptycho_engine.diagnostics.diagnosis import Diagnosis
from ptycho_engine.diagnostics.probe_place import cornered_probe
from ptycho_engine.diagnostics.trials import Reading, Trials
from ptycho_engine.physics.scaling import ScaleRecord
from ptycho_engine.scan.scan import Scan
from ptycho_engine.whole_scan.scan_model import ScanModel
from tests.conftest import small_scan

AGREEMENT = 'Patterns, probe and positions do not agree'
PATTERNS, PLACES = 'Patterns', 'Probe, positions, overlap'
INSTALLATION = 'Installation and files'
PAGE = Path(__file__).parents[2] / 'docs' / 'doctor.md'


def stated(*sections: str) -> list[re.Pattern[str]]:
    """Return the sentences of the first columns of the tables of sections; "…" stands for anything."""
    parts = dict(part.split('\n', 1) for part in PAGE.read_text().split('\n## ')[1:])
    rows = [line for name in sections for line in parts[name].splitlines() if line.startswith('| ')]
    cells = [line.split('|')[1].strip() for line in rows]
    return [
        re.compile('.*'.join(re.escape(part) for part in sentence.split('…')))
        for cell in cells
        for sentence in cell.split('<br>')
    ]


def missing(sentences, *sections: str) -> list[str]:
    patterns = stated(*sections)
    return [text for text in sentences if not any(pattern.fullmatch(text) for pattern in patterns)]


@pytest.fixture(scope='module')
def good():
    return small_scan(points=5, size=32, photons=1e5)


def corners():
    raw = small_scan(points=5, size=32)
    for axes in ((1, 2), (1,), (2,)):
        yield cornered_probe(replace(raw, probeGuess=np.fft.fftshift(raw.probeGuess, axes=axes)))


def of_changes():
    matrices = np.array([[1, 0.1], [-0.1, 1]]), 1.1 * np.eye(2), np.array([[1, 0.1], [0, 1]]), np.eye(2)
    mask = np.zeros((8, 8), bool)
    mask[2, 3:5] = True
    for change in (
        *changes.orientations_of_patterns(),
        *changes.orientations_of_positions(),
        *changes.orientations_of_probe(),
        *changes.orders(40),
        changes.slipped(40, 7, 1),
        changes.slipped(40, 7, -1),
        changes.slipped(40, 7, 2),
        changes.rolled_patterns(2, -1),
        changes.fftshifted_patterns(32),
        changes.multiplied_positions(1e6),
        changes.propagated_probe(3.0),
        changes.bad_pixels(mask, 2, 0),
        changes.bad_pixels(mask, 0, 0),
        changes.bad_pixels(mask, 0, 2),
        changes.saturated_values(30.0, 5),
        *corners(),
    ):
        yield change.sentence
    for matrix in matrices:
        yield from changes.affine_map(matrix).sentence.split(' and the ')[:1]


def test_each_cause_that_a_file_may_have_is_on_the_page():
    sentences = list(of_changes())
    assert len(sentences) > 30
    assert missing(sentences, AGREEMENT) == []


def test_each_verdict_on_the_agreement_is_on_the_page():
    cause = Cause('probe', 'the probe is not that of the scan', CALIBRATED, None, 9.0, 1.0)
    verdicts = [
        None,
        Diagnosis(1.0, True, (), 1.0, True),
        Diagnosis(1.0, True, (), 1.0, True, ('the probe',)),
        Diagnosis(9.0, False, (), 9.0, False),
        Diagnosis(9.0, False, (cause,), 4.0, False),
    ]
    found = [f.text for verdict in verdicts for f in agreement.agreement_findings(verdict)]
    texts = [text.partition(':')[0] if text.startswith(cause.sentence) else text for text in found]
    assert len(texts) == 6
    assert missing(texts, AGREEMENT) == []


@pytest.mark.parametrize('free', ['intensities', 'background', 'probe', 'positions'])
def test_each_thing_that_no_file_holds_is_on_the_page(free, good):
    causes = Causes(Trials(good), Reading())
    fit = causes.trials.fit(causes.reading)
    causes.trials.fit = lambda *_: fit
    (found,) = getattr(causes, free)(fit, fit.judge())
    assert missing([found.cause.sentence], AGREEMENT) == []


def spoiled(good):
    """Yield scans with all that the checks name."""
    values = np.asarray(good.diffraction)
    counts = np.square(values)
    yield good
    yield replace(good, diffraction=values * np.float32(0.3))
    yield replace(good, diffraction=np.rint(values).astype(np.float32))
    dark = values.copy()
    dark[3] = 0
    yield replace(good, diffraction=dark)
    dark[3:] = 0
    yield replace(good, diffraction=dark)
    yield replace(good, diffraction=np.ones_like(values) * 8)
    yield replace(good, diffraction=np.broadcast_to(values[:1], values.shape).copy())
    single = np.zeros_like(values)
    single[:, 5, 5] = 300
    yield replace(good, diffraction=single)
    yield replace(good, diffraction=np.sqrt(np.minimum(counts, 100)))
    yield replace(good, diffraction=np.sqrt(counts / counts.sum(axis=(1, 2)).max() * 20).round())
    yield replace(good, diffraction=values * np.float32(1e-4))
    yield replace(good, diffraction=values * np.float32(1e6))
    yield replace(good, probeGuess=np.roll(good.probeGuess, 8, axis=1))
    yield replace(good, probeGuess=np.fft.fftshift(good.probeGuess, axes=(1, 2)))
    yield replace(good, probeGuess=np.ones_like(good.probeGuess))
    yield replace(good, xcoords=good.xcoords + 40)
    yield replace(good, xcoords=good.xcoords + 12)
    middle = good.xcoords.mean(), good.ycoords.mean()
    for factor in (0, 2, 1e-3):
        yield replace(
            good,
            objectGuess=None,
            xcoords=middle[0] + factor * (good.xcoords - middle[0]),
            ycoords=middle[1] + factor * (good.ycoords - middle[1]),
        )
    yield replace(
        good,
        objectGuess=None,
        xcoords=0.7 * good.xcoords,
        ycoords=0.7 * good.ycoords,
    )
    yield good.select(np.arange(1))
    yield good.select(np.arange(3))
    yield replace(good, bad_pixels=np.ones((32, 32), bool))


def test_each_sentence_on_the_scan_is_on_the_page(good, monkeypatch):
    monkeypatch.setattr(scan_checks, 'diagnose', lambda raw: None)
    said = set()
    for raw in spoiled(good):
        try:
            scan = Scan.from_raw(raw)
            for finding in scan_checks.examine_scan(scan):
                said.add(finding.text)
        except scan_checks.EngineError:
            # What stops a run is named in its own sentence.
            continue
    assert len(said) > 40
    assert missing(said, PATTERNS, PLACES, AGREEMENT) == []


def test_each_doubt_on_the_light_is_on_the_page(good):
    scale = ScanModel(Scan.from_raw(good)).scale
    assert isinstance(scale, ScaleRecord)
    found = [
        doubts._of_light(replace(scale, mean_counts=mean, unit=unit))
        for mean, unit in ((5.0, 1), (1e20, 1e6), (0.1, 1e-6))
    ]
    assert all(found)
    assert missing(found, PATTERNS) == []


def test_each_sentence_on_the_installation_is_on_the_page(monkeypatch):
    """Without letting a backend compute, which `test_installation` does."""
    answers = (
        '{"version": "2", "devices": {"cpu": 1}}',
        '{"version": "2", "devices": {}}',
        'NVIDIA H200, 143771 MiB, 570.86',
        '',
    )
    for thorough, answer in itertools.product((False, True), answers):
        monkeypatch.setattr(
            subprocess,
            'run',
            lambda command, answer=answer, **_: subprocess.CompletedProcess(command, 1, answer, 'no module'),
        )
        texts = [finding.text for finding in installation.examine_installation(thorough=thorough)]
        assert missing(texts, INSTALLATION) == []
    monkeypatch.setattr(installation, 'why_unavailable', lambda backend: 'absent')
    monkeypatch.setattr(frameworks, 'why_unavailable', lambda backend: 'absent')
    monkeypatch.setattr(installation, 'LITTLE_MEMORY', 1e18)
    for thorough in (False, True):
        found = installation.examine_installation(thorough=thorough)
        assert missing([finding.text for finding in found], INSTALLATION) == []
