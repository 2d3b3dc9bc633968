"""The PyTorch backend: network, physics, optimiser and devices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...config import PyTorchExecutionConfig, TrainingConfig
from ...network.plan import NetworkPlan
from ..base import Batch, StepResult
from ..losses import LossWeights, batch_losses, group_patches
from ..network_backend import NetworkBackend
from .devices import one_device, real_type
from .network import PtychographyNetwork
from .operations import TORCH, TorchDevice
from .optimiser import Optimiser

__all__ = ['PyTorchBackend']

HALF_PRECISION = {'bf16-mixed': torch.bfloat16, '16-mixed': torch.float16}


class PyTorchBackend(NetworkBackend[Tensor, Tensor, PtychographyNetwork, Optimiser]):
    """Runs a network plan in PyTorch on one device.

    Parameters
    ----------
    execution : PyTorchExecutionConfig
    device : torch.device, optional
        Else the first of the kind that `execution` names.
    add_up : callable, optional
        Returns the sum of a tensor of this process and those of the others that share each step; None for one
        device alone.
    """

    name = 'pytorch'

    def __init__(
        self,
        execution: PyTorchExecutionConfig,
        device: torch.device | None = None,
        add_up: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self._execution = execution
        self._place = one_device(execution.accelerator) if device is None else device
        self._add_up = add_up
        self._real = real_type(execution.precision, self._place)
        super().__init__(TorchDevice(self._place, self._real))

    def build(
        self,
        plan: NetworkPlan,
        weights: Mapping[str, npt.NDArray[np.float32]],
    ) -> None:
        """Make the network from canonical weights."""
        # What torch.use_deterministic_algorithms(..., warn_only=True) sets here, without the compiler that it
        # loads, which takes as long as PyTorch itself. Nothing reads memory that is not written first.
        torch.set_deterministic_debug_mode('warn' if self._execution.deterministic else 'default')
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        network = PtychographyNetwork(plan, self._autocast).to(self._place, self._real)
        network.load_canonical(weights)
        self._network = network

    def _autocast(self) -> AbstractContextManager[object]:
        """Return the context of the convolutions."""
        dtype = HALF_PRECISION.get(self._execution.precision)
        return nullcontext() if dtype is None else torch.autocast(self._place.type, dtype=dtype)

    def prepare_training(self, config: TrainingConfig) -> None:
        """Make the optimiser and the losses."""
        self._weights = LossWeights.of(config)
        self._optimiser = Optimiser(
            self.network.named_canonical(),
            config,
            self._place,
            scale_loss=self._execution.precision == '16-mixed',
        )

    def _losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return (weighted loss, deviance per pixel), averaged over patterns."""
        return batch_losses(TORCH, self.network, self._weights, *self._sent(batch))

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
            loss, fit = self._losses(batch)
            optimiser.backward(share * loss)
            mean_loss += share * float(loss.detach())
            mean_fit += share * float(fit.detach())
        if self._add_up is not None:
            self._add_gradients(self._add_up)
        optimiser.step(learning_rate)
        return StepResult(mean_loss, mean_fit)

    def _add_gradients(self, add_up: Callable[[Tensor], Tensor]) -> None:
        """Give every device the sum of all gradients, which travel as one tensor."""
        parameters = [parameter for _, parameter in self.network.named_canonical()]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        total = add_up(torch.cat([g.reshape(-1) for g in gradients]))
        pieces = torch.split(total, [parameter.numel() for parameter in parameters])
        for parameter, piece in zip(parameters, pieces, strict=True):
            parameter.grad = piece.view(parameter.shape).contiguous(memory_format=_layout(parameter))

    @torch.no_grad()
    def _evaluated(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return self._losses(batch)

    @torch.no_grad()
    def _predicted(self, batch: Batch) -> Tensor:
        return group_patches(TORCH, self.network, *self._sent(batch, bare=True))

    @torch.no_grad()
    def denoise(self, obj: Tensor, deviation: Tensor) -> Tensor:
        """Return the noise (H, W) that the prior sees in an object (H, W), both on the device."""
        return self.network.noise(obj[None], deviation[None])[0]


def _layout(parameter: Tensor) -> torch.memory_format:
    """Return the memory format of a parameter; kernels have their channels last."""
    last = parameter.ndim == 4 and parameter.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format
