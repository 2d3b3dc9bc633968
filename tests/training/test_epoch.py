"""In which order a pass takes its groups, and what judges an epoch (RUN-01, RUN-02)."""

from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np
import pytest

from ptycho_engine.backends.base import StepResult
from ptycho_engine.config import ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho_engine.events import EpochDone
from ptycho_engine.scan.scan import Scan
from ptycho_engine.training.epoch import training_pass
from ptycho_engine.training.schedule import Schedule
from ptycho_engine.training.sources import GroupedScan
from ptycho_engine.training.train import train
from tests.conftest import small_scan

CONFIG = TrainingConfig(batch_size=4, accum_steps=2)


@dataclass(frozen=True)
class NamedBatch:
    """Stands for the arrays of a batch: whose groups it holds."""

    scan: int
    groups: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.groups)


@dataclass(frozen=True)
class NamedScan:
    """Stands for a scan whose groups are numbers."""

    number: int

    def extent(self, groups):
        return 0

    def batch(self, groups, extent=None):
        return NamedBatch(self.number, tuple(groups[:, 0].tolist()))


class Recorder:
    """Stands for a backend, and remembers its steps."""

    def __init__(self):
        self.steps = []

    def train_step(self, batches, learning_rate):
        self.steps.append(tuple(batches))
        return StepResult(1.0, 1.0)


def passed(scans=11, groups=10, epoch=1, **changes):
    """Return the steps of a pass over numbered scans, and how many of them were made ready at once."""
    config = replace(CONFIG, **changes)
    grouped = [GroupedScan(NamedScan(k), np.arange(groups, dtype=np.int32)[:, None]) for k in range(scans)]
    backend, ready = Recorder(), []

    def bring(items):
        ready.append(len(items))
        return list(items)

    for _ in training_pass(
        backend, grouped, bring, config, Schedule(config), epoch, lambda: False, simulated=False
    ):
        pass
    return backend.steps, ready


def test_run_01_the_order_follows_from_the_seed_and_the_number_of_the_epoch_alone():
    first, _ = passed()
    assert passed()[0] == first
    others = [passed(epoch=2)[0], passed(seed=1)[0]]
    assert all(other != first for other in others)
    # Within one scan as well.
    assert passed(1)[0] != passed(1, epoch=2)[0]


def test_run_01_a_batch_is_of_one_scan_and_eight_scans_take_turns():
    steps, ready = passed()
    assert ready == [8, 3]
    batches = [batch for step in steps for batch in step]
    taken = [(batch.scan, group) for batch in batches for group in batch.groups]
    assert sorted(taken) == [(scan, group) for scan in range(11) for group in range(10)]
    assert all(len(step) == 2 for step in steps[:-1])
    assert any(a.scan != b.scan for a, b in (step for step in steps if len(step) == 2))
    order = [batch.scan for batch in batches]
    assert len(set(order[:24])) == 8
    assert order[:24] != sorted(order[:24])


@pytest.mark.usefixtures('slim_cnn')
@pytest.mark.parametrize('fraction', [0.0, 0.2])
def test_run_02_the_validation_groups_judge_or_else_the_training_does(tmp_path, monkeypatch, fraction):
    """Validation finds each epoch worse than the one before; after two that are not better the run ends."""
    told = iter([1.0, 1.01, 3.0, 4.0, 5.0])

    def validated(*_):
        return StepResult(next(told), 1.0) if fraction else None

    monkeypatch.setattr('ptycho_engine.training.train.validation_pass', validated)
    config = TrainingConfig(
        model=ModelConfig(n_filters_scale=1, architecture='cnn'),
        nepochs=5,
        n_groups=64,
        batch_size=4,
        learning_rate=1e-3,
        scheduler='Default',
        early_stop_patience=2,
        validation_fraction=fraction,
    )
    scan = Scan.from_raw(small_scan(points=4, size=32))
    events = train([scan], config, tmp_path, execution=PyTorchExecutionConfig(accelerator='cpu'))
    epochs = [event for event in events if isinstance(event, EpochDone)]
    training = [epoch.training_loss for epoch in epochs]
    assert min(training[1:3]) < training[0]
    judged = [1.0, 1.01, 3.0] if fraction else training
    lowest = [np.inf, *accumulate(judged, min)]
    assert [epoch.best for epoch in epochs] == [a < b for a, b in zip(judged, lowest, strict=False)]
    assert len(epochs) == (3 if fraction else 5)
