"""PtychoPINN's autoencoder: one encoder of the diffraction amplitudes, two decoders to object patches.

Layers and widths as in the public network (Hoidn et al., *Scientific Reports* 13, 22789, 2023), with three
differences: the outer part of a patch passes through the same bounded head as the inner part, every head
gives the flat object for a zero input, and the network is smooth. Rectifiers and maxima have kinks, which
rounding in float32 steps over: two runs that differ by it part within ten steps, on any framework. With SiLU
and means they stay together a thousand times closer.
"""

from __future__ import annotations

import math

from ..config import ModelConfig
from .layer import Layer

__all__ = ['amplitude_offset', 'cnn_layers']

DEEPEST_FILTERS = 128
DECODER_LAST_FILTERS = 32
OUTER_CHANNELS = 4
"""Decoder channels set aside for the outer part of the patch."""
OUTER_FILTERS_TIMES_N = 2048


def cnn_layers(model: ModelConfig) -> tuple[Layer, ...]:
    """Return the layers of the autoencoder; its output holds C amplitude and then C phase logits."""
    size, scale, channels = model.N, model.n_filters_scale, model.gridsize**2
    levels = _levels(size)
    layers: list[Layer] = []
    last, width = 'input', channels
    for level in range(1, levels + 1):
        filters = scale * DEEPEST_FILTERS // 2 ** (levels - level)
        name = f'encoder{level}'
        layers += _pair(name, last, width, filters)
        layers.append(Layer(f'{name}_pool', 'mean_pool', (f'{name}b',), filters, filters))
        last, width = f'{name}_pool', filters
    for head in ('amplitude', 'phase'):
        layers += _decoder(head, last, width, model, levels)
    logits = ('amplitude_logits', 'phase_logits')
    layers.append(Layer('logits', 'concat', logits, 2 * channels, 2 * channels))
    return tuple(layers)


def amplitude_offset(model: ModelConfig) -> float:
    """Return the number added to an amplitude logit so that the head gives 1 for a logit of 0.

    The head is ``probe_scale * activation(logit + offset)``.
    """
    target = 1 / model.probe_scale
    match model.amp_activation:
        case 'sigmoid':
            return math.log(target / (1 - target))
        case 'softplus':
            return math.log(math.expm1(target))
        case 'relu':
            return target
        case _:
            # x * sigmoid(x) = target has one positive root; Newton from above converges at once.
            x = target + 0.5
            for _ in range(50):
                s = 1 / (1 + math.exp(-x))
                x -= (x * s - target) / (s + x * s * (1 - s))
            return x


def _levels(size: int) -> int:
    """Halvings of the encoder: down to 8 pixels or, where N is not a power of two, as near as it divides."""
    return max(k for k in range(1, 32) if size % 2**k == 0 and size >> k >= 8)


def _pair(name: str, source: str, width: int, filters: int) -> list[Layer]:
    return [
        Layer(f'{name}a', 'conv', (source,), width, filters, 3, 'silu'),
        Layer(f'{name}b', 'conv', (f'{name}a',), filters, filters, 3, 'silu'),
    ]


def _rising(name: str, source: str, width: int, filters: int) -> list[Layer]:
    """Two convolutions and a doubling of the size."""
    return [
        *_pair(name, source, width, filters),
        Layer(f'{name}_rise', 'upsample', (f'{name}b',), filters, filters),
    ]


def _decoder(head: str, last: str, width: int, model: ModelConfig, levels: int) -> list[Layer]:
    """Decode the bottleneck to the logits of one head, N pixels wide."""
    scale, channels = model.n_filters_scale, model.gridsize**2
    layers: list[Layer] = []
    blocks = levels - 1 if model.pad_object else levels
    for block in range(1, blocks + 1):
        filters = scale * DECODER_LAST_FILTERS * 2 ** max(levels - 1 - block, 0)
        layers += _rising(f'{head}_decoder{block}', last, width, filters)
        last, width = f'{head}_decoder{block}_rise', filters
    logits = f'{head}_logits'
    if not model.pad_object:
        return [*layers, Layer(logits, 'conv', (last,), width, channels, zero_init=True)]
    inner = last
    if model.probe_big:
        inner, kept = f'{head}_inner_features', width - OUTER_CHANNELS
        layers.append(Layer(inner, 'first_channels', (last,), width, kept))
        width = kept
    layers.append(Layer(f'{head}_inner', 'conv', (inner,), width, channels, zero_init=True))
    if not model.probe_big:
        return [*layers, Layer(logits, 'pad_to_double', (f'{head}_inner',), channels, channels)]
    filters = max(scale * OUTER_FILTERS_TIMES_N // model.N, 1)
    return [
        *layers,
        Layer(f'{head}_padded', 'pad_to_double', (f'{head}_inner',), channels, channels),
        Layer(f'{head}_outer_features', 'last_channels', (last,), width + OUTER_CHANNELS, OUTER_CHANNELS),
        *_rising(f'{head}_outer', f'{head}_outer_features', OUTER_CHANNELS, filters),
        Layer(f'{head}_outer_conv', 'conv', (f'{head}_outer_rise',), filters, channels, zero_init=True),
        Layer(f'{head}_border', 'outer_half', (f'{head}_outer_conv',), channels, channels),
        Layer(logits, 'add', (f'{head}_padded', f'{head}_border'), channels, channels),
    ]
