"""Models and checkpoints from anybody are refused in one sentence (specs/archive.md, ARC-08 to ARC-10)."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ptycho_engine.formats.archive import save_archive
from ptycho_engine.formats.checkpoint import save_checkpoint
from tests.formats.hostile_archives import CASES, CHECKPOINT, MODEL, MODEL_1, REASONS, write_all
from tests.formats.test_archive import in_format_1, tiny_model
from tests.formats.test_checkpoint import tiny_checkpoint

MIB = 1 << 20
HERE = Path(__file__).parent


@pytest.fixture(scope='module')
def outcomes(tmp_path_factory):
    work = tmp_path_factory.mktemp('hostile')
    good, folder = work / 'good.zip', work / 'files'
    folder.mkdir()
    save_checkpoint(good, tiny_checkpoint())
    model = work / 'wts.h5.zip'
    save_archive(model, tiny_model())
    kinds = write_all(
        folder,
        {
            MODEL: model.read_bytes(),
            MODEL_1: in_format_1(work, tiny_model()),
            CHECKPOINT: good.read_bytes(),
        },
    )
    run = subprocess.run(
        [sys.executable, HERE / 'hostile_reader.py', good, folder],
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    return {title: (kinds[name], found[name]) for title, name in zip(CASES, kinds, strict=True)}


@pytest.mark.parametrize('title', CASES)
def test_arc_08_a_hostile_archive_is_refused_by_every_reader_in_one_sentence(outcomes, title):
    kind, outcome = outcomes[title]
    assert outcome['status'] == 0, 'the process died'
    # What only a checkpoint has is not looked at by those who want a model.
    readers = ['resume'] if kind == CHECKPOINT else ['load_archive', 'inspect', 'the window']
    for reader in readers:
        sentence = outcome['sentences'][reader]
        assert sentence, f'{reader} accepted it'
        assert not sentence.startswith('NOT OURS'), sentence
        assert sentence.isprintable()
        assert sentence.endswith('.')
        assert len(sentence) < 1500
        assert REASONS.get(title, '') in sentence


@pytest.mark.parametrize('title', CASES)
def test_arc_08_a_hostile_archive_costs_little_and_opens_no_other_file(outcomes, title):
    _, outcome = outcomes[title]
    assert outcome['opened'] == []
    assert outcome['peak'] < 300 * MIB
    # All four readers take 0.1 s of it; what has no bound takes minutes.
    assert outcome['cpu_s'] < 10


def test_arc_08_there_are_at_least_forty(outcomes):
    assert sum(kind in (MODEL, MODEL_1) for kind, _ in outcomes.values()) >= 40
