"""The operations that networks are made of, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

__all__ = ['Activation', 'Layer', 'Op', 'walk']

T = TypeVar('T')

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


def walk(layers: Sequence[Layer], functions: Mapping[Op, Callable[..., T]], features: T) -> T:
    """Return the output of the last layer for arrays of any library.

    Parameters
    ----------
    layers : sequence of Layer
        Each after those that it takes.
    functions : mapping
        What each kind of layer does: called with the layer and its inputs.
    features
        The input of the first layer.
    """
    values = {'input': features}
    for layer in layers:
        values[layer.name] = functions[layer.op](layer, *(values[name] for name in layer.inputs))
    return values[layers[-1].name]
