"""Optimisers and clipping in TensorFlow (``specs/training.md``, OPT-02 to OPT-06).

Not those of Keras: its Adam adds epsilon before the bias is corrected, which counts where gradients are
small, and decays weights apart from the gradient in plain Adam too. The same run on another backend would
take another course.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ...config import TrainingConfig
from ..base import AGC_SMALLEST_NORM

__all__ = ['Optimiser']

EPSILON = 1e-8
"""Added to the root of the mean squared gradient in 'adam' and 'adamw'."""
NORM_EPSILON = 1e-6
"""Added to the norm that a gradient is divided by."""

FIRST_LOSS_SCALE = 65536.0
STEPS_BEFORE_LARGER_SCALE = 2000
"""The loss scale doubles after so many steps without overflow and halves at an overflow."""

_SLOTS = {'adamw': ('mean', 'mean_square'), 'adam': ('mean', 'mean_square'), 'sgd': ('momentum',)}


class Optimiser:
    """Clips a gradient and descends along it.

    Parameters
    ----------
    named : sequence of (str, Variable)
        Trainable variables by canonical name.
    config : TrainingConfig
        Optimiser, weight decay and clipping.
    strategy : Strategy
        Where the variables are.
    scale_loss : bool
        Have the loss multiplied so that gradients do not underflow in float16, and skip steps that overflow.
    """

    def __init__(
        self,
        named: Sequence[tuple[str, tf.Variable]],
        config: TrainingConfig,
        strategy: tf.distribute.Strategy,
        *,
        scale_loss: bool = False,
    ) -> None:
        self._named = tuple(named)
        self._config = config
        self._strategy = strategy
        with strategy.scope():
            self._slots = [
                {
                    slot: tf.Variable(tf.zeros_like(variable), trainable=False)
                    for slot in _SLOTS[config.optimizer]
                }
                for _, variable in named
            ]
            self._steps = tf.Variable(0.0, trainable=False, dtype=tf.float64)
        self._scales = scale_loss
        self.loss_scale = FIRST_LOSS_SCALE if scale_loss else 1.0
        """Factor by which the loss is to be multiplied before its gradient is taken."""
        self._steps_at_scale = 0
        specs = [tf.TensorSpec(variable.shape, variable.dtype) for _, variable in named]
        # Factors of a whole step are worked out in float64, as PyTorch does.
        number = tf.TensorSpec((), tf.float64)
        self._finite = tf.function(_all_finite, input_signature=[specs], autograph=False)
        self._apply = tf.function(self._descend, input_signature=[specs, number, number], autograph=False)

    def step(self, gradients: Sequence[tf.Tensor], learning_rate: float) -> None:
        """Clip the gradient of the scaled loss and descend."""
        if self._scales and not bool(self._finite(gradients)):
            self.loss_scale /= 2
            self._steps_at_scale = 0
            return
        self._apply(
            gradients, tf.constant(learning_rate, tf.float64), tf.constant(1 / self.loss_scale, tf.float64)
        )
        if self._scales:
            self._steps_at_scale += 1
            if self._steps_at_scale == STEPS_BEFORE_LARGER_SCALE:
                self.loss_scale *= 2
                self._steps_at_scale = 0

    def _descend(self, gradients: Sequence[tf.Tensor], learning_rate: tf.Tensor, unscale: tf.Tensor) -> None:
        config = self._config
        if self._scales:
            gradients = [gradient * tf.cast(unscale, gradient.dtype) for gradient in gradients]
        clipped = self._clipped(gradients)
        steps = self._steps.assign_add(1.0)
        bias1 = 1 - tf.pow(tf.constant(config.adam_beta1, steps.dtype), steps)
        bias2 = 1 - tf.pow(tf.constant(config.adam_beta2, steps.dtype), steps)
        for (_, variable), gradient, slots in zip(self._named, clipped, self._slots, strict=True):
            self._strategy.extended.update(
                variable,
                self._descend_momentum if config.optimizer == 'sgd' else self._descend_adam,
                args=(gradient, learning_rate, bias1, bias2, *slots.values()),
            )

    def _descend_adam(
        self,
        variable: tf.Variable,
        gradient: tf.Tensor,
        rate: tf.Tensor,
        bias1: tf.Tensor,
        bias2: tf.Tensor,
        mean: tf.Variable,
        mean_square: tf.Variable,
    ) -> None:
        """Kingma & Ba, ICLR 2015; decoupled decay: Loshchilov & Hutter, ICLR 2019."""
        decay = self._config.weight_decay
        if decay > 0:
            if self._config.optimizer == 'adamw':
                variable.assign(variable * tf.cast(1 - rate * decay, variable.dtype))
            else:
                gradient = gradient + decay * variable
        # TensorFlow's own kernel takes 1 - beta in float32, which is wrong in the fifth digit.
        new1, new2 = 1 - self._config.adam_beta1, 1 - self._config.adam_beta2
        mean.assign_add((gradient - mean) * new1)
        mean_square.assign(self._config.adam_beta2 * mean_square + new2 * tf.square(gradient))
        root = tf.sqrt(mean_square) / tf.cast(tf.sqrt(bias2), variable.dtype) + EPSILON
        variable.assign_sub(tf.cast(rate / bias1, variable.dtype) * mean / root)

    def _descend_momentum(
        self,
        variable: tf.Variable,
        gradient: tf.Tensor,
        rate: tf.Tensor,
        _bias1: tf.Tensor,
        _bias2: tf.Tensor,
        momentum: tf.Variable,
    ) -> None:
        if self._config.weight_decay > 0:
            gradient = gradient + self._config.weight_decay * variable
        tf.raw_ops.ResourceApplyMomentum(
            var=variable.handle,
            accum=momentum.handle,
            lr=tf.cast(rate, variable.dtype),
            grad=gradient,
            momentum=tf.constant(self._config.momentum, variable.dtype),
        )

    def _clipped(self, gradients: Sequence[tf.Tensor]) -> Sequence[tf.Tensor]:
        limit = self._config.gradient_clip_val
        if limit is None:
            return gradients
        match self._config.gradient_clip_algorithm:
            case 'norm':
                norm = tf.sqrt(tf.add_n([tf.reduce_sum(tf.square(gradient)) for gradient in gradients]))
                factor = tf.minimum(limit / (norm + NORM_EPSILON), 1.0)
                return [gradient * factor for gradient in gradients]
            case 'value':
                return [tf.clip_by_value(gradient, -limit, limit) for gradient in gradients]
            case _:
                return [
                    _clipped_to_weights(name, variable, gradient, limit)
                    for (name, variable), gradient in zip(self._named, gradients, strict=True)
                ]

    def state(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return a copy of what the optimiser remembers."""
        state = {
            'steps': np.array(self._steps.numpy(), np.float32),
            'loss_scale': np.array([self.loss_scale, self._steps_at_scale], np.float32),
        }
        for (name, _), slots in zip(self._named, self._slots, strict=True):
            for quantity, variable in slots.items():
                state[f'{name}/{quantity}'] = np.array(variable.numpy())
        return state

    def set_state(self, state: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Go on from :meth:`state`."""
        self._steps.assign(float(state['steps']))
        scale, steps = state['loss_scale']
        # A run in another precision had its own scale, or none.
        if self._scales and scale > 1:
            self.loss_scale, self._steps_at_scale = float(scale), int(steps)
        for (name, _), slots in zip(self._named, self._slots, strict=True):
            for quantity, variable in slots.items():
                variable.assign(state[f'{name}/{quantity}'].astype(variable.dtype.as_numpy_dtype))


def _clipped_to_weights(name: str, variable: tf.Variable, gradient: tf.Tensor, limit: float) -> tf.Tensor:
    """Limit the gradient of each unit to `limit` times the norm of the unit's weights.

    Brock et al., *High-performance large-scale image recognition without normalization*, ICML 2021. A unit
    is an output channel of a kernel, or the whole of any other variable.
    """
    axes = (0, 1, 2) if name.endswith('/kernel') else tuple(range(len(variable.shape)))
    allowed = limit * tf.maximum(_norm(variable, axes), AGC_SMALLEST_NORM)
    norm = _norm(gradient, axes)
    return gradient * tf.where(norm > allowed, allowed / norm, tf.ones_like(norm))


def _all_finite(gradients: Sequence[tf.Tensor]) -> tf.Tensor:
    return tf.reduce_all([tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients])


def _norm(values: tf.Tensor, axes: tuple[int, ...]) -> tf.Tensor:
    return tf.sqrt(tf.reduce_sum(tf.square(values), axis=axes, keepdims=True))
