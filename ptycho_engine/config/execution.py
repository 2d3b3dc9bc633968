"""Where and with which precision a backend computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .checks import check_choice

__all__ = ['ACCELERATORS', 'PRECISIONS', 'PyTorchExecutionConfig']

ACCELERATORS = ('auto', 'cpu', 'cuda', 'gpu', 'mps')
PRECISIONS = ('32-true', 'bf16-mixed', '16-mixed')


@dataclass(frozen=True)
class PyTorchExecutionConfig:
    """Execution of the PyTorch backend."""

    accelerator: str = 'auto'
    """'auto' takes a GPU where there is one, else the CPU; 'gpu' any GPU, 'cuda' NVIDIA's, 'mps' Apple's."""
    precision: Literal['32-true', 'bf16-mixed', '16-mixed'] = '32-true'
    """Arithmetic of the convolutions; the physics is always float32/complex64. '16-mixed' scales the loss and
    skips steps whose gradients overflow."""
    deterministic: bool = True
    """Use deterministic algorithms, so that equal seeds give equal weights on one machine."""

    def __post_init__(self) -> None:
        owner = type(self).__name__
        check_choice(owner, 'accelerator', self.accelerator, ACCELERATORS)
        check_choice(owner, 'precision', self.precision, PRECISIONS)
