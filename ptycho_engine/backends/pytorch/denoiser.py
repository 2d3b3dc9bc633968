"""Training of the learned prior: a denoiser of objects."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...config import PyTorchExecutionConfig, TrainingConfig
from ...network.plan import NetworkPlan
from ...simulate.noisy_images import NoisyBatch
from .devices import one_device
from .network import PtychographyNetwork
from .optimiser import Optimiser

__all__ = ['DenoiserTraining']

Weights = Mapping[str, npt.NDArray[np.float32]]

AVERAGED_STEPS = 1000
"""About so many of the last steps are averaged in the weights that are used: those of single steps jitter."""

LEAST_POWER, LEAST_SQUARE = 1e-6, 1e-4
"""Keep the two roots of the loss smooth."""


class DenoiserTraining:
    """A denoiser that learns to see the noise of images, and the running mean of its weights.

    Parameters
    ----------
    plan : NetworkPlan
        Of 'prior'.
    weights : mapping
        Canonical weights to start from.
    config : TrainingConfig
        Optimiser and clipping.
    execution : PyTorchExecutionConfig
        Device.
    """

    def __init__(
        self, plan: NetworkPlan, weights: Weights, config: TrainingConfig, execution: PyTorchExecutionConfig
    ) -> None:
        self._device = one_device(execution.accelerator)
        self._network = PtychographyNetwork(plan).to(self._device)
        self._network.load_canonical(weights)
        self._average = copy.deepcopy(self._network)
        self._optimiser = Optimiser(self._network.named_canonical(), config, self._device)

    def step(self, batch: NoisyBatch, learning_rate: float, done: int) -> float:
        """Descend once, the `done` steps before included in the mean of the weights; return the loss."""
        self._optimiser.clear()
        loss = self._loss(batch, self._network)
        self._optimiser.backward(loss)
        self._optimiser.step(learning_rate)
        share = max(1 / AVERAGED_STEPS, 9 / (10 + done))
        with torch.no_grad():
            for (_, mean), (_, last) in zip(
                self._average.named_canonical(), self._network.named_canonical(), strict=True
            ):
                mean.lerp_(last, share)
        return float(loss.detach())

    @torch.no_grad()
    def judge(self, batch: NoisyBatch) -> float:
        """Return the loss of the averaged weights."""
        return float(self._loss(batch, self._average))

    def _loss(self, batch: NoisyBatch, network: PtychographyNetwork) -> Tensor:
        """Return the error of the noise in units of its deviation: root mean square, and mean."""
        clean, noisy = (torch.from_numpy(images).to(self._device) for images in (batch.clean, batch.noisy))
        deviation = torch.from_numpy(batch.deviation).to(self._device)
        error = (network.noise(noisy, deviation) - (noisy - clean)) / deviation
        power = error.real.square() + error.imag.square()
        spread = (power.mean(dim=(1, 2)) + LEAST_POWER).sqrt().mean()
        return spread + (power + LEAST_SQUARE).sqrt().mean()

    def weights(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return a copy of the canonical weights after the last step."""
        return self._network.canonical_weights()

    def averaged_weights(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return a copy of their running mean, which is what a model holds."""
        return self._average.canonical_weights()

    def state(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return what the optimiser remembers."""
        return self._optimiser.state()

    def go_on(self, weights: Weights, averaged: Weights, state: Weights) -> None:
        """Take up a run where it was left.

        Raises
        ------
        ValueError
            If the state is not that of this optimiser.
        """
        self._network.load_canonical(weights)
        self._average.load_canonical(averaged)
        self._optimiser.set_state(state)
