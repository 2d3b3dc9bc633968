"""From files and overrides to everything that a training or a reconstruction needs (CONFIG-001).

A payload holds the canonical configuration, the same in the vocabulary of PtychoPINN's PyTorch code, how to
compute, and a record of which statement about each setting won (:mod:`..config.precedence`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..config.checks import check_integer
from ..config.execution import PyTorchExecutionConfig
from ..config.inference import InferenceConfig
from ..config.model import ModelConfig
from ..config.precedence import Applied, Level, resolve_inference, resolve_training
from ..config.setup import InferenceSetup, TrainingSetup
from ..config.training import TrainingConfig
from ..errors import ConfigError, DataFileNotFoundError, EngineError
from .config_bridge import translate
from .legacy import populate_legacy_params
from .torch_configs import PTDataConfig, PTInferenceConfig, PTModelConfig, PTTrainingConfig

__all__ = [
    'InferencePayload',
    'TrainingPayload',
    'create_inference_payload',
    'create_training_payload',
    'infer_probe_size',
    'populate_legacy_params',
]

logger = logging.getLogger('ptychopinn.config')

UNKNOWN_SIZE = 64
"""Probe size assumed where it cannot be told."""

Values = Mapping[str, Any]


@dataclass(frozen=True)
class TrainingPayload:
    """Everything for one training; :func:`~ptycho_engine.train_from_payload` runs it."""

    tf_training_config: TrainingSetup
    """The canonical configuration, with its files."""
    pt_data_config: PTDataConfig
    pt_model_config: PTModelConfig
    pt_training_config: PTTrainingConfig
    execution_config: PyTorchExecutionConfig
    overrides_applied: dict[str, Applied]
    """Every setting that was stated: its value, the level that won, and what it replaced."""


@dataclass(frozen=True)
class InferencePayload:
    """Everything for one reconstruction; :func:`~ptycho_engine.reconstruct_from_payload` runs it."""

    tf_inference_config: InferenceSetup
    """The canonical configuration, with its files."""
    pt_data_config: PTDataConfig
    pt_inference_config: PTInferenceConfig
    execution_config: PyTorchExecutionConfig
    overrides_applied: dict[str, Applied]
    """Every setting that was stated: its value, the level that won, and what it replaced."""


def create_training_payload(
    train_data_file: Path | str,
    output_dir: Path | str,
    overrides: Values | None = None,
    execution_config: PyTorchExecutionConfig | Values | None = None,
    *,
    command_line: Values | None = None,
) -> TrainingPayload:
    """Check and complete the configuration of a training; makes its output, fills ``params.cfg``.

    Parameters
    ----------
    train_data_file : Path
        NPZ file, or a directory as :func:`~ptycho_engine.load_training_scans` takes it.
    output_dir : Path
        Made where it is missing.
    overrides : mapping, optional
        Settings in either vocabulary; the strongest level. `n_groups` must be here or in `command_line`.
    execution_config : PyTorchExecutionConfig or mapping of its fields, optional
        What it states is the second level.
    command_line : mapping, optional
        Settings of a command line; the third level.

    Raises
    ------
    DataFileNotFoundError
        If the training file or the test file is not there; it is a ``FileNotFoundError``.
    ConfigError
        If `n_groups` is missing, a name is unknown, or a value out of range; it is a ``ValueError``.
    """
    path = _existing(train_data_file, 'training')
    known = _names(ModelConfig, TrainingSetup) - {'model', 'train_data_file', 'output_dir'}
    strong = translate(overrides or {}, known, 'TrainingConfig')
    weak = translate(command_line or {}, known, 'TrainingConfig')
    if 'n_groups' not in strong and 'n_groups' not in weak:
        raise ConfigError(
            'n_groups is missing; give it in the overrides: the groups of patterns to draw for each epoch, '
            'or None for all.'
        )
    files = {name: value for name, value in {**weak, **strong}.items() if name in _FILE_SETTINGS}
    test = files.get('test_data_file')
    if test is not None:
        files['test_data_file'] = _existing(test, 'test')
    execution = _execution(execution_config)
    plain_strong, plain_weak = ({k: v for k, v in d.items() if k not in files} for d in (strong, weak))
    config, applied = resolve_training(overrides=plain_strong, execution=execution, command_line=plain_weak)
    for name, value in files.items():
        level = Level.OVERRIDE if name in strong else Level.COMMAND_LINE
        applied[name] = Applied(value, level, ((Level.CANONICAL, None),))
    model = _with_size(config.model, _probe_size(path), path, applied)
    run = TrainingSetup(
        **{**_values(config), 'model': model},
        train_data_file=path,
        output_dir=_made(output_dir),
        **files,
    )
    populate_legacy_params(run)
    return TrainingPayload(
        tf_training_config=run, **_in_their_words(run), execution_config=execution, overrides_applied=applied
    )


def _in_their_words(run: TrainingSetup) -> dict[str, Any]:
    """Return what is stated of data, network and training, under the names that the original has for them."""
    model = run.model
    channels = model.gridsize**2
    return {
        'pt_data_config': replace(_their_data(run), nphotons=run.nphotons),
        'pt_model_config': PTModelConfig(
            mode='Unsupervised' if model.model_type == 'pinn' else 'Supervised',
            C_model=channels,
            C_forward=channels,
            architecture=model.architecture,
            n_filters_scale=model.n_filters_scale,
            amp_activation=model.amp_activation,
            object_big=model.object_big,
            probe_big=model.probe_big,
            probe_scale=model.probe_scale,
            intensity_scale_trainable=run.intensity_scale_trainable,
            loss_function='Poisson' if run.nll_weight > 0 else 'MAE',
        ),
        'pt_training_config': PTTrainingConfig(
            epochs=run.nepochs,
            batch_size=run.batch_size,
            learning_rate=run.learning_rate,
            nll=run.nll_weight,
            scheduler=run.scheduler,
            accum_steps=run.accum_steps,
            gradient_clip_val=run.gradient_clip_val,
            gradient_clip_algorithm=run.gradient_clip_algorithm,
            early_stop_patience=run.early_stop_patience,
        ),
    }


def _their_data(run: TrainingSetup | InferenceSetup) -> PTDataConfig:
    side = run.model.gridsize
    return PTDataConfig(
        N=run.model.N,
        grid_size=(side, side),
        C=side**2,
        K=run.neighbor_count,
        n_subsample=run.n_subsample,
        subsample_seed=run.subsample_seed,
    )


_FILE_SETTINGS = ('test_data_file', 'nphotons')
"""Settings that a run has and a plain training configuration has not."""


def create_inference_payload(
    model_path: Path | str,
    test_data_file: Path | str,
    output_dir: Path | str,
    overrides: Values | None = None,
    execution_config: PyTorchExecutionConfig | Values | None = None,
    *,
    command_line: Values | None = None,
) -> InferencePayload:
    """Check and complete the configuration of a reconstruction; makes its output, fills ``params.cfg``.

    Parameters
    ----------
    model_path : Path
        ``wts.h5.zip`` or the directory that holds it.
    test_data_file : Path
        The scan: an NPZ file or a Ptychodus directory.
    output_dir, overrides, execution_config, command_line
        As in :func:`create_training_payload`. `n_groups` may be given: the reconstruction then uses at most
        as many patterns as so many groups hold.

    Raises
    ------
    ArchiveNotFoundError
        If there is no ``wts.h5.zip``; it is both a ``FileNotFoundError`` and a ``ValueError``.
    DataFileNotFoundError
        If the scan is not there.
    ConfigError
        If a name is unknown or a value out of range.
    """
    from ..formats.archive import find_archive, load_archive

    archive = find_archive(model_path)
    scan = _existing(test_data_file, 'test')
    model = load_archive(archive).config.model
    known = {*_names(InferenceConfig), 'n_groups'}
    strong, weak = (
        _groups_as_patterns(translate(values or {}, known, 'InferenceConfig'), model.gridsize)
        for values in (overrides, command_line)
    )
    execution = _execution(execution_config)
    config, applied = resolve_inference(overrides=strong, execution=execution, command_line=weak)
    run = InferenceSetup(
        **_values(config),
        model=model,
        model_path=archive,
        test_data_file=scan,
        output_dir=_made(output_dir),
    )
    populate_legacy_params(run)
    return InferencePayload(
        tf_inference_config=run,
        pt_data_config=_their_data(run),
        pt_inference_config=PTInferenceConfig(batch_size=run.batch_size, seed=run.seed),
        execution_config=execution,
        overrides_applied=applied,
    )


def _execution(given: PyTorchExecutionConfig | Values | None) -> PyTorchExecutionConfig:
    if isinstance(given, Mapping):
        return PyTorchExecutionConfig(**given)
    return given or PyTorchExecutionConfig()


def _groups_as_patterns(values: dict[str, Any], gridsize: int) -> dict[str, Any]:
    """Return settings in which the patterns of `n_groups` groups stand for it; None stands for all."""
    if 'n_groups' not in values:
        return values
    n_groups = values.pop('n_groups')
    if n_groups is None:
        return {'n_subsample': None, **values}
    check_integer('InferenceConfig', 'n_groups', n_groups, 1)
    if values.get('n_subsample') is not None:
        raise ConfigError(
            f'n_groups and n_subsample were both given, {n_groups} and {values["n_subsample"]}; give one of '
            'them: either limits the patterns.'
        )
    return {**values, 'n_subsample': n_groups * gridsize**2}


def _names(*classes: type) -> set[str]:
    return {field.name for cls in classes for field in fields(cls)}


def _values(config: TrainingConfig | InferenceConfig) -> dict[str, Any]:
    return {field.name: getattr(config, field.name) for field in fields(config)}


def _existing(path: Path | str, what: str) -> Path:
    path = Path(path)
    if not path.exists():
        raise DataFileNotFoundError(f'{path}: there is no such {what} file; give an NPZ file or a directory.')
    return path


def _made(directory: Path | str) -> Path:
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _with_size(model: ModelConfig, size: int, path: Path, applied: dict[str, Applied]) -> ModelConfig:
    if model.N == 0:
        applied['N'] = Applied(size, Level.DATA, ((Level.CANONICAL, 0),))
        return replace(model, N=size)
    record = applied['N']
    applied['N'] = replace(record, replaced=((Level.DATA, size), *record.replaced))
    if size != model.N:
        logger.warning(
            'N is %d as stated, but the patterns of %s are %d pixels wide, on which such a network is not '
            'trained; leave N out, or crop the patterns.',
            model.N,
            path,
            size,
        )
    return model


def infer_probe_size(data_file: Path | str) -> int:
    """Return the side of the probe in pixels, which must be that of the patterns.

    The probe may have modes as its first axis, and the patterns may be in the legacy axis order. Of a
    directory the first scan counts.

    Returns
    -------
    int
        64, with a warning that says why, where there is no such file or it cannot be told.
    """
    path = Path(data_file)
    if not path.exists():
        reason = f'{path}: there is no such file'
    else:
        try:
            return _probe_size(path)
        except EngineError as error:
            reason = str(error).rstrip('.')
    logger.warning('%s; assuming a probe of %d pixels.', reason, UNKNOWN_SIZE)
    return UNKNOWN_SIZE


def _probe_size(path: Path) -> int:
    """Return the side of the probe of a scan.

    Raises
    ------
    DataKeyError, DataValueError
        If the file has no probe, or probe and patterns differ in size.
    """
    from ..scan.scan import find_training_scans, load_scan

    scans = find_training_scans(path)
    if not scans:
        raise DataFileNotFoundError(f'{path} holds no scan: no diffraction.h5 and product.h5, and no NPZ.')
    return load_scan(scans[0]).raw.N
