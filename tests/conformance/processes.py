"""Long runs of the console script, and what becomes of their processes (Linux)."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conftest import SCRIPT

__all__ = ['LONG', 'children', 'long_run', 'seconds_until_gone']

LONG = {
    'train': {'PtychoPINNTraining': {'NumEpochs': '3000', 'BatchSize': '8'}},
    'reconstruct': {'PtychoPINNEngine': {'RefineIterations': '1000000'}},
}
"""Settings with which a run would last for minutes."""

UNDER_WAY = {'train': 'Epoch 1/', 'reconstruct': ' groups of '}


@contextmanager
def long_run(
    action: str, scan: Path, out: Path, environment: dict[str, str]
) -> Iterator[subprocess.Popen[str]]:
    """Start batch mode on a directory with the settings of ``LONG`` and wait until it is under way."""
    process = subprocess.Popen(
        [str(SCRIPT), '-b', action, '-i', str(scan), '-o', str(out)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Who starts the tests in the background of a script has it ignored, and a child would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert process.stdout is not None
        seen = []
        for line in process.stdout:
            seen.append(line)
            if UNDER_WAY[action] in line:
                break
        else:
            raise AssertionError(''.join(seen))
        yield process
    finally:
        process.kill()
        process.wait()


def children(pid: int) -> list[int]:
    """Return the child of the run; multiprocessing's resource tracker is not one."""
    found = []
    for thread in Path(f'/proc/{pid}/task').iterdir():
        listed = thread / 'children'
        found += [int(word) for word in listed.read_text().split()]
    return [p for p in found if b'spawn_main' in Path(f'/proc/{p}/cmdline').read_bytes()]


def seconds_until_gone(pid: int, limit_s: float) -> float | None:
    """Return how long a process goes on, None if for longer than `limit_s`."""
    start = time.monotonic()
    while (elapsed := time.monotonic() - start) < limit_s:
        try:
            os.kill(pid, 0)
            state = Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()[0]
        except (ProcessLookupError, FileNotFoundError):
            return elapsed
        if state == 'Z':
            return elapsed
        time.sleep(0.02)
    return None
