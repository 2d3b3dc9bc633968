"""Runs in one process, whole or left off, leave nothing behind (RUN-08)."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.bench_flat_process import Held

ROOT = Path(__file__).parents[2]
RUNS = 12
OBJECTS_OF_A_RUN = 20
"""Python objects that may stay of a run: entries of caches that fill slowly. A kept model has thousands."""

LEAST_LEAK_KB = 3 << 10
"""Memory of a run that stays: a kept network has 8 MB with its gradient and moments, and what the allocator
holds goes up and down by 20 MB in all."""

IN_A_PROCESS = """
import dataclasses, json, sys
from pathlib import Path
from tests.benchmarks.bench_flat_process import Held, kinds_of_run

runs = kinds_of_run(Path(sys.argv[1]), 'pytorch')
runs['trainings']()
found = {}
for kind, run in runs.items():
    for _ in range(3):
        run()
    before = Held.now()
    for _ in range(int(sys.argv[2])):
        run()
    found[kind] = [dataclasses.asdict(before), dataclasses.asdict(Held.now())]
print(json.dumps(found))
"""


@pytest.fixture(scope='module')
def held(tmp_path_factory) -> dict[str, list[Held]]:
    """What a process of its own holds before and after: here threads of other tests come and go."""
    done = subprocess.run(
        [sys.executable, '-c', IN_A_PROCESS, str(tmp_path_factory.mktemp('flat')), str(RUNS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    return {kind: [Held(**values) for values in pair] for kind, pair in found.items()}


@pytest.mark.parametrize('kind', ['trainings', 'reconstructions', 'left off'])
def test_nothing_grows(kind, held):
    before, after = held[kind]
    assert after.files == before.files
    assert after.threads == before.threads
    assert after.maps == before.maps
    assert after.objects - before.objects < OBJECTS_OF_A_RUN * RUNS, (before, after)
    assert after.rss_kb - before.rss_kb < LEAST_LEAK_KB * RUNS, (before, after)
