"""Runs in one process, whole or left off, leave nothing behind (RUN-08)."""

import pytest

from tests.benchmarks.bench_flat_process import Held, kinds_of_run

WARM, RUNS = 3, 12
OBJECTS_OF_A_RUN = 20
"""Python objects that may stay of a run: entries of caches that fill slowly. A kept model has thousands."""


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    found = kinds_of_run(tmp_path_factory.mktemp('flat'), 'pytorch')
    found['trainings']()
    return found


@pytest.mark.parametrize('kind', ['trainings', 'reconstructions', 'left off'])
def test_nothing_grows(kind, runs):
    for _ in range(WARM):
        runs[kind]()
    before = Held.now()
    for _ in range(RUNS):
        runs[kind]()
    after = Held.now()
    assert after.files == before.files
    assert after.threads == before.threads
    assert after.maps == before.maps
    assert after.objects - before.objects < OBJECTS_OF_A_RUN * RUNS, (before, after)
    assert after.rss_kb - before.rss_kb < 1024 * RUNS, (before, after)
