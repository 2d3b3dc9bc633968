"""The operations of the physics in TensorFlow, and a device for the likelihood of a scan.

Patterns, probes and waves are the device's. Objects are NumPy's, for tensors cannot be changed in place.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ...physics.devices import HostObjects
from ...physics.likelihood import IntArray
from ...physics.operations import NumpyArray, Operations

__all__ = [
    'TENSORFLOW',
    'TensorFlowDevice',
    'compiled',
    'first_axis_open',
    'given',
    'make_graph',
    'to_tensor',
]

P = ParamSpec('P')
R = TypeVar('R')

PIXELS = (-2, -1)


def _as_complex(real: tf.Tensor) -> tf.Tensor:
    return tf.complex(real, tf.zeros_like(real))


def _in_parts(function: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
    """Let a function of real values work on complex ones, part by part."""

    def of_either(values: tf.Tensor, *arguments: tf.Tensor) -> tf.Tensor:
        if not values.dtype.is_complex:
            return function(values, *arguments)
        real, imag = (function(part(values), *arguments) for part in (tf.math.real, tf.math.imag))
        return tf.complex(real, imag)

    return of_either


def _pick(images: tf.Tensor, pixels: tf.Tensor) -> tf.Tensor:
    return tf.gather(tf.reshape(images, [tf.shape(images)[0], -1]), pixels, batch_dims=1)


# Numbers of patterns may be dynamic, sides N and numbers of modes are static.
TENSORFLOW: Operations[Any] = Operations(
    # Unitary; its own transforms have a factor of 1 / N² in the inverse alone.
    fft2=lambda z: tf.signal.fft2d(z * (1 / z.shape[-1])),
    ifft2=lambda z: tf.signal.ifft2d(z * z.shape[-1]),
    to_middle=lambda a: tf.signal.fftshift(a, axes=PIXELS),
    to_corner=lambda a: tf.signal.ifftshift(a, axes=PIXELS),
    frequencies=lambda size, like: tf.constant(np.fft.fftfreq(size), like.dtype),
    complex=tf.complex,
    real=tf.math.real,
    imag=tf.math.imag,
    conj=tf.math.conj,
    scaled=lambda z, factor: z * _as_complex(factor),
    abs2=lambda z: tf.square(tf.math.real(z)) + tf.square(tf.math.imag(z)),
    real_product=lambda a, b: tf.math.real(tf.math.conj(a) * b),
    abs=tf.abs,
    sqrt=tf.sqrt,
    rsqrt=tf.math.rsqrt,
    exp=tf.exp,
    log=tf.math.log,
    log1p=tf.math.log1p,
    cos=tf.cos,
    sin=tf.sin,
    tanh=tf.tanh,
    xlogy=tf.math.xlogy,
    least=tf.maximum,
    most=tf.minimum,
    where=tf.where,
    both=tf.logical_and,
    sum=lambda a, axes: tf.reduce_sum(a, axis=axes),
    mean=tf.reduce_mean,
    largest=tf.reduce_max,
    cast=lambda a, like: tf.cast(a, like.dtype),
    wide=lambda a: tf.cast(a, tf.float64),
    length=lambda a: tf.shape(a)[0],
    arange=lambda count, like: tf.range(count, dtype=like.dtype),
    stack=tf.stack,
    reshape=tf.reshape,
    transpose=tf.transpose,
    take=tf.gather,
    pick=_pick,
    gather=_in_parts(tf.gather),
    scatter_add=_in_parts(tf.math.unsorted_segment_sum),
    detached=tf.stop_gradient,
)


def to_tensor(array: npt.NDArray[Any]) -> Any:
    """Return a tensor of the array's shape and type."""
    return tf.convert_to_tensor(array)


class TensorFlowDevice(HostObjects):
    """A device of TensorFlow; objects stay in NumPy.

    Parameters
    ----------
    device : str
        TensorFlow's name of it.
    real : DType
        Precision of the physics.
    """

    ops = TENSORFLOW

    def __init__(self, device: str, real: tf.DType) -> None:
        self._device = device
        self.real = np.dtype(real.as_numpy_dtype)
        self.block_divisor = 1 if 'GPU' in device else 8

    def send(self, values: npt.NDArray[Any]) -> tf.Tensor:
        """Return a tensor on the device."""
        kinds = {'c': np.result_type(self.real, np.complex64), 'f': self.real, 'i': np.dtype(np.int32)}
        with tf.device(self._device):
            return tf.constant(np.asarray(values, kinds.get(values.dtype.kind)))

    def fetch(self, array: tf.Tensor) -> npt.NDArray[Any]:
        """Return a tensor to NumPy."""
        return np.asarray(array.numpy())

    def selection(self, chosen: IntArray | slice) -> tf.Tensor:
        """Return indices (b,)."""
        return self.send(np.arange(chosen.start, chosen.stop) if isinstance(chosen, slice) else chosen)

    def count(self, value: int) -> tf.Tensor:
        """Return a length of an axis, which graphs do not depend on."""
        return self.send(np.array(value))

    def joined(self, parts: list[tf.Tensor]) -> tf.Tensor:
        """Return tensors end to end."""
        with tf.device(self._device):
            return tf.concat(parts, 0)

    def run(
        self, function: Callable[Concatenate[Operations[Any], P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Return the function of the table and tensors, compiled for any number of patterns."""
        with tf.device(self._device):
            result: R = compiled(function, args, kwargs)
        return result

    def cut(self, obj: NumpyArray, place: IntArray, size: int) -> tf.Tensor:
        """Cut patches (b, N, N) at corners (b, 2)."""
        return self.send(self.cut_on_host(obj, place, size))


def compiled(function: Callable[..., Any], arguments: tuple[Any, ...], words: dict[str, Any]) -> Any:
    """Return a function of the table, of nested tensors and of words, run as a graph.

    One graph serves any length of the first axes, whatever scan the tensors are of.
    """
    specs = tf.nest.map_structure(first_axis_open, arguments)
    return _kept_graph(function, specs, tuple(sorted(words.items())))(*given(arguments))


def given(arguments: Any) -> list[tf.Tensor]:
    """Return the tensors among nested arguments, as graphs of :func:`make_graph` take them."""
    return [leaf for leaf in tf.nest.flatten(arguments) if leaf is not None]


def first_axis_open(leaf: tf.Tensor | None) -> tf.TensorSpec | None:
    """Return the TensorSpec of a tensor with its first axis left open; both axes of a table of indices."""
    if leaf is None or leaf.shape.rank == 0:
        return leaf if leaf is None else tf.TensorSpec((), leaf.dtype)
    table = leaf.dtype.is_integer and leaf.shape.rank == 2
    return tf.TensorSpec((None, None) if table else (None, *leaf.shape[1:]), leaf.dtype)


def make_graph(
    function: Callable[..., Any], specs: Any, words: tuple[tuple[str, Any], ...] = ()
) -> Callable[..., Any]:
    """Return a function of the table and of tensors of those kinds as a graph; None is passed on as it is."""
    leaves = tf.nest.flatten(specs)

    def run(*tensors: tf.Tensor) -> Any:
        remaining = iter(tensors)
        whole = [None if leaf is None else next(remaining) for leaf in leaves]
        return function(TENSORFLOW, *tf.nest.pack_sequence_as(specs, whole), **dict(words))

    graph: Callable[..., Any] = tf.function(run, input_signature=given(specs), autograph=False)
    # Traced here: graphs of different functions that were traced when called would pass for one that is
    # traced again and again, of which TensorFlow warns.
    graph.get_concrete_function()  # type: ignore[attr-defined]
    return graph


_kept_graph = lru_cache(maxsize=64)(make_graph)
