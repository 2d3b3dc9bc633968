"""The process of one device of a group (:mod:`.device_group`): does what it is told until its input ends."""

from __future__ import annotations

import logging
import os
import sys
import threading
import traceback
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy

from ...config import PyTorchExecutionConfig, TrainingConfig
from ...errors import EngineError
from ...network.plan import NetworkPlan
from ..base import Batch, Illumination, StepResult
from .backend import PyTorchBackend
from .device_group import Piece, Weights

__all__ = ['main']


class _Place(ClusterEnvironment):
    """Tells Fabric which of the processes on this machine this is; they are running already."""

    def __init__(self, rank: int, count: int, port: int) -> None:
        self._rank, self._count, self._port = rank, count, port

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return '127.0.0.1'

    @property
    def main_port(self) -> int:
        return self._port

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self._count

    def set_world_size(self, size: int) -> None:
        """Not changed from outside."""

    def global_rank(self) -> int:
        return self._rank

    def set_global_rank(self, rank: int) -> None:
        """Not changed from outside."""

    def local_rank(self) -> int:
        return self._rank

    def node_rank(self) -> int:
        return 0


class _Member:
    """The methods that a message may name."""

    def __init__(self, place: _Place) -> None:
        self._place = place
        self._illumination: Illumination | None = None

    def start(self, execution: PyTorchExecutionConfig, kind: str) -> None:
        """Join the other processes."""
        count = self._place.world_size()
        if kind == 'cpu':
            torch.set_num_threads(max(torch.get_num_threads() // count, 1))
        strategy = DDPStrategy(cluster_environment=self._place)
        fabric = Fabric(accelerator=kind, devices=count, strategy=strategy)
        fabric.launch()
        self._backend = PyTorchBackend(execution, fabric)

    def build(self, plan: NetworkPlan, weights: Weights) -> None:
        self._backend.build(plan, weights)

    def prepare_training(self, config: TrainingConfig) -> None:
        self._backend.prepare_training(config)

    def step(self, pieces: Sequence[Piece], learning_rate: float) -> StepResult:
        return self._backend.share_step(self._batches(pieces), learning_rate)

    def evaluate(self, pieces: Sequence[Piece]) -> StepResult:
        """Return this device's part of the mean losses."""
        loss = fit = 0.0
        for batch, share in self._batches(pieces):
            result = self._backend.evaluate(batch)
            loss += share * result.loss
            fit += share * result.deviance
        return StepResult(loss, fit)

    def predict(self, pieces: Sequence[Piece]) -> npt.NDArray[np.complex64]:
        parts = [self._backend.predict(batch) for batch, _ in self._batches(pieces)]
        return parts[0] if parts else np.empty(pieces[0].amplitude.shape, np.complex64)

    def weights(self) -> Weights:
        return self._backend.weights()

    def set_weights(self, weights: Weights) -> None:
        self._backend.set_weights(weights)

    def optimiser_state(self) -> Weights:
        return self._backend.optimiser_state()

    def set_optimiser_state(self, state: Weights) -> None:
        self._backend.set_optimiser_state(state)

    def _batches(self, pieces: Sequence[Piece]) -> list[tuple[Batch, float]]:
        """Return the pieces that have groups, with the illumination that each is under, and their shares."""
        batches = []
        for piece in pieces:
            self._illumination = piece.illumination or self._illumination
            assert self._illumination is not None
            if len(piece.amplitude):
                batch = Batch(
                    illumination=self._illumination,
                    amplitude=piece.amplitude,
                    corner=piece.corner,
                    remainder=piece.remainder,
                    extent=piece.extent,
                    labels=piece.labels,
                    looks=piece.looks,
                    truth=piece.truth,
                    judged=piece.judged,
                )
                batches.append((batch, piece.share))
        return batches


def main() -> None:
    """Serve the connection whose descriptor, rank, number of processes and port are the arguments."""
    descriptor, rank, count, port = map(int, sys.argv[1:5])
    threading.Thread(target=_end_with_the_caller, daemon=True).start()
    for noisy in ('lightning_fabric', 'lightning.fabric'):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    connection = Connection(descriptor)
    member = _Member(_Place(rank, count, port))
    while True:
        try:
            method, arguments = connection.recv()
        except EOFError:
            break
        connection.send(_answer(getattr(member, method), arguments))
    # No waiting for the others: they may be gone.
    os._exit(0)


def _answer(method: Any, arguments: tuple[Any, ...]) -> tuple[bool, Any]:
    """Return (failed, what was returned or raised)."""
    try:
        return False, method(*arguments)
    except EngineError as error:
        return True, error
    except Exception:  # noqa: BLE001  (raised again where it was asked for)
        return True, RuntimeError(traceback.format_exc())


def _end_with_the_caller() -> None:
    """End this process when the caller closes its input or is gone, even while it waits for another one."""
    sys.stdin.buffer.read()
    os._exit(0)
