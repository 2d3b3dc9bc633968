"""Throughput of the networks and of refinement on each backend, in patterns per processor-second.

    python tests/benchmarks/bench_network.py [--threads 1] [--backends pytorch tensorflow]

"FFT share" is the time of two Fourier transforms of each pattern, by SciPy, relative to a prediction; it
compares runs on different machines. The first step holds what a framework does once, such as laying out
its graph. What the prior costs is in the iterations of ``bench_prior.py``.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

import numpy as np
from scipy.fft import fft2, ifft2

from ptycho_engine.backends.base import create_backend
from ptycho_engine.config import ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho_engine.config.training import BACKENDS
from ptycho_engine.network.plan import build_plan, initial_weights
from ptycho_engine.scan.scan import Scan
from ptycho_engine.simulate import defocused_probe, make_object, raster_positions, simulate_scan
from ptycho_engine.whole_scan.held_out import scan_patterns
from ptycho_engine.whole_scan.scan_model import ScanModel

PATTERNS = 16


def prepared_scan(size: int, points: int = 8) -> ScanModel:
    """Simulate points² patterns of `size` pixels."""
    rng = np.random.default_rng(0)
    x, y = raster_positions(points, points, 6.0, rng)
    side = 6 * points + size + 8
    truth = make_object('dead-leaves', (side, side), rng)
    probe = defocused_probe(size, rng, width_px=0.3 * size)
    middle = (side - 1) / 2
    raw = simulate_scan(truth, probe, x + middle, y + middle, photons=1e5, rng=rng)
    return ScanModel(Scan.from_raw(raw))


def best_seconds(run: Callable[[], object], repeats: int = 7) -> float:
    """Return the shortest of several runs in seconds of processor time, after two to warm up.

    Processor time, because a framework on one thread is compared with another on a machine that others use.
    """
    run()
    run()
    times = []
    for _ in range(repeats):
        tic = time.process_time()
        run()
        times.append(time.process_time() - tic)
    return min(times)


def measure(backend_name: str, size: int, gridsize: int, scale: int) -> str:
    """Return one line of the table."""
    prepared = prepared_scan(size)
    model = ModelConfig(N=size, gridsize=gridsize, n_filters_scale=scale, architecture='cnn')
    plan = build_plan(model)
    backend = create_backend(backend_name, PyTorchExecutionConfig(accelerator='cpu'))
    backend.build(plan, initial_weights(plan, 0))
    backend.prepare_training(TrainingConfig(model=model, backend=backend_name))
    batch = prepared.batch(np.arange(PATTERNS, dtype=np.int32).reshape(-1, gridsize**2))
    tic = time.process_time()
    backend.train_step([batch], 1e-3)
    first = time.process_time() - tic
    train = best_seconds(lambda: backend.train_step([batch], 1e-3))
    predict = best_seconds(lambda: backend.predict(batch))
    waves = np.zeros((PATTERNS, size, size), np.complex64)
    transforms = best_seconds(lambda: ifft2(fft2(waves)))
    return (
        f'{backend_name:>10} {size:>4} {gridsize:>2} {scale:>5} {PATTERNS / train:>9.0f} '
        f'{PATTERNS / predict:>10.0f} {transforms / predict:>10.1%} {first:>12.1f}'
    )


def iteration_speed(backend_name: str, size: int) -> float:
    """Return patterns per second of one gradient of a whole scan, which is an iteration of refinement."""
    patterns = scan_patterns(prepared_scan(size, points=23), 0)
    backend = create_backend(backend_name, PyTorchExecutionConfig(accelerator='cpu'))
    physics = backend.scan_physics(patterns)
    flat = physics.to_device(np.ones(patterns.shape, np.complex64))
    everything = np.arange(len(patterns))
    return len(patterns) / best_seconds(lambda: physics.evaluate(flat, everything, 'poisson'))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--backends', nargs='+', choices=BACKENDS, default=BACKENDS)
    options = parser.parse_args()
    # Both frameworks read this when they are loaded.
    os.environ['OMP_NUM_THREADS'] = str(options.threads)
    print(
        f'{"backend":>10} {"N":>4} {"g":>2} {"scale":>5} {"train/s":>9} {"predict/s":>10} '
        f'{"FFT share":>10} {"first step s":>12}'
    )
    for case in (
        (64, 1, 1),
        (64, 1, 2),
        (64, 2, 1),
        (128, 1, 1),
    ):
        for backend_name in options.backends:
            print(measure(backend_name, *case), flush=True)
    for backend_name in options.backends:
        speeds = ', '.join(f'{iteration_speed(backend_name, size):.0f} at N = {size}' for size in (64, 128))
        print(f'Sweep of refinement by {backend_name}: {speeds} patterns/s.', flush=True)


if __name__ == '__main__':
    main()
