"""Say what a model was trained on, or how a result came about."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..config import InferenceConfig, ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ..config.describe import describe
from ..formats.archive import ARCHIVE_NAME, ModelArchive, find_archive, load_archive, read_manifest
from ..formats.origin import ScanOrigin, origins_to_json
from ..formats.product import ProductData
from ..io.folder_lock import tidy
from ..printable import printable
from ..scan.results import RESULT_FILES, account_of_result, is_result, read_result, result_file
from .paragraph import beside, say, say_json

LABEL_WIDTH = 13
ORIGINS_SHOWN = 5


def run(options: argparse.Namespace) -> None:
    """Print the summary."""
    tidy(options.model if options.model.is_dir() else options.model.parent)
    if is_result(options.model) and not (options.model / ARCHIVE_NAME).is_file():
        _inspect_result(options.model, as_json=options.json)
        return
    path = find_archive(options.model)
    manifest, archive = read_manifest(path), load_archive(path)
    if options.json:
        say_json(_everything(path, manifest.engine_version, archive), indent=2)
        return
    for label, text in _summary(path, manifest.engine_version, archive).items():
        say(*beside(f'{label:<{LABEL_WIDTH}}', text))


def _inspect_result(path: Path, *, as_json: bool) -> None:
    """Print how a result came about."""
    file, product, account = result_file(path), read_result(path), account_of_result(path)
    if account.get('provenance') is None and path.is_dir():
        account |= account_of_result(path / RESULT_FILES[1]) if (path / RESULT_FILES[1]).is_file() else {}
    if as_json:
        say_json({'path': str(file), **_of_product(product), **account}, indent=2)
        return
    for label, text in _result_lines(file, product, account).items():
        say(*beside(f'{label:<{LABEL_WIDTH}}', text))


def _of_product(product: ProductData) -> dict[str, Any]:
    return {
        'name': product.name,
        'comments': product.comments,
        'object_shape': list(product.object_array.shape),
        'probe_shape': list(product.probe.shape),
        'positions': len(product.position_x_m),
        'object_pixel_width_m': product.object_pixel_width_m,
        'object_pixel_height_m': product.object_pixel_height_m,
        'photon_energy_eV': product.photon_energy_eV,
        'detector_distance_m': product.detector_distance_m,
    }


def _result_lines(file: Path, product: ProductData, account: Mapping[str, Any]) -> dict[str, str]:
    height, width = product.object_array.shape[-2:]
    lines = {
        'result': f'{file} ({file.stat().st_size / 1e6:.1f} MB)',
        'object': f'{height}×{width} pixels of {product.object_pixel_height_m:.4g}×'
        f'{product.object_pixel_width_m:.4g} m, {len(product.position_x_m)} positions, probe of '
        f'{product.probe.shape[-3]} modes of {product.probe.shape[-2]}×{product.probe.shape[-1]} pixels',
    }
    comments = ' '.join(product.comments.split('\n')) or 'none'
    record = account.get('provenance')
    if not isinstance(record, Mapping):
        lines['made by'] = 'not recorded'
        return {**lines, 'comments': comments}

    def text(*names: str) -> str:
        return ' '.join(printable(str(record.get(name, '?'))) for name in names)

    lines['made by'] = f'{text("program", "version")} on {text("host")} ({text("platform")})'
    lines['when'] = f'{text("started")} to {text("ended")}'
    lines['command'] = text('command')
    lines['model'] = _file_text(record.get('model'))
    data = record.get('data')
    lines['data'] = '; '.join(map(_file_text, data)) if isinstance(data, Sequence) else 'not recorded'
    patterns = record.get('patterns')
    if isinstance(patterns, Mapping):
        lines['patterns'] = f'sha256 {printable(str(patterns.get("sha256")))}'
    lines['settings'] = _changed_of(record.get('settings')) or 'all at their defaults'
    return {**lines, 'comments': comments}


def _file_text(record: Any) -> str:
    """Return a record of a file in words."""
    if not isinstance(record, Mapping):
        return 'not recorded'
    files = record.get('files')
    parts = [str(record[name]) for name in ('kind', 'name') if record.get(name)]
    if isinstance(files, Sequence):
        parts.append(f'{len(files)} files')
    if record.get('sha256'):
        parts.append(f'sha256 {record["sha256"]}')
    return printable(', '.join(parts))


def _changed_of(settings: Any) -> str:
    """Return the recorded settings that are not the defaults of this version."""
    if not isinstance(settings, Mapping):
        return 'not recorded'
    parts = []
    for cls in (InferenceConfig, PyTorchExecutionConfig):
        found = settings.get(cls.__name__)
        if isinstance(found, Mapping):
            known = {info.name: info.default for info in describe(cls)}
            parts += [
                f'{name}={value}'
                for name, value in found.items()
                if name in known and value != known[name] and name != 'enable_progress_bar'
            ]
    return printable(', '.join(parts))


def _everything(path: Path, engine_version: str, archive: ModelArchive) -> dict[str, Any]:
    return {
        'path': str(path),
        'engine_version': engine_version,
        'backend': archive.backend,
        'config': asdict(archive.config),
        'trained_on': origins_to_json(archive.origins),
        'scale': archive.scale.to_dict(),
        'probe_shape': list(archive.probe.shape),
        'weights': int(sum(np.size(value) for value in archive.weights.values())),
        'history': archive.history,
    }


def _summary(path: Path, engine_version: str, archive: ModelArchive) -> dict[str, str]:
    config, model, history = archive.config, archive.config.model, archive.history
    modes = len(archive.probe)
    lines = {
        'model': f'{path} ({path.stat().st_size / 1e6:.1f} MB, ptychopinn {engine_version})',
        'network': f'{model.architecture}, {model.model_type}, gridsize {model.gridsize}, '
        f'{sum(np.size(v) for v in archive.weights.values()):,} weights',
        'for': 'scans with patterns of any size'
        if model.of_objects
        else f'patterns of {model.N}×{model.N} pixels, probe of {modes} mode{"s" if modes > 1 else ""}',
        'trained on': _origins(archive),
        'trained by': f'{archive.backend}, {config.optimizer} at {config.learning_rate:g}, batches of '
        f'{config.batch_size}, seed {config.seed}',
        'settings': _changed(config) or 'all at their defaults',
    }
    if history:
        seconds = sum(record.get('seconds', 0.0) for record in history)
        lines['epochs'] = f'{_epochs(history, config)} in {seconds:.0f} s'
        lines['how well'] = _how_well(history)
    return lines


def _origins(archive: ModelArchive) -> str:
    """Return the scans it was trained on; of many, the first ones."""
    parts = [_origin(origin) for origin in archive.origins[:ORIGINS_SHOWN]]
    if not parts and archive.config.model.of_objects:
        return 'simulated objects'
    if not parts:
        return f'scans not recorded, {archive.scale.mean_counts:.3g} counts in a pattern on average'
    more = len(archive.origins) - len(parts)
    return '; '.join([*parts, *([f'and {more} more'] if more else [])])


def _origin(origin: ScanOrigin) -> str:
    step = '' if origin.step_px is None else f', neighbours {origin.step_px:.3g} px apart'
    return (
        f'{origin.name} ({origin.identity[:8]}): {origin.patterns} patterns, {origin.mean_counts:.3g} '
        f'counts in a pattern on average{step}'
    )


def _changed(config: TrainingConfig) -> str:
    """Return the settings that are not at their defaults."""
    parts = []
    for owner, cls in ((config.model, ModelConfig), (config, TrainingConfig)):
        for info in describe(cls):
            value = getattr(owner, info.name)
            if value != info.default and info.name != 'N':
                parts.append(f'{info.name}={value}')
    return ', '.join(parts)


def _epochs(history: Sequence[Mapping[str, float]], config: TrainingConfig) -> str:
    """Return how many epochs were done, and on what."""
    simulated = sum(bool(record.get('simulated')) for record in history)
    measured = len(history) - simulated
    parts = [f'{simulated} on simulated objects'] * bool(simulated)
    return ', '.join([*parts, *([f'{measured} of {config.nepochs}'] * bool(measured))])


def _how_well(history: Sequence[Mapping[str, float]]) -> str:
    key = 'validation' if any('validation_loss' in record for record in history) else 'training'
    judged = [record for record in history if f'{key}_loss' in record]
    if not judged:
        return 'not measured'
    best = min(judged, key=lambda record: record[f'{key}_loss'])
    deviance = best.get(f'{key}_deviance')
    known = 'unknown' if deviance is None else f'{deviance:.4g} per pixel (about 1 is the noise)'
    return f'{key} deviance {known}, {key} loss {best[f"{key}_loss"]:.4g}, best in epoch {best["epoch"]:.0f}'
