"""Validated configuration of the network, of training, of inference and of execution."""

from .execution import PyTorchExecutionConfig
from .inference import InferenceConfig
from .model import ModelConfig
from .training import TrainingConfig

__all__ = ['InferenceConfig', 'ModelConfig', 'PyTorchExecutionConfig', 'TrainingConfig']
