"""Time and memory of grouping 1e5 and 1e6 positions, on one core.

  python tests/benchmarks/bench_groups.py

Each size and each step runs in a process of its own, so that its peak memory is its own. Exit code 1 if
drawing groups of 1e6 positions takes 10 s or 2 GB, or of 1e5 positions 1 s.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable

import numpy as np

from ptycho_engine.scan.grouping import build_groups, covering_groups, group_coverage
from ptycho_engine.scan.neighbours import Neighbourhood, find_neighbours
from ptycho_engine.scan.split import split_validation

LIMIT_S = {100_000: 1.0, 1_000_000: 10.0}
LIMIT_BYTES = 2e9
GRIDSIZE, K = 2, 7


def positions(n: int) -> np.ndarray:
    """Return a raster with jitter, in the random order that is the hardest on caches."""
    rng = np.random.default_rng(0)
    side = int(np.ceil(np.sqrt(n)))
    y, x = np.divmod(rng.permutation(side * side)[:n], side)
    return np.stack([x, y], axis=1) * 6.0 + rng.uniform(-1.5, 1.5, (n, 2))


def draw(n: int) -> str:
    groups = build_groups(positions(n), GRIDSIZE, K, seed=1)
    return f'{len(groups)} groups, {group_coverage(groups, n)}'


def cover(n: int) -> str:
    groups = covering_groups(Neighbourhood.whole(find_neighbours(positions(n), K)), GRIDSIZE, K, seed=1)
    return f'{len(groups)} groups, {group_coverage(groups, n)}'


def split(n: int) -> str:
    xy = positions(n)
    training, validation = split_validation(xy, 0.05, smallest=GRIDSIZE**2)
    whole = Neighbourhood.whole(find_neighbours(xy, K))
    part = whole.part(training, GRIDSIZE**2 - 1, xy)
    return f'{len(part)} train, {len(validation)} validate'


def measure(
    action: Callable[[int], str], n: int, queue: multiprocessing.Queue[tuple[str, float, float]]
) -> None:
    tic = time.process_time()
    said = action(n)
    seconds = time.process_time() - tic
    queue.put((said, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0))


def main() -> int:
    if hasattr(os, 'sched_setaffinity'):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    context = multiprocessing.get_context('spawn')
    failed = False
    for n, limit in LIMIT_S.items():
        for action in (draw, cover, split):
            queue = context.Queue()
            process = context.Process(target=measure, args=(action, n, queue))
            process.start()
            said, seconds, peak = queue.get()
            process.join()
            bad = action is draw and (seconds >= limit or peak >= LIMIT_BYTES)
            failed |= bad
            print(
                f'{action.__name__} {n:.0e} positions: {seconds:.2f} CPU-s, peak {peak / 1e6:.0f} MB, {said}'
                f'{"  TOO MUCH" if bad else ""}'
            )
    return int(failed)


if __name__ == '__main__':
    sys.exit(main())
