"""The networks of ``network/plan.py`` as Keras layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ...network.denoiser import DENOISER, DENOISER_FEATURES
from ...network.layer import Layer, Op, walk
from ...network.plan import INTENSITY_SCALE, PROBE_CORRECTION, NetworkPlan

__all__ = [
    'PtychographyNetwork',
    'real_type',
]

POLICIES = {
    '32-true': 'float32',
    'bf16-mixed': 'mixed_bfloat16',
    '16-mixed': 'mixed_float16',
    '64-true': 'float64',
}
"""Keras' name of the arithmetic of the convolutions and of their weights."""


def real_type(precision: str) -> tf.DType:
    """Return the type of the numbers that physics and weights have."""
    return tf.float64 if precision == '64-true' else tf.float32


class ConvolutionalNetwork:
    """One part of a plan, built by walking its layers; images are (n, N, N, channels)."""

    def __init__(self, layers: tuple[Layer, ...], policy: str) -> None:
        self.layers = layers
        arithmetic = keras.DTypePolicy(policy)
        self._compute, self._real = arithmetic.compute_dtype, arithmetic.variable_dtype
        self.convolutions = {}
        for layer in layers:
            if layer.op == 'conv':
                convolution = keras.layers.Conv2D(
                    layer.out_channels,
                    layer.kernel,
                    padding='same',
                    activation=None if layer.activation == 'none' else layer.activation,
                    dtype=policy,
                )
                convolution.build((None, None, None, layer.in_channels))
                self.convolutions[layer.name] = convolution

    def __call__(self, features: tf.Tensor) -> tf.Tensor:
        """Map features (n, N, N, F) to the last layer's output (n, N, N, channels), in full precision."""
        found = walk(self.layers, {**LAYERS, 'conv': self._convolved}, tf.cast(features, self._compute))
        return tf.cast(found, self._real)

    def _convolved(self, layer: Layer, features: tf.Tensor) -> tf.Tensor:
        return self.convolutions[layer.name](features)


def _sides(images: tf.Tensor) -> tuple[Any, Any, int]:
    """Return height, width and channels of images (n, H, W, c); a canvas learns its sides from the data."""
    _, height, width, channels = images.shape
    dynamic = tf.shape(images)
    return (
        dynamic[1] if height is None else height,
        dynamic[2] if width is None else width,
        channels,
    )


def _doubled(images: tf.Tensor) -> tf.Tensor:
    """Repeat each pixel of images (n, H, W, c) in a square of 2 × 2."""
    height, width, channels = _sides(images)
    wide = tf.reshape(tf.concat([images, images], axis=-1), [-1, height, 2 * width * channels])
    return tf.reshape(tf.concat([wide, wide], axis=-1), [-1, 2 * height, 2 * width, channels])


def _without_centre(images: tf.Tensor) -> tf.Tensor:
    """Return images (n, N, N, c) with zeros in their central N/2 pixels."""
    size = images.shape[1]
    border = np.ones((size, size, 1), np.float32)
    border[size // 4 : -(size // 4), size // 4 : -(size // 4)] = 0
    return images * tf.constant(border, images.dtype)


def _folded(images: tf.Tensor) -> tf.Tensor:
    """Fold squares of 2 × 2 pixels into channels ``4 c + 2 row + column``, the canonical order."""
    height, width, channels = _sides(images)
    squares = tf.reshape(images, [-1, height // 2, 2, width // 2, 2, channels])
    return tf.reshape(tf.transpose(squares, [0, 1, 3, 5, 2, 4]), [-1, height // 2, width // 2, 4 * channels])


def _unfolded(images: tf.Tensor) -> tf.Tensor:
    """Undo :func:`_folded`."""
    height, width, channels = _sides(images)
    squares = tf.reshape(images, [-1, height, width, channels // 4, 2, 2])
    return tf.reshape(tf.transpose(squares, [0, 1, 4, 2, 5, 3]), [-1, 2 * height, 2 * width, channels // 4])


LAYERS: Mapping[Op, Callable[..., tf.Tensor]] = {
    'mean_pool': lambda _, first: tf.nn.avg_pool2d(first, 2, 2, 'VALID'),
    'upsample': lambda _, first: _doubled(first),
    'concat': lambda _, *inputs: tf.concat(inputs, axis=-1),
    'add': lambda _, first, second: first + second,
    'first_channels': lambda layer, first: first[..., : layer.out_channels],
    'last_channels': lambda layer, first: first[..., -layer.out_channels :],
    'pad_to_double': lambda _, first: tf.pad(first, [[0, 0], *[[first.shape[1] // 2] * 2] * 2, [0, 0]]),
    'outer_half': lambda _, first: _without_centre(first),
    'space_to_depth': lambda _, first: _folded(first),
    'depth_to_space': lambda _, first: _unfolded(first),
}
"""The layers of a plan that have no weights."""

AMPLITUDES: Mapping[str, Callable[[tf.Tensor], tf.Tensor]] = {
    'sigmoid': tf.sigmoid,
    'softplus': tf.nn.softplus,
    'relu': tf.nn.relu,
    'swish': tf.nn.silu,
}
"""Activations that an amplitude may end with."""


class PtychographyNetwork:
    """The parts of a plan, a trainable probe and intensity scale, and their names."""

    def __init__(self, plan: NetworkPlan, precision: str) -> None:
        self.plan = plan
        self.parts = {name: ConvolutionalNetwork(layers, POLICIES[precision]) for name, layers in plan.parts}
        real = real_type(precision)
        size = plan.model.N
        shape = (plan.probe_modes, size, size, 2)
        self.probe_correction = tf.Variable(tf.zeros(shape, real)) if plan.probe_modes else None
        self.log_scale = tf.Variable(tf.zeros((1,), real)) if plan.intensity_scale else None

    def logits(self, amplitude: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return amplitude and phase (B, C, N, N) before the last activations, of 'cnn'."""
        found = self.parts['autoencoder'](tf.transpose(amplitude, [0, 2, 3, 1]))
        modulus, phase = tf.split(tf.transpose(found, [0, 3, 1, 2]), 2, axis=1)
        return modulus, phase

    def activated(self, values: tf.Tensor) -> tf.Tensor:
        """Return the activation of amplitudes (B, C, N, N), of 'cnn'."""
        return AMPLITUDES[self.plan.model.amp_activation](values)

    def noise(self, obj: tf.Tensor, deviation: tf.Tensor) -> tf.Tensor:
        """Return the noise (B, H, W) of complex objects with a standard deviation (B, H, W), of 'prior'."""
        # Stacking first and transposing then is three times faster than stacking along the last axis.
        features = tf.stack([tf.math.real(obj) - 1, tf.math.imag(obj), 0.5 * tf.math.log(deviation)], axis=1)
        features = tf.ensure_shape(features, [None, len(DENOISER_FEATURES), None, None])
        found = self.parts[DENOISER](tf.transpose(features, [0, 2, 3, 1]))
        return tf.complex(deviation * found[..., 0], deviation * found[..., 1])

    def canonical_weights(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return weights by canonical name; Keras' layout is the canonical one."""
        return {name: np.array(variable) for name, variable in self.named_canonical()}

    def load_canonical(self, weights: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Copy canonical weights into the variables."""
        for name, variable in self.named_canonical():
            variable.assign(weights[name].astype(variable.dtype.as_numpy_dtype))

    def named_canonical(self) -> list[tuple[str, tf.Variable]]:
        """Return variables by canonical name."""
        named = []
        for part, network in self.parts.items():
            for layer_name, convolution in network.convolutions.items():
                named.append((f'{part}/{layer_name}/kernel', convolution.kernel.value))
                named.append((f'{part}/{layer_name}/bias', convolution.bias.value))
        if self.probe_correction is not None:
            named.append((PROBE_CORRECTION, self.probe_correction))
        if self.log_scale is not None:
            named.append((INTENSITY_SCALE, self.log_scale))
        return named
