"""The networks of ``network/plan.py`` as torch modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from ...network.plan import CORRECTION_LIMIT, DIRECT_REGULARISATION, Layer, NetworkPlan
from ...physics.forward import WINDOW_FLOOR
from . import physics

__all__ = ['UnrolledNetwork']


class CorrectionNetwork(nn.Module):
    """One convolutional network, built by walking its layers."""

    def __init__(self, layers: tuple[Layer, ...]) -> None:
        super().__init__()
        self._layers = layers
        self.convolutions = nn.ModuleDict(
            {
                layer.name: nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel, padding='same')
                for layer in layers
                if layer.op == 'conv'
            }
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map features (n, F, N, N) to a correction (n, 2, N, N)."""
        values = {'input': features}
        for layer in self._layers:
            values[layer.name] = self._evaluate(layer, [values[name] for name in layer.inputs])
        return values[self._layers[-1].name]

    def _evaluate(self, layer: Layer, inputs: list[Tensor]) -> Tensor:
        match layer.op:
            case 'conv':
                output: Tensor = self.convolutions[layer.name](inputs[0])
                return functional.silu(output) if layer.activation == 'silu' else output
            case 'mean_pool':
                return functional.avg_pool2d(inputs[0], 2)
            case 'upsample':
                return functional.interpolate(inputs[0], scale_factor=2, mode='nearest')
            case 'concat':
                return torch.cat(inputs, dim=1)
            case 'space_to_depth':
                return functional.pixel_unshuffle(inputs[0], 2)
            case 'depth_to_space':
                return functional.pixel_shuffle(inputs[0], 2)


class UnrolledNetwork(nn.Module):
    """Steps of modulus constraint with the known probe, each corrected by a CNN.

    Starts from a flat object; with zero corrections it is ``len(plan.steps)`` steps of ePIE.
    """

    def __init__(
        self,
        plan: NetworkPlan,
        autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        super().__init__()
        self.plan = plan
        self._autocast = autocast
        self.steps = nn.ModuleList(CorrectionNetwork(layers) for layers in plan.steps)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

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
        (B, C, N, N) complex64
        """
        groups, channels, size, _ = amplitude.shape
        flat = amplitude.reshape(-1, size, size)
        illumination = physics.mode_intensity(probes) / optics.brightest
        window = (illumination + WINDOW_FLOOR).reshape(amplitude.shape)
        patches = torch.ones_like(probes[:, 0])
        for step in self.steps:
            update = physics.modulus_update(patches, probes, flat, optics)
            direct = update / (illumination + DIRECT_REGULARISATION)
            features = torch.stack(
                [
                    patches.real - 1,
                    patches.imag,
                    update.real,
                    update.imag,
                    illumination,
                    update.abs(),
                    direct.real,
                    direct.imag,
                ],
                dim=1,
            ).contiguous(memory_format=torch.channels_last)
            with self._autocast():
                correction = step(features)
            correction = CORRECTION_LIMIT * torch.tanh(correction.float() / CORRECTION_LIMIT)
            patches = patches + update + torch.complex(correction[:, 0], correction[:, 1])
            if channels > 1:
                grouped = patches.reshape(groups, channels, size, size)
                patches = physics.merge_and_cut(grouped, window, corner).reshape(-1, size, size)
        return patches.reshape(groups, channels, size, size)

    def canonical_weights(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return weights by canonical name, kernels as (kernel, kernel, in, out)."""
        weights = {}
        for name, parameter in self.named_canonical():
            array = parameter.detach().cpu().numpy()
            layout = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array
            weights[name] = np.array(layout, dtype=np.float32, order='C')
        return weights

    def load_canonical(self, weights: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Copy canonical weights into the parameters."""
        with torch.no_grad():
            for name, parameter in self.named_canonical():
                array = weights[name]
                layout = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array
                parameter.copy_(torch.from_numpy(np.ascontiguousarray(layout)))

    def named_canonical(self) -> list[tuple[str, nn.Parameter]]:
        """Return parameters by canonical name; kernels as torch lays them out."""
        named = []
        for index, (step, layers) in enumerate(zip(self.steps, self.plan.steps, strict=True), start=1):
            assert isinstance(step, CorrectionNetwork)
            for layer in layers:
                if layer.op == 'conv':
                    conv = step.convolutions[layer.name]
                    assert isinstance(conv, nn.Conv2d)
                    assert isinstance(conv.bias, nn.Parameter)
                    assert isinstance(conv.weight, nn.Parameter)
                    named.append((f'step{index}/{layer.name}/kernel', conv.weight))
                    named.append((f'step{index}/{layer.name}/bias', conv.bias))
        return named
