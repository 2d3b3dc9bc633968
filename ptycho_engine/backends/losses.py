"""Which losses count how much, the same for every backend (``specs/physics.md``, LOSS)."""

from __future__ import annotations

from dataclasses import dataclass

from ..config import TrainingConfig

__all__ = ['LossWeights']


@dataclass(frozen=True)
class LossWeights:
    """Weight of each term of the loss; a term of weight 0 is not computed."""

    likelihood: float
    """Of the Poisson deviance, divided by 1 + counts per pixel: it grows with the dose, and is then of order
    1 at any dose."""
    amplitude: float
    """Of the mean absolute error of the predicted amplitudes."""
    labels: float
    """Of the error against known patches, where the batch has them."""
    variation: float
    """Of the total variation of the patches."""

    @classmethod
    def of(cls, config: TrainingConfig) -> LossWeights:
        """Return the weights of a configuration; 'supervised' looks at the labels alone."""
        if config.model.model_type == 'supervised':
            return cls(0.0, 0.0, 1.0, 0.0)
        return cls(config.nll_weight, config.mae_weight, config.realspace_mae_weight, config.realspace_weight)
