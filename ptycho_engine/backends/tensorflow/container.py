"""NumPy arrays of a data container as TensorFlow tensors."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
import tensorflow as tf

__all__ = ['to_tensor']


def to_tensor(array: npt.NDArray[Any]) -> Any:
    """Return a tensor of the array's shape and type."""
    return tf.convert_to_tensor(array)
