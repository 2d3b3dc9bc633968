"""Forward model, group merge and losses in torch; ``physics/forward.py`` is the reference.

Arrays keep zero frequency at index 0 here: measured patterns are shifted once on entry, exit waves never.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

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


def shift_probe(probe: Tensor, remainder: Tensor) -> Tensor:
    """Shift probe modes (P, N, N) by sub-pixel remainders (n, 2): (n, P, N, N)."""
    size = probe.shape[-1]
    frequency = torch.fft.fftfreq(size, device=probe.device, dtype=torch.float32)
    angle = -2 * torch.pi * remainder[:, :, None] * frequency
    ramp = torch.polar(torch.ones_like(angle), angle)
    spectrum = torch.fft.fft2(probe)
    shifted: Tensor = torch.fft.ifft2(spectrum * (ramp[:, 0, :, None] * ramp[:, 1, None, :])[:, None])
    return shifted


def mode_intensity(fields: Tensor) -> Tensor:
    """Add incoherent modes: (n, P, N, N) -> (n, N, N)."""
    return (fields.real.square() + fields.imag.square()).sum(dim=1)


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
    modulus_floor: Tensor
    """() counts per pixel below which a predicted field has no phase."""
    input_scale: float
    """Factor from measured amplitude to the input of 'cnn'."""

    @classmethod
    def of(cls, probe: Tensor, good: Tensor, input_scale: float) -> Optics:
        """Derive what follows from the probe; `good` has zero frequency in the middle."""
        illumination = mode_intensity(probe[None])
        return cls(
            probe=probe,
            good=torch.fft.ifftshift(good, dim=(-2, -1)),
            brightest=illumination.max(),
            modulus_floor=MODULUS_FLOOR * illumination.mean(),
            input_scale=input_scale,
        )


def modulus_update(patches: Tensor, probes: Tensor, amplitude: Tensor, optics: Optics) -> Tensor:
    """Object update of one ePIE step, per pattern (:func:`ptycho_engine.physics.forward.epie_step`)."""
    fields = far_field(patches, probes)
    modulus = torch.sqrt(mode_intensity(fields) + optics.modulus_floor)
    excess = torch.where(optics.good, amplitude / modulus - 1, torch.zeros_like(modulus))
    change = torch.fft.ifft2(fields * excess[:, None], norm='ortho')
    update: Tensor = (probes.conj() * change).sum(dim=1) / optics.brightest
    return update


def merge_and_cut(patches: Tensor, window: Tensor, corner: Tensor) -> Tensor:
    """Merge the C patches of each group and cut them again.

    Parameters
    ----------
    patches : (B, C, N, N) complex
    window : (B, C, N, N) float
        Positive weights.
    corner : (B, C, 2) int
        [row, column] of each patch on the object. The canvas is sized from these.
    """
    groups, channels, size, _ = patches.shape
    start = corner - corner.amin(dim=1, keepdim=True)
    side = int(start.max()) + size
    pixel = torch.arange(size, device=patches.device)
    rows = start[..., 0, None] + pixel
    columns = start[..., 1, None] + pixel
    index = (rows[..., :, None] * side + columns[..., None, :]).reshape(groups, -1)
    stacked = torch.stack([patches.real * window, patches.imag * window, window], dim=1)
    index3 = index[:, None].expand(-1, 3, -1)
    canvas = stacked.new_zeros(groups, 3, side * side)
    canvas = canvas.scatter_add(2, index3, stacked.reshape(groups, 3, -1))
    cut = canvas.gather(2, index3).reshape(groups, 3, channels, size, size)
    return torch.complex(cut[:, 0] / cut[:, 2], cut[:, 1] / cut[:, 2])


def deviance(counts: Tensor, rate: Tensor, good: Tensor) -> Tensor:
    """Poisson deviance per good pixel of each pattern (n,)."""
    rate = rate + BACKGROUND
    # k log(k / rate) - (k - rate) cancels badly in float32 where k is near rate; with
    # u = (rate - k) / k it is k (u - log(1 + u)), which in turn is bad where the rate is small.
    k = counts.clamp_min(BACKGROUND)
    u = (rate - k) / k
    near = k * (u - torch.log1p(u.clamp_min(-0.5)))
    apart = k * torch.log(k / rate) - (k - rate)
    term = 2 * torch.where(counts > 0, torch.where(u > -0.5, near, apart), rate)
    return (term * good).sum(dim=(-2, -1)) / good.sum()


def amplitude_error(amplitude: Tensor, rate: Tensor, good: Tensor) -> Tensor:
    """Mean absolute error of amplitudes relative to the mean amplitude, of each pattern (n,)."""
    difference = (torch.sqrt(rate + BACKGROUND) - amplitude).abs() * good
    scale = (amplitude * good).sum(dim=(-2, -1)).clamp_min(BACKGROUND)
    return difference.sum(dim=(-2, -1)) / scale


def label_error(patches: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """Illumination-weighted squared error against known patches, up to one phase per patch (n,).

    ``min_phi sum w |O e^{i phi} - T|^2 / sum w |T|^2``: a pattern does not fix its patch's phase.
    """
    cross = (weight * patches.conj() * labels).sum(dim=(-2, -1)).abs()
    power = (weight * patches.abs().square()).sum(dim=(-2, -1))
    truth = (weight * labels.abs().square()).sum(dim=(-2, -1))
    return (power + truth - 2 * cross) / truth


def total_variation(patches: Tensor, weight: Tensor) -> Tensor:
    """Illumination-weighted isotropic total variation of complex patches (n,)."""
    dy = patches[:, 1:, :-1] - patches[:, :-1, :-1]
    dx = patches[:, :-1, 1:] - patches[:, :-1, :-1]
    magnitude = torch.sqrt(dy.abs().square() + dx.abs().square() + 1e-8)
    inner = weight[:, :-1, :-1]
    return (inner * magnitude).sum(dim=(-2, -1)) / inner.sum(dim=(-2, -1))
