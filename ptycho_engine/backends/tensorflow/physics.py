"""Forward model, group merge and losses in TensorFlow; ``physics/forward.py`` is the reference.

Arrays keep zero frequency at index 0 here: measured patterns are shifted once on entry, exit waves never.
Sizes N and numbers of modes P are static, numbers of patterns n and of groups B may be dynamic.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ...physics.forward import BACKGROUND, LABEL_LIGHT, LABEL_SOFTNESS

__all__ = [
    'Canvas',
    'Optics',
    'amplitude_error',
    'deviance',
    'far_field',
    'label_error',
    'label_weight',
    'lit_part',
    'merge_and_cut',
    'mode_intensity',
    'shift_probe',
    'total_variation',
]

PIXELS = (-2, -1)


def complex_type(real: tf.DType) -> tf.DType:
    """Return the type of complex numbers whose parts are of type `real`."""
    return tf.complex128 if real == tf.float64 else tf.complex64


def as_complex(real: tf.Tensor) -> tf.Tensor:
    """Return real numbers as complex ones."""
    return tf.complex(real, tf.zeros_like(real))


def squared_modulus(fields: tf.Tensor) -> tf.Tensor:
    """Return ``|z|²``, whose gradient is finite at zero."""
    return tf.square(tf.math.real(fields)) + tf.square(tf.math.imag(fields))


def shift_probe(probe: tf.Tensor, remainder: tf.Tensor) -> tf.Tensor:
    """Shift probe modes (P, N, N) by sub-pixel remainders (n, 2): (n, P, N, N)."""
    frequency = tf.constant(np.fft.fftfreq(probe.shape[-1]), remainder.dtype)
    angle = (-2 * np.pi) * remainder[:, :, tf.newaxis] * frequency
    ramp = tf.complex(tf.cos(angle), tf.sin(angle))
    ramp = ramp[:, 0, :, tf.newaxis] * ramp[:, 1, tf.newaxis, :]
    return tf.signal.ifft2d(tf.signal.fft2d(probe) * ramp[:, tf.newaxis])


def mode_intensity(fields: tf.Tensor) -> tf.Tensor:
    """Add incoherent modes: (n, P, N, N) -> (n, N, N)."""
    return tf.reduce_sum(squared_modulus(fields), axis=1)


def far_field(patches: tf.Tensor, probes: tf.Tensor) -> tf.Tensor:
    """Propagate patches (n, N, N) under shifted probes (n, P, N, N), zero frequency at index 0."""
    unitary = tf.constant(1 / probes.shape[-1], patches.dtype)
    return tf.signal.fft2d(probes * (unitary * patches)[:, tf.newaxis])


class Optics(NamedTuple):
    """A known probe and its detector mask on the device."""

    probe: tf.Tensor
    """(P, N, N) complex incoherent modes in the engine's gauge."""
    good: tf.Tensor
    """(N, N) bool, trusted pixels, zero frequency at index 0."""
    brightest: tf.Tensor
    """() largest value of the unshifted illumination."""
    input_scale: tf.Tensor
    """() factor from measured amplitude to the input of 'cnn'."""

    @classmethod
    def of(cls, probe: tf.Tensor, good: tf.Tensor, input_scale: float) -> Optics:
        """Derive what follows from the probe; `good` has zero frequency in the middle."""
        illumination = mode_intensity(probe[tf.newaxis])
        return cls(
            probe=probe,
            good=tf.signal.ifftshift(good, axes=PIXELS),
            brightest=tf.reduce_max(illumination),
            input_scale=tf.constant(input_scale, illumination.dtype),
        )


class Canvas:
    """The common pixels of the C patches of each of B groups.

    Parameters
    ----------
    corner : (B, C, 2) int
        [row, column] of each patch on the object.
    size : int
        Side N of a patch.
    side : () int tensor, optional
        Of the canvas; None for what the widest of these groups needs.
    """

    def __init__(self, corner: tf.Tensor, size: int, side: tf.Tensor | None = None) -> None:
        start = tf.cast(corner - tf.reduce_min(corner, axis=1, keepdims=True), tf.int32)
        self.side = tf.reduce_max(start) + size if side is None else side
        self.groups = tf.shape(start)[0]
        self._patches = tf.stack([self.groups, tf.shape(start)[1], size, size])
        first = tf.range(self.groups)[:, tf.newaxis, tf.newaxis] * self.side
        pixel = tf.range(size)
        rows = (first + start[:, :, 0, tf.newaxis] + pixel) * self.side
        columns = start[:, :, 1, tf.newaxis] + pixel
        self._index = tf.reshape(rows[..., tf.newaxis] + columns[..., tf.newaxis, :], [-1])

    def gather(self, patches: tf.Tensor) -> tf.Tensor:
        """Add real patches (B, C, N, N) up where they overlap: (B, side, side)."""
        pixels = self.groups * self.side * self.side
        total = tf.math.unsorted_segment_sum(tf.reshape(patches, [-1]), self._index, pixels)
        return tf.reshape(total, [self.groups, self.side, self.side])

    def cut(self, canvas: tf.Tensor) -> tf.Tensor:
        """Cut patches (B, C, N, N) from a real canvas (B, side, side)."""
        return tf.reshape(tf.gather(tf.reshape(canvas, [-1]), self._index), self._patches)

    def gather_complex(self, patches: tf.Tensor) -> tf.Tensor:
        """:meth:`gather` of complex patches."""
        return tf.complex(self.gather(tf.math.real(patches)), self.gather(tf.math.imag(patches)))

    def cut_complex(self, canvas: tf.Tensor) -> tf.Tensor:
        """:meth:`cut` from a complex canvas."""
        return tf.complex(self.cut(tf.math.real(canvas)), self.cut(tf.math.imag(canvas)))


def merge_and_cut(patches: tf.Tensor, window: tf.Tensor, corner: tf.Tensor) -> tf.Tensor:
    """Merge the C patches of each group and cut them again.

    Parameters
    ----------
    patches : (B, C, N, N) complex
    window : (B, C, N, N) float
        Positive weights.
    corner : (B, C, 2) int
        [row, column] of each patch on the object.
    """
    canvas = Canvas(corner, patches.shape[-1])
    weight = as_complex(canvas.cut(canvas.gather(window)))
    return canvas.cut_complex(canvas.gather_complex(patches * as_complex(window))) / weight


def deviance(counts: tf.Tensor, rate: tf.Tensor, good: tf.Tensor) -> tf.Tensor:
    """Poisson deviance of each pattern (n,) per good pixel; `good` is (N, N) or (n, N, N)."""
    rate = rate + BACKGROUND
    # k log(k / rate) - (k - rate) cancels badly in float32 where k is near rate; with
    # u = (rate - k) / k it is k (u - log(1 + u)), which in turn is bad where the rate is small.
    k = tf.maximum(counts, BACKGROUND)
    u = (rate - k) / k
    near = k * (u - tf.math.log1p(tf.maximum(u, -0.5)))
    apart = k * tf.math.log(k / rate) - (k - rate)
    term = 2 * tf.where(counts > 0, tf.where(u > -0.5, near, apart), rate)
    mask = tf.cast(good, term.dtype)
    return tf.reduce_sum(term * mask, axis=PIXELS) / tf.reduce_sum(mask, axis=PIXELS)


def amplitude_error(amplitude: tf.Tensor, rate: tf.Tensor, good: tf.Tensor) -> tf.Tensor:
    """Mean absolute error of amplitudes relative to the mean amplitude, of each pattern (n,)."""
    mask = tf.cast(good, amplitude.dtype)
    difference = tf.abs(tf.sqrt(rate + BACKGROUND) - amplitude) * mask
    scale = tf.maximum(tf.reduce_sum(amplitude * mask, axis=PIXELS), BACKGROUND)
    return tf.reduce_sum(difference, axis=PIXELS) / scale


def label_weight(illumination: tf.Tensor, corner: tf.Tensor, optics: Optics) -> tf.Tensor:
    """Return the weights (B, C, N, N) of labels: over the patches of a group they add up to one at each pixel
    that gets light, and fade where it gets less than ``LABEL_LIGHT`` of the brightest.

    Parameters
    ----------
    illumination : (B, C, N, N) float
        Of each pattern, in counts.
    corner : (B, C, 2) int
        [row, column] of each patch.
    optics : Optics
    """
    canvas = Canvas(corner, illumination.shape[-1])
    return illumination / (canvas.cut(canvas.gather(illumination)) + LABEL_LIGHT * optics.brightest)


def lit_part(relative: tf.Tensor) -> tf.Tensor:
    """Return the weights (B, H, W) of labels on canvases, for the illumination relative to the brightest.

    1, but less where there is less light than ``LABEL_LIGHT``.
    """
    return relative / (relative + LABEL_LIGHT)


def label_error(patches: tf.Tensor, labels: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """Error against known patches and of its differences between neighbours, up to one phase (B,).

    ``Σ w (|d| + |∂_y d| + |∂_x d|) / Σ w |T|`` with ``d = O e^{iφ} − T`` over all patches (B, C, N, N) of a
    group that shares its phase, φ that of ``Σ w conj(O) T``: patterns do not fix it.
    """
    axes = (1, 2, 3)
    cross = tf.reduce_sum(as_complex(weight) * tf.math.conj(patches) * labels, axis=axes, keepdims=True)
    difference = patches * (cross / as_complex(tf.maximum(tf.abs(cross), 1e-12))) - labels
    rows, columns = difference[:, :, 1:] - difference[:, :, :-1], difference[..., 1:] - difference[..., :-1]
    total = tf.reduce_sum(weight * _soft_modulus(difference), axis=axes)
    total += tf.reduce_sum(weight[:, :, 1:] * _soft_modulus(rows), axis=axes)
    total += tf.reduce_sum(weight[..., 1:] * _soft_modulus(columns), axis=axes)
    return total / tf.reduce_sum(weight * tf.abs(labels), axis=axes)


def _soft_modulus(values: tf.Tensor) -> tf.Tensor:
    return tf.sqrt(squared_modulus(values) + LABEL_SOFTNESS**2)


def total_variation(patches: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """Illumination-weighted isotropic total variation of complex patches (n,)."""
    dy = patches[:, 1:, :-1] - patches[:, :-1, :-1]
    dx = patches[:, :-1, 1:] - patches[:, :-1, :-1]
    magnitude = tf.sqrt(squared_modulus(dy) + squared_modulus(dx) + 1e-8)
    inner = weight[:, :-1, :-1]
    return tf.reduce_sum(inner * magnitude, axis=PIXELS) / tf.reduce_sum(inner, axis=PIXELS)
