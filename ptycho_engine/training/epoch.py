"""One pass over the training groups, and one over the validation groups."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..backends.base import Backend, Batch, StepResult
from ..config import TrainingConfig
from ..errors import Cancelled
from ..events import BatchDone
from .schedule import Schedule
from .sources import GroupedScan, ReadyOrSampled

__all__ = ['TrainingPass', 'training_pass', 'validation_pass']

SCANS_AT_ONCE = 8
"""Scans, or parts of them, whose groups are mixed: their images are in memory."""

Bring = Callable[[Sequence[GroupedScan]], list[GroupedScan]]

Step = list[tuple[int, npt.NDArray[np.int32]]]
"""Number of the scan, of those at once, and the groups (b, C) of each batch."""


@dataclass
class _Mean:
    """Running averages weighted by batch size."""

    loss: float = 0.0
    deviance: float = 0.0
    count: int = 0

    def add(self, result: StepResult, count: int) -> None:
        self.loss += result.loss * count
        self.deviance += result.deviance * count
        self.count += count

    def value(self) -> StepResult:
        if self.count == 0:
            return StepResult(math.nan, math.nan)
        return StepResult(self.loss / self.count, self.deviance / self.count)


@dataclass(frozen=True)
class TrainingPass:
    """How a pass went."""

    result: StepResult
    """Losses averaged over its groups; not finite where training diverged."""
    learning_rate: float
    """That of the last step."""
    stopped: bool
    """Whether it was cut short on request."""


def training_pass(
    backend: Backend,
    grouped: Sequence[ReadyOrSampled],
    bring: Bring,
    config: TrainingConfig,
    schedule: Schedule,
    epoch: int,
    stop: Callable[[], bool],
    *,
    simulated: bool,
    workers: int = 0,
) -> Generator[BatchDone, None, TrainingPass]:
    """Train on all groups once, in an order that follows from the seed and the epoch alone.

    `bring` makes some of the scans ready, just before their groups are taken. Ends early where `stop` says so
    after a step, or at a loss that is not finite.

    Raises
    ------
    Cancelled
        If `bring` was to stop before the first step.
    """
    rng = np.random.default_rng([config.seed, 1, epoch])
    plans = [
        (part, _steps(part, config.batch_size, config.accum_steps, rng)) for part in _at_once(grouped, rng)
    ]
    n_steps = sum(len(steps) for _, steps in plans)
    mean = _Mean()
    rate = math.nan
    stopped = False
    try:
        for number, batches in enumerate(_all_gathered(plans, bring, workers)):
            rate = schedule.rate(epoch, number, n_steps)
            result = backend.train_step(batches, rate)
            mean.add(result, sum(map(len, batches)))
            if not math.isfinite(result.loss):
                break
            done = (number + 1) / n_steps
            yield BatchDone(epoch, config.nepochs, done, simulated)
            if stop():
                stopped = True
                break
    except Cancelled:
        if mean.count == 0:
            raise
        stopped = True
    return TrainingPass(mean.value(), rate, stopped)


def validation_pass(
    backend: Backend,
    grouped: list[GroupedScan],
    batch_size: int,
    stop: Callable[[], bool],
) -> StepResult | None:
    """Return the mean over the validation groups; None where there are none or the run was stopped."""
    if not grouped:
        return None
    mean = _Mean()
    for item in grouped:
        for batch in item.batches(batch_size):
            if stop():
                return None
            mean.add(backend.evaluate(batch), len(batch))
    return mean.value()


def _at_once(grouped: Sequence[ReadyOrSampled], rng: np.random.Generator) -> list[list[ReadyOrSampled]]:
    """Return the scans in lists of ``SCANS_AT_ONCE``, mixed where there are more."""
    order = range(len(grouped)) if len(grouped) <= SCANS_AT_ONCE else rng.permutation(len(grouped))
    mixed = [grouped[number] for number in order]
    return [mixed[start : start + SCANS_AT_ONCE] for start in range(0, len(mixed), SCANS_AT_ONCE)]


def _all_gathered(
    plans: Sequence[tuple[Sequence[ReadyOrSampled], Sequence[Step]]], bring: Bring, workers: int
) -> Iterator[list[Batch]]:
    """Yield the batches of each step of all plans, the scans of a plan made ready before its first."""
    for scans, steps in plans:
        yield from _gathered(bring([item.ready() for item in scans]), steps, workers)


def _steps(
    grouped: Sequence[ReadyOrSampled], batch_size: int, accum_steps: int, rng: np.random.Generator
) -> list[Step]:
    """Cut groups into shuffled batches of one scan each, and batches into steps.

    The scans take turns at random, but the batches of one scan follow its shuffled groups, so that
    accumulating batches of one scan is the same as larger batches.
    """
    queues: list[Iterator[tuple[int, npt.NDArray[np.int32]]]] = []
    turns: list[int] = []
    for number, item in enumerate(grouped):
        groups = item.groups[rng.permutation(len(item.groups))]
        starts = range(0, len(groups), batch_size)
        queues.append(iter([(number, groups[start : start + batch_size]) for start in starts]))
        turns += [number] * len(starts)
    if len(grouped) > 1:
        turns = rng.permutation(turns).tolist()
    batches = [next(queues[turn]) for turn in turns]
    return [batches[start : start + accum_steps] for start in range(0, len(batches), accum_steps)]


def _gathered(scans: Sequence[GroupedScan], steps: Sequence[Step], workers: int) -> Iterator[list[Batch]]:
    """Yield the batches of each step; `workers` threads prepare the next steps meanwhile."""

    def gather(step: Step) -> list[Batch]:
        return [scans[number].batch(groups) for number, groups in step]

    if workers == 0:
        yield from map(gather, steps)
        return
    pool = ThreadPoolExecutor(workers)
    try:
        pending: deque[Future[list[Batch]]] = deque()
        for step in steps:
            pending.append(pool.submit(gather, step))
            if len(pending) > workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
