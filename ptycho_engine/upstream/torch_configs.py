"""The vocabulary of PtychoPINN's PyTorch code for what callers of that code set and read.

A field that is None was not said; :mod:`.config_bridge` translates the others. In the factory's payloads
every field says what holds.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ['PTDataConfig', 'PTInferenceConfig', 'PTModelConfig', 'PTTrainingConfig']


@dataclass(frozen=True)
class PTDataConfig:
    """Patterns and groups."""

    N: int | None = None
    """Side of a pattern in pixels."""
    grid_size: tuple[int, int] | None = None
    """(gridsize, gridsize) of a group."""
    C: int | None = None
    """Patterns in a group: the product of `grid_size`."""
    K: int | None = None
    """Neighbours from which a group is drawn."""
    nphotons: float | None = None
    """Mean photons per pattern of normalised amplitudes."""
    n_subsample: int | None = None
    """Patterns to use, chosen at random."""
    subsample_seed: int | None = None
    """Seed of that choice."""


@dataclass(frozen=True)
class PTModelConfig:
    """The network."""

    mode: str | None = None
    """'Unsupervised' or 'Supervised'."""
    C_model: int | None = None
    """Input channels of the network: patterns in a group."""
    C_forward: int | None = None
    """Channels of the forward model: patterns in a group."""
    architecture: str | None = None
    n_filters_scale: int | None = None
    amp_activation: str | None = None
    """'silu' and 'SiLU' mean 'swish'."""
    object_big: bool | None = None
    probe_big: bool | None = None
    probe_scale: float | None = None
    intensity_scale_trainable: bool | None = None
    """Belongs to training in the canonical vocabulary."""
    loss_function: str | None = None
    """'Poisson' or 'MAE': the loss with weight 1, the other with 0."""


@dataclass(frozen=True)
class PTTrainingConfig:
    """Optimisation."""

    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    nll: bool | float | None = None
    """Weight of the Poisson loss; True for 1, False for 0."""
    scheduler: str | None = None
    accum_steps: int | None = None
    gradient_clip_val: float | None = None
    gradient_clip_algorithm: str | None = None
    early_stop_patience: int | None = None


@dataclass(frozen=True)
class PTInferenceConfig:
    """Reconstruction."""

    batch_size: int | None = None
    seed: int | None = None
