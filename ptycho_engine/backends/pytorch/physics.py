"""Forward model, group merge and losses in torch; ``physics/forward.py`` is the reference.

Arrays keep zero frequency at index 0 here: measured patterns are shifted once on entry, exit waves never.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...physics.forward import BACKGROUND, LABEL_LIGHT, LABEL_SOFTNESS

__all__ = [
    'Canvas',
    'Optics',
    'amplitude_error',
    'back_projection',
    'deviance',
    'far_field',
    'label_error',
    'label_weight',
    'lit_part',
    'merge_and_cut',
    'mode_intensity',
    'shift_probe',
    'shift_ramp',
    'total_variation',
]


def shift_probe(probe: Tensor, remainder: Tensor) -> Tensor:
    """Shift modes (P, N, N), or waves (n, P, N, N), by sub-pixel remainders (n, 2): (n, P, N, N)."""
    shifted: Tensor = torch.fft.ifft2(torch.fft.fft2(probe) * shift_ramp(remainder, probe.shape[-1])[:, None])
    return shifted


def shift_ramp(remainder: Tensor, size: int) -> Tensor:
    """Return the factor (n, N, N) of a Fourier transform that shifts by [dy, dx] (n, 2)."""
    frequency = torch.fft.fftfreq(size, device=remainder.device, dtype=remainder.dtype)
    angle = -2 * torch.pi * remainder[:, :, None] * frequency
    ramp = torch.polar(torch.ones_like(angle), angle)
    return ramp[:, 0, :, None] * ramp[:, 1, None, :]


def mode_intensity(fields: Tensor) -> Tensor:
    """Add incoherent modes: (n, P, N, N) -> (n, N, N)."""
    return _over_modes(torch.addcmul(fields.real.square(), fields.imag, fields.imag))


def back_projection(changes: Tensor, probes: Tensor) -> Tensor:
    """Return what changes of the exit waves (n, P, N, N) mean for the object: (n, N, N)."""
    return _over_modes(probes.conj() * changes)


def _over_modes(values: Tensor) -> Tensor:
    """Sum (n, P, N, N) over modes; a single one needs no copy."""
    return values[:, 0] if values.shape[1] == 1 else values.sum(dim=1)


def far_field(patches: Tensor, probes: Tensor) -> Tensor:
    """Propagate patches (n, N, N) under shifted probes (n, P, N, N), zero frequency at index 0."""
    fields: Tensor = torch.fft.fft2(probes * patches[:, None], norm='ortho')
    return fields


@dataclass(frozen=True)
class Optics:
    """A known probe and its detector mask on the device."""

    probe: Tensor
    """(P, N, N) complex incoherent modes in the engine's gauge."""
    good: Tensor
    """(N, N) bool, trusted pixels, zero frequency at index 0."""
    brightest: Tensor
    """() largest value of the unshifted illumination."""
    input_scale: float
    """Factor from measured amplitude to the input of 'cnn'."""

    @classmethod
    def of(cls, probe: Tensor, good: Tensor, input_scale: float) -> Optics:
        """Derive what follows from the probe; `good` has zero frequency in the middle."""
        return cls(
            probe=probe,
            good=torch.fft.ifftshift(good, dim=(-2, -1)),
            brightest=mode_intensity(probe[None]).max(),
            input_scale=input_scale,
        )


class Canvas:
    """The common pixels of the C patches of each of B groups.

    Parameters
    ----------
    corner : (B, C, 2) int
        [row, column] of each patch on the object.
    size : int
        Side N of a patch.
    side : int, optional
        Of the canvas; None for what the widest of these groups needs.
    """

    def __init__(self, corner: Tensor, size: int, side: int | None = None) -> None:
        start = corner - corner.amin(dim=1, keepdim=True)
        self.side = int(start.max()) + size if side is None else side
        self.groups, self.channels = corner.shape[:2]
        self._patches = (self.groups, self.channels, size, size)
        pixel = torch.arange(size, device=corner.device)
        rows = start[..., 0, None] + pixel
        columns = start[..., 1, None] + pixel
        group = torch.arange(self.groups, device=corner.device)[:, None, None, None]
        index = rows[..., :, None] * self.side + columns[..., None, :] + group * self.side**2
        self._index = index.reshape(-1)

    def gather(self, patches: Tensor) -> Tensor:
        """Add patches (B, C, N, N) up where they overlap: (B, side, side)."""
        canvas = patches.new_zeros(self.groups * self.side**2)
        return canvas.index_add(0, self._index, patches.reshape(-1)).reshape(-1, self.side, self.side)

    def cut(self, canvas: Tensor) -> Tensor:
        """Cut patches (B, C, N, N) from a canvas (B, side, side)."""
        return canvas.reshape(-1).index_select(0, self._index).reshape(self._patches)


def merge_and_cut(patches: Tensor, window: Tensor, corner: Tensor) -> Tensor:
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
    weight = canvas.cut(canvas.gather(window))
    return canvas.cut(canvas.gather(patches * window)) / weight


def deviance(counts: Tensor, rate: Tensor, good: Tensor) -> Tensor:
    """Poisson deviance of each pattern (n,) per good pixel; `good` is (N, N) or (n, N, N)."""
    rate = rate + BACKGROUND
    # k log(k / rate) - (k - rate) cancels badly in float32 where k is near rate; with
    # u = (rate - k) / k it is k (u - log(1 + u)), which in turn is bad where the rate is small.
    k = counts.clamp_min(BACKGROUND)
    u = (rate - k) / k
    near = k * (u - torch.log1p(u.clamp_min(-0.5)))
    apart = k * torch.log(k / rate) - (k - rate)
    term = 2 * torch.where(counts > 0, torch.where(u > -0.5, near, apart), rate)
    return (term * good).sum(dim=(-2, -1)) / good.sum(dim=(-2, -1))


def amplitude_error(amplitude: Tensor, rate: Tensor, good: Tensor) -> Tensor:
    """Mean absolute error of amplitudes relative to the mean amplitude, of each pattern (n,)."""
    difference = (torch.sqrt(rate + BACKGROUND) - amplitude).abs() * good
    scale = (amplitude * good).sum(dim=(-2, -1)).clamp_min(BACKGROUND)
    return difference.sum(dim=(-2, -1)) / scale


def label_weight(illumination: Tensor, corner: Tensor, optics: Optics) -> Tensor:
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


def lit_part(relative: Tensor) -> Tensor:
    """Return the weights (B, H, W) of labels on canvases, for the illumination relative to the brightest.

    1, but less where there is less light than ``LABEL_LIGHT``.
    """
    return relative / (relative + LABEL_LIGHT)


def label_error(patches: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """Error against known patches and of its differences between neighbours, up to one phase (B,).

    ``Σ w (|d| + |∂_y d| + |∂_x d|) / Σ w |T|`` with ``d = O e^{iφ} − T`` over all patches (B, C, N, N) of a
    group that shares its phase, φ that of ``Σ w conj(O) T``: patterns do not fix it.
    """
    cross = (weight * patches.conj() * labels).sum(dim=(1, 2, 3), keepdim=True)
    difference = patches * (cross / cross.abs().clamp_min(1e-12)) - labels
    total = (weight * _soft_modulus(difference)).sum(dim=(1, 2, 3))
    for axis in (2, 3):
        length = difference.shape[axis] - 1
        slope = difference.narrow(axis, 1, length) - difference.narrow(axis, 0, length)
        total = total + (weight.narrow(axis, 1, length) * _soft_modulus(slope)).sum(dim=(1, 2, 3))
    return total / (weight * labels.abs()).sum(dim=(1, 2, 3))


def _soft_modulus(values: Tensor) -> Tensor:
    return torch.sqrt(values.real.square() + values.imag.square() + LABEL_SOFTNESS**2)


def total_variation(patches: Tensor, weight: Tensor) -> Tensor:
    """Illumination-weighted isotropic total variation of complex patches (n,)."""
    dy = patches[:, 1:, :-1] - patches[:, :-1, :-1]
    dx = patches[:, :-1, 1:] - patches[:, :-1, :-1]
    magnitude = torch.sqrt(dy.abs().square() + dx.abs().square() + 1e-8)
    inner = weight[:, :-1, :-1]
    return (inner * magnitude).sum(dim=(-2, -1)) / inner.sum(dim=(-2, -1))
