"""The networks of ``network/plan.py`` as torch modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from ...network.denoiser import DENOISER
from ...network.layer import Layer, Op, walk
from ...network.plan import INTENSITY_SCALE, PROBE_CORRECTION, NetworkPlan

__all__ = ['PtychographyNetwork']

Autocast = Callable[[], AbstractContextManager[object]]


class ConvolutionalNetwork(nn.Module):
    """One part of a plan, built by walking its layers."""

    def __init__(self, layers: tuple[Layer, ...]) -> None:
        super().__init__()
        self.layers = layers
        self.convolutions = nn.ModuleDict(
            {
                layer.name: nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel, padding='same')
                for layer in layers
                if layer.op == 'conv'
            }
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map features (n, F, N, N) to the output of the last layer (n, channels, N, N)."""
        return walk(self.layers, {**LAYERS, 'conv': self._convolved}, features)

    def _convolved(self, layer: Layer, features: Tensor) -> Tensor:
        output: Tensor = self.convolutions[layer.name](features)
        return functional.silu(output) if layer.activation == 'silu' else output


def _without_centre(images: Tensor) -> Tensor:
    """Return images (n, c, N, N) with zeros in their central N/2 pixels."""
    quarter = images.shape[-1] // 4
    border = images.new_ones(images.shape[-2:])
    border[quarter:-quarter, quarter:-quarter] = 0
    return images * border


LAYERS: Mapping[Op, Callable[..., Tensor]] = {
    'mean_pool': lambda _, first: functional.avg_pool2d(first, 2),
    'upsample': lambda _, first: functional.interpolate(first, scale_factor=2, mode='nearest'),
    'concat': lambda _, *inputs: torch.cat(inputs, dim=1),
    'add': lambda _, first, second: first + second,
    'first_channels': lambda layer, first: first[:, : layer.out_channels],
    'last_channels': lambda layer, first: first[:, -layer.out_channels :],
    'pad_to_double': lambda _, first: functional.pad(first, [first.shape[-1] // 2] * 4),
    'outer_half': lambda _, first: _without_centre(first),
    'space_to_depth': lambda _, first: functional.pixel_unshuffle(first, 2),
    'depth_to_space': lambda _, first: functional.pixel_shuffle(first, 2),
}
"""The layers of a plan that have no weights."""

AMPLITUDES: Mapping[str, Callable[[Tensor], Tensor]] = {
    'sigmoid': torch.sigmoid,
    'softplus': functional.softplus,
    'relu': functional.relu,
    'swish': functional.silu,
}
"""Activations that an amplitude may end with."""


class PtychographyNetwork(nn.Module):
    """The parts of a plan, a trainable probe and intensity scale, and their names."""

    probe_correction: nn.Parameter | None
    log_scale: nn.Parameter | None

    def __init__(self, plan: NetworkPlan, autocast: Autocast = nullcontext) -> None:
        super().__init__()
        self.plan = plan
        self._autocast = autocast
        self.parts = nn.ModuleDict({name: ConvolutionalNetwork(layers) for name, layers in plan.parts})
        size = plan.model.N
        correction = nn.Parameter(torch.zeros(plan.probe_modes, size, size, 2)) if plan.probe_modes else None
        self.register_parameter('probe_correction', correction)
        log_scale = nn.Parameter(torch.zeros(1)) if plan.intensity_scale else None
        self.register_parameter('log_scale', log_scale)
        self.parts.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def logits(self, amplitude: Tensor) -> tuple[Tensor, Tensor]:
        """Return amplitude and phase (B, C, N, N) before the last activations, of 'cnn'."""
        with self._autocast():
            found = self.parts['autoencoder'](amplitude.contiguous(memory_format=torch.channels_last))
        modulus, phase = found.to(amplitude.dtype).chunk(2, dim=1)
        return modulus, phase

    def activated(self, values: Tensor) -> Tensor:
        """Return the activation of amplitudes (B, C, N, N), of 'cnn'."""
        return AMPLITUDES[self.plan.model.amp_activation](values)

    def noise(self, obj: Tensor, deviation: Tensor) -> Tensor:
        """Return the noise (B, H, W) of complex objects with a standard deviation (B, H, W), of 'prior'."""
        features = torch.stack([obj.real - 1, obj.imag, 0.5 * deviation.log()], dim=1)
        with self._autocast():
            found: Tensor = self.parts[DENOISER](features.contiguous(memory_format=torch.channels_last))
        real, imag = found.to(features.dtype).unbind(dim=1)
        return torch.complex(deviation * real, deviation * imag)

    def canonical_weights(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return weights by canonical name, kernels as (kernel, kernel, in, out)."""
        weights = {}
        for name, parameter in self.named_canonical():
            array = parameter.detach().cpu().numpy()
            layout = array.transpose(2, 3, 1, 0) if name.endswith('/kernel') else array
            weights[name] = np.array(layout, order='C')
        return weights

    def load_canonical(self, weights: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Copy canonical weights into the parameters."""
        with torch.no_grad():
            for name, parameter in self.named_canonical():
                array = weights[name]
                layout = array.transpose(3, 2, 0, 1) if name.endswith('/kernel') else array
                parameter.copy_(torch.from_numpy(np.ascontiguousarray(layout)))

    def named_canonical(self) -> list[tuple[str, nn.Parameter]]:
        """Return parameters by canonical name; kernels as torch lays them out."""
        named = []
        for part, network in self.parts.items():
            assert isinstance(network, ConvolutionalNetwork)
            for layer_name, conv in network.convolutions.items():
                assert isinstance(conv, nn.Conv2d)
                assert isinstance(conv.bias, nn.Parameter)
                assert isinstance(conv.weight, nn.Parameter)
                named.append((f'{part}/{layer_name}/kernel', conv.weight))
                named.append((f'{part}/{layer_name}/bias', conv.bias))
        if self.probe_correction is not None:
            named.append((PROBE_CORRECTION, self.probe_correction))
        if self.log_scale is not None:
            named.append((INTENSITY_SCALE, self.log_scale))
        return named
