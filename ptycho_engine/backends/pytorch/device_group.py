"""Several devices in PyTorch: one process for each, of which every one computes a part of each batch.

The caller's own process computes nothing of a step. It hands out the parts and gathers the results, so the
training driver, its events, its files and Ctrl-C stay in one place, and a process that dies is noticed.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...config import PyTorchExecutionConfig, TrainingConfig
from ...errors import BackendUnavailableError
from ...network.plan import NetworkPlan
from ...physics.likelihood import ScanPatterns, ScanPhysics
from ...physics.scan_likelihood import ScanLikelihood
from ..base import Batch, Illumination, StepResult
from .backend import PyTorchBackend
from .devices import one_device, real_type
from .operations import TorchDevice

__all__ = ['DeviceGroupBackend', 'Piece']

MEMBER = 'from ptycho_engine.backends.pytorch.device_worker import main; main()'
END_GRACE_S = 5.0

Weights = Mapping[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Piece:
    """What one device gets of a batch; there may be no group in it."""

    illumination: Illumination | None
    """None for that of the piece before."""
    amplitude: npt.NDArray[np.float32]
    corner: npt.NDArray[np.int64]
    subpixel_shift: npt.NDArray[np.float32]
    extent: int
    labels: npt.NDArray[np.complex64] | None
    looks: npt.NDArray[np.float32] | None
    truth: npt.NDArray[np.complex64] | None
    judged: npt.NDArray[np.bool_] | None
    share: float
    """Groups of this piece as a fraction of those of the whole step."""


@dataclass(frozen=True)
class _Member:
    process: subprocess.Popen[bytes]
    connection: Connection


class DeviceGroupBackend:
    """Runs a network plan on several devices, each in a process of its own.

    Raises
    ------
    BackendUnavailableError
        If PyTorch finds fewer devices than asked for, or the processes cannot work together.
    """

    name = 'pytorch'

    def __init__(self, execution: PyTorchExecutionConfig) -> None:
        self._device = one_device(execution.accelerator)
        self._real = real_type(execution.precision, self._device)
        _check_count(self._device.type, execution.devices)
        self._alone = PyTorchBackend(execution, self._device)
        self._sent: Illumination | None = None
        with socket.create_server(('127.0.0.1', 0)) as free:
            port = free.getsockname()[1]
        count = execution.devices
        self._members = [_start_member(rank, count, port) for rank in range(count)]
        # For a backend that nobody closes.
        self._end = weakref.finalize(self, _end_members, self._members)
        self._ask('start', execution, self._device.type)

    def build(self, plan: NetworkPlan, weights: Weights) -> None:
        """Make the network from canonical weights; one device alone works on whole objects."""
        if plan.model.of_objects:
            self._alone.build(plan, weights)
        if plan.parts:
            self._ask('build', plan, dict(weights))

    def prepare_training(self, config: TrainingConfig) -> None:
        """Make the optimiser and the losses."""
        self._ask('prepare_training', config)

    def train_step(self, batches: Sequence[Batch], learning_rate: float) -> StepResult:
        """Descend once along the gradient averaged over the groups of all `batches`."""
        results = self._ask_each('step', self._pieces(batches), learning_rate)
        return StepResult(sum(r.loss for r in results), sum(r.deviance for r in results))

    def evaluate(self, batch: Batch) -> StepResult:
        """Return the losses without learning."""
        results = self._ask_each('evaluate', self._pieces([batch]))
        return StepResult(sum(r.loss for r in results), sum(r.deviance for r in results))

    def predict(self, batch: Batch) -> npt.NDArray[np.complex64]:
        """Return object patches (B, C, N, N) in the engine's scale."""
        return np.concatenate(self._ask_each('predict', self._pieces([batch])))

    def denoise(self, obj: Tensor, deviation: Tensor) -> Tensor:
        """Return the noise (H, W) that the prior sees in an object (H, W), both on the one device."""
        return self._alone.denoise(obj, deviation)

    def weights(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return a copy of the canonical weights, which all devices have alike."""
        weights: dict[str, npt.NDArray[np.float32]] = self._first('weights')
        return weights

    def set_weights(self, weights: Weights) -> None:
        """Replace the weights; the optimiser goes on."""
        self._ask('set_weights', dict(weights))

    def optimiser_state(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return a copy of what the optimiser remembers, which all devices have alike."""
        state: dict[str, npt.NDArray[np.float32]] = self._first('optimiser_state')
        return state

    def set_optimiser_state(self, state: Weights) -> None:
        """Go on from :meth:`optimiser_state`."""
        self._ask('set_optimiser_state', dict(state))

    def scan_physics(self, patterns: ScanPatterns) -> ScanPhysics:
        """Put the patterns of a scan on one device, for refinement."""
        return ScanLikelihood(patterns, TorchDevice(self._device, self._real))

    def close(self) -> None:
        """End the processes."""
        self._end()

    def _pieces(self, batches: Sequence[Batch]) -> list[list[Piece]]:
        """Cut batches into a list of pieces for each device."""
        total = sum(len(batch) for batch in batches)
        count = len(self._members)
        pieces: list[list[Piece]] = [[] for _ in range(count)]
        for batch in batches:
            same = batch.illumination is self._sent
            self._sent = batch.illumination
            for rank in range(count):
                part = slice(rank * len(batch) // count, (rank + 1) * len(batch) // count)
                pieces[rank].append(
                    Piece(
                        illumination=None if same else batch.illumination,
                        amplitude=batch.amplitude[part],
                        corner=batch.corner[part],
                        subpixel_shift=batch.subpixel_shift[part],
                        extent=batch.extent,
                        labels=None if batch.labels is None else batch.labels[part],
                        looks=None if batch.looks is None else batch.looks[:, part],
                        truth=None if batch.truth is None else batch.truth[part],
                        judged=None if batch.judged is None else batch.judged[part],
                        share=(part.stop - part.start) / total,
                    )
                )
        return pieces

    def _ask(self, method: str, *arguments: Any) -> None:
        """Have all devices do the same."""
        self._gather([(method, arguments)] * len(self._members))

    def _first(self, method: str, *arguments: Any) -> Any:
        """Ask the first device alone."""
        self._send(0, (method, arguments))
        return self._answer(0)

    def _ask_each(self, method: str, parts: Sequence[Any], *arguments: Any) -> list[Any]:
        """Have each device do its part."""
        return self._gather([(method, (part, *arguments)) for part in parts])

    def _gather(self, messages: Sequence[tuple[str, tuple[Any, ...]]]) -> list[Any]:
        answers: dict[int, Any] = {}
        waiting = {member.connection: rank for rank, member in enumerate(self._members)}
        try:
            for rank, message in enumerate(messages):
                self._send(rank, message)
            # In the order in which they come: one that fails leaves the others waiting for it.
            while waiting:
                for connection in wait(list(waiting)):
                    assert isinstance(connection, Connection)
                    rank = waiting.pop(connection)
                    answers[rank] = self._answer(rank)
        except BaseException:
            # Interrupted here, the processes would answer what nobody asks any more.
            self.close()
            raise
        return [answers[rank] for rank in range(len(messages))]

    def _send(self, rank: int, message: tuple[str, tuple[Any, ...]]) -> None:
        try:
            self._members[rank].connection.send(message)
        except OSError as error:
            raise self._lost(rank) from error

    def _answer(self, rank: int) -> Any:
        try:
            failed, value = self._members[rank].connection.recv()
        except (EOFError, OSError) as error:
            raise self._lost(rank) from error
        if failed:
            raise value
        return value

    def _lost(self, rank: int) -> BackendUnavailableError:
        process = self._members[rank].process
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_GRACE_S)
        return BackendUnavailableError(
            f'PyTorch backend lost the process of device {rank + 1} of {len(self._members)} (exit status '
            f'{process.returncode}), perhaps for want of memory; use fewer devices or a smaller batch.'
        )


def _check_count(kind: str, count: int) -> None:
    found = {'cuda': torch.cuda.device_count(), 'cpu': os.cpu_count() or 1}.get(kind, 1)
    if count > found:
        what = 'cores' if kind == 'cpu' else f'devices of the kind {kind!r}'
        raise BackendUnavailableError(
            f'PyTorch backend selected with {count} devices, but this machine has {found} {what}; set '
            f'devices to {found} or less.'
        )
    if os.name != 'posix':
        raise BackendUnavailableError(
            'PyTorch backend selected with several devices, which it shares work among on Linux and macOS '
            'only; set devices to 1.'
        )


def _start_member(rank: int, count: int, port: int) -> _Member:
    ours, theirs = Pipe()
    # Not multiprocessing.Process: it would run the caller's script again, and daemonic processes, such as
    # those of some job runners, may not start one.
    process = subprocess.Popen(
        [sys.executable, '-c', MEMBER, *map(str, (theirs.fileno(), rank, count, port))],
        pass_fds=(theirs.fileno(),),
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, sys.path))},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        # Ctrl-C in a terminal is for the caller, who decides what it means.
        start_new_session=True,
    )
    theirs.close()
    return _Member(process, ours)


def _end_members(members: Sequence[_Member]) -> None:
    """Ask all processes to end, and end those that do not."""
    for member in members:
        member.connection.close()
        # The member sees the end of its input even while it waits for another one.
        assert member.process.stdin is not None
        member.process.stdin.close()
    for member in members:
        try:
            member.process.wait(END_GRACE_S)
        except subprocess.TimeoutExpired:
            member.process.kill()
            member.process.wait()
