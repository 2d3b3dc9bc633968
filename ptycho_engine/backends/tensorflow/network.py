"""The networks of ``network/plan.py`` as Keras layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ...network.cnn import amplitude_offset
from ...network.denoiser import DENOISER, DENOISER_FEATURES
from ...network.layer import Layer
from ...network.plan import INTENSITY_SCALE, PROBE_CORRECTION, NetworkPlan
from ...physics.forward import WINDOW_FLOOR
from . import physics

__all__ = [
    'CnnNetwork',
    'Exposure',
    'PriorNetwork',
    'PtychographyNetwork',
    'make_network',
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
        values = {'input': tf.cast(features, self._compute)}
        for layer in self.layers:
            values[layer.name] = self._evaluate(layer, [values[name] for name in layer.inputs])
        return tf.cast(values[self.layers[-1].name], self._real)

    def _evaluate(self, layer: Layer, inputs: list[tf.Tensor]) -> tf.Tensor:
        first = inputs[0]
        match layer.op:
            case 'conv':
                return self.convolutions[layer.name](first)
            case 'mean_pool':
                return tf.nn.avg_pool2d(first, 2, 2, 'VALID')
            case 'upsample':
                return _doubled(first)
            case 'concat':
                return tf.concat(inputs, axis=-1)
            case 'add':
                return first + inputs[1]
            case 'first_channels':
                return first[..., : layer.out_channels]
            case 'last_channels':
                return first[..., -layer.out_channels :]
            case 'pad_to_double':
                margin = [first.shape[1] // 2] * 2
                return tf.pad(first, [[0, 0], margin, margin, [0, 0]])
            case 'outer_half':
                return _without_centre(first)
            case 'space_to_depth':
                return _folded(first)
            case 'depth_to_space':
                return _unfolded(first)


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


class Exposure(NamedTuple):
    """What a network makes patches of."""

    amplitude: tf.Tensor
    """(B, C, N, N) measured amplitudes, zero frequency at index 0."""
    probes: tf.Tensor
    """(B*C, P, N, N) complex probe modes shifted by each position's remainder."""
    corner: tf.Tensor
    """(B, C, 2) int [row, column] of each patch."""
    optics: physics.Optics
    """The scan's probe and detector mask."""


class PtychographyNetwork:
    """What networks of all architectures share: parts, a trainable probe and intensity scale, and names."""

    def __init__(self, plan: NetworkPlan, precision: str) -> None:
        self.plan = plan
        self.parts = {name: ConvolutionalNetwork(layers, POLICIES[precision]) for name, layers in plan.parts}
        real = real_type(precision)
        size = plan.model.N
        shape = (plan.probe_modes, size, size, 2)
        self.probe_correction = tf.Variable(tf.zeros(shape, real)) if plan.probe_modes else None
        self.log_scale = tf.Variable(tf.zeros((1,), real)) if plan.intensity_scale else None

    def probe(self, optics: physics.Optics) -> tf.Tensor:
        """Return the probe (P, N, N) with its trained correction."""
        if self.probe_correction is None:
            return optics.probe
        correction = tf.sqrt(optics.brightest) * self.probe_correction
        return optics.probe + tf.complex(correction[..., 0], correction[..., 1])

    def amplitude_factor(self, like: tf.Tensor) -> tf.Tensor:
        """Return the factor () between measured and predicted amplitudes."""
        return tf.ones((), like.dtype) if self.log_scale is None else tf.exp(self.log_scale)[0]

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


class CnnNetwork(PtychographyNetwork):
    """PtychoPINN's autoencoder: diffraction amplitudes of a group in, object patches out."""

    def __call__(self, exposure: Exposure) -> tf.Tensor:
        """Reconstruct patches (B, C, N, N) complex."""
        amplitude, probes, corner, optics = exposure
        centred = tf.signal.fftshift(amplitude, axes=physics.PIXELS)
        scaled = centred * (optics.input_scale / self.amplitude_factor(amplitude))
        logits = self.parts['autoencoder'](tf.transpose(scaled, [0, 2, 3, 1]))
        modulus, phase = tf.split(tf.transpose(logits, [0, 3, 1, 2]), 2, axis=1)
        modulus = self._amplitude(modulus)
        phase = np.pi * tf.tanh(phase)
        patches = tf.complex(modulus * tf.cos(phase), modulus * tf.sin(phase))
        return self._merge(patches, probes, corner, optics)

    def _merge(
        self, patches: tf.Tensor, probes: tf.Tensor, corner: tf.Tensor, optics: physics.Optics
    ) -> tf.Tensor:
        """Make the patches (B, C, N, N) of each group agree where they overlap, if the plan says so."""
        if not self.plan.merges:
            return patches
        illumination = physics.mode_intensity(probes) / optics.brightest
        window = tf.reshape(illumination + WINDOW_FLOOR, tf.shape(patches))
        return physics.merge_and_cut(patches, window, corner)

    def _amplitude(self, logits: tf.Tensor) -> tf.Tensor:
        model = self.plan.model
        shifted = logits + amplitude_offset(model)
        match model.amp_activation:
            case 'sigmoid':
                head = tf.sigmoid(shifted)
            case 'softplus':
                head = tf.nn.softplus(shifted)
            case 'relu':
                head = tf.nn.relu(shifted)
            case _:
                head = tf.nn.silu(shifted)
        return model.probe_scale * head


class PriorNetwork(PtychographyNetwork):
    """The learned prior of objects, a denoiser; without weights in a plan of physics alone."""

    def noise(self, obj: tf.Tensor, deviation: tf.Tensor) -> tf.Tensor:
        """Return the noise (B, H, W) of complex objects (B, H, W) with that standard deviation (B, H, W)."""
        # Stacking first and transposing then is three times faster than stacking along the last axis.
        features = tf.stack([tf.math.real(obj) - 1, tf.math.imag(obj), 0.5 * tf.math.log(deviation)], axis=1)
        features = tf.ensure_shape(features, [None, len(DENOISER_FEATURES), None, None])
        found = self.parts[DENOISER](tf.transpose(features, [0, 2, 3, 1]))
        return tf.complex(deviation * found[..., 0], deviation * found[..., 1])


def make_network(plan: NetworkPlan, precision: str) -> PtychographyNetwork:
    """Return the Keras layers of a plan; `precision` is that of the convolutions."""
    return PriorNetwork(plan, precision) if plan.model.of_objects else CnnNetwork(plan, precision)
