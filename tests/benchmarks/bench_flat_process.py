"""Memory, files and threads of a process that trains and reconstructs again and again.

    python tests/benchmarks/bench_flat_process.py [--runs 200] [--every 20] [--backend pytorch]

Three rows of runs in one process: whole trainings, whole reconstructions, and both left off at their first
event, as a stopped run is. Every so many runs it prints resident memory (after a collection of garbage), open
file descriptors, threads, memory maps of files and live Python objects.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[2]))

from ptycho_engine.config import InferenceConfig, ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho_engine.formats.archive import load_archive
from ptycho_engine.reconstruction.reconstruct import reconstruct
from ptycho_engine.scan.scan import Scan, load_scan
from ptycho_engine.training.train import train
from tests.conftest import small_scan

QUIET = PyTorchExecutionConfig(enable_progress_bar=False)


@dataclass(frozen=True)
class Held:
    """What the process holds."""

    rss_kb: int
    files: int
    threads: int
    maps: int
    """Files that are mapped, those of libraries left out."""
    objects: int

    @classmethod
    def now(cls) -> Held:
        """Collect garbage and look."""
        gc.collect()
        process = psutil.Process()
        mapped = [item.path for item in process.memory_maps(grouped=True)]
        own = [path for path in mapped if path.startswith('/') and '.so' not in path]
        return cls(
            rss_kb=process.memory_info().rss // 1024,
            files=process.num_fds(),
            threads=process.num_threads(),
            maps=len(own),
            objects=len(gc.get_objects()),
        )

    def __str__(self) -> str:
        return (
            f'{self.rss_kb:>9} kB {self.files:>4} files {self.threads:>4} threads {self.maps:>4} maps '
            f'{self.objects:>8} objects'
        )


def scan_in_file(folder: Path) -> Path:
    """Write a scan of 16 patterns, uncompressed so that it may be mapped."""
    raw = small_scan(points=4, size=32, photons=1e4, step=4.0)
    path = folder / 'scan.npz'
    np.savez(
        path,
        diffraction=raw.diffraction,
        probeGuess=raw.probeGuess,
        xcoords=raw.xcoords,
        ycoords=raw.ycoords,
    )
    return path


def kinds_of_run(folder: Path, backend: str) -> dict[str, Callable[[], None]]:
    """Return the runs, by what they are; each reads scan and model from their files."""
    path, model = scan_in_file(folder), folder / 'model'
    network = ModelConfig(n_filters_scale=1, architecture='cnn', gridsize=2)
    training = TrainingConfig(model=network, nepochs=1, n_groups=4, batch_size=4, backend=backend)
    inference = InferenceConfig(refine_iterations=2, backend=backend)

    def scan() -> Scan:
        return load_scan(path)

    def whole_training() -> None:
        for _ in train([scan()], training, model, execution=QUIET):
            pass

    def whole_reconstruction() -> None:
        for _ in reconstruct(scan(), load_archive(model), inference, execution=QUIET):
            pass

    def left_off() -> None:
        for _ in train([scan()], training, folder / 'left', execution=QUIET):
            break
        for _ in reconstruct(scan(), load_archive(model), inference, execution=QUIET):
            break

    return {'trainings': whole_training, 'reconstructions': whole_reconstruction, 'left off': left_off}


def main() -> None:
    """Run all kinds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--runs', type=int, default=200)
    parser.add_argument('--every', type=int, default=20)
    parser.add_argument('--backend', default='pytorch', choices=['pytorch', 'tensorflow'])
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    print(f'process {os.getpid()}, {threading.active_count()} Python threads at the start')
    with tempfile.TemporaryDirectory() as folder:
        for name, once in kinds_of_run(Path(folder), options.backend).items():
            tic = time.perf_counter()
            for number in range(1, options.runs + 1):
                once()
                if number == 1 or number % options.every == 0:
                    print(f'{name:>15} {number:>4}: {Held.now()}', flush=True)
            print(f'{name:>15}: {(time.perf_counter() - tic) / options.runs:.2f} s a run')


if __name__ == '__main__':
    main()
