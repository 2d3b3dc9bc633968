"""The process of one device of a group (:mod:`.device_group`): does what it is told until its input ends."""

from __future__ import annotations

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
from torch import Tensor, distributed

from ...config import PyTorchExecutionConfig, TrainingConfig
from ...errors import EngineError
from ...network.plan import NetworkPlan
from ..base import Batch, Illumination, StepResult
from .backend import PyTorchBackend
from .device_group import Piece, Weights

__all__ = ['main']


class _Member:
    """The methods that a message may name."""

    def __init__(self, rank: int, count: int, port: int) -> None:
        self._rank, self._count, self._port = rank, count, port
        self._illumination: Illumination | None = None

    def start(self, execution: PyTorchExecutionConfig, kind: str) -> None:
        """Join the other processes."""
        if kind == 'cpu':
            torch.set_num_threads(max(torch.get_num_threads() // self._count, 1))
            device, transport = torch.device(kind), 'gloo'
        else:
            device, transport = torch.device(kind, self._rank), 'nccl'
            torch.cuda.set_device(device)
        distributed.init_process_group(
            transport,
            init_method=f'tcp://127.0.0.1:{self._port}',
            world_size=self._count,
            rank=self._rank,
        )
        self._backend = PyTorchBackend(execution, device, _added_up)

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
                    subpixel_shift=piece.subpixel_shift,
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
    connection = Connection(descriptor)
    member = _Member(rank, count, port)
    while True:
        try:
            method, arguments = connection.recv()
        except EOFError:
            break
        connection.send(_answer(getattr(member, method), arguments))
    # No waiting for the others: they may be gone.
    os._exit(0)


def _added_up(tensor: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes."""
    distributed.all_reduce(tensor)
    return tensor


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
