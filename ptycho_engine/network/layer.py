"""The operations that networks are made of, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ['Activation', 'Layer', 'Op']

Op = Literal[
    'conv',
    'mean_pool',
    'upsample',
    'concat',
    'add',
    'first_channels',
    'last_channels',
    'pad_to_double',
    'outer_half',
    'space_to_depth',
    'depth_to_space',
]
"""``pad_to_double`` adds zeros around, half the size on each side; ``outer_half`` makes the centre zero."""

Activation = Literal['silu', 'none']


@dataclass(frozen=True)
class Layer:
    """One operation of a plan."""

    name: str
    """Unique within its part; weights are named ``<part>/<layer>/kernel`` and ``…/bias``."""
    op: Op
    inputs: tuple[str, ...]
    """Names of earlier layers, or ``input``."""
    in_channels: int
    out_channels: int
    kernel: int = 3
    """Side of a convolution kernel; zero padding keeps the size."""
    activation: Activation = 'none'
    zero_init: bool = False
    """Start from zero weights, so that the untrained layer adds nothing."""
