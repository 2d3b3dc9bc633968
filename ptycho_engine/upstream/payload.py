"""Runs that a payload of :mod:`ptycho_engine.upstream.config_factory` describes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from ..config import InferenceConfig
from ..config.setup import TrainingSetup
from ..errors import ConfigError
from ..events import Event, ModelSaved
from ..formats.archive import load_archive
from ..reconstruction.reconstruct import reconstruct
from ..scan.raw_data import RawData
from ..scan.scan import Scan, find_training_scans, load_scan, load_training_scans
from ..training.train import train
from .config_factory import InferencePayload, TrainingPayload

__all__ = ['reconstruct_from_payload', 'train_from_payload']

logger = logging.getLogger('ptychopinn.train')


def train_from_payload(
    payload: TrainingPayload, *, should_stop: Callable[[], bool] | None = None
) -> Iterator[Event]:
    """Train on ``train_data_file``; then reconstruct ``test_data_file``, where there is one, on that backend.

    Yields
    ------
    Event
        Those of :func:`~ptycho_engine.train`, then those of :func:`~ptycho_engine.reconstruct`.
    """
    run = payload.tf_training_config
    scans, saved = _training_scans(run), run.output_dir
    # Before the training, which may take long, so that a mistake in it is found at once.
    test = None if run.test_data_file is None else _scan(run.test_data_file, run.nphotons)
    for event in train(
        scans, run, run.output_dir, execution=payload.execution_config, should_stop=should_stop
    ):
        if isinstance(event, ModelSaved):
            saved = event.path
        yield event
    if test is not None and not (should_stop and should_stop()):
        shared = ('backend', 'neighbor_count', 'seed', 'use_groups_cache')
        yield from reconstruct(
            test,
            load_archive(saved),
            InferenceConfig(**{name: getattr(run, name) for name in shared}),
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
    logger.info('Amplitudes are taken as normalised, with %g photons in a pattern on average.', run.nphotons)
    return [_scan(path, run.nphotons) for path in find_training_scans(run.train_data_file)]


def _scan(path: Path, nphotons: float | None) -> Scan:
    """Load a scan; where `nphotons` is given, its amplitudes are normalised."""
    if nphotons is None:
        return load_scan(path)
    if path.suffix != '.npz':
        raise ConfigError(
            f'TrainingConfig.nphotons is {nphotons:g}, but {path} holds counts, which need no photon number; '
            'leave it out.'
        )
    return Scan.from_raw(RawData.from_file(path, domain='normalised', nphotons=nphotons))
