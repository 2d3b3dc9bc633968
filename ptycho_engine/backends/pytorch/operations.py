"""The operations of the physics in torch, and a torch device for the likelihood of a scan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...physics.likelihood import IntArray
from ...physics.operations import Operations

__all__ = ['TORCH', 'TorchDevice', 'to_tensor', 'widest']

P = ParamSpec('P')
R = TypeVar('R')

PIXELS = (-2, -1)


def widest(device: torch.device) -> torch.dtype:
    """Return the dtype of sums over a scan: float64, which Apple GPUs do not have."""
    return torch.float32 if device.type == 'mps' else torch.float64


def _abs2(values: Tensor) -> Tensor:
    return torch.addcmul(values.real.square(), values.imag, values.imag)


def _real_product(a: Tensor, b: Tensor) -> Tensor:
    return torch.addcmul(a.real * b.real, a.imag, b.imag)


def _sum(values: Tensor, axes: int | tuple[int, ...]) -> Tensor:
    # One mode alone needs no copy.
    if isinstance(axes, int) and values.shape[axes] == 1:
        return values.select(axes, 0)
    return values.sum(dim=axes)


def _take(values: Tensor, where: Tensor | slice) -> Tensor:
    if isinstance(where, Tensor) and where.ndim == 1:
        # Several times faster than an index.
        return values.index_select(0, where)
    return values[where]


def _pick(images: Tensor, pixels: Tensor) -> Tensor:
    return images.reshape(len(images), -1).gather(1, pixels)


TORCH: Operations[Tensor] = Operations(
    fft2=lambda z: torch.fft.fft2(z, norm='ortho'),
    ifft2=lambda z: torch.fft.ifft2(z, norm='ortho'),
    to_middle=lambda a: torch.fft.fftshift(a, dim=PIXELS),
    to_corner=lambda a: torch.fft.ifftshift(a, dim=PIXELS),
    frequencies=lambda size, like: torch.fft.fftfreq(size, device=like.device, dtype=like.dtype),
    complex=torch.complex,
    real=torch.real,
    imag=torch.imag,
    conj=torch.conj,
    scaled=torch.mul,
    abs2=_abs2,
    real_product=_real_product,
    abs=torch.abs,
    sqrt=torch.sqrt,
    rsqrt=torch.rsqrt,
    exp=torch.exp,
    log=torch.log,
    log1p=torch.log1p,
    cos=torch.cos,
    sin=torch.sin,
    tanh=torch.tanh,
    xlogy=torch.special.xlogy,
    least=torch.clamp_min,
    most=torch.clamp_max,
    where=torch.where,
    both=torch.logical_and,
    sum=_sum,
    mean=torch.mean,
    largest=torch.max,
    cast=lambda a, like: a.to(like.dtype),
    wide=lambda a: a.to(widest(a.device)),
    length=len,
    arange=lambda count, like: torch.arange(count, device=like.device),
    stack=torch.stack,
    reshape=torch.reshape,
    transpose=torch.t,
    take=_take,
    pick=_pick,
    gather=lambda a, index: a.index_select(0, index),
    scatter_add=lambda a, index, length: a.new_zeros(length).index_add(0, index, a),
    detached=lambda a: a.detach(),
)


def to_tensor(array: npt.NDArray[Any]) -> Tensor:
    """Return a tensor of the array's shape and type on the CPU; the two share memory where they can."""
    return torch.from_numpy(array if array.flags.writeable else array.copy())


class TorchDevice:
    """A device of torch, on which objects are too.

    Parameters
    ----------
    device : torch.device
    real : torch.dtype
        Precision of the physics.
    """

    ops = TORCH

    def __init__(self, device: torch.device, real: torch.dtype) -> None:
        self._device, self._real = device, real
        self.real = np.dtype(np.float64 if real == torch.float64 else np.float32)
        self._complex = np.result_type(self.real, np.complex64)
        self._window: tuple[tuple[int, int], Tensor] | None = None
        self.block_divisor = 4 if device.type == 'cpu' else 1

    def send(self, values: npt.NDArray[Any]) -> Tensor:
        """Return a tensor on the device, that may share the memory of the array."""
        kinds = {'c': self._complex, 'f': self.real}
        return to_tensor(np.asarray(values, kinds.get(values.dtype.kind))).to(self._device)

    def fetch(self, array: Tensor) -> npt.NDArray[Any]:
        """Return a tensor to NumPy."""
        return array.cpu().numpy()

    def selection(self, chosen: IntArray | slice) -> Tensor | slice:
        """Return indices (b,); a slice needs no copy."""
        return chosen if isinstance(chosen, slice) else self.send(chosen)

    def count(self, value: int) -> int:
        """Return a length of an axis."""
        return value

    def joined(self, parts: list[Tensor]) -> Tensor:
        """Return tensors end to end."""
        return torch.cat(parts)

    def run(
        self, function: Callable[Concatenate[Operations[Tensor], P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Return the function of the table and tensors."""
        return function(TORCH, *args, **kwargs)

    def new_object(self, values: npt.NDArray[Any]) -> Tensor:
        """Return a copy of an object on the device."""
        return torch.tensor(values, dtype=self._real.to_complex(), device=self._device)

    def host_object(self, obj: Tensor) -> npt.NDArray[Any]:
        """Return a copy for NumPy."""
        return np.array(obj.cpu().numpy())

    def zeros(self, obj: Tensor, *, real: bool) -> Tensor:
        """Return zeros of the shape of an object (H, W)."""
        return torch.zeros_like(obj.real if real else obj)

    def place(self, corner: IntArray) -> Tensor:
        """Return corners (b, 2) on the device."""
        return self.send(corner)

    def cut(self, obj: Tensor, place: Tensor, size: int) -> Tensor:
        """Cut patches (b, N, N) at corners (b, 2)."""
        windows = obj.unfold(0, size, 1).unfold(1, size, 1)
        patches: Tensor = windows[place[:, 0], place[:, 1]]
        return patches

    def add(self, place: Tensor, *pairs: tuple[Tensor, Tensor]) -> None:
        """Add to each object (H, W) its patches (b, N, N) at corners (b, 2), in place."""
        width, size = pairs[0][0].shape[1], pairs[0][1].shape[-1]
        if self._window is None or self._window[0] != (width, size):
            pixel = torch.arange(size, device=self._device)
            self._window = (width, size), pixel[:, None] * width + pixel
        first = place[:, 0] * width + place[:, 1]
        where = (first[:, None, None] + self._window[1]).reshape(-1)
        for canvas, patches in pairs:
            canvas.view(-1).index_add_(0, where, patches.reshape(-1))

    def filtered(self, values: Tensor, gain: Tensor) -> Tensor:
        """Return real values (H, W) whose Fourier transform was multiplied by `gain` (H, W)."""
        # Half of the frequencies hold all of a real image; a gain is the same at the others.
        half = torch.fft.rfft2(values) * gain[:, : values.shape[1] // 2 + 1]
        result: Tensor = torch.fft.irfft2(half, s=values.shape)
        return result
