"""Configurations that also know their files, as callers of the factory use them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path

from ..errors import ConfigError
from .checks import check_number
from .inference import InferenceConfig
from .model import ModelConfig
from .training import TrainingConfig

__all__ = ['InferenceSetup', 'TrainingSetup']


@dataclass(frozen=True)
class TrainingSetup(TrainingConfig):
    """A :class:`TrainingConfig` with the files of one training.

    Raises
    ------
    ConfigError
        If a value is out of range.
    """

    train_data_file: Path | None = None
    """NPZ file or directory to train on."""
    test_data_file: Path | None = None
    """Scan to reconstruct with the trained model; None for none."""
    output_dir: Path = Path('training_outputs')
    """Where the model goes."""
    nphotons: float | None = None
    """Mean photons per pattern of a file of normalised amplitudes, which are scaled to it; None where the
    file holds measured amplitudes, whose scale is theirs."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nphotons is not None:
            check_number('TrainingConfig', 'nphotons', self.nphotons, 0, exclusive=True)

    @property
    def settings(self) -> TrainingConfig:
        """The configuration without the files, as a model keeps it."""
        return TrainingConfig(**{f.name: getattr(self, f.name) for f in fields(TrainingConfig)})


@dataclass(frozen=True)
class InferenceSetup(InferenceConfig):
    """An :class:`InferenceConfig` with the files of one reconstruction."""

    model: ModelConfig = field(default_factory=ModelConfig)
    """The network of the model."""
    model_path: Path | None = None
    """The model: ``wts.h5.zip`` or the directory that holds it."""
    test_data_file: Path | None = None
    """The scan to reconstruct."""
    output_dir: Path = Path('inference_outputs')
    """Where results go."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model_path is None or self.test_data_file is None:
            missing = 'model_path' if self.model_path is None else 'test_data_file'
            raise ConfigError(f'InferenceConfig.{missing} is missing; a reconstruction needs it.')

    @property
    def settings(self) -> InferenceConfig:
        """The configuration without the files."""
        return InferenceConfig(**{f.name: getattr(self, f.name) for f in fields(InferenceConfig)})
