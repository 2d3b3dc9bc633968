"""What tests and benchmarks of the child process run in it."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from ptychopinn_ptychodus.child import Child
from ptychopinn_ptychodus.child_end import Channel, Supervisor

ENTRY_POINT = f'{__name__}:look'


def look(supervisor: Supervisor, channel: Channel) -> None:
    """Read the array once and tell the parent of it."""
    job, mapped = supervisor.receive_job()
    assert mapped is not None
    array = mapped.array
    frames = array[:: max(len(array) // 8, 1)]
    channel.put(('seen', job, array.shape, array.dtype.str, array.flags.writeable, frames.tobytes()))


def tell_imports(supervisor: Supervisor, channel: Channel) -> None:
    """Tell the parent what has been imported once a run could begin."""
    import ptychopinn_ptychodus.worker

    assert ptychopinn_ptychodus.worker.run_training
    channel.put(('imported', sorted({name.split('.')[0] for name in sys.modules})))


def hand_over(array: np.ndarray, patience_s: float = 60) -> tuple[float, tuple[object, ...]]:
    """Hand an array to a child; return the seconds until it was seen, and what was seen."""
    start = time.monotonic()
    with Child(ENTRY_POINT, 'job', array) as child:
        seen = next(m for m in child.messages(0.02, timeout_s=patience_s) if m is not None)
        return time.monotonic() - start, seen[1:]


def resident_bytes() -> tuple[int, int]:
    """Return this process' resident memory that belongs to no file, and all of it (Linux)."""
    lines = dict(line.split(':', 1) for line in Path('/proc/self/status').read_text().splitlines())
    return tuple(int(lines[name].split()[0]) * 1024 for name in ('RssAnon', 'VmRSS'))  # type: ignore[return-value]
