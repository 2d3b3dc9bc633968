"""The networks as data: layers, shapes, initial weights and canonical weight names.

A backend builds its layers by walking a plan, so that both have the same parameters under the same names,
start from the same numbers, and can exchange archives.

Canonical weight layout: convolution kernels are (kernel, kernel, in, out), biases are (out,).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ..config.model import ModelConfig
from ..errors import ConfigError

__all__ = ['FEATURES', 'Layer', 'NetworkPlan', 'build_plan', 'initial_weights']

Op = Literal['conv', 'mean_pool', 'upsample', 'concat', 'space_to_depth', 'depth_to_space']

FEATURES = (
    'object_real_minus_1',
    'object_imag',
    'update_real',
    'update_imag',
    'illumination',
    'update_modulus',
    'direct_real',
    'direct_imag',
)
"""Input channels of a correction network, in order (``specs/physics.md``, NET-02)."""

CORRECTION_LIMIT = 2.0
"""Real and imaginary part of each correction are bounded by ``limit * tanh(x / limit)``, so that one bad
step of the optimiser cannot throw the object away. The object itself has no ceiling."""

DIRECT_REGULARISATION = 0.05
"""The direct update is the ePIE update divided by (illumination + this): the change that the modulus asks
for, seen also where the probe is weak."""


@dataclass(frozen=True)
class Layer:
    """One operation of a plan."""

    name: str
    """Unique within its step; weights are named ``<step>/<layer>/kernel`` and ``…/bias``."""
    op: Op
    inputs: tuple[str, ...]
    """Names of earlier layers, or ``input``."""
    in_channels: int
    out_channels: int
    kernel: int = 3
    """Side of a convolution kernel; zero padding keeps the size."""
    activation: Literal['silu', 'none'] = 'none'
    zero_init: bool = False
    """Start from zero weights, so that the untrained layer adds nothing."""


@dataclass(frozen=True)
class NetworkPlan:
    """A network for N-pixel patterns in groups of gridsize²."""

    architecture: str
    N: int
    gridsize: int
    steps: tuple[tuple[Layer, ...], ...]
    """The correction network of each unrolled step; the last layer is the output (2 channels)."""

    @property
    def channels(self) -> int:
        """Patterns in a group."""
        return self.gridsize**2

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the canonical name and shape of every weight, in a fixed order."""
        shapes: dict[str, tuple[int, ...]] = {}
        for index, layers in enumerate(self.steps, start=1):
            for layer in layers:
                if layer.op == 'conv':
                    prefix = f'step{index}/{layer.name}'
                    shapes[f'{prefix}/kernel'] = (
                        layer.kernel,
                        layer.kernel,
                        layer.in_channels,
                        layer.out_channels,
                    )
                    shapes[f'{prefix}/bias'] = (layer.out_channels,)
        return shapes

    @property
    def n_weights(self) -> int:
        """Number of trainable numbers."""
        return sum(int(np.prod(shape)) for shape in self.weight_shapes().values())


def build_plan(config: ModelConfig) -> NetworkPlan:
    """Lay out the network of a configuration.

    Raises
    ------
    ConfigError
        If N is still 0.
    """
    if config.N == 0:
        raise ConfigError('ModelConfig.N is 0: set it to the size of the patterns first.')
    step = _correction_network(config.n_filters_scale)
    return NetworkPlan(
        architecture=config.architecture,
        N=config.N,
        gridsize=config.gridsize,
        steps=(step,) * config.unrolled_steps,
    )


def _correction_network(scale: int) -> tuple[Layer, ...]:
    """A small U-Net on a grid of half the resolution: pixels are folded into channels at its door.

    Folding keeps every pixel and makes the convolutions four times cheaper; three levels then see 32 pixels
    around each, about the width of a probe.
    """
    w1, w2, w3 = 16 * scale, 24 * scale, 32 * scale
    folded = 4 * len(FEATURES)

    def conv(name: str, source: str, in_channels: int, out_channels: int, *, last: bool = False) -> Layer:
        activation: Literal['silu', 'none'] = 'none' if last else 'silu'
        return Layer(name, 'conv', (source,), in_channels, out_channels, 3, activation, last)

    return (
        Layer('fold', 'space_to_depth', ('input',), len(FEATURES), folded),
        conv('down1a', 'fold', folded, w1),
        conv('down1b', 'down1a', w1, w1),
        Layer('pool1', 'mean_pool', ('down1b',), w1, w1),
        conv('down2a', 'pool1', w1, w2),
        conv('down2b', 'down2a', w2, w2),
        Layer('pool2', 'mean_pool', ('down2b',), w2, w2),
        conv('deep_a', 'pool2', w2, w3),
        conv('deep_b', 'deep_a', w3, w3),
        Layer('rise2', 'upsample', ('deep_b',), w3, w3),
        Layer('join2', 'concat', ('rise2', 'down2b'), w3 + w2, w3 + w2),
        conv('up2', 'join2', w3 + w2, w2),
        Layer('rise1', 'upsample', ('up2',), w2, w2),
        Layer('join1', 'concat', ('rise1', 'down1b'), w2 + w1, w2 + w1),
        conv('up1', 'join1', w2 + w1, w1),
        conv('correction', 'up1', w1, 8, last=True),
        Layer('unfold', 'depth_to_space', ('correction',), 8, 2),
    )


def initial_weights(plan: NetworkPlan, seed: int) -> dict[str, npt.NDArray[np.float32]]:
    """Draw the initial weights: He normal for kernels, zero for biases and for zero-init layers.

    He et al., *Delving deep into rectifiers*, ICCV 2015.
    """
    rng = np.random.default_rng(seed)
    zero = {
        f'step{index}/{layer.name}/kernel'
        for index, layers in enumerate(plan.steps, start=1)
        for layer in layers
        if layer.zero_init
    }
    weights: dict[str, npt.NDArray[np.float32]] = {}
    for name, shape in plan.weight_shapes().items():
        if name.endswith('/bias') or name in zero:
            weights[name] = np.zeros(shape, np.float32)
        else:
            deviation = np.sqrt(2 / np.prod(shape[:3]))
            weights[name] = (deviation * rng.standard_normal(shape)).astype(np.float32)
    return weights
