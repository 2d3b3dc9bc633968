"""How long a run may take where none was measured yet: CPU times of one machine, scaled to this one.

``tests/benchmarks/bench_forecast.py`` measures the constants. What comes of them is right within a factor of
two or three, and is replaced by measured times as soon as there are any.
"""

from __future__ import annotations

import os
import time

import numpy as np

from ptycho_engine.config import InferenceConfig, ModelConfig, TrainingConfig

__all__ = ['core_seconds', 'guessed_inference', 'guessed_step']

CORE_S = 0.0100
"""What :func:`core_seconds` was on the machine of the constants below, all in CPU seconds at 64×64 pixels."""

STEP_S, CORRECTION_S, CNN_S = 0.0, 0.0, 0.0
START_S = 0.0
PATTERN_S, PATTERN_CORRECTION_S, PATTERN_CNN_S = 0.0, 0.0, 0.0
ITERATION_S = 0.0

BENCHMARK_S = 0.2
MOST_CORES = 8
"""More cores do not make a run of this size quicker."""


def core_seconds() -> float:
    """Return the time of a small Fourier transform on one core of this machine; takes about 0.2 s."""
    array = np.random.default_rng(0).standard_normal((32, 64, 64)).astype(np.complex64)
    best, end = float('inf'), time.perf_counter() + BENCHMARK_S
    while time.perf_counter() < end:
        begin = time.perf_counter()
        np.abs(np.fft.ifft2(np.fft.fft2(array))).sum()
        # The shortest of many is what the machine can do when nothing else is in the way.
        best = min(best, time.perf_counter() - begin)
    return best
