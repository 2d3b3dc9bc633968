"""The table of array operations that the physics is written over, and its filling by NumPy.

Functions of the physics take a table first and arrays of its library after it. Beside what is in the table
they use operators, slices and ``.shape`` alone. The backends fill it for PyTorch and TensorFlow in their own
``operations.py``, with functions that the framework can differentiate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, Self, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from scipy import fft
from scipy.special import xlogy

__all__ = ['NUMPY', 'A', 'Array', 'NumpyArray', 'Operations']

Axes: TypeAlias = int | tuple[int, ...]


class Array(Protocol):
    """What the physics does with arrays of any library without a table."""

    @property
    def shape(self) -> Any:
        """Lengths of the axes; TensorFlow may not know those of patterns and groups."""

    def __add__(self, other: Any, /) -> Self: ...
    def __radd__(self, other: Any, /) -> Self: ...
    def __sub__(self, other: Any, /) -> Self: ...
    def __rsub__(self, other: Any, /) -> Self: ...
    def __mul__(self, other: Any, /) -> Self: ...
    def __rmul__(self, other: Any, /) -> Self: ...
    def __truediv__(self, other: Any, /) -> Self: ...
    def __rtruediv__(self, other: Any, /) -> Self: ...
    def __matmul__(self, other: Any, /) -> Self: ...
    def __neg__(self) -> Self: ...
    def __gt__(self, other: Any, /) -> Self: ...
    def __getitem__(self, key: Any, /) -> Self: ...


A = TypeVar('A', bound=Array)


@dataclass(frozen=True)
class Operations(Generic[A]):
    """One library's functions of arrays. None of them changes its arguments."""

    fft2: Callable[[A], A]
    """Unitary Fourier transform of the last two axes."""
    ifft2: Callable[[A], A]
    """Its inverse."""
    to_middle: Callable[[A], A]
    """Move index 0 of the last two axes to N//2."""
    to_corner: Callable[[A], A]
    """Undo :attr:`to_middle`."""
    frequencies: Callable[[int, A], A]
    """Frequencies (N,) of a Fourier transform in cycles per pixel, of the type of a real array."""
    complex: Callable[[A, A], A]
    """Complex numbers of their real and imaginary parts."""
    real: Callable[[A], A]
    imag: Callable[[A], A]
    conj: Callable[[A], A]
    scaled: Callable[[A, A], A]
    """Complex numbers times real ones."""
    abs2: Callable[[A], A]
    """Squared modulus, whose gradient is finite at zero."""
    real_product: Callable[[A, A], A]
    """``Re(conj(a) b)`` of complex numbers."""
    abs: Callable[[A], A]
    sqrt: Callable[[A], A]
    rsqrt: Callable[[A], A]
    """Reciprocal root."""
    exp: Callable[[A], A]
    log: Callable[[A], A]
    log1p: Callable[[A], A]
    cos: Callable[[A], A]
    sin: Callable[[A], A]
    tanh: Callable[[A], A]
    xlogy: Callable[[A, A], A]
    """``x log y``, 0 where x is 0."""
    least: Callable[[A, float], A]
    """The values, or a number where they are smaller."""
    most: Callable[[A, float], A]
    """The values, or a number where they are larger."""
    where: Callable[[A, A, A], A]
    both: Callable[[A, A], A]
    """Logical and."""
    sum: Callable[[A, Axes], A]
    """Sums along axes."""
    mean: Callable[[A], A]
    """() mean of all values."""
    largest: Callable[[A], A]
    """() largest of all values."""
    cast: Callable[[A, A], A]
    """Real or logical values in the type of another array."""
    wide: Callable[[A], A]
    """Real values in the widest type of the device."""
    length: Callable[[A], Any]
    """Entries along the first axis, as shapes take it."""
    arange: Callable[[Any, A], A]
    """Whole numbers from 0 to below a count, beside an index array."""
    stack: Callable[[list[A], int], A]
    """Arrays along a new axis."""
    reshape: Callable[[A, tuple[Any, ...]], A]
    transpose: Callable[[A], A]
    """(m, n) with its axes exchanged."""
    take: Callable[[A, Any], A]
    """The entries of the first axis that an index array, or a slice, names."""
    pick: Callable[[A, A], A]
    """(b, h) values of images (b, M, N) at flat indices (b, h)."""
    gather: Callable[[A, A], A]
    """Values of a flat array at indices."""
    scatter_add: Callable[[A, A, Any], A]
    """A flat array of some length that holds at each index the sum of the values for it."""
    detached: Callable[[A], A]
    """The values, through which no gradient flows."""


NumpyArray: TypeAlias = npt.NDArray[Any]


def _pick(images: NumpyArray, pixels: NumpyArray) -> NumpyArray:
    return np.take_along_axis(images.reshape(len(images), -1), pixels, axis=1)


def _scatter_add(values: NumpyArray, index: NumpyArray, length: int) -> NumpyArray:
    total = np.zeros(length, values.dtype)
    np.add.at(total, index, values)
    return total


NUMPY: Operations[NumpyArray] = Operations(
    fft2=lambda z: fft.fft2(z, norm='ortho'),
    ifft2=lambda z: fft.ifft2(z, norm='ortho'),
    to_middle=lambda a: fft.fftshift(a, axes=(-2, -1)),
    to_corner=lambda a: fft.ifftshift(a, axes=(-2, -1)),
    frequencies=lambda size, like: np.fft.fftfreq(size).astype(like.dtype),
    complex=lambda real, imag: np.asarray(real + 1j * imag),
    real=np.real,
    imag=np.imag,
    conj=np.conj,
    scaled=lambda z, factor: z * factor,
    abs2=lambda z: np.asarray(np.square(z.real) + np.square(z.imag)),
    real_product=lambda a, b: np.asarray(a.real * b.real + a.imag * b.imag),
    abs=np.abs,
    sqrt=np.sqrt,
    rsqrt=lambda a: 1 / np.sqrt(a),
    exp=np.exp,
    log=np.log,
    log1p=np.log1p,
    cos=np.cos,
    sin=np.sin,
    tanh=np.tanh,
    xlogy=xlogy,
    least=np.maximum,
    most=np.minimum,
    where=np.where,
    both=np.logical_and,
    sum=lambda a, axes: np.asarray(a.sum(axis=axes)),
    mean=lambda a: np.asarray(a.mean()),
    largest=lambda a: np.asarray(a.max()),
    cast=lambda a, like: a.astype(like.dtype),
    wide=lambda a: a.astype(np.float64),
    length=len,
    arange=lambda count, like: np.arange(count),
    stack=np.stack,
    reshape=np.reshape,
    transpose=np.transpose,
    take=lambda a, where: a[where],
    pick=_pick,
    gather=lambda a, index: a[index],
    scatter_add=_scatter_add,
    detached=lambda a: a,
)
