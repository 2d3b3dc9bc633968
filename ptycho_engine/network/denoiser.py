"""The learned prior of objects as data: a denoiser of complex images that is told how much noise there is."""

from __future__ import annotations

from .layer import Activation, Layer

__all__ = ['DENOISER', 'DENOISER_FEATURES', 'denoiser_layers']

DENOISER = 'denoiser'
"""Name of the only part of the network."""

DENOISER_FEATURES = ('object_real_minus_1', 'object_imag', 'half_log_deviation')
"""What it sees of each pixel; its output is the noise, real and imaginary, in units of the deviation."""

WIDTHS = 40, 64, 96
"""Channels at a half, a quarter and an eighth of the resolution."""
FINE = 8
"""Channels at full resolution."""


def denoiser_layers() -> tuple[Layer, ...]:
    """A U-Net on pixels folded 2×2, and two layers at full resolution.

    Folding keeps every pixel and makes the convolutions four times cheaper; the last layers see all features
    at full resolution, so that the grid of the folding leaves no trace. The output starts at zero: an
    untrained denoiser changes nothing.
    """
    w1, w2, w3 = WIDTHS
    features = len(DENOISER_FEATURES)

    def conv(name: str, source: str, in_channels: int, out_channels: int, *, last: bool = False) -> Layer:
        activation: Activation = 'none' if last else 'silu'
        return Layer(name, 'conv', (source,), in_channels, out_channels, 3, activation, last)

    return (
        Layer('fold', 'space_to_depth', ('input',), features, 4 * features),
        conv('down1a', 'fold', 4 * features, w1),
        conv('down1b', 'down1a', w1, w1),
        Layer('pool1', 'mean_pool', ('down1b',), w1, w1),
        conv('down2a', 'pool1', w1, w2),
        conv('down2b', 'down2a', w2, w2),
        Layer('pool2', 'mean_pool', ('down2b',), w2, w2),
        conv('deep_a', 'pool2', w2, w3),
        conv('deep_b', 'deep_a', w3, w3),
        conv('deep_c', 'deep_b', w3, w3),
        Layer('rise2', 'upsample', ('deep_c',), w3, w3),
        Layer('join2', 'concat', ('rise2', 'down2b'), w3 + w2, w3 + w2),
        conv('up2', 'join2', w3 + w2, w2),
        Layer('rise1', 'upsample', ('up2',), w2, w2),
        Layer('join1', 'concat', ('rise1', 'down1b'), w2 + w1, w2 + w1),
        conv('up1', 'join1', w2 + w1, 4 * FINE),
        Layer('unfold', 'depth_to_space', ('up1',), 4 * FINE, FINE),
        Layer('detail', 'concat', ('unfold', 'input'), FINE + features, FINE + features),
        conv('fine', 'detail', FINE + features, FINE),
        conv('noise', 'fine', FINE, 2, last=True),
    )
