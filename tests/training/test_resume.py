"""Checkpoints and resume: a run that was cut goes on as if it had not been, on every backend."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ptycho_engine.config import ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho_engine.config.training import BACKENDS
from ptycho_engine.errors import (
    ArchiveError,
    ArchiveNotFoundError,
    ConfigError,
    DataValueError,
    DivergedError,
)
from ptycho_engine.events import BatchDone, EpochDone, ModelSaved
from ptycho_engine.formats.archive import PREVIOUS_CHECKPOINT_NAME, load_archive
from ptycho_engine.formats.checkpoint import load_checkpoint
from ptycho_engine.scan.scan import Scan
from ptycho_engine.training.simulated import ObjectVariety, SimulatedScans
from ptycho_engine.training.sources import MeasuredScans
from ptycho_engine.training.state import PRIOR_RATE, TrainingRun
from ptycho_engine.training.train import train
from tests.conftest import small_scan

pytestmark = pytest.mark.usefixtures('slim_cnn')

CPU = PyTorchExecutionConfig(accelerator='cpu')
SMALL = TrainingConfig(
    model=ModelConfig(n_filters_scale=1, architecture='cnn'),
    nepochs=6,
    batch_size=8,
    n_groups=24,
    validation_fraction=0.2,
)
SGD = {'optimizer': 'sgd', 'learning_rate': 0.05}
PLATEAU = {'scheduler': 'ReduceLROnPlateau', 'plateau_patience': 1, 'plateau_threshold': 0.9}


@pytest.fixture(scope='module')
def scan() -> Scan:
    return Scan.from_raw(small_scan(points=5, size=32))


def epochs_of(events, until=None):
    """Run and return the epochs; leave the run after epoch `until`, as a killed process would."""
    epochs = []
    for event in events:
        if isinstance(event, EpochDone):
            epochs.append(event)
            if event.epoch == until:
                events.close()
                break
    return epochs


def assert_same_run(found: Path, expected: Path):
    one, other = load_archive(found), load_archive(expected)
    for key, value in other.weights.items():
        np.testing.assert_allclose(one.weights[key], value, atol=1e-5)
    assert [sorted(record) for record in one.history] == [sorted(record) for record in other.history]
    for a, b in zip(one.history, other.history, strict=True):
        assert {**a, 'seconds': 0} == pytest.approx({**b, 'seconds': 0}, rel=1e-5)
    last, expected_last = (load_checkpoint(path / 'checkpoint.zip') for path in (found, expected))
    for key, value in expected_last.weights.items():
        np.testing.assert_allclose(last.weights[key], value, atol=1e-5)
    assert set(last.optimiser) == set(expected_last.optimiser)
    assert last.progress.schedule == pytest.approx(expected_last.progress.schedule)
    one, other = last.progress, expected_last.progress
    assert (one.epoch, one.stale, one.data) == (other.epoch, other.stale, other.data)
    assert one.best_loss == pytest.approx(other.best_loss)


@pytest.mark.parametrize(
    ('backend', 'options'),
    [
        ('pytorch', {}),
        *((backend, {**SGD, 'accum_steps': 2, 'scheduler': 'Exponential'}) for backend in BACKENDS),
        ('pytorch', {'optimizer': 'adam', 'validation_fraction': 0.0, **PLATEAU}),
    ],
)
def test_three_epochs_and_three_more_are_six(scan, tmp_path, backend, options):
    config = replace(SMALL, backend=backend, **options)
    epochs_of(train([scan], config, tmp_path / 'whole', execution=CPU))
    assert epochs_of(train([scan], config, tmp_path / 'cut', execution=CPU), until=3)[-1].epoch == 3
    assert not (tmp_path / 'cut' / 'wts.h5.zip').exists()
    rest = epochs_of(train([scan], config, tmp_path / 'cut', execution=CPU, resume=True))
    assert [epoch.epoch for epoch in rest] == [4, 5, 6]
    assert_same_run(tmp_path / 'cut', tmp_path / 'whole')


def test_run_06_a_resumed_run_has_the_same_history_to_the_last_bit(scan, tmp_path):
    for folder, until in (('whole', None), ('cut', 1)):
        epochs_of(train([scan], SMALL, tmp_path / folder, execution=CPU), until=until)
    epochs_of(train([scan], SMALL, tmp_path / 'cut', execution=CPU, resume=True))
    found, expected = (load_archive(tmp_path / folder) for folder in ('cut', 'whole'))
    for a, b in zip(found.history, expected.history, strict=True):
        assert {**a, 'seconds': 0} == {**b, 'seconds': 0}
    for name, value in expected.weights.items():
        np.testing.assert_array_equal(found.weights[name], value)


def test_a_finished_run_can_be_made_longer(scan, tmp_path):
    """With a constant rate 3 epochs, made 6, are 6 epochs; otherwise the schedule is that of 6."""
    constant = replace(SMALL, scheduler='Default')
    epochs_of(train([scan], constant, tmp_path / 'whole', execution=CPU))
    for nepochs in (3, 6):
        epochs_of(
            train([scan], replace(constant, nepochs=nepochs), tmp_path / 'a', execution=CPU, resume=True)
        )
    assert_same_run(tmp_path / 'a', tmp_path / 'whole')

    short = epochs_of(train([scan], replace(SMALL, nepochs=2), tmp_path / 'b', execution=CPU))
    longer = epochs_of(train([scan], SMALL, tmp_path / 'b', execution=CPU, resume=True))
    whole = epochs_of(train([scan], SMALL, tmp_path / 'c', execution=CPU))
    assert [epoch.epoch for epoch in longer] == [3, 4, 5, 6]
    assert short[1].learning_rate < longer[0].learning_rate
    assert [e.learning_rate for e in longer] == pytest.approx([e.learning_rate for e in whole[2:]])
    assert longer[-1].n_epochs == 6


def test_a_run_with_nothing_left_to_do_saves_its_model_again(scan, tmp_path):
    config = replace(SMALL, nepochs=2)
    epochs_of(train([scan], config, tmp_path, execution=CPU))
    before = load_archive(tmp_path).weights
    (tmp_path / 'wts.h5.zip').unlink()
    events = list(train([scan], replace(config, nepochs=1), tmp_path, execution=CPU, resume=True))
    assert events == [ModelSaved(tmp_path / 'wts.h5.zip')]
    for key, value in load_archive(tmp_path).weights.items():
        np.testing.assert_array_equal(value, before[key])


def test_an_early_stop_stays_one_until_more_patience_is_asked_for(scan, tmp_path):
    ruin = replace(SMALL, nepochs=30, learning_rate=0.5, scheduler='Default', early_stop_patience=2)
    first = epochs_of(train([scan], ruin, tmp_path, execution=CPU))
    assert len(first) < 30
    assert not first[-1].best
    assert epochs_of(train([scan], ruin, tmp_path, execution=CPU, resume=True)) == []
    patient = replace(ruin, early_stop_patience=4)
    more = epochs_of(train([scan], patient, tmp_path, execution=CPU, resume=True))
    assert more[0].epoch == len(first) + 1
    epochs_of(train([scan], patient, tmp_path / 'whole', execution=CPU))
    assert_same_run(tmp_path, tmp_path / 'whole')


def test_run_03_a_stop_on_request_keeps_the_last_whole_epoch(scan, tmp_path):
    config = replace(SMALL, nepochs=3)
    epochs_of(train([scan], config, tmp_path / 'whole', execution=CPU))
    seen = []
    stop = lambda: len(seen) >= 5  # noqa: E731
    for event in train([scan], config, tmp_path / 'cut', execution=CPU, should_stop=stop):
        seen += [event] if isinstance(event, BatchDone) else []
    assert [record['epoch'] for record in load_archive(tmp_path / 'cut').history] == [1, 2]
    rest = epochs_of(train([scan], config, tmp_path / 'cut', execution=CPU, resume=True))
    assert [epoch.epoch for epoch in rest] == [2, 3]
    assert_same_run(tmp_path / 'cut', tmp_path / 'whole')


def test_the_checkpoint_is_the_best_model_so_far(scan, tmp_path):
    epochs = epochs_of(train([scan], SMALL, tmp_path, execution=CPU), until=2)
    assert [epoch.best for epoch in epochs] == [True, epochs[1].validation_loss < epochs[0].validation_loss]
    model = load_archive(tmp_path / 'checkpoint.zip')
    checkpoint = load_checkpoint(tmp_path / 'checkpoint.zip')
    assert len(model.history) == 2
    assert checkpoint.progress.best_loss == min(epoch.validation_loss for epoch in epochs)
    for key, value in model.weights.items():
        np.testing.assert_array_equal(checkpoint.model.weights[key], value)
    with pytest.raises(ArchiveNotFoundError, match=r'did not end; resume it, or give .*checkpoint\.zip'):
        load_archive(tmp_path)


KILLED = """
import sys
from dataclasses import replace
from pathlib import Path
import pytest
from ptycho_engine.scan.scan import Scan
from ptycho_engine.events import BatchDone
from ptycho_engine.training.train import train
from tests.conftest import slim, small_scan
from tests.training.test_resume import CPU, SMALL

slim(pytest.MonkeyPatch())
scan = Scan.from_raw(small_scan(points=5, size=32))
for event in train([scan], replace(SMALL, nepochs=4, backend=sys.argv[2]), Path(sys.argv[1]), execution=CPU):
    if isinstance(event, BatchDone) and event.epoch == 2:
        print('in epoch 2', flush=True)
        sys.stdin.read()
"""


@pytest.mark.parametrize('backend', BACKENDS)
def test_a_run_killed_in_epoch_2_loses_that_epoch_only(scan, tmp_path, backend):
    config = replace(SMALL, nepochs=4, backend=backend)
    epochs_of(train([scan], config, tmp_path / 'whole', execution=CPU))
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, '-c', textwrap.dedent(KILLED), str(tmp_path / 'killed'), backend],
        cwd=root,
        env={**os.environ, 'PYTHONPATH': str(root)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout.readline() == 'in epoch 2\n'
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert {path.name for path in (tmp_path / 'killed').iterdir()} == {'checkpoint.zip', 'history.csv'}
    rest = epochs_of(train([scan], config, tmp_path / 'killed', execution=CPU, resume=True))
    assert [epoch.epoch for epoch in rest] == [2, 3, 4]
    assert_same_run(tmp_path / 'killed', tmp_path / 'whole')


def test_without_a_checkpoint_a_run_starts_from_the_beginning(scan, tmp_path, caplog):
    epochs = epochs_of(train([scan], SMALL, tmp_path, execution=CPU, resume=True), until=1)
    assert epochs[0].epoch == 1
    assert 'starting from the beginning' in caplog.text


@pytest.fixture(scope='module')
def cut(scan, tmp_path_factory):
    folder = tmp_path_factory.mktemp('cut')
    epochs_of(train([scan], SMALL, folder, execution=CPU), until=1)
    return folder


@pytest.mark.parametrize(
    ('change', 'error', 'message'),
    [
        (lambda c: replace(c, learning_rate=1e-3), ConfigError, 'learning_rate 0.002, but 0.001 was asked'),
        (
            lambda c: replace(c, model=replace(c.model, gridsize=2)),
            ConfigError,
            'gridsize 1, but 2 was asked',
        ),
        (lambda c: replace(c, seed=3, batch_size=4), ConfigError, 'batch_size 8, seed 0, but 4, 3 was asked'),
    ],
)
def test_another_run_is_refused(scan, cut, change, error, message):
    before = (cut / 'checkpoint.zip').read_bytes()
    with pytest.raises(error, match=message):
        next(train([scan], change(SMALL), cut, execution=CPU, resume=True))
    assert (cut / 'checkpoint.zip').read_bytes() == before


def test_other_data_are_refused(scan, cut):
    raw = scan.raw
    brighter = raw.diffraction.copy()
    brighter[7] *= 2
    others = [
        replace(raw, diffraction=brighter),
        replace(raw, xcoords=raw.xcoords + 0.25),
        replace(raw, probeGuess=raw.probeGuess * 1.1),
    ]
    for other in others:
        with pytest.raises(DataValueError, match='of a run on other data'):
            next(train([Scan.from_raw(other)], SMALL, cut, execution=CPU, resume=True))
    with pytest.raises(DataValueError, match='of a run on other data'):
        next(train([scan, scan], SMALL, cut, execution=CPU, resume=True))


def test_simulated_training_resumes_too(scan, tmp_path):
    config = replace(SMALL, nepochs=2, n_groups=16, model=replace(SMALL.model, N=32))

    def source(**options):
        return SimulatedScans(
            scan, config, variety=ObjectVariety(families=('dead-leaves', 'lines'), **options)
        )

    epochs_of(train(source(), config, tmp_path / 'whole', execution=CPU))
    epochs_of(train(source(), config, tmp_path / 'cut', execution=CPU), until=1)
    with pytest.raises(DataValueError, match='of a run on other data'):
        next(train(source(phase=0.5), config, tmp_path / 'cut', execution=CPU, resume=True))
    epochs_of(train(source(), config, tmp_path / 'cut', execution=CPU, resume=True))
    assert_same_run(tmp_path / 'cut', tmp_path / 'whole')


class _CountingBackend:
    """Stands for a backend whose weights are the number of the epoch."""

    name = 'pytorch'

    def __init__(self) -> None:
        self.value = 0.0

    def prepare_training(self, config) -> None:
        self.config = config

    def weights(self):
        return {'w': np.float32([self.value])}


def test_what_a_run_starts_from_stays_until_an_epoch_is_better(scan):
    """STAGE-01, STAGE-02."""
    config = TrainingConfig(nepochs=9)
    backend = _CountingBackend()
    run = TrainingRun(config, backend, MeasuredScans([scan], config))
    assert backend.config == replace(config, learning_rate=PRIOR_RATE * config.learning_rate)
    run.judge_start(0.5)
    for value, loss, best in ((3.0, 0.6, 0.0), (4.0, 0.4, 4.0), (5.0, 0.45, 4.0)):
        backend.value = value
        run.complete(loss)
        assert run.model().weights['w'] == best
    assert (run.epoch, run.stale) == (3, 1)


def test_a_prior_that_adapts_to_a_scan_resumes_to_the_bit(scan, tmp_path):
    config = TrainingConfig(nepochs=3, n_groups=16, batch_size=8, learning_rate=0.3, scheduler='Default')
    epochs_of(train([scan], config, tmp_path / 'whole', execution=CPU))
    epochs_of(train([scan], config, tmp_path / 'cut', execution=CPU), until=1)
    epochs_of(train([scan], config, tmp_path / 'cut', execution=CPU, resume=True))
    assert_same_run(tmp_path / 'cut', tmp_path / 'whole')


def test_a_damaged_checkpoint_is_refused_and_nothing_is_lost(scan, cut, tmp_path):
    whole = (cut / 'checkpoint.zip').read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for damaged in (b'', whole[:-100], bytes(flipped)):
        (tmp_path / 'checkpoint.zip').write_bytes(damaged)
        (tmp_path / 'wts.h5.zip').write_bytes(b'an earlier model')
        with pytest.raises(ArchiveError, match=r'checkpoint\.zip'):
            next(train([scan], SMALL, tmp_path, execution=CPU, resume=True))
        assert (tmp_path / 'checkpoint.zip').read_bytes() == damaged
        assert (tmp_path / 'wts.h5.zip').read_bytes() == b'an earlier model'


def test_a_new_run_puts_the_checkpoint_of_an_earlier_one_aside(scan, cut, tmp_path):
    whole = (cut / 'checkpoint.zip').read_bytes()
    (tmp_path / 'checkpoint.zip').write_bytes(whole)
    run = train([scan], replace(SMALL, nepochs=2), tmp_path, execution=CPU)
    next(run)
    assert (tmp_path / 'checkpoint.zip').read_bytes() == whole
    list(run)
    assert (tmp_path / PREVIOUS_CHECKPOINT_NAME).read_bytes() == whole
    assert load_checkpoint(tmp_path / 'checkpoint.zip').progress.epoch == 2


def test_the_models_of_the_best_epochs_are_kept(scan, tmp_path):
    execution = replace(CPU, checkpoint_save_top_k=2)
    epochs = epochs_of(train([scan], SMALL, tmp_path, execution=execution))
    best = sorted(epochs, key=lambda epoch: epoch.validation_loss)[:2]
    kept = sorted(tmp_path.glob('epoch-*.wts.h5.zip'))
    assert [path.name for path in kept] == sorted(f'epoch-{e.epoch:04d}.wts.h5.zip' for e in best)
    best_of_all = load_archive(tmp_path / f'epoch-{best[0].epoch:04d}.wts.h5.zip')
    for key, value in load_archive(tmp_path).weights.items():
        np.testing.assert_array_equal(best_of_all.weights[key], value)


def test_a_checkpoint_holds_weights_and_moments_once(scan, tmp_path):
    """Those of the last epoch with two moments each, and of the best: what is written costs little."""
    wide = replace(SMALL, model=replace(SMALL.model, n_filters_scale=4), nepochs=1, n_groups=8)
    list(train([scan], wide, tmp_path, execution=CPU))
    weights = sum(value.nbytes for value in load_archive(tmp_path).weights.values())
    assert 4 * weights < (tmp_path / 'checkpoint.zip').stat().st_size < 4.2 * weights


def test_a_disk_that_is_full_does_not_end_the_training(scan, tmp_path, caplog, monkeypatch):
    def fail(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('ptycho_engine.training.train.save_checkpoint', fail)
    epochs = epochs_of(train([scan], replace(SMALL, nepochs=2), tmp_path, execution=CPU))
    assert len(epochs) == 2
    assert 'No checkpoint was written in epoch 2 ([Errno 28] No space left on device)' in caplog.text
    assert load_archive(tmp_path).weights


def test_a_stop_after_the_validation_keeps_the_epoch(scan, tmp_path):
    seen = []
    events = train([scan], SMALL, tmp_path, execution=CPU, should_stop=lambda: bool(seen))
    for event in events:
        seen += [event] if isinstance(event, EpochDone) else []
    assert len(seen) == 1
    assert seen[0].best
    assert load_checkpoint(tmp_path / 'checkpoint.zip').progress.epoch == 1


def test_a_loss_that_is_not_finite_in_the_first_epoch_leaves_no_model(scan, tmp_path):
    wild = replace(SMALL, learning_rate=1e30, optimizer='sgd', gradient_clip_val=None, scheduler='Default')
    with pytest.raises(DivergedError, match='not finite in the first epoch'):
        list(train([scan], wild, tmp_path, execution=CPU))
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_is_not_finite_later_keeps_the_best_weights(scan, tmp_path, caplog, monkeypatch):
    from ptycho_engine.training.schedule import Schedule

    monkeypatch.setattr(Schedule, 'rate', lambda self, epoch, *_: 1e-3 if epoch < 3 else 1e30)
    config = replace(SMALL, optimizer='sgd', gradient_clip_val=None)
    epochs = epochs_of(train([scan], config, tmp_path, execution=CPU))
    assert [epoch.epoch for epoch in epochs] == [1, 2]
    assert 'no longer finite in epoch 3' in caplog.text
    assert all(np.isfinite(value).all() for value in load_archive(tmp_path).weights.values())


def test_threads_that_prepare_batches_change_nothing(scan, tmp_path):
    config = replace(SMALL, nepochs=2, batch_size=4)
    for workers in (0, 3):
        execution = replace(CPU, num_workers=workers)
        epochs_of(train([scan], config, tmp_path / str(workers), execution=execution))
    assert_same_run(tmp_path / '3', tmp_path / '0')


def test_run_05_there_is_a_checkpoint_at_every_moment(scan, cut, tmp_path, monkeypatch):
    """The earlier one is put aside only when the new one is whole, and by a second name."""
    whole = (cut / 'checkpoint.zip').read_bytes()
    (tmp_path / 'checkpoint.zip').write_bytes(whole)
    replace_file, moments = Path.replace, []

    def watched(self, target):
        moments.append((tmp_path / 'checkpoint.zip').exists())
        found = replace_file(self, target)
        moments.append((tmp_path / 'checkpoint.zip').exists())
        return found

    monkeypatch.setattr(Path, 'replace', watched)
    epochs_of(train([scan], SMALL, tmp_path, execution=CPU), until=1)
    assert len(moments) >= 4
    assert all(moments)
    assert (tmp_path / PREVIOUS_CHECKPOINT_NAME).read_bytes() == whole


def test_run_05_a_full_disk_leaves_the_earlier_checkpoint_where_it_is(scan, cut, tmp_path, monkeypatch):
    whole = (cut / 'checkpoint.zip').read_bytes()
    (tmp_path / 'checkpoint.zip').write_bytes(whole)

    def fail(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('ptycho_engine.training.train.save_checkpoint', fail)
    epochs_of(train([scan], SMALL, tmp_path, execution=CPU), until=2)
    assert (tmp_path / 'checkpoint.zip').read_bytes() == whole
    assert not (tmp_path / PREVIOUS_CHECKPOINT_NAME).exists()


@pytest.mark.parametrize('present', [None, b'damaged'])
def test_run_11_a_run_resumes_from_the_checkpoint_before(scan, cut, tmp_path, caplog, present):
    shutil.copy(cut / 'checkpoint.zip', tmp_path / PREVIOUS_CHECKPOINT_NAME)
    if present is not None:
        (tmp_path / 'checkpoint.zip').write_bytes(present)
    done = load_checkpoint(cut / 'checkpoint.zip').progress.epoch
    rest = epochs_of(train([scan], SMALL, tmp_path, execution=CPU, resume=True), until=done + 1)
    assert [epoch.epoch for epoch in rest] == [done + 1]
    assert f'Going on from {tmp_path / PREVIOUS_CHECKPOINT_NAME} instead.' in caplog.text
    assert load_checkpoint(tmp_path / 'checkpoint.zip').progress.epoch == done + 1


def test_run_11_the_history_has_the_epochs_of_the_checkpoint(scan, tmp_path):
    """A process killed between checkpoint and line, or a machine that lost half a line."""
    epochs_of(train([scan], SMALL, tmp_path / 'whole', execution=CPU))
    epochs_of(train([scan], SMALL, tmp_path / 'cut', execution=CPU), until=3)
    path = tmp_path / 'cut' / 'history.csv'
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(''.join(lines[:2]) + lines[2][:7])
    epochs_of(train([scan], SMALL, tmp_path / 'cut', execution=CPU, resume=True))

    def rows(folder):
        with (tmp_path / folder / 'history.csv').open(newline='') as stream:
            return [
                {name: float(value) for name, value in row.items() if name not in ('seconds', 'best')}
                for row in csv.DictReader(stream)
            ]

    assert len(rows('cut')) == SMALL.nepochs
    assert rows('cut') == [pytest.approx(row, rel=1e-5) for row in rows('whole')]
