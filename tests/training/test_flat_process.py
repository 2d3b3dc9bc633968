"""Runs in one process, whole or left off, leave nothing behind (RUN-08)."""

import dataclasses
import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import pytest

from tests.benchmarks.bench_flat_process import Held

ROOT = Path(__file__).parents[2]
RUNS = 12
OBJECTS_OF_A_RUN = 20
"""Python objects that may stay of a run: entries of caches that fill slowly. A kept model has thousands."""

LEAST_LEAK_KB = 3 << 10
"""Memory that stays of every run: a kept network has 8 MB with its gradient and moments. The allocator takes
up to 40 MB at once and keeps them, which happens in few of the runs."""

STEPS = 2
"""Runs that may add what they like."""

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
    seen = [Held.now()]
    for _ in range(int(sys.argv[2])):
        run()
        seen.append(Held.now())
    found[kind] = [dataclasses.asdict(held) for held in seen]
print(json.dumps(found))
"""


@pytest.fixture(scope='module')
def held(tmp_path_factory) -> dict[str, list[Held]]:
    """What a process of its own holds after each run: here threads of other tests come and go."""
    done = subprocess.run(
        [sys.executable, '-c', IN_A_PROCESS, str(tmp_path_factory.mktemp('flat')), str(RUNS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    return {kind: [Held(**values) for values in seen] for kind, seen in found.items()}


def growth_of_a_run(held: list[Held]) -> float:
    """Return the memory in kB that a run adds, in the mean of all but the ``STEPS`` that add most."""
    added = sorted(after.rss_kb - before.rss_kb for before, after in pairwise(held))
    return fmean(added[:-STEPS])


def test_a_step_is_no_growth_and_a_leak_is():
    flat = Held(rss_kb=426_744, files=4, threads=1, maps=3, objects=327_135)
    step = [flat] * 6 + [dataclasses.replace(flat, rss_kb=466_312)] * 7
    leak = [dataclasses.replace(flat, rss_kb=flat.rss_kb + (8 << 10) * run) for run in range(RUNS + 1)]
    assert growth_of_a_run(step) < LEAST_LEAK_KB < growth_of_a_run(leak)


@pytest.mark.parametrize('kind', ['trainings', 'reconstructions', 'left off'])
def test_nothing_grows(kind, held):
    before, after = held[kind][0], held[kind][-1]
    assert after.files == before.files
    assert after.threads == before.threads
    assert after.maps == before.maps
    assert after.objects - before.objects < OBJECTS_OF_A_RUN * RUNS, (before, after)
    assert growth_of_a_run(held[kind]) < LEAST_LEAK_KB, [each.rss_kb for each in held[kind]]
