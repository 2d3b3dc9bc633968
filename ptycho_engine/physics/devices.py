"""Where the arrays of a scan are and how they get there; NumPy is one such place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from scipy import fft

from .likelihood import IntArray
from .operations import NUMPY, A, Array, NumpyArray, Operations

__all__ = ['Device', 'HostObjects', 'NumpyDevice', 'Obj']

Obj = TypeVar('Obj', bound=Array)
P = ParamSpec('P')
R = TypeVar('R')


class Device(Protocol[A, Obj]):
    """Where arrays A of patterns and arrays Obj of objects are, and how they get there."""

    ops: Operations[A]
    real: np.dtype[Any]
    """Precision of the physics."""
    block_divisor: int
    """Blocks are so many times smaller than elsewhere: what is touched between two transforms stays in the
    cache of a CPU."""

    def send(self, values: npt.NDArray[Any]) -> A:
        """Return an array on the device: numbers in the device's precision, and whole ones as indices."""

    def fetch(self, array: A) -> npt.NDArray[Any]:
        """Return an array of the device to NumPy."""

    def selection(self, chosen: IntArray | slice) -> Any:
        """Return indices (b,) as ``take`` reads them fastest."""

    def count(self, value: int) -> Any:
        """Return the length of an axis as functions of the table take it."""

    def joined(self, parts: list[A]) -> A:
        """Return arrays end to end."""

    def run(
        self, function: Callable[Concatenate[Operations[A], P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Return the function of the table and arrays; words and flags go by name."""

    def new_object(self, values: npt.NDArray[Any]) -> Obj:
        """Return a copy of an object."""

    def host_object(self, obj: Obj) -> npt.NDArray[Any]:
        """Return a copy for NumPy."""

    def zeros(self, obj: Obj, *, real: bool) -> Obj:
        """Return zeros of the shape of an object (H, W)."""

    def place(self, corner: IntArray) -> Any:
        """Return corners (b, 2) where objects are."""

    def cut(self, obj: Obj, place: Any, size: int) -> A:
        """Cut patches (b, N, N) at corners (b, 2) of :meth:`place`."""

    def add(self, place: Any, *pairs: tuple[Obj, A]) -> None:
        """Add to each object (H, W) its patches (b, N, N) at corners (b, 2) of :meth:`place`, in place."""

    def filtered(self, values: Obj, gain: Obj) -> Obj:
        """Return real values (H, W) whose Fourier transform was multiplied by `gain` (H, W)."""


class HostObjects:
    """Objects of NumPy, for devices whose own arrays cannot be changed in place, or are NumPy's.

    They are small beside the patterns.
    """

    real: np.dtype[Any]

    def new_object(self, values: npt.NDArray[Any]) -> NumpyArray:
        """Return a copy of an object."""
        return np.array(values, np.result_type(self.real, np.complex64))

    def host_object(self, obj: NumpyArray) -> npt.NDArray[Any]:
        """Return a copy."""
        return np.array(obj)

    def zeros(self, obj: NumpyArray, *, real: bool) -> NumpyArray:
        """Return zeros of the shape of an object (H, W)."""
        return np.zeros(obj.shape, obj.real.dtype if real else obj.dtype)

    def place(self, corner: IntArray) -> IntArray:
        """Return corners (b, 2)."""
        return corner

    def cut_on_host(self, obj: NumpyArray, place: IntArray, size: int) -> NumpyArray:
        """Cut patches (b, N, N) at corners (b, 2)."""
        windows = np.lib.stride_tricks.sliding_window_view(obj, (size, size))
        return np.asarray(windows[place[:, 0], place[:, 1]])

    def add(self, place: IntArray, *pairs: tuple[NumpyArray, Any]) -> None:
        """Add to each object (H, W) its patches (b, N, N) at corners (b, 2), in place."""
        for canvas, patches in pairs:
            values = np.asarray(patches)
            size = values.shape[-1]
            for patch, (row, column) in zip(values, place, strict=True):
                canvas[row : row + size, column : column + size] += patch

    def filtered(self, values: NumpyArray, gain: NumpyArray) -> NumpyArray:
        """Return real values (H, W) whose Fourier transform was multiplied by `gain` (H, W)."""
        return np.asarray(fft.ifft2(fft.fft2(values) * gain).real)


class NumpyDevice(HostObjects):
    """NumPy on the host, for small work and for hosts without a framework.

    Parameters
    ----------
    real : dtype
        float32 or float64.
    """

    ops = NUMPY
    block_divisor = 4

    def __init__(self, real: npt.DTypeLike) -> None:
        self.real = np.dtype(real)

    def send(self, values: npt.NDArray[Any]) -> NumpyArray:
        """Return an array in the precision of the physics."""
        kinds = {'c': np.result_type(self.real, np.complex64), 'f': self.real}
        return np.asarray(values, kinds.get(values.dtype.kind))

    def fetch(self, array: NumpyArray) -> npt.NDArray[Any]:
        """Return the array itself, which is in memory already."""
        return array

    def selection(self, chosen: IntArray | slice) -> IntArray | slice:
        """Return the indices of patterns as they are: NumPy takes them so."""
        return chosen

    def count(self, value: int) -> int:
        """Return the length of an axis."""
        return value

    def joined(self, parts: list[NumpyArray]) -> NumpyArray:
        """Return arrays end to end."""
        return np.concatenate(parts)

    def run(
        self, function: Callable[Concatenate[Operations[NumpyArray], P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Return the function of the table and arrays."""
        return function(NUMPY, *args, **kwargs)

    def cut(self, obj: NumpyArray, place: IntArray, size: int) -> NumpyArray:
        """Cut patches (b, N, N) at corners (b, 2)."""
        return self.cut_on_host(obj, place, size)
