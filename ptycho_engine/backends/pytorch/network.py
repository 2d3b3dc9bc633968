"""The networks of ``network/plan.py`` as torch modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from ...network.cnn import amplitude_offset
from ...network.denoiser import DENOISER
from ...network.layer import Layer
from ...network.plan import INTENSITY_SCALE, PROBE_CORRECTION, NetworkPlan
from ...physics.forward import WINDOW_FLOOR
from . import physics

__all__ = ['CnnNetwork', 'PriorNetwork', 'PtychographyNetwork', 'make_network']

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
        values = {'input': features}
        for layer in self.layers:
            values[layer.name] = self._evaluate(layer, [values[name] for name in layer.inputs])
        return values[self.layers[-1].name]

    def _evaluate(self, layer: Layer, inputs: list[Tensor]) -> Tensor:
        first = inputs[0]
        match layer.op:
            case 'conv':
                return _activate(layer, self.convolutions[layer.name](first))
            case 'mean_pool':
                return functional.avg_pool2d(first, 2)
            case 'upsample':
                return functional.interpolate(first, scale_factor=2, mode='nearest')
            case 'concat':
                return torch.cat(inputs, dim=1)
            case 'add':
                return first + inputs[1]
            case 'first_channels':
                return first[:, : layer.out_channels]
            case 'last_channels':
                return first[:, -layer.out_channels :]
            case 'pad_to_double':
                return functional.pad(first, [first.shape[-1] // 2] * 4)
            case 'outer_half':
                return _without_centre(first)
            case 'space_to_depth':
                return functional.pixel_unshuffle(first, 2)
            case 'depth_to_space':
                return functional.pixel_shuffle(first, 2)


def _activate(layer: Layer, output: Tensor) -> Tensor:
    match layer.activation:
        case 'silu':
            return functional.silu(output)
        case 'none':
            return output


def _without_centre(images: Tensor) -> Tensor:
    """Return images (n, c, N, N) with zeros in their central N/2 pixels."""
    quarter = images.shape[-1] // 4
    border = images.new_ones(images.shape[-2:])
    border[quarter:-quarter, quarter:-quarter] = 0
    return images * border


class PtychographyNetwork(nn.Module):
    """What networks of all architectures share: parts, a trainable probe and intensity scale, and names."""

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

    def probe(self, optics: physics.Optics) -> Tensor:
        """Return the probe (P, N, N) with its trained correction."""
        if self.probe_correction is None:
            return optics.probe
        correction = torch.view_as_complex(self.probe_correction)
        return optics.probe + optics.brightest.sqrt() * correction

    def amplitude_factor(self, like: Tensor) -> Tensor:
        """Return the factor () between measured and predicted amplitudes."""
        return like.new_ones(()) if self.log_scale is None else self.log_scale.exp()[0]

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


class CnnNetwork(PtychographyNetwork):
    """PtychoPINN's autoencoder: diffraction amplitudes of a group in, object patches out."""

    def __init__(self, plan: NetworkPlan, autocast: Autocast = nullcontext) -> None:
        super().__init__(plan, autocast)
        self._offset = amplitude_offset(plan.model)

    def forward(self, amplitude: Tensor, probes: Tensor, corner: Tensor, optics: physics.Optics) -> Tensor:
        """Reconstruct patches.

        Parameters
        ----------
        amplitude : (B, C, N, N) float
            Measured amplitudes, zero frequency at index 0.
        probes : (B*C, P, N, N) complex
            Probe modes shifted by each position's remainder.
        corner : (B, C, 2) int
            [row, column] of each patch.
        optics : Optics
            The scan's probe and detector mask.

        Returns
        -------
        (B, C, N, N) complex
        """
        centred = torch.fft.fftshift(amplitude, dim=(-2, -1))
        scaled = centred * (optics.input_scale / self.amplitude_factor(amplitude))
        with self._autocast():
            logits = self.parts['autoencoder'](scaled.contiguous(memory_format=torch.channels_last))
        channels = self.plan.channels
        logits = logits.to(amplitude.dtype)
        modulus = self._amplitude(logits[:, :channels])
        phase = torch.pi * torch.tanh(logits[:, channels:])
        patches = torch.complex(modulus * phase.cos(), modulus * phase.sin())
        return self._merge(patches, probes, corner, optics)

    def _merge(self, patches: Tensor, probes: Tensor, corner: Tensor, optics: physics.Optics) -> Tensor:
        """Make the patches (B, C, N, N) of each group agree where they overlap, if the plan says so."""
        if not self.plan.merges:
            return patches
        illumination = physics.mode_intensity(probes) / optics.brightest
        window = (illumination + WINDOW_FLOOR).reshape(patches.shape)
        return physics.merge_and_cut(patches, window, corner)

    def _amplitude(self, logits: Tensor) -> Tensor:
        shifted = logits + self._offset
        match self.plan.model.amp_activation:
            case 'sigmoid':
                head = torch.sigmoid(shifted)
            case 'softplus':
                head = functional.softplus(shifted)
            case 'relu':
                head = functional.relu(shifted)
            case _:
                head = functional.silu(shifted)
        return self.plan.model.probe_scale * head


class PriorNetwork(PtychographyNetwork):
    """The learned prior of objects, a denoiser; without weights in a plan of physics alone."""

    def noise(self, obj: Tensor, deviation: Tensor) -> Tensor:
        """Return the noise (B, H, W) of complex objects (B, H, W) with that standard deviation (B, H, W)."""
        features = torch.stack([obj.real - 1, obj.imag, 0.5 * deviation.log()], dim=1)
        with self._autocast():
            found: Tensor = self.parts[DENOISER](features.contiguous(memory_format=torch.channels_last))
        real, imag = found.to(features.dtype).unbind(dim=1)
        return torch.complex(deviation * real, deviation * imag)


def make_network(plan: NetworkPlan, autocast: Autocast = nullcontext) -> PtychographyNetwork:
    """Return the torch module of a plan."""
    return PriorNetwork(plan, autocast) if plan.model.of_objects else CnnNetwork(plan, autocast)
