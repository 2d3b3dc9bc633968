"""Learning-rate schedules as pure functions of the step."""

from __future__ import annotations

import math

from ..config import TrainingConfig

__all__ = ['learning_rate_at']

WARMUP_FRACTION = 0.05


def learning_rate_at(config: TrainingConfig, step: int, total_steps: int) -> float:
    """Return the learning rate of step `step` (from 0) out of `total_steps`."""
    peak = config.learning_rate
    if config.scheduler == 'Default':
        return peak
    warmup = max(round(WARMUP_FRACTION * total_steps), 1)
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(total_steps - warmup, 1)
    cosine = 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    return peak * (config.lr_min_ratio + (1 - config.lr_min_ratio) * cosine)
