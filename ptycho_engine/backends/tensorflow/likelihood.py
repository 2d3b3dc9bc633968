"""The likelihood of a whole scan in TensorFlow; ``physics/likelihood.py`` is the reference.

Patterns, probes and waves are the device's. Objects are NumPy's: they are small beside the patterns, and
tensors cannot be changed in place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ...blocks import block_length, blocks
from ...physics.forward import BACKGROUND
from ...physics.likelihood import MISFIT, Jointly, Likelihood, NumpyScanPhysics, ScanPatterns
from . import physics

__all__ = ['TensorFlowScanPhysics']

CACHE_BYTES = 512 << 20
"""Patterns and shifted probes are kept on the device where they need less than this, else made each time."""

BLOCK_DIVISOR = 8
"""On a CPU blocks are smaller than elsewhere: what is touched between two transforms stays in the cache."""

Indices = npt.NDArray[np.int64]


class TensorFlowScanPhysics(NumpyScanPhysics):
    """Gradients of the likelihood of a scan's patterns with respect to one object.

    Parameters
    ----------
    patterns : ScanPatterns
    device : str
        TensorFlow's name of it.
    real : DType
        Precision of the physics.
    """

    def __init__(self, patterns: ScanPatterns, device: str, real: tf.DType) -> None:
        number = physics.complex_type(real).as_numpy_dtype
        self._device = device
        self._real = real
        super().__init__(replace(patterns, probe=patterns.probe.astype(number)))
        size, modes = patterns.size, len(patterns.probe)
        step = block_length(size, modes)
        self._step = max(step if 'GPU' in device else step // BLOCK_DIVISOR, 1)
        fitted = np.tile(self._good.reshape(1, -1), (len(patterns.held_out), 1))
        np.put_along_axis(fitted, patterns.held_out, False, axis=1)
        with tf.device(device):
            self._fitted = tf.constant(fitted.reshape(-1, size, size), real)
            self._held = tf.constant(patterns.held_out, tf.int32)
        self._amplitudes: tf.Tensor | None = None
        self._probes: tf.Tensor | None = None
        if len(patterns) * size**2 * real.size * (1 + 2 * modes) <= CACHE_BYTES:
            parts = [np.arange(part.start, part.stop) for part in self._blocks(len(patterns))]
            with tf.device(device):
                self._amplitudes = tf.concat([self._loaded(part) for part in parts], 0)
                self._probes = tf.concat([self._shifted(part) for part in parts], 0)

    def _fit(self, obj: Any, chosen: Indices) -> Any:
        """Return the Poisson deviance (b,) summed over the held-out pixels of some patterns."""
        return self._run('fit', self._cut(obj, chosen)[None], chosen)[0].numpy()

    def _residuals(self, obj: Any, chosen: Indices) -> npt.NDArray[np.float64]:
        """Return the sums (4, N, N) over some patterns."""
        total = self._run('residuals', self._cut(obj, chosen)[None], chosen)[0]
        return np.asarray(total.numpy(), dtype=np.float64)

    def set_experiment(self, patterns: ScanPatterns) -> None:
        """Take the probe, remainders, intensities and background of `patterns` from now on."""
        probe = patterns.probe.astype(self._patterns.probe.dtype, copy=False)
        patterns = replace(patterns, probe=probe)
        if not self._patterns.lit_as(patterns):
            # Where the experiment moves, no probe is seen twice.
            self._probes = None
        super().set_experiment(patterns)

    def _curved(self, obj: Any, direction: Any, chosen: Indices) -> Any:
        """Return the part (b, N, N) of each of some patterns in :meth:`curvature_along`."""
        patches = np.stack([self._cut(obj, chosen), self._cut(direction, chosen)])
        return self._run('curvature', patches, chosen)[0].numpy()

    def _blocks(self, count: int) -> Iterator[slice]:
        return blocks(count, self._step)

    def _loaded(self, chosen: Indices) -> tf.Tensor:
        """Read amplitudes (b, N, N), zero frequency at index 0."""
        amplitude = np.fft.ifftshift(self._patterns.amplitude(chosen), axes=(-2, -1))
        with tf.device(self._device):
            return tf.constant(amplitude, self._real)

    def _shifted(self, chosen: Indices) -> tf.Tensor:
        patterns = self._patterns
        with tf.device(self._device):
            remainder = tf.constant(patterns.placement.remainder[chosen], self._real)
            shifted = physics.shift_probe(tf.constant(patterns.probe), remainder)
            exposure = tf.constant(patterns.exposure[chosen, None, None, None], self._real)
            return physics.as_complex(exposure) * shifted

    def _updates(self, obj: Any, indices: Indices, likelihood: Likelihood) -> Any:
        """Yield (indices, probes, gradient of each pattern (b, N, N), held-out deviance) block by block."""
        for part in self._blocks(len(indices)):
            chosen = indices[part]
            fit, probes, found = self._run(likelihood, self._cut(obj, chosen)[None], chosen)
            yield chosen, probes.numpy(), found.numpy(), float(fit)

    def _jointly(self, obj: Any, chosen: Indices) -> Jointly:
        """Return what some patterns say about the exit waves and rates."""
        found = self._run('jointly', self._cut(obj, chosen)[None], chosen)
        return Jointly(*(part.numpy() for part in found))

    def _run(self, what: str, patches: Any, chosen: Indices) -> Any:
        """Run the graph of that name on patches (k, b, N, N) of some patterns."""
        patterns = self._patterns
        with tf.device(self._device):
            everyone, few = tf.constant(chosen, tf.int32), tf.range(len(chosen))
            if self._amplitudes is None:
                amplitude, shown = self._loaded(chosen), few
            else:
                amplitude, shown = self._amplitudes, everyone
            if self._probes is None:
                probes, lit = self._shifted(chosen), few
            else:
                probes, lit = self._probes, everyone
            return _graph(what, patterns.size, len(patterns.probe), self._real)(
                tf.constant(patches),
                amplitude,
                probes,
                shown,
                lit,
                tf.constant(chosen % len(patterns.held_out), tf.int32),
                self._held,
                self._fitted,
                tf.constant(self._floor, self._real),
                tf.constant(self._dark_rate, self._real),
            )


@lru_cache(maxsize=32)
def _graph(what: str, size: int, modes: int, real: tf.DType) -> Callable[..., Any]:
    """Return a function of patches and patterns as a graph for any scan and any number of its patterns.

    'fit' returns the held-out deviance of each pattern alone, 'residuals' and 'jointly' what
    :meth:`TensorFlowScanPhysics._residuals` and :meth:`~TensorFlowScanPhysics._jointly` do; 'curvature' takes
    patches of the object and of a direction and returns what is added up (b, N, N); the name of a likelihood
    returns beside the deviance the probes (b, P, N, N) and the gradient of each pattern (b, N, N).
    """
    number = physics.complex_type(real)

    def run(
        patches: tf.Tensor,
        amplitudes: tf.Tensor,
        all_probes: tf.Tensor,
        shown: tf.Tensor,
        lit: tf.Tensor,
        held_set: tf.Tensor,
        held: tf.Tensor,
        fitted: tf.Tensor,
        floor: tf.Tensor,
        dark_rate: tf.Tensor,
    ) -> tuple[tf.Tensor, ...]:
        amplitude, probes = tf.gather(amplitudes, shown), tf.gather(all_probes, lit)
        fields = physics.far_field(patches[0], probes)
        rate = physics.mode_intensity(fields)
        # The unitary inverse transform has a factor N.
        trusted = float(size) * tf.gather(fitted, held_set)
        if what == 'curvature':
            moved = physics.far_field(patches[1], probes)
            product = tf.reduce_sum(tf.math.real(tf.math.conj(fields) * moved), axis=1)
            factor = trusted * product / (rate + dark_rate)
            back = tf.signal.ifft2d(fields * physics.as_complex(factor)[:, tf.newaxis])
            return (tf.reduce_sum(tf.math.conj(probes) * back, axis=1),)
        if what == 'residuals':
            return (_summed_residuals(rate + dark_rate, amplitude, tf.gather(fitted, held_set)),)
        fit = _held_out_deviance(rate + dark_rate, amplitude, tf.gather(held, held_set))
        if what == 'fit':
            return (fit,)
        fit = tf.reduce_sum(fit)
        if what != 'amplitude':
            ratio = tf.square(amplitude) / (rate + dark_rate)
            factor = (1 - tf.minimum(ratio, 2 * tf.sqrt(ratio))) / 2
        else:
            factor = 1 - amplitude / tf.sqrt(rate + (dark_rate - BACKGROUND) + floor)
        factor *= trusted
        change = tf.signal.ifft2d(fields * physics.as_complex(factor)[:, tf.newaxis])
        if what == 'jointly':
            excess, inverse = ((trusted / size) * a for a in (1 - ratio, 1 / (rate + dark_rate)))
            rates = [tf.reduce_sum(a, axis=(1, 2)) for a in (excess * rate, inverse * tf.square(rate))]
            sums = [fit, *(tf.cast(tf.reduce_sum(a), fit.dtype) for a in (excess, inverse))]
            return probes, change, tf.stack(rates), tf.stack(sums)
        return fit, probes, tf.reduce_sum(tf.math.conj(probes) * change, axis=1)

    graph: Callable[..., Any] = tf.function(
        run,
        input_signature=[
            tf.TensorSpec((None, None, size, size), number),
            tf.TensorSpec((None, size, size), real),
            tf.TensorSpec((None, modes, size, size), number),
            *[tf.TensorSpec((None,), tf.int32)] * 3,
            tf.TensorSpec((None, None), tf.int32),
            tf.TensorSpec((None, size, size), real),
            tf.TensorSpec((), real),
            tf.TensorSpec((size, size), real),
        ],
        autograph=False,
    )
    return graph


def _summed_residuals(rate: tf.Tensor, amplitude: tf.Tensor, fitted: tf.Tensor) -> tf.Tensor:
    """Return the sums (4, N, N) over patterns (b, N, N)."""
    counts = tf.square(amplitude)
    misfit = tf.cast(tf.square(counts - rate) > MISFIT**2 * (rate + 1), rate.dtype)
    images = counts, rate, misfit, tf.ones_like(rate)
    return tf.stack([tf.reduce_sum(fitted * a, axis=0) for a in images])


def _held_out_deviance(expected: tf.Tensor, amplitude: tf.Tensor, pixels: tf.Tensor) -> tf.Tensor:
    """Return the Poisson deviance (b,) summed over the held-out pixels (b, h) of each pattern, in float64."""

    def chosen(images: tf.Tensor) -> tf.Tensor:
        flat = tf.gather(tf.reshape(images, [tf.shape(images)[0], -1]), pixels, batch_dims=1)
        return tf.cast(flat, tf.float64)

    k, lam = tf.square(chosen(amplitude)), chosen(expected)
    return 2 * tf.reduce_sum(tf.math.xlogy(k, k / lam) - (k - lam), axis=1)
