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
from ...network.plan import INTENSITY_SCALE, PROBE_CORRECTION, RATES, NetworkPlan
from ...physics.forward import WINDOW_FLOOR
from ...physics.slow_phase import slow_phase_gain
from ...physics.unrolled import (
    CORRECTION_LIMIT,
    FEATURES,
    INITIAL_RATES,
    STEP_REGULARISATION,
    WEAK_REGULARISATION,
    physics_momentum,
    steps_between,
)
from . import physics

__all__ = ['PriorNetwork', 'PtychographyNetwork', 'UnrolledNetwork', 'make_network']

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
        steps = [name for name, _ in plan.parts] if plan.unrolled else []
        self.rates = nn.ParameterDict({name: torch.zeros(len(INITIAL_RATES)) for name in steps})
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
            if part in self.rates:
                named.append((f'{part}/{RATES}', self.rates[part]))
        if self.probe_correction is not None:
            named.append((PROBE_CORRECTION, self.probe_correction))
        if self.log_scale is not None:
            named.append((INTENSITY_SCALE, self.log_scale))
        return named


class UnrolledNetwork(PtychographyNetwork):
    """Steps of modulus constraint on the object of a group: accelerated ones, then ones that CNNs correct.

    Starts from a flat object. ``physics/unrolled.py`` is the reference for one step of either kind.
    """

    def forward(
        self, amplitude: Tensor, probes: Tensor, corner: Tensor, optics: physics.Optics, side: int
    ) -> Tensor:
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
        side : int
            Of the object of a group, in pixels.

        Returns
        -------
        (B, C, N, N) complex
        """
        shape = amplitude.shape
        size = shape[-1]
        if not self.plan.merges:
            corner = corner.reshape(-1, 1, 2)
        canvas = physics.Canvas(corner, size, side)
        grouped = (canvas.groups, canvas.channels, size, size)
        flat = amplitude.reshape(-1, size, size)
        illumination = canvas.gather(physics.mode_intensity(probes).reshape(grouped))
        surface = _illumination_features(illumination, optics)
        obj = torch.ones_like(illumination, dtype=probes.dtype)
        scanned = physics.scanned_part(illumination)
        gain = torch.from_numpy(slow_phase_gain(optics.variance, (canvas.side, canvas.side))).to(illumination)
        weak_scale = 1 / (illumination + WEAK_REGULARISATION * optics.brightest)

        def constrain(obj: Tensor) -> tuple[Tensor, Tensor]:
            patches = canvas.cut(obj).reshape(-1, size, size)
            gradient = physics.modulus_gradient(patches, probes, flat, optics)
            total = canvas.gather(gradient.reshape(grouped))
            return total, total * weak_scale

        def slow_turn(obj: Tensor, weak: Tensor) -> Tensor:
            return physics.slow_turn(obj, weak, scanned, gain)

        @torch.no_grad()
        def approach(obj: Tensor, steps: int, *, turns: bool) -> tuple[Tensor, Tensor]:
            change = torch.zeros_like(obj)
            for index in range(steps):
                ahead = obj + physics_momentum(index) * change
                _, weak = constrain(ahead)
                following = ahead + weak
                if turns:
                    following = _turned(following, slow_turn(ahead, weak))
                change = following - obj
                obj = following
            return obj, change

        obj, change = approach(obj, self.plan.physics_steps, turns=True)
        for number, name in enumerate(self.parts):
            if number > 0 and (steps := steps_between(self.plan.physics_steps)):
                obj, change = approach(obj, steps, turns=False)
            obj, change = _upright(obj, change, illumination)
            total, weak = constrain(obj)
            step = total / (illumination + STEP_REGULARISATION * optics.brightest)
            unit = _uncertain_by(weak, illumination)
            asked, weakly, last = (z / unit for z in (step, weak, change))
            features = [
                obj.real - 1,
                obj.imag,
                obj.abs() - 1,
                asked.real,
                asked.imag,
                weakly.real,
                weakly.imag,
                weakly.abs(),
                last.real,
                last.imag,
                slow_turn(obj, weak),
                *surface,
                unit.log(),
            ]
            following = self._advance(name, torch.stack(features, dim=1))
            change = following - obj
            obj = following
        return canvas.cut(obj).reshape(shape)

    def corrected(self, number: int, features: Tensor) -> Tensor:
        """Return the object (B, side, side) of each group after one correction (from 0).

        `features` (B, F, side, side) is what it sees of them.
        """
        return self._advance(self.plan.parts[number][0], features)

    def _advance(self, name: str, features: Tensor) -> Tensor:
        """Return the object (B, H, W) after a correction; ``unrolled.advance`` is the reference."""
        seen = dict(zip(FEATURES, features.unbind(dim=1), strict=True))
        bounded = CORRECTION_LIMIT * torch.tanh(self.correct(name, features) / CORRECTION_LIMIT)
        rates = self.rates[name]
        factor = rates[0].exp()
        real = factor * seen['step_real'] + rates[1] * seen['last_change_real'] + bounded[:, 0]
        imag = factor * seen['step_imag'] + rates[1] * seen['last_change_imag'] + bounded[:, 1]
        unit = seen['log_uncertain_by'].exp()
        moved = torch.complex(
            seen['object_real_minus_1'] + 1 + unit * real, seen['object_imag'] + unit * imag
        )
        return _turned(moved, rates[2] * seen['slow_turn'])

    def correct(self, name: str, features: Tensor) -> Tensor:
        """Return the correction (B, 2, H, W) of the step of that name for features (B, F, H, W)."""
        with self._autocast():
            correction: Tensor = self.parts[name](features.contiguous(memory_format=torch.channels_last))
        return correction.to(features.dtype)


def _turned(obj: Tensor, angle: Tensor) -> Tensor:
    """Turn the phase of an object (B, H, W) by angles (B, H, W) in radians."""
    return obj * torch.complex(angle.cos(), angle.sin())


def _upright(obj: Tensor, change: Tensor, light: Tensor) -> tuple[Tensor, Tensor]:
    """Return objects and changes (B, H, W) turned upright; ``unrolled.upright`` is the reference."""
    before = obj - change
    obj = _turned(obj, -_mean_phase(obj, light))
    return obj, obj - _turned(before, -_mean_phase(before, light))


def _mean_phase(obj: Tensor, light: Tensor) -> Tensor:
    """Return the phases (B, 1, 1) of the means of objects, weighted by light (B, H, W)."""
    return (light * obj.detach()).sum(dim=(1, 2), keepdim=True).angle()


def _uncertain_by(weak: Tensor, light: Tensor) -> Tensor:
    """Return how far the objects (B, H, W) may be off; ``unrolled.uncertain_by`` is the reference."""
    weak = weak.detach()
    power = (light * (weak.real.square() + weak.imag.square())).sum(dim=(1, 2), keepdim=True)
    return torch.sqrt(power / light.sum(dim=(1, 2), keepdim=True) + 1 / (1 + light))


def _illumination_features(illumination: Tensor, optics: physics.Optics) -> tuple[Tensor, Tensor]:
    """Return the features (B, H, W) that follow from the illumination alone."""
    relative = illumination / optics.brightest
    return relative.log1p(), relative / (relative + 1)


class CnnNetwork(PtychographyNetwork):
    """PtychoPINN's autoencoder: diffraction amplitudes of a group in, object patches out."""

    def __init__(self, plan: NetworkPlan, autocast: Autocast = nullcontext) -> None:
        super().__init__(plan, autocast)
        self._offset = amplitude_offset(plan.model)

    def forward(
        self, amplitude: Tensor, probes: Tensor, corner: Tensor, optics: physics.Optics, side: int
    ) -> Tensor:
        """Reconstruct patches; arguments and result as of :meth:`UnrolledNetwork.forward`."""
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
    if plan.model.of_objects:
        return PriorNetwork(plan, autocast)
    if plan.model.architecture == 'cnn':
        return CnnNetwork(plan, autocast)
    return UnrolledNetwork(plan, autocast)
