"""The networks as data: layers, shapes, initial weights and canonical weight names.

A backend builds its layers by walking a plan, so that both have the same parameters under the same names,
start from the same numbers, and can exchange archives.

Canonical weight layout: convolution kernels are (kernel, kernel, in, out), biases are (out,).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..config import ModelConfig, TrainingConfig
from ..errors import ConfigError
from .cnn import cnn_layers
from .denoiser import DENOISER, denoiser_layers
from .layer import Layer

__all__ = [
    'INTENSITY_SCALE',
    'PROBE_CORRECTION',
    'SIDE_MULTIPLE',
    'NetworkPlan',
    'build_plan',
    'initial_weights',
    'training_plan',
]

PROBE_CORRECTION = 'probe/correction'
"""Name of the trainable probe's weight (P, N, N, 2): real and imaginary part of what is added to the probe,
in units of the square root of its brightest intensity (:func:`~..physics.probe.correct_probe`)."""

INTENSITY_SCALE = 'intensity/log_scale'
"""Name of the trainable intensity scale's weight (1,): the logarithm w of the factor between measured and
predicted amplitudes."""

SIDE_MULTIPLE = 8
"""Sides of the images that the prior convolves are multiples of this: folded once, halved twice."""

CANVAS_MULTIPLE = 16
"""The common object of a group of 'prior' is as wide as the widest group of the pass needs, rounded up to a
multiple of this, so that it seldom differs between the epochs of a run."""


@dataclass(frozen=True)
class NetworkPlan:
    """A network for N-pixel patterns in groups of gridsize²."""

    model: ModelConfig
    parts: tuple[tuple[str, tuple[Layer, ...]], ...]
    """Name and layers of each convolutional network; the last layer is its output. 'cnn' has one with C
    amplitude and C phase logits; 'prior' has one with the 2 channels of the noise; 'physics' has none."""
    probe_modes: int = 0
    """Modes of a trainable probe; 0 where the probe is taken as it is."""
    intensity_scale: bool = False
    """Whether the factor between predicted and measured amplitudes is trainable."""

    @property
    def channels(self) -> int:
        """Patterns in a group."""
        return self.model.gridsize**2

    @property
    def merges(self) -> bool:
        """Whether the patterns of a group share one object."""
        return self.channels > 1 and self.model.object_big

    def canvas_side(self, extent: int) -> int:
        """Return the side of the square that 'prior' learns on, for groups within `extent` pixels."""
        return -(-extent // CANVAS_MULTIPLE) * CANVAS_MULTIPLE

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the canonical name and shape of every weight, in a fixed order."""
        shapes: dict[str, tuple[int, ...]] = {}
        for part, layers in self.parts:
            for layer in layers:
                if layer.op == 'conv':
                    kernel = (layer.kernel, layer.kernel, layer.in_channels, layer.out_channels)
                    shapes[f'{part}/{layer.name}/kernel'] = kernel
                    shapes[f'{part}/{layer.name}/bias'] = (layer.out_channels,)
        if self.probe_modes:
            shapes[PROBE_CORRECTION] = (self.probe_modes, self.model.N, self.model.N, 2)
        if self.intensity_scale:
            shapes[INTENSITY_SCALE] = (1,)
        return shapes

    @property
    def n_weights(self) -> int:
        """Number of trainable weights, each real number counted."""
        return sum(int(np.prod(shape)) for shape in self.weight_shapes().values())


def build_plan(model: ModelConfig, *, probe_modes: int = 0, intensity_scale: bool = False) -> NetworkPlan:
    """Lay out the network of a configuration.

    Raises
    ------
    ConfigError
        If N is still 0 and the network is not one of objects.
    """
    if model.of_objects:
        denoiser = ((DENOISER, denoiser_layers()),) if model.architecture == 'prior' else ()
        return NetworkPlan(model, denoiser)
    if model.N == 0:
        raise ConfigError('ModelConfig.N is 0: set it to the size of the patterns first.')
    parts = (('autoencoder', cnn_layers(model)),)
    return NetworkPlan(model, parts, probe_modes, intensity_scale)


def training_plan(config: TrainingConfig, probe_modes: int) -> NetworkPlan:
    """Lay out the network with all that a training configuration makes trainable."""
    return build_plan(
        config.model,
        probe_modes=probe_modes if config.probe_trainable else 0,
        intensity_scale=config.intensity_scale_trainable,
    )


def initial_weights(plan: NetworkPlan, seed: int) -> dict[str, npt.NDArray[np.float32]]:
    """Draw the initial weights: He normal for kernels, zero for all else.

    He et al., *Delving deep into rectifiers*, ICCV 2015.
    """
    rng = np.random.default_rng(seed)
    drawn = {
        f'{part}/{layer.name}/kernel'
        for part, layers in plan.parts
        for layer in layers
        if layer.op == 'conv' and not layer.zero_init
    }
    weights: dict[str, npt.NDArray[np.float32]] = {}
    for name, shape in plan.weight_shapes().items():
        if name in drawn:
            deviation = np.sqrt(2 / np.prod(shape[:3]))
            weights[name] = (deviation * rng.standard_normal(shape)).astype(np.float32)
        else:
            weights[name] = np.zeros(shape, np.float32)
    return weights
