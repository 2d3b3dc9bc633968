"""Damaged files end in a result or a sentence (a small sample); the search for those that do not works."""

import os
import signal
import time

import numpy as np
import pytest

from tests.fuzz.readers import KINDS, Complaint, Kind, command
from tests.fuzz.run import Outcome, damaged_file, good_digest, outcomes, run_case
from tests.fuzz.samples import Samples, make_samples

CASES = 12


@pytest.fixture(scope='module')
def samples(tmp_path_factory) -> Samples:
    return make_samples(tmp_path_factory.mktemp('samples'))


@pytest.mark.parametrize('name', sorted(KINDS))
def test_damaged_files_end_in_a_result_or_a_sentence(name, samples):
    kind = KINDS[name]
    good = good_digest(kind, samples)
    found = [run_case((name, 0, number), kind, samples, good) for number in range(CASES)]
    assert [outcome for outcome in found if outcome.bad] == []
    # Most damage is noticed, so that the sample is not idle.
    assert name == 'cache' or any(outcome.verdict == 'refused' for outcome in found)


@pytest.mark.parametrize('name', ['sealed_master', 'sealed_frames'])
def test_hdf_01_nothing_is_another_unnoticed_where_checksums_are(name, samples):
    kind = KINDS[name]
    good = good_digest(kind, samples)
    found = [run_case((name, 1, number), kind, samples, good).verdict for number in range(40)]
    assert set(found) <= {'same', 'refused'}
    assert found.count('refused') > 10


@pytest.mark.parametrize('name', sorted(KINDS))
def test_a_case_is_repeated_by_its_seed_and_number(name, samples, tmp_path):
    found = set()
    for number in range(5):
        copies = []
        for place in ('a', 'b'):
            folder = tmp_path / f'{place}{number}'
            folder.mkdir()
            copies.append(damaged_file((name, 3, number), KINDS[name], samples, folder).read_bytes())
        assert copies[0] == copies[1]
        found.add(copies[0])
    assert len(found) == 5


def read_and_raise(path, samples):
    raise ZeroDivisionError


def read_and_crash(path, samples):
    if path.read_bytes() != samples.toml.read_bytes():
        os.kill(os.getpid(), signal.SIGSEGV)
    return ''


def read_and_hang(path, samples):
    if path.read_bytes() != samples.toml.read_bytes():
        time.sleep(600)
    return ''


def read_and_flood(path, samples):
    if path.read_bytes() != samples.toml.read_bytes():
        np.ones(240_000_000).sum()
    return ''


def read_and_be_content(path, samples):
    return ''


@pytest.mark.parametrize(
    ('read', 'verdict'),
    [
        (read_and_crash, 'crash'),
        (read_and_hang, 'hang'),
        (read_and_flood, 'memory'),
        (read_and_be_content, 'same'),
    ],
)
def test_what_a_reader_must_not_do_is_found(read, verdict, samples):
    kinds = {'toml': Kind(KINDS['toml'].source, KINDS['toml'].damage, read)}
    cases = iter([('toml', 1, 1), ('toml', 1, 2)])
    found: list[Outcome] = list(outcomes(samples, cases, kinds, hang_s=2.0 if verdict == 'hang' else 120.0))
    assert [outcome.verdict for outcome in found] == [verdict, verdict]


def test_a_traceback_is_found(samples):
    kind = Kind(KINDS['toml'].source, KINDS['toml'].damage, read_and_raise)
    outcome = run_case(('toml', 1, 1), kind, samples, '')
    assert outcome.bad
    assert 'ZeroDivisionError' in outcome.detail


def test_a_command_that_prints_control_characters_is_found(samples, capsys, monkeypatch):
    monkeypatch.setattr('tests.fuzz.readers.main', lambda words: print('\x1b[31mred') or 0)
    with pytest.raises(Complaint):
        command('inspect', samples.archive)
