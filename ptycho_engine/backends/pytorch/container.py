"""NumPy arrays of a data container as PyTorch tensors."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
import torch

__all__ = ['to_tensor']


def to_tensor(array: npt.NDArray[Any]) -> torch.Tensor:
    """Return a tensor of the array's shape and type on the CPU; the two share memory where they can."""
    return torch.from_numpy(array if array.flags.writeable else array.copy())
