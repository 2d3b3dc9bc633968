"""What backends that compute in their own process have in common: a network, its optimiser and a device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from ..config import TrainingConfig
from ..network.plan import NetworkPlan
from ..physics.devices import Device, Obj
from ..physics.groups import Optics
from ..physics.likelihood import ScanPatterns, ScanPhysics
from ..physics.operations import A
from ..physics.scan_likelihood import ScanLikelihood
from .base import Batch, Illumination, StepResult, Weights
from .losses import GroupBatch, LossWeights

__all__ = ['NetworkBackend']


class _Network(Protocol):
    plan: NetworkPlan

    def canonical_weights(self) -> dict[str, npt.NDArray[np.float32]]: ...

    def load_canonical(self, weights: Weights) -> None: ...


class _Optimiser(Protocol):
    def state(self) -> dict[str, npt.NDArray[np.float32]]: ...

    def set_state(self, state: Weights) -> None: ...


N = TypeVar('N', bound=_Network)
O = TypeVar('O', bound=_Optimiser)  # noqa: E741  named as its bound


class NetworkBackend(Generic[A, Obj, N, O]):
    """The part of a :class:`~.base.Backend` that no framework has a say in.

    Parameters
    ----------
    device : Device
        Where batches and patterns go.
    """

    def __init__(self, device: Device[A, Obj]) -> None:
        self._device = device
        self._network: N | None = None
        self._optimiser: O | None = None
        self._optics: tuple[Illumination, Optics[A]] | None = None
        self._weights = LossWeights.of(TrainingConfig())

    @property
    def network(self) -> N:
        """The network; ``build()`` must have been called."""
        if self._network is None:
            raise RuntimeError('build() must be called first')
        return self._network

    @property
    def _prepared_optimiser(self) -> O:
        if self._optimiser is None:
            raise RuntimeError('prepare_training() must be called first')
        return self._optimiser

    def _sent(self, batch: Batch, *, bare: bool = False) -> tuple[GroupBatch[A], Optics[A]]:
        """Return a batch and its illumination on the device; batches of one scan share the latter."""
        device, illumination = self._device, batch.illumination
        if self._optics is None or self._optics[0] is not illumination:
            self._optics = illumination, illumination.on_device(device.ops, device.send)
        sent = GroupBatch.sent(batch, self.network.plan, device.send, device.count, bare=bare)
        return sent, self._optics[1]

    def _evaluated(self, batch: Batch) -> tuple[A, A]:
        """Return (weighted loss, deviance per pixel), averaged over patterns, without a gradient."""
        raise NotImplementedError

    def _predicted(self, batch: Batch) -> A:
        """Return object patches (B, C, N, N)."""
        raise NotImplementedError

    def evaluate(self, batch: Batch) -> StepResult:
        """Return the losses without learning."""
        loss, fit = self._evaluated(batch)
        return StepResult(*(float(self._device.fetch(value)) for value in (loss, fit)))

    def predict(self, batch: Batch) -> npt.NDArray[np.complex64]:
        """Return object patches (B, C, N, N) in the engine's scale."""
        return np.asarray(self._device.fetch(self._predicted(batch)), dtype=np.complex64)

    def scan_physics(self, patterns: ScanPatterns) -> ScanPhysics:
        """Put the patterns of a scan on the device, for refinement."""
        return ScanLikelihood(patterns, self._device)

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
