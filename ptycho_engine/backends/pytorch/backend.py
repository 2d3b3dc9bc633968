"""The PyTorch backend: network, physics, optimiser and devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from torch import Tensor

from ...config import PyTorchExecutionConfig, TrainingConfig
from ...errors import BackendUnavailableError
from ...network.denoiser import LOOKS
from ...network.plan import NetworkPlan
from ...physics.likelihood import ScanPatterns
from ..base import Batch, Illumination, StepResult
from ..losses import LossWeights
from . import physics
from .likelihood import TorchScanPhysics
from .network import CnnNetwork, PriorNetwork, PtychographyNetwork, make_network
from .optimiser import Optimiser

__all__ = ['PyTorchBackend', 'one_device', 'real_type']

HALF_PRECISION = {'bf16-mixed': torch.bfloat16, '16-mixed': torch.float16}


@dataclass(frozen=True)
class _DeviceBatch:
    amplitude: Tensor
    corner: Tensor
    side: int
    """Of the canvas of a group."""
    probes: Tensor
    optics: physics.Optics
    labels: Tensor | None
    looks: Tensor | None
    """(K, B, F, side, side)."""
    truth: Tensor | None
    """(B, side, side) complex."""
    judged: Tensor
    """(N, N) or (B*C, N, N) bool, zero frequency at index 0."""


class PyTorchBackend:
    """Runs a network plan in PyTorch on the device that Fabric chooses.

    Parameters
    ----------
    execution : PyTorchExecutionConfig
    fabric : Fabric, optional
        This process' place among several that share each step; None for one device alone.
    """

    name = 'pytorch'

    def __init__(self, execution: PyTorchExecutionConfig, fabric: Fabric | None = None) -> None:
        self._execution = execution
        self._fabric = fabric or one_device(execution.accelerator)
        self._real = real_type(execution.precision, self._fabric.device)
        self._network: PtychographyNetwork | None = None
        self._optics: tuple[Illumination, physics.Optics] | None = None
        self._optimiser: Optimiser | None = None
        self._weights = LossWeights.of(TrainingConfig())

    @property
    def network(self) -> PtychographyNetwork:
        """The network; :meth:`build` must have been called."""
        if self._network is None:
            raise RuntimeError('build() must be called first')
        return self._network

    def build(
        self,
        plan: NetworkPlan,
        weights: Mapping[str, npt.NDArray[np.float32]],
    ) -> None:
        """Make the network from canonical weights."""
        torch.use_deterministic_algorithms(self._execution.deterministic, warn_only=True)
        network = make_network(plan, self._autocast).to(self._fabric.device, self._real)
        network.load_canonical(weights)
        self._network = network

    def _autocast(self) -> AbstractContextManager[object]:
        """Return the context of the convolutions. Fabric's would turn float16 into bfloat16 on a CPU."""
        dtype = HALF_PRECISION.get(self._execution.precision)
        return nullcontext() if dtype is None else torch.autocast(self._fabric.device.type, dtype=dtype)

    def prepare_training(self, config: TrainingConfig) -> None:
        """Make the optimiser and the losses."""
        self._weights = LossWeights.of(config)
        self._optimiser = Optimiser(
            self.network.named_canonical(),
            config,
            self._fabric.device,
            scale_loss=self._execution.precision == '16-mixed',
        )

    @property
    def _prepared_optimiser(self) -> Optimiser:
        if self._optimiser is None:
            raise RuntimeError('prepare_training() must be called first')
        return self._optimiser

    def _optics_of(self, illumination: Illumination) -> physics.Optics:
        """Return the illumination on the device; batches of one scan share it."""
        if self._optics is None or self._optics[0] is not illumination:
            device = self._fabric.device
            optics = physics.Optics.of(
                torch.from_numpy(illumination.probe).to(device, self._real.to_complex()),
                torch.from_numpy(illumination.good).to(device),
                illumination.input_scale,
            )
            self._optics = illumination, optics
        return self._optics[1]

    def _send(self, batch: Batch) -> _DeviceBatch:
        device = self._fabric.device
        optics = self._optics_of(batch.illumination)
        amplitude = torch.from_numpy(batch.amplitude).to(device, self._real)
        remainder = torch.from_numpy(batch.remainder).to(device, self._real).reshape(-1, 2)
        labels, looks, truth, judged = batch.labels, batch.looks, batch.truth, optics.good
        if batch.judged is not None:
            chosen = torch.from_numpy(batch.judged).to(device)
            judged = judged & torch.fft.ifftshift(chosen.flatten(0, 1), dim=(-2, -1))
        return _DeviceBatch(
            amplitude=torch.fft.ifftshift(amplitude, dim=(-2, -1)),
            corner=torch.from_numpy(batch.corner).to(device),
            side=self.network.plan.canvas_side(batch.extent),
            probes=physics.shift_probe(self.network.probe(optics), remainder),
            optics=optics,
            labels=None if labels is None else torch.from_numpy(labels).to(device, self._real.to_complex()),
            looks=None if looks is None else torch.from_numpy(looks).to(device, self._real),
            truth=None if truth is None else torch.from_numpy(truth).to(device, self._real.to_complex()),
            judged=judged,
        )

    def _forward(self, batch: _DeviceBatch) -> Tensor:
        assert isinstance(self.network, CnnNetwork)
        patches: Tensor = self.network(batch.amplitude, batch.probes, batch.corner, batch.optics)
        return patches

    def _losses(self, batch: _DeviceBatch) -> tuple[Tensor, Tensor]:
        """Return (weighted loss, deviance per pixel), averaged over patterns.

        Of a prior the mean over the levels of noise of the loss, and the deviance at the last of them.
        """
        if batch.looks is None:
            return self._losses_of(batch, self._forward(batch))
        assert isinstance(self.network, PriorNetwork)
        canvas = physics.Canvas(batch.corner, batch.amplitude.shape[-1], batch.side)
        loss = batch.amplitude.new_zeros(())
        for look in batch.looks:
            seen = dict(zip(LOOKS, look.unbind(dim=1), strict=True))
            noisy = torch.complex(seen['object_real'], seen['object_imag'])
            obj = noisy - self.network.noise(noisy, seen['deviation'])
            own, fit = self._losses_of(batch, canvas.cut(obj))
            if batch.truth is not None and self._weights.labels > 0:
                light = physics.lit_part(seen['light'])
                error = physics.label_error(obj[:, None], batch.truth[:, None], light[:, None])
                own = own + self._weights.labels * error.mean()
            loss = loss + own / len(batch.looks)
        return loss, fit

    def _losses_of(self, batch: _DeviceBatch, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Return (weighted loss, deviance per pixel) of patches (B, C, N, N), averaged over patterns."""
        size = batch.amplitude.shape[-1]
        patches = patches.reshape(-1, size, size)
        amplitude = batch.amplitude.reshape(-1, size, size)
        good = batch.judged
        counts = amplitude.square()
        rate = physics.mode_intensity(physics.far_field(patches, batch.probes))
        rate = rate * self.network.amplitude_factor(rate).square()
        fit = physics.deviance(counts, rate, good)
        loss = rate.new_zeros(())
        illumination = physics.mode_intensity(batch.probes).detach()
        weights = self._weights
        if weights.likelihood > 0:
            per_pixel = (counts * good).sum(dim=(-2, -1)) / good.sum(dim=(-2, -1))
            loss = loss + weights.likelihood * (fit / (1 + per_pixel)).mean()
        if weights.amplitude > 0:
            error = physics.amplitude_error(amplitude, rate, good)
            loss = loss + weights.amplitude * error.mean()
        if batch.labels is not None and batch.truth is None and weights.labels > 0:
            # Patches that share an object share its phase.
            channels = batch.corner.shape[1] if self.network.plan.merges else 1
            grouped = (-1, channels, size, size)
            light = physics.label_weight(
                illumination.reshape(grouped), batch.corner.reshape(-1, channels, 2), batch.optics
            )
            error = physics.label_error(patches.reshape(grouped), batch.labels.reshape(grouped), light)
            loss = loss + weights.labels * error.mean()
        if weights.variation > 0:
            variation = physics.total_variation(patches, illumination)
            loss = loss + weights.variation * variation.mean()
        return loss, fit.mean()

    def train_step(self, batches: Sequence[Batch], learning_rate: float) -> StepResult:
        """Descend once along the gradient averaged over the groups of all `batches`."""
        total = sum(len(batch) for batch in batches)
        return self.share_step([(batch, len(batch) / total) for batch in batches], learning_rate)

    def share_step(self, parts: Sequence[tuple[Batch, float]], learning_rate: float) -> StepResult:
        """Descend once; `parts` are this device's, each with its share of the groups of the step.

        The devices of a group add their gradients, so all of them take the same step.
        """
        optimiser = self._prepared_optimiser
        optimiser.clear()
        mean_loss = mean_fit = 0.0
        for batch, share in parts:
            loss, fit = self._losses(self._send(batch))
            optimiser.backward(share * loss)
            mean_loss += share * float(loss.detach())
            mean_fit += share * float(fit.detach())
        if self._fabric.world_size > 1:
            self._add_gradients()
        optimiser.step(learning_rate)
        return StepResult(mean_loss, mean_fit)

    def _add_gradients(self) -> None:
        """Give every device the sum of all gradients, which travel as one tensor."""
        parameters = [parameter for _, parameter in self.network.named_canonical()]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        total = self._fabric.all_reduce(torch.cat([g.reshape(-1) for g in gradients]), reduce_op='sum')
        assert isinstance(total, Tensor)
        pieces = torch.split(total, [parameter.numel() for parameter in parameters])
        for parameter, piece in zip(parameters, pieces, strict=True):
            parameter.grad = piece.view(parameter.shape).contiguous(memory_format=_layout(parameter))

    def evaluate(self, batch: Batch) -> StepResult:
        """Return the losses without learning."""
        with torch.no_grad():
            loss, fit = self._losses(self._send(batch))
        return StepResult(float(loss), float(fit))

    def predict(self, batch: Batch) -> npt.NDArray[np.complex64]:
        """Return object patches (B, C, N, N) in the engine's gauge."""
        with torch.no_grad():
            patches = self._forward(self._send(batch))
        return np.asarray(patches.cpu().numpy(), dtype=np.complex64)

    @torch.no_grad()
    def denoise(self, obj: Tensor, deviation: Tensor) -> Tensor:
        """Return the noise (H, W) that the prior sees in an object (H, W), both on the device."""
        network = self.network
        assert isinstance(network, PriorNetwork)
        return network.noise(obj[None], deviation[None])[0]

    def scan_physics(self, patterns: ScanPatterns) -> TorchScanPhysics:
        """Put the patterns of a scan on the device, for refinement."""
        return TorchScanPhysics(patterns, self._fabric.device, self._real)

    def weights(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return a copy of the canonical weights."""
        return self.network.canonical_weights()

    def set_weights(self, weights: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Replace the weights; the optimiser goes on."""
        self.network.load_canonical(weights)

    def optimiser_state(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return a copy of what the optimiser remembers."""
        return self._prepared_optimiser.state()

    def set_optimiser_state(self, state: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Go on from :meth:`optimiser_state`."""
        self._prepared_optimiser.set_state(state)

    def close(self) -> None:
        """Nothing is held beyond the memory of this object."""


def _layout(parameter: Tensor) -> torch.memory_format:
    """Return the memory format of a parameter; kernels have their channels last."""
    last = parameter.ndim == 4 and parameter.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def real_type(precision: str, device: torch.device) -> torch.dtype:
    """Return the type of the numbers that physics and weights have.

    Raises
    ------
    BackendUnavailableError
        If the device does not have it.
    """
    if precision != '64-true':
        return torch.float32
    if device.type == 'mps':
        raise BackendUnavailableError(
            "PyTorch backend selected with the precision '64-true', which the accelerator 'mps' does not "
            "have; choose the accelerator 'cpu' or another precision."
        )
    return torch.float64


def one_device(accelerator: str) -> Fabric:
    """Return Fabric on one device of a kind.

    Raises
    ------
    BackendUnavailableError
        If PyTorch finds none.
    """
    try:
        # Named, for what a batch system puts into the environment is meant for jobs of several processes, and
        # two cores asked for as two tasks would be taken for such a job.
        return Fabric(accelerator=accelerator, devices=1, plugins=[LightningEnvironment()])
    except RuntimeError as error:
        raise BackendUnavailableError(
            f'PyTorch backend selected with the accelerator {accelerator!r}, which PyTorch does '
            "not find on this machine; choose 'auto' or 'cpu', or install a PyTorch build for it."
        ) from error
