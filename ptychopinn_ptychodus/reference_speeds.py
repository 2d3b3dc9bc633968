"""How long a run may take where none was measured yet: CPU times of one machine, scaled to this one.

``tests/benchmarks/bench_forecast.py`` measures the constants. What comes of them is right within a factor of
two or three, and is replaced by measured times as soon as there are any.
"""

from __future__ import annotations

import math
import os
import time
from statistics import median

import numpy as np

from ptycho_engine.config import InferenceConfig, ModelConfig, TrainingConfig

__all__ = ['core_seconds', 'guessed_inference', 'guessed_solution', 'guessed_training', 'scale_of']

CORE_S = 0.0053
"""What :func:`core_seconds` was on the machine of the constants below, all in CPU seconds at 64×64 pixels."""

BATCH, PIXELS, WIDTH, ITERATIONS = 4, 64 * 64, 2, 64
"""The batch, pattern, width and iterations before the network that they were measured with."""
STEP_S, STEP_CORRECTION_S, STEP_CNN_S = 0.12, 0.0245, 0.16
"""A training step: its iterations, each of its corrections; or all of it with `cnn`."""
WIDTH_POWER = 1.3
"""How the time of a correction grows with the width."""
START_S = 6.0
"""From the click until the first patterns are predicted."""
PATTERN_SHARE = 0.25
"""What predicting a pattern takes of its share of a training step."""
ITERATION_S = 0.3e-3
"""An iteration of the refinement, for each pattern."""

SOLUTION_S, SOLUTION_PRIOR_S = 0.024, 0.012
"""A solution from a flat object, for each pattern: by physics alone, and what the learned prior adds."""

MOMENTS, TRANSFORMS, PAUSE_S = 5, 5, 0.3
MOST_CORES = 8
"""More cores do not make a run of this size quicker."""


def core_seconds() -> float:
    """Return the CPU time of a small Fourier transform on this machine; takes a second and a half.

    CPU time, so that other programs do not count; at several moments, because how fast a core is changes with
    what its neighbours do.
    """
    array = np.random.default_rng(0).standard_normal((32, 64, 64)).astype(np.complex64)
    times = []
    for moment in range(MOMENTS):
        if moment:
            time.sleep(PAUSE_S)
        for _ in range(TRANSFORMS):
            begin = time.thread_time()
            np.abs(np.fft.ifft2(np.fft.fft2(array))).sum()
            times.append(time.thread_time() - begin)
    return max(median(times), 1e-6)


def scale_of(seconds: float) -> float:
    """Return how many times longer this machine takes, from :func:`core_seconds`."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    return seconds / CORE_S / math.sqrt(min(cores, MOST_CORES))


def guessed_training(config: TrainingConfig, size: int, steps: int, scale: float) -> float:
    """Return the seconds that a training of so many steps on `size`×`size` pixels may take on a CPU."""
    model = config.model
    patterns: float = config.batch_size / BATCH * model.gridsize**2
    return scale * (START_S + steps * patterns * _batch(model) * size**2 / PIXELS)


def _batch(model: ModelConfig) -> float:
    width = float((model.n_filters_scale / WIDTH) ** WIDTH_POWER)
    if model.architecture == 'cnn':
        return STEP_CNN_S * width
    return STEP_S * model.physics_steps / ITERATIONS + STEP_CORRECTION_S * model.unrolled_steps * width


def guessed_inference(model: ModelConfig, config: InferenceConfig, n: int, scale: float) -> float:
    """Return the seconds that the reconstruction of `n` patterns may take on a CPU."""
    pixels = model.N**2 / PIXELS
    pattern = PATTERN_SHARE * _batch(model) / BATCH + ITERATION_S * config.refine_iterations
    return scale * (START_S + n * pattern * pixels)


def guessed_solution(model: ModelConfig, size: int, n: int, modes: int, scale: float) -> float:
    """Return the seconds that a solution for `n` patterns of `size`×`size` pixels may take on a CPU."""
    pattern = SOLUTION_S * modes + (SOLUTION_PRIOR_S if model.architecture == 'prior' else 0.0)
    return scale * (START_S + n * pattern * size**2 / PIXELS)
