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

__all__ = [
    'core_seconds',
    'groups_per_epoch',
    'guessed_inference',
    'guessed_solution',
    'guessed_training',
    'scale_of',
    'steps_per_epoch',
]

CORE_S = 0.0053
"""What :func:`core_seconds` was on the machine of the constants below, all in CPU seconds at 64×64 pixels."""

BATCH, PIXELS, WIDTH = 4, 64 * 64, 2
"""The batch, pattern and width that they were measured with."""
STEP_CNN_S, STEP_PRIOR_S = 0.16, 0.055
"""A training step of each network, with its share of the validation."""
WIDTH_POWER = 1.3
"""How the time of a step of 'cnn' grows with the width."""
START_S = 6.0
"""From the click until the first patterns are predicted."""
PATTERN_SHARE = 0.25
"""What predicting a pattern takes of its share of a training step."""
ITERATION_S = 0.3e-3
"""An iteration of the refinement, for each pattern."""

SOLUTION_S, SOLUTION_PRIOR_S = 0.024, 0.012
"""A solution from a flat object, for each pattern: by physics alone, and what the learned prior adds."""

IMAGES, IMAGE_S = 5, 0.005
"""Images that physics makes of a scan for the prior to learn from, and the time of each for each pattern."""

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


def groups_per_epoch(config: TrainingConfig, n: int) -> int:
    """Return the groups that an epoch draws from a scan of `n` patterns."""
    if config.n_groups is not None:
        return config.n_groups
    return n if config.model.of_objects else n - round(n * config.validation_fraction)


def steps_per_epoch(config: TrainingConfig, n: int) -> int:
    """Return the training steps of an epoch on a scan of `n` patterns."""
    return math.ceil(math.ceil(groups_per_epoch(config, n) / config.batch_size) / config.accum_steps)


def guessed_training(config: TrainingConfig, size: int, n: int, scale: float) -> float:
    """Return the seconds that training on `n` patterns of `size`×`size` pixels may take on a CPU."""
    model, pixels = config.model, size**2 / PIXELS
    # The patterns of a group share the image that the prior looks at.
    group = model.gridsize if model.of_objects else model.gridsize**2
    steps = config.nepochs * steps_per_epoch(config, n) * config.batch_size * config.accum_steps / BATCH
    seconds = steps * group * _batch(model)
    if model.of_objects:
        seconds += IMAGE_S * _patterns_of_images(config, size, n)
    return scale * (START_S + seconds * pixels)


def _patterns_of_images(config: TrainingConfig, size: int, n: int) -> float:
    """Return of how many patterns physics makes images; parts of a large scan are new in each epoch."""
    # Late, for it loads what only runs need.
    from ptycho_engine.training.subscan import GROUPS_OF_PART, MOST_PATTERNS, WHOLE_PIXELS

    if n * size**2 <= WHOLE_PIXELS:
        return IMAGES * n
    parts = max(groups_per_epoch(config, n) / GROUPS_OF_PART, 1.0)
    return config.nepochs * parts * min(MOST_PATTERNS, n)


def _batch(model: ModelConfig) -> float:
    if model.of_objects:
        return STEP_PRIOR_S
    return STEP_CNN_S * float((model.n_filters_scale / WIDTH) ** WIDTH_POWER)


def guessed_inference(model: ModelConfig, config: InferenceConfig, n: int, scale: float) -> float:
    """Return the seconds that the reconstruction of `n` patterns may take on a CPU."""
    pixels = model.N**2 / PIXELS
    pattern = PATTERN_SHARE * _batch(model) / BATCH + ITERATION_S * config.refine_iterations
    return scale * (START_S + n * pattern * pixels)


def guessed_solution(model: ModelConfig, size: int, n: int, modes: int, scale: float) -> float:
    """Return the seconds that a solution for `n` patterns of `size`×`size` pixels may take on a CPU."""
    pattern = SOLUTION_S * modes + (SOLUTION_PRIOR_S if model.architecture == 'prior' else 0.0)
    return scale * (START_S + n * pattern * size**2 / PIXELS)
