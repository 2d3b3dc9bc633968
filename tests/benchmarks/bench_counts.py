"""What a default reconstruction does, counted: nothing here depends on how busy the machine is.

    python -m tests.benchmarks.bench_counts [passes operations memory] [--rows 6px-1e5 ...]

passes
    How often all patterns of a scan of ``outside_scenes.py`` are looked at, and in which stage. Half of them
    in a subset are half a pass; a pass that only judges costs one Fourier transform in place of two.
operations
    PyTorch operations of one iteration over the whole scan, with total variation and the preconditioner of
    the low-frequency phase, and how many of them wait for the device: each is a launch on a GPU.
memory
    Largest resident memory of a process that reconstructs, beyond that of one with a few patterns. It is
    reached in the first iterations, after which the run is stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

os.environ.setdefault('OMP_NUM_THREADS', '1')

import numpy as np
import numpy.typing as npt
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ptycho_engine.backends.base import create_backend
from ptycho_engine.config import InferenceConfig, PyTorchExecutionConfig
from ptycho_engine.events import IterationDone
from ptycho_engine.formats.packaged import load_model
from ptycho_engine.physics.scan_likelihood import ScanLikelihood
from ptycho_engine.reconstruction.reconstruct import reconstruct
from ptycho_engine.scan.raw_data import RawData
from ptycho_engine.scan.scan import Scan
from ptycho_engine.whole_scan.object_solver import IterationCount, ObjectSolver
from ptycho_engine.whole_scan.scan_model import ScanModel
from tests.benchmarks.bench_memory import LargeScan, memory
from tests.benchmarks.outside_scenes import ROWS, make_scene

LOOKS = 'evaluate', 'curvature_along', 'held_out_each', 'residuals', 'gradient_power', 'experiment_gradient'
"""Methods of a scan's likelihood that look at patterns."""
JUDGES = 'held_out_each'
STAGES = {
    'choose': 'prior',
    '_by_newton': 'physics',
    '_by_momentum': 'physics',
    'by_subsets': 'first steps',
    'calibrate': 'calibration',
}
"""Functions that are on the stack in each stage, the innermost first; what is in none of them is 'around'."""
WAITS = 'aten._local_scalar_dense.default'
"""The operation by which a number comes to Python, for which the device has to have done all before."""

ITERATIONS_SEEN = 3
SIZE, STEP_PX = 64, 6.0


def scene_scan(row: str, kind: str = 'leaves') -> Scan:
    """Return the scan of the first object of a row of the benchmark."""
    return Scan.from_raw(RawData(**make_scene(kind, 0, row).as_measured()))


@contextmanager
def counted_passes() -> Iterator[Counter[tuple[str, str]]]:
    """Count in the block the passes over all patterns, by stage and by 'looked' or 'judged'."""
    found: Counter[tuple[str, str]] = Counter()

    def counting(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def look(self: Any, *args: Any, **named: Any) -> Any:
            indices = next((value for value in args if isinstance(value, np.ndarray)), None)
            share = 1.0 if indices is None else len(indices) / len(self._patterns)
            found[_stage(), 'judged' if name == JUDGES else 'looked'] += share  # type: ignore[assignment]
            return method(self, *args, **named)

        return look

    with patch.multiple(
        ScanLikelihood, **{name: counting(name, getattr(ScanLikelihood, name)) for name in LOOKS}
    ):
        yield found


def passes_of(scan: Scan) -> Counter[tuple[str, str]]:
    """Return the passes of a default reconstruction, as :func:`counted_passes`."""
    with counted_passes() as found:
        for _ in reconstruct(scan, load_model(None), InferenceConfig()):
            pass
    return found


def _stage() -> str:
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name in STAGES:
            return STAGES[frame.f_code.co_name]
        frame = frame.f_back  # type: ignore[assignment]
    return 'around'


class Operations(TorchDispatchMode):
    """Counts operations of PyTorch by their names."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation that is counted."""
        self.found[str(func)] += 1
        return func(*args, **(kwargs or {}))


def operations_of_an_iteration(scan: Scan) -> tuple[int, int, int]:
    """Return patterns, and operations and waits of one iteration over the whole scan, after the first one."""
    backend = create_backend('pytorch', PyTorchExecutionConfig(accelerator='cpu'))
    prepared = ScanModel(scan, load_model(None).config.model)
    solver = ObjectSolver(prepared, backend, InferenceConfig(), IterationCount(lambda: False, None))
    everything = [np.arange(len(solver.patterns))]
    solver.descent.iterate(everything)
    with Operations() as operations:
        solver.descent.iterate(everything)
    found = operations.found
    return len(solver.patterns), found.total(), found[WAITS]


def print_passes(rows: Sequence[str]) -> None:
    """Print a table of passes by stage."""
    stages = ['around', *dict.fromkeys(reversed(STAGES.values()))]
    print('| scan | passes | ' + ' | '.join(stages) + ' | of them judge |')
    print('|---' * (len(stages) + 3) + '|')
    for row in rows:
        found = passes_of(scene_scan(row))
        each = [sum(found[stage, kind] for kind in ('looked', 'judged')) for stage in stages]
        judged = sum(value for (_, kind), value in found.items() if kind == 'judged')
        cells = [f'{value:.3g}' for value in (sum(each), *each, judged)]
        print(f'| {row} | {" | ".join(cells)} |', flush=True)


def print_operations(rows: Sequence[str]) -> None:
    """Print operations and waits of an iteration."""
    print('| scan | patterns | operations | waits |\n|---|---|---|---|')
    for row in rows:
        patterns, total, waits = operations_of_an_iteration(scene_scan(row))
        print(f'| {row} | {patterns} | {total} | {waits} |', flush=True)


def write_large(path: Path, n: int) -> tuple[int, int]:
    """Write a scan of `n` noiseless patterns as an NPZ file, in blocks; return the shape of its object."""
    from ptycho_engine.formats.npz import write_arrays

    scan = LargeScan(n, SIZE, STEP_PX, width_px=0.3 * SIZE, strength=1e2)

    class Amplitude:
        shape, dtype = (n, SIZE, SIZE), np.dtype(np.float32)

        def __len__(self) -> int:
            return n

        def __getitem__(self, part: slice) -> npt.NDArray[np.float32]:
            return np.sqrt(np.rint(scan.rate(part))).astype(np.float32)

    write_arrays(path, {'diffraction': Amplitude(), **scan.arrays()}, compressed=False)
    return scan.side, scan.side


def peak_of(path: Path) -> None:
    """Reconstruct the first iterations of a scan; print the largest memory of this process in MB as JSON."""
    from ptycho_engine.errors import Cancelled
    from ptycho_engine.scan.scan import load_scan

    done = 0
    run = reconstruct(
        load_scan(path), load_model(None), InferenceConfig(), should_stop=lambda: done >= ITERATIONS_SEEN
    )
    with suppress(Cancelled):
        for event in run:
            done += isinstance(event, IterationDone)
    print(json.dumps(memory('VmHWM') * 1e9 / 2**20))


def print_memory(numbers: Sequence[int]) -> None:
    """Print the largest memory of scans of so many patterns."""
    print('| patterns | object | MB | beyond that of 16 patterns |\n|---|---|---|---|')
    with tempfile.TemporaryDirectory() as folder:
        least = 0.0
        for n in (16, *numbers):
            path = Path(folder) / 'scan.npz'
            height, width = write_large(path, n)
            run = [sys.executable, '-m', 'tests.benchmarks.bench_counts', '--peak-of', str(path)]
            peak = json.loads(subprocess.run(run, capture_output=True, text=True, check=True).stdout)
            least = least or peak
            print(f'| {n} | {height}×{width} | {peak:.0f} | {peak - least:.0f} |', flush=True)


def main() -> None:
    """Print the tables that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('tables', nargs='*', default=['passes', 'operations'])
    parser.add_argument('--rows', nargs='+', choices=list(ROWS), default=['6px-1e5', '24px-1e5'])
    parser.add_argument('--patterns', nargs='+', type=int, default=[2000, 20000])
    parser.add_argument('--peak-of', type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peak_of is not None:
        peak_of(options.peak_of)
        return
    if 'passes' in options.tables:
        print_passes(options.rows)
    if 'operations' in options.tables:
        print_operations(options.rows)
    if 'memory' in options.tables:
        print_memory(options.patterns)


if __name__ == '__main__':
    main()
