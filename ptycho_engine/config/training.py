"""How the network is trained."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..errors import ConfigError
from .checks import check_boolean, check_choice, check_integer, check_number
from .model import ModelConfig

__all__ = ['BACKENDS', 'CLIP_ALGORITHMS', 'OPTIMIZERS', 'SCHEDULERS', 'TrainingConfig']

BACKENDS = ('pytorch', 'tensorflow')
OPTIMIZERS = ('adam', 'adamw', 'sgd')
SCHEDULERS = ('Default', 'Exponential', 'WarmupCosine', 'ReduceLROnPlateau')
CLIP_ALGORITHMS = ('norm', 'value', 'agc')


@dataclass(frozen=True)
class TrainingConfig:
    """Losses, data selection and optimisation.

    Raises
    ------
    ConfigError
        If a value is out of range or fields contradict each other.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    """The network."""
    backend: str = 'pytorch'
    """Framework that trains; both train the same network the same way, and an archive runs on either."""

    batch_size: int = 4
    """Groups per step. What is learned follows the number of steps, and a CPU is as fast with small batches:
    give larger ones, which are faster on a GPU, more epochs, not a higher learning rate."""
    nepochs: int = 50
    """Passes over the selected groups."""
    n_groups: int | None = 512
    """Groups drawn afresh for each epoch; None for as many as there are patterns to train on."""
    neighbor_count: int = 7
    """Neighbours from which a group is drawn when gridsize > 1."""
    n_subsample: int | None = None
    """Train on this many of the patterns only, chosen at random; None for all."""
    subsample_seed: int | None = None
    """Seed of that choice; None for `seed`."""
    sequential_sampling: bool = False
    """Take the first groups in the order of the scan, the same each epoch, instead of random ones."""
    enable_oversampling: bool = True
    """Draw several different groups around one pattern when more groups are wanted than there are
    patterns; False gives at most one group a pattern."""
    neighbor_pool_size: int | None = None
    """Neighbours from which oversampling draws, at least neighbor_count; None for neighbor_count."""
    use_groups_cache: bool = True
    """Keep the neighbours of each scan in a file beside it, for the next run, when gridsize > 1."""

    nll_weight: float = 1.0
    """Weight in [0, 1] of the Poisson deviance of the predicted patterns."""
    mae_weight: float = 0.0
    """Weight in [0, 1] of the mean absolute error of the predicted amplitudes."""
    realspace_mae_weight: float = 0.0
    """Weight in [0, 1] of the illumination-weighted error against known object patches; needs a known
    object. 'supervised' uses this error alone, with weight 1."""
    realspace_weight: float = 0.0
    """Weight in [0, 1] of the total variation of the object patches, which smooths the image."""

    probe_trainable: bool = False
    """Learn a correction of the probe along with the network. It is kept with the model, is applied to the
    probe of each scan the model meets, and goes into the product."""
    intensity_scale_trainable: bool = False
    """Learn one factor between predicted and measured counts; otherwise it is measured on the data."""

    optimizer: str = 'adamw'
    """'adamw' (decoupled weight decay), 'adam' or 'sgd' (with momentum)."""
    learning_rate: float = 2e-3
    """Largest learning rate; a tenth of it where training goes on from the prior that comes with the package,
    which would else forget what it knows."""
    weight_decay: float = 1e-4
    """Weight decay."""
    momentum: float = 0.9
    """Momentum of 'sgd', in [0, 1)."""
    adam_beta1: float = 0.9
    """Decay of the mean gradient of 'adam' and 'adamw', in [0, 1)."""
    adam_beta2: float = 0.999
    """Decay of the mean squared gradient of 'adam' and 'adamw', in [0, 1)."""
    accum_steps: int = 1
    """Batches whose gradients are averaged before a step; a large batch in little memory."""
    gradient_clip_val: float | None = 0.1
    """Limit of the gradient of a step; None for no limit."""
    gradient_clip_algorithm: str = 'norm'
    """'norm': limit the norm of the whole gradient. 'value': limit each number. 'agc': limit the norm of
    each unit's gradient to this part of the norm of its weights."""

    scheduler: str = 'WarmupCosine'
    """'Default': constant. 'Exponential': falls to lr_min_ratio over the run. 'WarmupCosine': linear
    warm-up, then a cosine to lr_min_ratio. 'ReduceLROnPlateau': multiplied by plateau_factor when the
    validation loss no longer falls."""
    lr_warmup_epochs: float = 0.0
    """Epochs of linear warm-up of 'WarmupCosine', at most nepochs; 0 for 5 % of the run."""
    lr_min_ratio: float = 0.02
    """Last learning rate of 'Exponential' and 'WarmupCosine' relative to the largest, in (0, 1]."""
    plateau_factor: float = 0.5
    """Factor of 'ReduceLROnPlateau', in (0, 1)."""
    plateau_patience: int = 2
    """Epochs without a better validation loss before it is applied."""
    plateau_min_lr: float = 5e-5
    """Smallest learning rate of 'ReduceLROnPlateau'."""
    plateau_threshold: float = 0.0
    """Relative fall of the validation loss that counts as better."""

    validation_fraction: float = 0.05
    """Part of the patterns kept out of training, in [0, 0.5]."""
    early_stop_patience: int = 5
    """Epochs without a better validation loss after which training ends; the best weights are kept."""
    seed: int = 0
    """Seed of the initial weights, of the groups and of their order."""

    def __post_init__(self) -> None:
        owner = type(self).__name__
        check_choice(owner, 'backend', self.backend, BACKENDS)
        check_choice(owner, 'scheduler', self.scheduler, SCHEDULERS)
        check_choice(owner, 'optimizer', self.optimizer, OPTIMIZERS)
        check_choice(owner, 'gradient_clip_algorithm', self.gradient_clip_algorithm, CLIP_ALGORITHMS)
        for name in (
            'batch_size',
            'nepochs',
            'neighbor_count',
            'early_stop_patience',
            'accum_steps',
            'plateau_patience',
        ):
            check_integer(owner, name, getattr(self, name), 1)
        for name in ('n_groups', 'n_subsample', 'neighbor_pool_size'):
            if getattr(self, name) is not None:
                check_integer(owner, name, getattr(self, name), 1)
        for name in ('seed', 'subsample_seed'):
            if getattr(self, name) is not None:
                check_integer(owner, name, getattr(self, name), 0)
        for name in (
            'sequential_sampling',
            'enable_oversampling',
            'use_groups_cache',
            'probe_trainable',
            'intensity_scale_trainable',
        ):
            check_boolean(owner, name, getattr(self, name))
        for name in ('nll_weight', 'mae_weight', 'realspace_mae_weight', 'realspace_weight'):
            check_number(owner, name, getattr(self, name), 0, 1)
        for name in ('momentum', 'adam_beta1', 'adam_beta2'):
            check_number(owner, name, getattr(self, name), 0, 1, exclusive_high=True)
        check_number(owner, 'learning_rate', self.learning_rate, 0, exclusive=True)
        check_number(owner, 'weight_decay', self.weight_decay, 0)
        if self.gradient_clip_val is not None:
            check_number(owner, 'gradient_clip_val', self.gradient_clip_val, 0, exclusive=True)
        check_number(owner, 'lr_warmup_epochs', self.lr_warmup_epochs, 0)
        check_number(owner, 'lr_min_ratio', self.lr_min_ratio, 0, 1, exclusive=True)
        check_number(owner, 'plateau_factor', self.plateau_factor, 0, 1, exclusive=True, exclusive_high=True)
        check_number(owner, 'plateau_min_lr', self.plateau_min_lr, 0)
        check_number(owner, 'plateau_threshold', self.plateau_threshold, 0)
        check_number(owner, 'validation_fraction', self.validation_fraction, 0, 0.5)
        self._check_together()

    def _check_together(self) -> None:
        pool, count = self.neighbor_pool_size, self.neighbor_count
        if pool is not None and pool < count:
            raise ConfigError(
                f'TrainingConfig.neighbor_pool_size is {pool}; expected at least neighbor_count, {count}.'
            )
        if self.scheduler == 'WarmupCosine' and self.lr_warmup_epochs > self.nepochs:
            raise ConfigError(
                f'TrainingConfig.lr_warmup_epochs is {self.lr_warmup_epochs:g}; expected at most nepochs, '
                f'{self.nepochs}, or the learning rate never reaches learning_rate.'
            )
        if self.n_subsample is None and self.subsample_seed is not None:
            raise ConfigError(
                'TrainingConfig.subsample_seed is given without n_subsample; say how many patterns to take.'
            )
