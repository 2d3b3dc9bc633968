"""The learned prior of objects as data: a denoiser of complex images that is told how much noise there is."""

from __future__ import annotations

from .layer import Layer
from .unet import folded_unet

__all__ = ['DENOISER', 'DENOISER_FEATURES', 'LOOKS', 'denoiser_layers']

DENOISER = 'denoiser'
"""Name of the only part of the network."""

DENOISER_FEATURES = ('object_real_minus_1', 'object_imag', 'half_log_deviation')
"""What it sees of each pixel; its output is the noise, real and imaginary, in units of the deviation."""

LOOKS = ('object_real', 'object_imag', 'deviation', 'light')
"""What a batch says of each pixel of an object that the denoiser is to learn from: the object with its noise,
the standard deviation of the noise, and the illumination relative to the brightest pixel of one pattern,
which weighs its error."""

WIDTHS = 40, 64, 96
"""Channels at a half, a quarter and an eighth of the resolution."""
FINE = 8
"""Channels at full resolution."""


def denoiser_layers() -> tuple[Layer, ...]:
    """Return the layers of the denoiser. Its output starts at zero: untrained, it changes nothing."""
    deepest = ('deep_a', 'deep_b', 'deep_c')
    return folded_unet(len(DENOISER_FEATURES), WIDTHS, FINE, deepest=deepest, output='noise')
