"""Records of a training: complete, continued on resuming, and honest about missing packages."""

import csv
import importlib.util
import os
import sys
import types
from dataclasses import replace
from pathlib import Path

import pytest

from ptycho_engine.config import ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho_engine.errors import ConfigError
from ptycho_engine.events import EpochDone
from ptycho_engine.training import loggers
from ptycho_engine.training.loggers import log_epochs
from ptycho_engine.training.train import train

pytestmark = pytest.mark.usefixtures('slim_cnn')

QUICK = TrainingConfig(
    model=ModelConfig(n_filters_scale=1, architecture='cnn'),
    nepochs=2,
    n_groups=8,
    batch_size=4,
)


def epochs(first: int, last: int, validation: float = 0.5):
    for number in range(first, last + 1):
        yield EpochDone(number, last, 1 / number, validation, 2 / number, 1.5, 1e-3, 0.25, best=True)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline='') as stream:
        return list(csv.DictReader(stream))


def test_csv_has_one_line_for_each_epoch_of_a_run(scan, tmp_path):
    done = [e for e in train([scan], QUICK, tmp_path) if isinstance(e, EpochDone)]
    rows = read(tmp_path / 'history.csv')
    assert [int(row['epoch']) for row in rows] == [1, 2]
    for row, event in zip(rows, done, strict=True):
        assert float(row['training_loss']) == event.training_loss
        assert float(row['learning_rate']) == event.learning_rate


def test_none_writes_nothing(scan, tmp_path):
    execution = PyTorchExecutionConfig(logger_backend='none', checkpoint_save_top_k=0)
    list(train([scan], replace(QUICK, nepochs=1), tmp_path, execution=execution))
    assert [path.name for path in tmp_path.iterdir()] == ['wts.h5.zip']


def test_csv_is_written_line_by_line_and_continued(tmp_path):
    execution = PyTorchExecutionConfig()
    path = tmp_path / 'history.csv'
    run = log_epochs(epochs(1, 3, float('nan')), execution, QUICK, tmp_path)
    next(run)
    next(run)
    assert [row['epoch'] for row in read(path)] == ['1', '2']
    run.close()
    list(log_epochs(epochs(2, 4), execution, QUICK, tmp_path))
    rows = read(path)
    assert [row['epoch'] for row in rows] == ['1', '2', '3', '4']
    assert [row['validation_loss'] for row in rows] == ['', '0.5', '0.5', '0.5']
    list(log_epochs(epochs(1, 1), execution, QUICK, tmp_path))
    assert len(read(path)) == 1


@pytest.mark.parametrize('kind', ['tensorboard', 'mlflow'])
def test_a_missing_package_is_named_before_anything_runs(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(loggers.importlib.util, 'find_spec', lambda name: None)
    execution = PyTorchExecutionConfig(logger_backend=kind)
    with pytest.raises(ConfigError, match=rf'{kind} is not installed; pip install {kind}'):
        next(log_epochs(epochs(1, 1), execution, QUICK, tmp_path / 'out'))
    assert not (tmp_path / 'out').exists()


@pytest.mark.skipif(importlib.util.find_spec('mlflow') is None, reason='mlflow is not installed')
def test_mlflow_holds_settings_and_epochs(tmp_path, monkeypatch):
    monkeypatch.delenv('MLFLOW_TRACKING_URI', raising=False)
    folder = tmp_path / 'run'
    list(log_epochs(epochs(1, 3), PyTorchExecutionConfig(logger_backend='mlflow'), QUICK, folder))
    mlflow = sys.modules['mlflow']
    client = mlflow.MlflowClient((folder / 'mlruns').as_uri())
    (run,) = client.search_runs(['0'])
    assert (run.info.run_name, run.info.status) == ('run', 'FINISHED')
    assert run.data.params['nepochs'] == '2'
    assert run.data.params['n_filters_scale'] == '1'
    found = client.get_metric_history(run.info.run_id, 'training_loss')
    assert [(m.step, m.value) for m in found] == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]


def test_tensorboard_is_given_every_epoch(tmp_path, monkeypatch):
    """With a package of the same interface; the real one is not among the test requirements."""
    events = []
    closed = []

    class Writer:
        def __init__(self, folder):
            assert Path(folder).is_dir()

        def add_event(self, event):
            events.append(event)

        def flush(self):
            pass

        def close(self):
            closed.append(True)

    def message(**values):
        return types.SimpleNamespace(**values)

    modules = {
        'tensorboard.summary.writer.event_file_writer': {'EventFileWriter': Writer},
        'tensorboard.compat.proto.event_pb2': {'Event': message},
        'tensorboard.compat.proto.summary_pb2': {'Summary': type('S', (), {'Value': staticmethod(message)})},
    }

    class Summary:
        Value = staticmethod(message)

        def __init__(self, value):
            self.value = value

    modules['tensorboard.compat.proto.summary_pb2']['Summary'] = Summary
    for name, content in modules.items():
        module = types.ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(loggers.importlib.util, 'find_spec', lambda name: object())
    list(log_epochs(epochs(1, 2), PyTorchExecutionConfig(logger_backend='tensorboard'), QUICK, tmp_path))
    assert [event.step for event in events] == [1, 2]
    assert {v.tag: v.simple_value for v in events[1].summary.value}['training_deviance'] == 1.0
    assert closed == [True]


def test_a_failed_run_is_recorded_as_failed(tmp_path, monkeypatch):
    ends = []

    class Logger:
        def epoch(self, done):
            pass

        def close(self, *, failed):
            ends.append(failed)

    monkeypatch.setattr(loggers, '_open', lambda *_: Logger())

    def breaking():
        yield from epochs(1, 1)
        raise ConfigError('broken')

    with pytest.raises(ConfigError, match='broken'):
        list(log_epochs(breaking(), PyTorchExecutionConfig(), QUICK, tmp_path))
    list(log_epochs(epochs(1, 2), PyTorchExecutionConfig(), QUICK, tmp_path))
    assert ends == [True, False]


@pytest.mark.skipif(not Path('/dev/full').exists(), reason='/dev/full')
def test_a_full_disk_ends_the_record_and_not_the_run(tmp_path, caplog):
    run = log_epochs(epochs(1, 4), PyTorchExecutionConfig(), QUICK, tmp_path)
    passed = [next(run)]
    os.dup2(os.open('/dev/full', os.O_WRONLY), run.gi_frame.f_locals['record']._stream.fileno())
    passed += run
    assert [event.epoch for event in passed] == [1, 2, 3, 4]
    assert [row['epoch'] for row in read(tmp_path / 'history.csv')] == ['1']
    assert 'Epochs from 2 on are not recorded (' in caplog.text
    assert 'Epochs from 3' not in caplog.text


@pytest.mark.skipif(importlib.util.find_spec('mlflow') is None, reason='mlflow is not installed')
def test_a_tracking_server_that_is_lost_does_not_end_the_run(tmp_path, monkeypatch, caplog):
    monkeypatch.delenv('MLFLOW_TRACKING_URI', raising=False)
    run = log_epochs(epochs(1, 3), PyTorchExecutionConfig(logger_backend='mlflow'), QUICK, tmp_path)
    passed = [next(run)]
    mlflow = sys.modules['mlflow']

    def lost(*_, **__):
        raise mlflow.MlflowException('the server is gone')

    monkeypatch.setattr(mlflow, 'log_metrics', lost)
    assert [event.epoch for event in [*passed, *run]] == [1, 2, 3]
    assert 'Epochs from 2 on are not recorded (the server is gone)' in caplog.text
