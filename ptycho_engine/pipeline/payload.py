"""Runs that a payload of :mod:`ptycho_engine.config.factory` describes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from ..config.factory import InferencePayload, TrainingPayload
from ..config.setup import TrainingSetup
from ..data.raw_data import RawData
from ..data.scan import Scan, find_training_scans, load_scan, load_training_scans
from ..errors import ConfigError
from ..events import Event, ModelSaved
from ..files.archive import load_archive
from .reconstruct import reconstruct
from .train import train

__all__ = ['reconstruct_from_payload', 'train_from_payload']

logger = logging.getLogger('ptychopinn.train')


def train_from_payload(
    payload: TrainingPayload, *, should_stop: Callable[[], bool] | None = None
) -> Iterator[Event]:
    """Train on ``train_data_file``; then reconstruct ``test_data_file``, where there is one.

    Yields
    ------
    Event
        Those of :func:`~ptycho_engine.train`, then those of :func:`~ptycho_engine.reconstruct`.
    """
    run = payload.tf_training_config
    saved = run.output_dir
    for event in train(
        _training_scans(run), run, run.output_dir, execution=payload.execution_config, should_stop=should_stop
    ):
        if isinstance(event, ModelSaved):
            saved = event.path
        yield event
    if run.test_data_file is not None and not (should_stop and should_stop()):
        yield from reconstruct(
            load_scan(run.test_data_file),
            load_archive(saved),
            execution=payload.execution_config,
            should_stop=should_stop,
        )


def reconstruct_from_payload(
    payload: InferencePayload, *, should_stop: Callable[[], bool] | None = None
) -> Iterator[Event]:
    """Reconstruct ``test_data_file`` with ``model_path``; events are those of ``reconstruct``."""
    run = payload.tf_inference_config
    assert run.test_data_file is not None
    assert run.model_path is not None
    return reconstruct(
        load_scan(run.test_data_file),
        load_archive(run.model_path),
        run,
        execution=payload.execution_config,
        should_stop=should_stop,
    )


def _training_scans(run: TrainingSetup) -> list[Scan]:
    """Load the scans; a stated photon number says that amplitudes are normalised to it."""
    assert run.train_data_file is not None
    if run.nphotons is None:
        return load_training_scans(run.train_data_file)
    paths = find_training_scans(run.train_data_file)
    for path in paths:
        if path.suffix != '.npz':
            raise ConfigError(
                f'TrainingConfig.nphotons is {run.nphotons:g}, but {path} holds counts, which need no '
                'photon number; leave it out.'
            )
    logger.info('Amplitudes are taken as normalised, with %g photons in a pattern on average.', run.nphotons)
    return [
        Scan.from_raw(RawData.from_file(path, domain='normalised', nphotons=run.nphotons)) for path in paths
    ]
