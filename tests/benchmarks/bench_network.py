"""Throughput of the network, in patterns per second and relative to the FFTs it contains.

    python tests/benchmarks/bench_network.py [--threads 1]

The ratio compares runs on one machine; patterns per second depend on it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from ptycho_engine.backends.base import create_backend
from ptycho_engine.config import ModelConfig, TrainingConfig
from ptycho_engine.data.scan import Scan
from ptycho_engine.network.plan import build_plan, initial_weights
from ptycho_engine.pipeline.prepared import PreparedScan
from ptycho_engine.simulate import defocused_probe, make_object, raster_positions, simulate_scan

STEPS = 3


def prepared_scan(size: int, points: int = 8) -> PreparedScan:
    """Simulate points² patterns of `size` pixels."""
    rng = np.random.default_rng(0)
    x, y = raster_positions(points, points, 6.0, rng)
    side = 6 * points + size + 8
    truth = make_object('dead-leaves', (side, side), rng)
    probe = defocused_probe(size, rng, width_px=0.3 * size)
    middle = (side - 1) / 2
    raw = simulate_scan(truth, probe, x + middle, y + middle, photons=1e5, rng=rng)
    return PreparedScan(Scan.from_raw(raw))


def best_seconds(run: Callable[[], object], repeats: int = 7) -> float:
    """Return the shortest of several runs, after one to warm up."""
    run()
    times = []
    for _ in range(repeats):
        tic = time.perf_counter()
        run()
        times.append(time.perf_counter() - tic)
    return min(times)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--threads', type=int, default=1)
    torch.set_num_threads(parser.parse_args().threads)
    print(f'{"N":>4} {"g":>2} {"scale":>5} {"train/s":>9} {"predict/s":>10} {"FFT share of predict":>21}')
    for size, gridsize, scale in ((64, 1, 1), (64, 1, 2), (64, 2, 1), (128, 1, 1)):
        prepared = prepared_scan(size)
        model = ModelConfig(N=size, gridsize=gridsize, n_filters_scale=scale, unrolled_steps=STEPS)
        plan = build_plan(model)
        backend = create_backend('pytorch')
        backend.build(plan, initial_weights(plan, 0))
        backend.prepare_training(TrainingConfig(model=model))
        n = 16
        batch = prepared.batch(np.arange(n, dtype=np.int32).reshape(-1, gridsize**2))
        train = best_seconds(lambda b=batch, e=backend: e.train_step([b], 1e-3))
        predict = best_seconds(lambda b=batch, e=backend: e.predict(b))
        waves = torch.zeros(n, 1, size, size, dtype=torch.complex64)
        transforms = best_seconds(lambda w=waves: [torch.fft.ifft2(torch.fft.fft2(w)) for _ in range(STEPS)])
        print(
            f'{size:>4} {gridsize:>2} {scale:>5} {n / train:>9.0f} {n / predict:>10.0f} '
            f'{transforms / predict:>21.1%}'
        )


if __name__ == '__main__':
    main()
