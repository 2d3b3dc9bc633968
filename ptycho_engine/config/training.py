"""How the network is trained."""

from __future__ import annotations

from dataclasses import dataclass, field

from .checks import check_choice, check_integer, check_number
from .model import ModelConfig

__all__ = ['BACKENDS', 'SCHEDULERS', 'TrainingConfig']

BACKENDS = ('pytorch',)
SCHEDULERS = ('WarmupCosine', 'Constant')


@dataclass(frozen=True)
class TrainingConfig:
    """Losses, data selection and optimisation."""

    model: ModelConfig = field(default_factory=ModelConfig)
    """The network."""
    backend: str = 'pytorch'
    """Framework that trains."""
    batch_size: int = 16
    """Groups per step."""
    nepochs: int = 50
    """Passes over the selected groups."""
    n_groups: int | None = 512
    """Groups drawn afresh for each epoch; None for all of them."""
    neighbor_count: int = 7
    """Neighbours from which a group is drawn when gridsize > 1."""
    nll_weight: float = 1.0
    """Weight in [0, 1] of the Poisson deviance of the predicted patterns."""
    mae_weight: float = 0.0
    """Weight in [0, 1] of the mean absolute error of the predicted amplitudes."""
    realspace_mae_weight: float = 0.0
    """Weight in [0, 1] of the illumination-weighted error against known object patches; needs a known
    object. 'supervised' uses this error alone, with weight 1."""
    realspace_weight: float = 0.0
    """Weight in [0, 1] of the total variation of the object patches, which smooths the image."""
    learning_rate: float = 4e-3
    """Largest learning rate of AdamW."""
    weight_decay: float = 1e-4
    """Decoupled weight decay of AdamW."""
    scheduler: str = 'WarmupCosine'
    """'WarmupCosine': 5 % linear warm-up, then a cosine to 2 % of the rate. 'Constant': no change."""
    gradient_clip_norm: float = 0.1
    """Largest norm of the gradient of a step; 0 for no limit."""
    validation_fraction: float = 0.05
    """Part of the groups kept out of training, in [0, 0.5]."""
    early_stop_patience: int = 20
    """Epochs without a better validation loss after which training ends; the best weights are kept."""
    seed: int = 0
    """Seed of the initial weights, of the groups and of their order."""

    def __post_init__(self) -> None:
        owner = type(self).__name__
        check_choice(owner, 'backend', self.backend, BACKENDS)
        check_choice(owner, 'scheduler', self.scheduler, SCHEDULERS)
        check_integer(owner, 'batch_size', self.batch_size, 1)
        check_integer(owner, 'nepochs', self.nepochs, 1)
        if self.n_groups is not None:
            check_integer(owner, 'n_groups', self.n_groups, 1)
        check_integer(owner, 'neighbor_count', self.neighbor_count, 1)
        check_integer(owner, 'early_stop_patience', self.early_stop_patience, 1)
        check_integer(owner, 'seed', self.seed, 0)
        for name in ('nll_weight', 'mae_weight', 'realspace_mae_weight', 'realspace_weight'):
            check_number(owner, name, getattr(self, name), 0, 1)
        check_number(owner, 'learning_rate', self.learning_rate, 0, exclusive=True)
        check_number(owner, 'weight_decay', self.weight_decay, 0)
        check_number(owner, 'gradient_clip_norm', self.gradient_clip_norm, 0)
        check_number(owner, 'validation_fraction', self.validation_fraction, 0, 0.5)
