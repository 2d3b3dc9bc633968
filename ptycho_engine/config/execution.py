"""Where and how a backend computes, and what a run leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .checks import check_boolean, check_choice, check_integer, check_number
from .original_execution import with_original_names
from .training import CLIP_ALGORITHMS, SCHEDULERS

__all__ = [
    'ACCELERATORS',
    'INFERENCE_ONLY',
    'LOGGERS',
    'OVERRIDING',
    'PRECISIONS',
    'TRAINING_ONLY',
    'PyTorchExecutionConfig',
]

ACCELERATORS = ('auto', 'cpu', 'cuda', 'gpu', 'mps')
PRECISIONS = ('32-true', 'bf16-mixed', '16-mixed', '64-true')
LOGGERS = ('csv', 'tensorboard', 'mlflow', 'none')

OVERRIDING = (
    'learning_rate',
    'scheduler',
    'accum_steps',
    'gradient_clip_val',
    'gradient_clip_algorithm',
    'early_stop_patience',
)
"""Fields that take the place of the field of that name in TrainingConfig, unless they are None."""

TRAINING_ONLY = (
    *OVERRIDING,
    'checkpoint_save_top_k',
    'logger_backend',
)
INFERENCE_ONLY = ('inference_batch_size',)


@with_original_names
@dataclass(frozen=True)
class PyTorchExecutionConfig:
    """Execution of a backend: devices, arithmetic, and what is recorded.

    The fields that TrainingConfig or InferenceConfig has too are None, "as there"; a value takes the place of
    theirs. The names and words of the original PtychoPINN are understood
    (:mod:`.original_execution`).

    Raises
    ------
    ConfigError
        If a value is out of range.
    """

    accelerator: str = 'auto'
    """'auto' takes a GPU where there is one, else the CPU; 'gpu' any GPU, 'cuda' NVIDIA's, 'mps' Apple's."""
    devices: int = 1
    """Devices that share each batch: each has the whole network and computes a part, and all add their
    gradients (data parallel). The result is that of one. On 'cpu' they are processes of this machine with
    'pytorch', and the logical devices of TensorFlow with 'tensorflow'."""
    precision: Literal['32-true', 'bf16-mixed', '16-mixed', '64-true'] = '32-true'
    """Arithmetic of the convolutions: '32-true', or 'bf16-mixed', which is faster on most GPUs and on recent
    CPUs, or '16-mixed', which scales the loss and skips steps whose gradients overflow; the physics is
    float32 and complex64. '64-true' computes all in float64 and complex128, at half the speed or less, to
    check what rounding does; models and images are stored in single precision."""
    deterministic: bool = True
    """Use deterministic algorithms, so that equal seeds give equal weights on one machine."""
    num_workers: int = 0
    """Threads that prepare the next batches while this one is computed; 0 prepares each when it is needed.
    The result is the same. Worth it for patterns on a slow disk and for a fast GPU; on a CPU, with patterns
    in memory, preparing takes less than a thousandth of a step."""

    learning_rate: float | None = None
    """Largest learning rate; None for that of the training settings."""
    scheduler: str | None = None
    """Course of the learning rate; None for that of the training settings."""
    accum_steps: int | None = None
    """Batches whose gradients are averaged before a step; None for the number of the training settings."""
    gradient_clip_val: float | None = None
    """Limit of the gradient of a step; None for that of the training settings."""
    gradient_clip_algorithm: str | None = None
    """How it is limited; None for the way of the training settings."""
    early_stop_patience: int | None = None
    """Epochs without a better validation loss before training ends; None for the training settings'."""

    checkpoint_save_top_k: int = 1
    """Best epochs of which the model is kept: 1 in the checkpoint, which is written after each epoch, holds
    the last and the best one, and lets an interrupted run go on; more as files epoch-0007.wts.h5.zip beside
    it; 0 writes no checkpoint at all."""
    logger_backend: str = 'csv'
    """Record of the epochs: 'csv' writes history.csv, 'tensorboard' and 'mlflow' use those packages, 'none'
    keeps it in the model only."""
    enable_progress_bar: bool = False
    """Show a bar with the time left, where the error output is a terminal."""
    inference_batch_size: int | None = None
    """Groups per prediction; None for the batch size of the inference settings."""

    def __post_init__(self) -> None:
        owner = type(self).__name__
        check_choice(owner, 'accelerator', self.accelerator, ACCELERATORS)
        check_choice(owner, 'precision', self.precision, PRECISIONS)
        check_choice(owner, 'logger_backend', self.logger_backend, LOGGERS)
        check_integer(owner, 'devices', self.devices, 1)
        for name in ('deterministic', 'enable_progress_bar'):
            check_boolean(owner, name, getattr(self, name))
        check_integer(owner, 'num_workers', self.num_workers, 0)
        check_integer(owner, 'checkpoint_save_top_k', self.checkpoint_save_top_k, 0)
        for name in ('accum_steps', 'early_stop_patience', 'inference_batch_size'):
            if getattr(self, name) is not None:
                check_integer(owner, name, getattr(self, name), 1)
        for name in ('learning_rate', 'gradient_clip_val'):
            if getattr(self, name) is not None:
                check_number(owner, name, getattr(self, name), 0, exclusive=True)
        if self.scheduler is not None:
            check_choice(owner, 'scheduler', self.scheduler, SCHEDULERS)
        if self.gradient_clip_algorithm is not None:
            check_choice(owner, 'gradient_clip_algorithm', self.gradient_clip_algorithm, CLIP_ALGORITHMS)
