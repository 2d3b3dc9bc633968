"""Forward model, group merge and losses in TensorFlow; ``physics/forward.py`` is the reference.

Arrays keep zero frequency at index 0 here: measured patterns are shifted once on entry, exit waves never.
Sizes N and numbers of modes P are static, numbers of patterns n and of groups B may be dynamic.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ...physics.forward import BACKGROUND, MODULUS_FLOOR

__all__ = [
    'Optics',
    'amplitude_error',
    'deviance',
    'far_field',
    'label_error',
    'merge_and_cut',
    'mode_intensity',
    'modulus_update',
    'shift_probe',
    'total_variation',
]

PIXELS = (-2, -1)


def as_complex(real: tf.Tensor) -> tf.Tensor:
    """Return real numbers as complex64."""
    return tf.complex(real, tf.zeros_like(real))


def squared_modulus(fields: tf.Tensor) -> tf.Tensor:
    """Return ``|z|²``, whose gradient is finite at zero."""
    return tf.square(tf.math.real(fields)) + tf.square(tf.math.imag(fields))


def shift_probe(probe: tf.Tensor, remainder: tf.Tensor) -> tf.Tensor:
    """Shift probe modes (P, N, N) by sub-pixel remainders (n, 2): (n, P, N, N)."""
    frequency = tf.constant(np.fft.fftfreq(probe.shape[-1]), tf.float32)
    angle = (-2 * np.pi) * remainder[:, :, tf.newaxis] * frequency
    ramp = tf.complex(tf.cos(angle), tf.sin(angle))
    ramp = ramp[:, 0, :, tf.newaxis] * ramp[:, 1, tf.newaxis, :]
    return tf.signal.ifft2d(tf.signal.fft2d(probe) * ramp[:, tf.newaxis])


def mode_intensity(fields: tf.Tensor) -> tf.Tensor:
    """Add incoherent modes: (n, P, N, N) -> (n, N, N)."""
    return tf.reduce_sum(squared_modulus(fields), axis=1)


def far_field(patches: tf.Tensor, probes: tf.Tensor) -> tf.Tensor:
    """Propagate patches (n, N, N) under shifted probes (n, P, N, N), zero frequency at index 0."""
    unitary = tf.constant(1 / probes.shape[-1], tf.complex64)
    return tf.signal.fft2d(probes * (unitary * patches)[:, tf.newaxis])


class Optics(NamedTuple):
    """A known probe and its detector mask on the device."""

    probe: tf.Tensor
    """(P, N, N) complex incoherent modes in the engine's gauge."""
    good: tf.Tensor
    """(N, N) bool, trusted pixels, zero frequency at index 0."""
    brightest: tf.Tensor
    """() largest value of the unshifted illumination."""
    modulus_floor: tf.Tensor
    """() counts per pixel below which a predicted field has no phase."""
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
            modulus_floor=MODULUS_FLOOR * tf.reduce_mean(illumination),
            input_scale=tf.constant(input_scale, tf.float32),
        )


def modulus_update(patches: tf.Tensor, probes: tf.Tensor, amplitude: tf.Tensor, optics: Optics) -> tf.Tensor:
    """Object update of one ePIE step, per pattern (:func:`ptycho_engine.physics.forward.epie_step`)."""
    fields = far_field(patches, probes)
    modulus = tf.sqrt(mode_intensity(fields) + optics.modulus_floor)
    excess = tf.where(optics.good, amplitude / modulus - 1, tf.zeros_like(modulus))
    # The unitary inverse transform has a factor N; it goes with the division by the brightest intensity.
    factor = probes.shape[-1] / optics.brightest
    change = tf.signal.ifft2d(fields * as_complex(factor * excess)[:, tf.newaxis])
    return tf.reduce_sum(tf.math.conj(probes) * change, axis=1)


def merge_and_cut(patches: tf.Tensor, window: tf.Tensor, corner: tf.Tensor) -> tf.Tensor:
    """Merge the C patches of each group and cut them again.

    Parameters
    ----------
    patches : (B, C, N, N) complex
    window : (B, C, N, N) float
        Positive weights.
    corner : (B, C, 2) int
        [row, column] of each patch on the object. The canvas is sized from these.
    """
    size = patches.shape[-1]
    groups = tf.shape(patches)[0]
    start = tf.cast(corner - tf.reduce_min(corner, axis=1, keepdims=True), tf.int32)
    side = tf.reduce_max(start) + size
    canvas = tf.range(groups)[:, tf.newaxis, tf.newaxis] * side
    pixel = tf.range(size)
    rows = (canvas + start[:, :, 0, tf.newaxis] + pixel) * side
    columns = start[:, :, 1, tf.newaxis] + pixel
    index = tf.reshape(rows[..., tf.newaxis] + columns[..., tf.newaxis, :], [-1])

    def merged(values: tf.Tensor) -> tf.Tensor:
        total = tf.math.unsorted_segment_sum(tf.reshape(values, [-1]), index, groups * side * side)
        return tf.reshape(tf.gather(total, index), tf.shape(values))

    weight = merged(window)
    real = merged(tf.math.real(patches) * window)
    imag = merged(tf.math.imag(patches) * window)
    return tf.complex(real / weight, imag / weight)


def deviance(counts: tf.Tensor, rate: tf.Tensor, good: tf.Tensor) -> tf.Tensor:
    """Poisson deviance per good pixel of each pattern (n,)."""
    rate = rate + BACKGROUND
    # k log(k / rate) - (k - rate) cancels badly in float32 where k is near rate; with
    # u = (rate - k) / k it is k (u - log(1 + u)), which in turn is bad where the rate is small.
    k = tf.maximum(counts, BACKGROUND)
    u = (rate - k) / k
    near = k * (u - tf.math.log1p(tf.maximum(u, -0.5)))
    apart = k * tf.math.log(k / rate) - (k - rate)
    term = 2 * tf.where(counts > 0, tf.where(u > -0.5, near, apart), rate)
    mask = tf.cast(good, tf.float32)
    return tf.reduce_sum(term * mask, axis=PIXELS) / tf.reduce_sum(mask)


def amplitude_error(amplitude: tf.Tensor, rate: tf.Tensor, good: tf.Tensor) -> tf.Tensor:
    """Mean absolute error of amplitudes relative to the mean amplitude, of each pattern (n,)."""
    mask = tf.cast(good, tf.float32)
    difference = tf.abs(tf.sqrt(rate + BACKGROUND) - amplitude) * mask
    scale = tf.maximum(tf.reduce_sum(amplitude * mask, axis=PIXELS), BACKGROUND)
    return tf.reduce_sum(difference, axis=PIXELS) / scale


def label_error(patches: tf.Tensor, labels: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """Illumination-weighted squared error against known patches, up to one phase per patch (n,).

    ``min_phi sum w |O e^{i phi} - T|^2 / sum w |T|^2``: a pattern does not fix its patch's phase.
    """
    weighted = as_complex(weight) * tf.math.conj(patches) * labels
    cross = tf.abs(tf.reduce_sum(weighted, axis=PIXELS))
    power = tf.reduce_sum(weight * squared_modulus(patches), axis=PIXELS)
    truth = tf.reduce_sum(weight * squared_modulus(labels), axis=PIXELS)
    return (power + truth - 2 * cross) / truth


def total_variation(patches: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """Illumination-weighted isotropic total variation of complex patches (n,)."""
    dy = patches[:, 1:, :-1] - patches[:, :-1, :-1]
    dx = patches[:, :-1, 1:] - patches[:, :-1, :-1]
    magnitude = tf.sqrt(squared_modulus(dy) + squared_modulus(dx) + 1e-8)
    inner = weight[:, :-1, :-1]
    return tf.reduce_sum(inner * magnitude, axis=PIXELS) / tf.reduce_sum(inner, axis=PIXELS)
