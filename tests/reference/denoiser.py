"""The learned prior's network in float64, written from NET-02 and the names of its weights.

It shares no code with the engine: a convolution is nine products with shifted images.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

Weights = Mapping[str, np.ndarray]


def noise_seen(weights: Weights, obj: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Return the noise (H, W) that the network sees in an object (H, W) of that noise's deviation (H, W)."""
    seen = np.stack([obj.real - 1, obj.imag, np.log(deviation) / 2], axis=-1)

    def conv(name: str, image: np.ndarray, *, bend: bool = True) -> np.ndarray:
        found = _convolution(image, weights[f'denoiser/{name}/kernel'], weights[f'denoiser/{name}/bias'])
        return found / (1 + np.exp(-found)) if bend else found

    half = conv('down1b', conv('down1a', _folded(seen)))
    quarter = conv('down2b', conv('down2a', _halved(half)))
    deepest = conv('deep_c', conv('deep_b', conv('deep_a', _halved(quarter))))
    quarter = conv('up2', np.concatenate([_doubled(deepest), quarter], axis=-1))
    half = conv('up1', np.concatenate([_doubled(quarter), half], axis=-1))
    fine = conv('fine', np.concatenate([_unfolded(half), seen], axis=-1))
    real, imag = np.moveaxis(conv('noise', fine, bend=False), -1, 0)
    return deviation * (real + 1j * imag)


def _convolution(image: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Convolve (H, W, in) with (3, 3, in, out), zeros around."""
    height, width = image.shape[:2]
    padded = np.pad(image, [(1, 1), (1, 1), (0, 0)])
    parts = (
        padded[row : row + height, column : column + width] @ kernel[row, column].astype(np.float64)
        for row in range(3)
        for column in range(3)
    )
    return sum(parts) + bias.astype(np.float64)


def _folded(image: np.ndarray) -> np.ndarray:
    """Put the four pixels of each square of two into channels: of the first channel, then of the second."""
    height, width, channels = image.shape
    squares = image.reshape(height // 2, 2, width // 2, 2, channels)
    return squares.transpose(0, 2, 4, 1, 3).reshape(height // 2, width // 2, 4 * channels)


def _unfolded(image: np.ndarray) -> np.ndarray:
    height, width, channels = image.shape
    squares = image.reshape(height, width, channels // 4, 2, 2)
    return squares.transpose(0, 3, 1, 4, 2).reshape(2 * height, 2 * width, channels // 4)


def _halved(image: np.ndarray) -> np.ndarray:
    return (image[::2, ::2] + image[1::2, ::2] + image[::2, 1::2] + image[1::2, 1::2]) / 4


def _doubled(image: np.ndarray) -> np.ndarray:
    return image.repeat(2, axis=0).repeat(2, axis=1)
