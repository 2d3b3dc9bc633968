"""What handing the patterns to the child costs: seconds, and memory of the parent.

    python tests/benchmarks/bench_handover.py [--gigabytes 1.5] [--repeats 3]

A child of Ptychodus' protocol is started with one pattern and with many, and tells when it has seen them. The
difference of the two is what the hand-over adds, because the copy is made while the child still imports what
it needs. The parent's anonymous and its whole resident memory are sampled meanwhile. Beside it, the same by
Ptychodus' own way, pickle through a queue.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / 'conformance'))
from handover_child import hand_over, resident_bytes

SIZE = 256
LIMIT_S, LIMIT_BYTES = 2.0, 200e6


class Watch:
    """Samples this process' memory while it is open."""

    def __enter__(self) -> Watch:
        self._over = threading.Event()
        self._before = resident_bytes()
        self._most = self._before
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def _sample(self) -> None:
        while not self._over.wait(0.005):
            self._most = tuple(map(max, self._most, resident_bytes()))

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def grown(self) -> tuple[float, ...]:
        """Growth of (anonymous, all resident) memory in bytes."""
        return tuple(now - before for now, before in zip(self._most, self._before, strict=True))


def swallow(queue: multiprocessing.Queue, answers: multiprocessing.Queue) -> None:
    answers.put(len(queue.get()))


def by_pickle(array: np.ndarray) -> float:
    """Return the seconds until a spawned child has the array from a queue."""
    context = multiprocessing.get_context('spawn')
    there, back = context.Queue(), context.Queue()
    start = time.monotonic()
    process = context.Process(target=swallow, args=(there, back))
    process.start()
    there.put(array)
    back.get()
    seconds = time.monotonic() - start
    process.join()
    return seconds


def measure(way: Callable[[np.ndarray], float], array: np.ndarray) -> tuple[float, ...]:
    """Return (seconds, anonymous bytes, resident bytes)."""
    with Watch() as watch:
        seconds = way(array)
    return seconds, *watch.grown


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--gigabytes', type=float, default=1.5)
    parser.add_argument('--repeats', type=int, default=3)
    options = parser.parse_args()
    n = round(options.gigabytes * 1e9 / SIZE**2 / 4)
    rng = np.random.default_rng(0)
    patterns = np.empty((n, SIZE, SIZE), np.int32)
    for part in range(0, n, 256):
        patterns[part : part + 256] = rng.poisson(10, patterns[part : part + 256].shape)
    ways: dict[str, Callable[[np.ndarray], float]] = {
        'memory map': lambda array: hand_over(array)[0],
        'pickle': by_pickle,
    }
    kept = True
    for name, way in ways.items():
        few = [measure(way, patterns[:1]) for _ in range(options.repeats)]
        many = [measure(way, patterns) for _ in range(options.repeats)]
        seconds = [median(row[0] for row in rows) for rows in (few, many)]
        anonymous, resident = (max(row[k] for row in many) for k in (1, 2))
        print(
            f'{name}: one pattern {seconds[0]:.2f} s, {patterns.nbytes / 1e9:.2f} GB {seconds[1]:.2f} s: '
            f'adds {seconds[1] - seconds[0]:.2f} s, {anonymous / 1e6:.0f} MB anonymous and '
            f'{resident / 1e6:.0f} MB resident memory to the parent'
        )
        if name == 'memory map':
            kept = seconds[1] - seconds[0] < LIMIT_S and resident < LIMIT_BYTES
    print(f'limits of {LIMIT_S:.0f} s and {LIMIT_BYTES / 1e6:.0f} MB: {"kept" if kept else "BROKEN"}')
    return 0 if kept else 1


if __name__ == '__main__':
    sys.exit(main())
