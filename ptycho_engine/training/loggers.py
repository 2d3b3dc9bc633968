"""Records of a training, epoch by epoch: a consumer of its events.

'csv' writes ``history.csv``; 'tensorboard' and 'mlflow' hand the numbers to those packages, where they are
installed. None of them changes what is trained.
"""

from __future__ import annotations

import csv
import importlib
import importlib.util
import io
import logging
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Protocol, TextIO

from ..config import PyTorchExecutionConfig, TrainingConfig
from ..errors import ConfigError
from ..events import EpochDone, Event
from ..io.atomic import atomic_path

__all__ = ['HISTORY_NAME', 'RunLogger', 'log_epochs']

logger = logging.getLogger('ptychopinn.train')

HISTORY_NAME = 'history.csv'
TENSORBOARD_FOLDER = 'tensorboard'
MLFLOW_FOLDER = 'mlruns'

COLUMNS = tuple(field.name for field in fields(EpochDone) if field.name != 'n_epochs')
_INSTALL = {'tensorboard': 'pip install tensorboard', 'mlflow': 'pip install mlflow-skinny'}


class RunLogger(Protocol):
    """Keeps a record of epochs; what stands in its way is an OSError."""

    def epoch(self, done: EpochDone) -> None:
        """Record one epoch."""

    def close(self, *, failed: bool) -> None:
        """End the record; `failed` if the run ended with an error."""


def log_epochs(
    events: Iterator[Event],
    execution: PyTorchExecutionConfig,
    config: TrainingConfig,
    folder: Path,
    earlier: Sequence[dict[str, float]] = (),
) -> Iterator[Event]:
    """Pass events on and record the epochs among them as ``execution.logger_backend`` says.

    Nothing is written before the first epoch is done. A record that cannot be kept any longer, as on a full
    disk, ends with a warning; the run does not. `earlier` are the epochs of a resumed run that were done
    before, read when the first new one is recorded.

    Raises
    ------
    ConfigError
        At once, if the package of the logger is not installed.
    """
    kind = execution.logger_backend
    if kind in _INSTALL and importlib.util.find_spec(kind) is None:
        raise ConfigError(
            f'PyTorchExecutionConfig.logger_backend is {kind!r}, but {kind} is not installed; '
            f"{_INSTALL[kind]}, or choose 'csv'."
        )
    record: RunLogger | None = None
    failed = True
    try:
        for event in events:
            if isinstance(event, EpochDone) and kind != 'none':
                try:
                    record = record or _open(kind, config, folder, event.epoch, earlier)
                    record.epoch(event)
                except OSError as error:
                    kind = 'none'
                    logger.warning('Epochs from %d on are not recorded (%s).', event.epoch, error)
            yield event
        failed = False
    except GeneratorExit:
        failed = False
        raise
    finally:
        if record is not None:
            try:
                record.close(failed=failed)
            except OSError as error:
                logger.warning('The record of the epochs could not be completed (%s).', error)


def _open(
    kind: str,
    config: TrainingConfig,
    folder: Path,
    first_epoch: int,
    earlier: Sequence[dict[str, float]],
) -> RunLogger:
    folder.mkdir(parents=True, exist_ok=True)
    if kind == 'csv':
        return _CsvLogger(folder / HISTORY_NAME, first_epoch, earlier)
    if kind == 'tensorboard':
        return _TensorBoardLogger(folder / TENSORBOARD_FOLDER)
    return _MlflowLogger(config, folder)


def _metrics(done: EpochDone) -> dict[str, float]:
    """Return what was measured in an epoch; what was not is left out."""
    return {
        name: float(value)
        for name in COLUMNS
        if name != 'epoch' and math.isfinite(value := getattr(done, name))
    }


class _CsvLogger:
    """One line for each epoch, written when it is done; a resumed run goes on below its earlier epochs.

    An epoch that was killed between its checkpoint and its line gets its line then. The file is written anew
    where it is gone.
    """

    def __init__(self, path: Path, first_epoch: int, earlier: Sequence[dict[str, float]]) -> None:
        self._path = path
        known = _csv_rows(path) if first_epoch > 1 else {}
        for record in earlier:
            known.setdefault(int(record['epoch']), {**record, 'epoch': int(record['epoch'])})
        self._rows = [known[epoch] for epoch in sorted(known) if epoch < first_epoch]
        self._stream: TextIO | None = None

    def epoch(self, done: EpochDone) -> None:
        row = {'epoch': done.epoch, **_metrics(done)}
        self._rows.append(row)
        if self._stream is None or not self._path.exists():
            self._write_anew()
            return
        self._stream.write(_csv_text([row]))
        self._stream.flush()

    def _write_anew(self) -> None:
        self.close(failed=False)
        with atomic_path(self._path) as temporary:
            temporary.write_text(_csv_text([dict(zip(COLUMNS, COLUMNS, strict=True)), *self._rows]), 'utf-8')
        self._stream = self._path.open('a', encoding='utf-8', newline='')

    def close(self, *, failed: bool) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def _csv_rows(path: Path) -> dict[int, dict[str, Any]]:
    """Return the lines of a record by their epochs, without those that a crash has left unreadable."""
    rows: dict[int, dict[str, Any]] = {}
    try:
        text = path.read_text(encoding='utf-8', errors='replace')
    except OSError:
        return rows
    for row in csv.DictReader(io.StringIO(text.replace('\0', ''))):
        with suppress(TypeError, ValueError):
            if None not in row.values():
                rows[int(row['epoch'])] = row
    return rows


def _csv_text(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    csv.DictWriter(text, COLUMNS, lineterminator='\n', restval='', extrasaction='ignore').writerows(rows)
    return text.getvalue()


class _TensorBoardLogger:
    """Scalars in an event file."""

    def __init__(self, folder: Path) -> None:
        writer = importlib.import_module('tensorboard.summary.writer.event_file_writer')
        self._event = importlib.import_module('tensorboard.compat.proto.event_pb2')
        self._summary = importlib.import_module('tensorboard.compat.proto.summary_pb2')
        folder.mkdir(parents=True, exist_ok=True)
        self._writer = writer.EventFileWriter(str(folder))

    def epoch(self, done: EpochDone) -> None:
        values = [
            self._summary.Summary.Value(tag=name, simple_value=value)
            for name, value in _metrics(done).items()
        ]
        summary = self._summary.Summary(value=values)
        self._writer.add_event(self._event.Event(wall_time=time.time(), step=done.epoch, summary=summary))
        self._writer.flush()

    def close(self, *, failed: bool) -> None:
        self._writer.close()


class _MlflowLogger:
    """A run with the settings as parameters and the epochs as metrics.

    It goes where MLFLOW_TRACKING_URI points, else into ``mlruns`` in the output directory.
    """

    def __init__(self, config: TrainingConfig, folder: Path) -> None:
        # A beamline machine may have no way out, and no training should wait for one.
        os.environ.setdefault('MLFLOW_DISABLE_TELEMETRY', 'true')
        os.environ.setdefault('MLFLOW_ALLOW_FILE_STORE', 'true')
        self._mlflow: Any = importlib.import_module('mlflow')
        if 'MLFLOW_TRACKING_URI' not in os.environ:
            self._mlflow.set_tracking_uri((folder / MLFLOW_FOLDER).resolve().as_uri())
        try:
            self._mlflow.start_run(run_name=folder.resolve().name)
            values = asdict(config)
            self._mlflow.log_params({**values.pop('model'), **values})
        except self._mlflow.MlflowException as error:
            first = str(error).splitlines()[0]
            raise ConfigError(f"logger_backend 'mlflow' cannot record this run ({first}).") from error

    def epoch(self, done: EpochDone) -> None:
        try:
            self._mlflow.log_metrics(_metrics(done), step=done.epoch)
        except self._mlflow.MlflowException as error:
            raise ConnectionError(str(error).splitlines()[0]) from error

    def close(self, *, failed: bool) -> None:
        self._mlflow.end_run('FAILED' if failed else 'FINISHED')
