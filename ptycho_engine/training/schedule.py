"""Learning-rate schedules (``specs/training.md``, RATE-01 to RATE-05)."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ..config import TrainingConfig

__all__ = ['Schedule']

WARMUP_FRACTION = 0.05
"""Part of the run that warms up where no length is given."""


class Schedule:
    """The learning rate of each step.

    A function of the position in the run, but for 'ReduceLROnPlateau', which follows the loss of each epoch.
    """

    def __init__(self, config: TrainingConfig) -> None:
        self._config = config
        self._plateau = _Plateau(config)

    def rate(self, epoch: int, step: int, n_steps: int) -> float:
        """Return the learning rate of step `step` (from 0) of the `n_steps` of epoch `epoch` (from 1)."""
        config = self._config
        peak, total = config.learning_rate, config.nepochs
        start = epoch - 1 + step / n_steps
        match config.scheduler:
            case 'Exponential':
                return float(peak * config.lr_min_ratio ** min(start / total, 1.0))
            case 'WarmupCosine':
                warmup = config.lr_warmup_epochs or WARMUP_FRACTION * total
                if start < warmup:
                    return peak * min((start + 1 / n_steps) / warmup, 1.0)
                progress = min((start - warmup) / max(total - warmup, 1 / n_steps), 1.0)
                cosine = 0.5 * (1 + math.cos(math.pi * progress))
                return peak * (config.lr_min_ratio + (1 - config.lr_min_ratio) * cosine)
            case 'ReduceLROnPlateau':
                return self._plateau.rate
            case _:
                return peak

    def epoch_done(self, loss: float) -> None:
        """Take note of an epoch's loss."""
        self._plateau.epoch_done(loss)

    def state(self) -> dict[str, float]:
        """Return what :meth:`restore` needs, as plain numbers."""
        return self._plateau.state()

    def restore(self, state: Mapping[str, float]) -> None:
        """Go on from :meth:`state`."""
        self._plateau.restore(state)


class _Plateau:
    """Lowers the rate after some epochs without a better loss; then starts counting again."""

    def __init__(self, config: TrainingConfig) -> None:
        self._config = config
        self.rate = config.learning_rate
        self._best = math.inf
        self._stale = 0

    def epoch_done(self, loss: float) -> None:
        config = self._config
        if math.isinf(self._best) or loss < self._best - config.plateau_threshold * abs(self._best):
            self._best, self._stale = loss, 0
            return
        self._stale += 1
        if self._stale >= config.plateau_patience:
            lowest = min(config.plateau_min_lr, config.learning_rate)
            self.rate = max(self.rate * config.plateau_factor, lowest)
            self._stale = 0

    def state(self) -> dict[str, float]:
        state = {'rate': self.rate, 'stale': float(self._stale)}
        return state if math.isinf(self._best) else {**state, 'best': self._best}

    def restore(self, state: Mapping[str, float]) -> None:
        self.rate = state.get('rate', self._config.learning_rate)
        self._stale = int(state.get('stale', 0))
        self._best = state.get('best', math.inf)
