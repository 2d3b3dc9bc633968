"""A small sample of ``tests/benchmarks/kill_everywhere.py``: runs that are ended at random moments (DISK)."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / 'benchmarks' / 'kill_everywhere.py'


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='signals, and a library that is preloaded')
@pytest.mark.skipif(shutil.which('gcc') is None, reason='needs a compiler')
def test_earlier_results_are_whole_or_the_new_ones_whenever_a_run_ends():
    """In a process of its own: its children are forks, which a process with threads cannot have."""
    kinds = ['--kinds', 'SIGKILL', 'SIGTERM', 'power']
    done = subprocess.run(
        [sys.executable, str(SCRIPT), '--moments', '1', *kinds],
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count('0 faults') == 12
