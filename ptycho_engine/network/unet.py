"""A small U-Net on images whose pixels are folded into channels."""

from __future__ import annotations

from .layer import Activation, Layer

__all__ = ['folded_unet']


def folded_unet(
    features: int, widths: tuple[int, int, int], fine: int, *, deepest: tuple[str, ...], output: str
) -> tuple[Layer, ...]:
    """Return the layers of a small U-Net on a grid of half the resolution, and two at full resolution.

    Pixels are folded into channels at its door, which keeps every pixel and makes the convolutions four
    times cheaper. The last layers see all features at full resolution, so that the grid of the folding
    leaves no trace.

    Parameters
    ----------
    features : int
        Channels of the input.
    widths : (int, int, int)
        Channels at a half, a quarter and an eighth of the resolution.
    fine : int
        Channels at full resolution.
    deepest : tuple of str
        Names of the convolutions at an eighth of the resolution.
    output : str
        Name of the last layer, which has 2 channels and starts at zero.
    """
    w1, w2, w3 = widths

    def conv(name: str, source: str, in_channels: int, out_channels: int, *, last: bool = False) -> Layer:
        activation: Activation = 'none' if last else 'silu'
        return Layer(name, 'conv', (source,), in_channels, out_channels, 3, activation, last)

    bottom = tuple(
        conv(name, source, w2 if source == 'pool2' else w3, w3)
        for source, name in zip(('pool2', *deepest), deepest, strict=False)
    )
    return (
        Layer('fold', 'space_to_depth', ('input',), features, 4 * features),
        conv('down1a', 'fold', 4 * features, w1),
        conv('down1b', 'down1a', w1, w1),
        Layer('pool1', 'mean_pool', ('down1b',), w1, w1),
        conv('down2a', 'pool1', w1, w2),
        conv('down2b', 'down2a', w2, w2),
        Layer('pool2', 'mean_pool', ('down2b',), w2, w2),
        *bottom,
        Layer('rise2', 'upsample', (deepest[-1],), w3, w3),
        Layer('join2', 'concat', ('rise2', 'down2b'), w3 + w2, w3 + w2),
        conv('up2', 'join2', w3 + w2, w2),
        Layer('rise1', 'upsample', ('up2',), w2, w2),
        Layer('join1', 'concat', ('rise1', 'down1b'), w2 + w1, w2 + w1),
        conv('up1', 'join1', w2 + w1, 4 * fine),
        Layer('unfold', 'depth_to_space', ('up1',), 4 * fine, fine),
        Layer('detail', 'concat', ('unfold', 'input'), fine + features, fine + features),
        conv('fine', 'detail', fine + features, fine),
        conv(output, 'fine', fine, 2, last=True),
    )
