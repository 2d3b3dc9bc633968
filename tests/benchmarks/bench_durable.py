"""What it costs to bring files to the disk before and after they are renamed, as a ratio to not doing so.

Run: python tests/benchmarks/bench_durable.py [FOLDER]
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ptycho_engine.formats.npz import write_arrays
from ptycho_engine.io import atomic
from ptycho_engine.io.atomic import atomic_path
from ptycho_engine.io.folder_lock import sole_writer
from ptycho_engine.io.staging import staged

REPEATS = 7


def small(folder: Path) -> None:
    """A settings file, or a line of a record."""
    with atomic_path(folder / 'train.toml') as temporary:
        temporary.write_text('seed = 0\n' * 100)


def large(folder: Path) -> None:
    """A checkpoint of a default network."""
    with atomic_path(folder / 'checkpoint.zip') as temporary:
        temporary.write_bytes(BYTES)


def result(folder: Path) -> None:
    """The three files of a reconstruction of 512x512 pixels, deflated as they are."""
    with sole_writer(folder, 'a benchmark'), staged(folder) as staging:
        for name in ('product.h5', 'reconstruction.npz', 'reconstruction.png'):
            write_arrays(staging.path(name), {'objectGuess': OBJECT})


def seconds(task: Callable[[Path], None], folder: Path) -> float:
    """Return the median of some repetitions."""
    times = []
    for _ in range(REPEATS):
        tic = time.perf_counter()
        task(folder)
        times.append(time.perf_counter() - tic)
    return sorted(times)[REPEATS // 2]


def main() -> None:
    """Print a line for each kind of file."""
    real = os.fsync
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as name:
        for task in (small, large, result):
            durable = seconds(task, Path(name))
            atomic.os.fsync = lambda handle: None  # type: ignore[attr-defined]
            fleeting = seconds(task, Path(name))
            atomic.os.fsync = real  # type: ignore[attr-defined]
            what = (task.__doc__ or '').rstrip('.')
            print(f'{what}: {1e3 * durable:.1f} ms, {durable / fleeting:.1f} times as long as without')


if __name__ == '__main__':
    rng = np.random.default_rng(0)
    BYTES = rng.bytes(20_000_000)
    OBJECT = rng.normal(size=(512, 512)).astype(np.complex64)
    main()
