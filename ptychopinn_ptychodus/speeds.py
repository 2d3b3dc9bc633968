"""How fast this machine was: measured in every run, kept in the user's cache folder for the next forecast."""

from __future__ import annotations

import json
import logging
import math
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ptycho_engine.config import InferenceConfig, ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho_engine.io.atomic import atomic_path
from ptycho_engine.scan.groups_cache import user_cache_folder

from .choices import computes_on
from .reference_speeds import core_seconds, scale_of

__all__ = [
    'MACHINE_KEY',
    'SpeedBook',
    'inference_key',
    'refinement_key',
    'solution_key',
    'start_key',
    'training_key',
]

logger = logging.getLogger('ptychopinn')

FILE_NAME = 'speeds.json'
MACHINE_KEY = 'machine'
LARGEST_NUMBER = 500
"""Speeds that are kept; the oldest go first."""


class SpeedBook:
    """Measured seconds by what was done, in a small JSON file.

    Parameters
    ----------
    path : Path, optional
        The file; by default one in the user's cache folder. A damaged or unwritable file costs the forecast,
        never a run.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = user_cache_folder() / FILE_NAME if path is None else path
        self._measuring: threading.Thread | None = None

    def seconds(self, key: str) -> float | None:
        """Return the seconds that something took when it was last done, or None."""
        value = self._read().get(key)
        if isinstance(value, int | float) and math.isfinite(value) and value > 0:
            return float(value)
        return None

    def machine(self) -> float | None:
        """Return how many times longer this machine takes than the one of ``reference_speeds.py``.

        None until that is known; the first call begins to measure it, beside what the program does.
        """
        known = self.seconds(MACHINE_KEY)
        if known is None and self._measuring is None:
            self._measuring = threading.Thread(
                target=lambda: self.note(MACHINE_KEY, scale_of(core_seconds())), daemon=True
            )
            self._measuring.start()
        return known

    def note(self, key: str, seconds: float) -> None:
        """Remember how long something took."""
        speeds = self._read()
        speeds.pop(key, None)
        speeds[key] = float(f'{seconds:.4g}')
        kept = dict(list(speeds.items())[-LARGEST_NUMBER:])
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(self._path, durable=False) as temporary:
                temporary.write_text(json.dumps(kept, indent=0), encoding='utf-8')
        except OSError as error:
            logger.debug('The measured speed is not kept: %s', error)

    def _read(self) -> dict[str, Any]:
        try:
            speeds = json.loads(self._path.read_text(encoding='utf-8'))
        except (OSError, ValueError):
            return {}
        return speeds if isinstance(speeds, dict) else {}


def training_key(
    config: TrainingConfig, size: int, execution: PyTorchExecutionConfig, probe_modes: int
) -> str:
    """Return the key of the seconds per training step on patterns of `size` pixels."""
    extras = [f'b{config.batch_size}', f'a{config.accum_steps}', f'p{probe_modes}']
    extras += ['probe'] * config.probe_trainable
    return _key('step', config.backend, execution, config.model, size, extras)


def inference_key(
    model: ModelConfig, config: InferenceConfig, execution: PyTorchExecutionConfig, probe_modes: int
) -> str:
    """Return the key of the seconds that predicting and stitching one pattern takes."""
    extras = [f'b{config.batch_size}', f'p{probe_modes}']
    return _key('pattern', config.backend, execution, model, model.N, extras)


def start_key(
    model: ModelConfig, config: InferenceConfig, execution: PyTorchExecutionConfig, probe_modes: int
) -> str:
    """Return the key of the seconds from the click until the first patterns, or iterations, are done."""
    return inference_key(model, config, execution, probe_modes).replace('pattern/', 'start/', 1)


def refinement_key(size: int, config: InferenceConfig, execution: PyTorchExecutionConfig, modes: int) -> str:
    """Return the key of the seconds that one iteration of the refinement takes for each pattern."""
    where = computes_on(config.backend, execution.accelerator)
    return '/'.join(['sweep', config.backend, where, config.refine_method, f'N{size}', f'p{modes}'])


def solution_key(
    model: ModelConfig, size: int, config: InferenceConfig, execution: PyTorchExecutionConfig, modes: int
) -> str:
    """Return the key of the seconds that a whole solution from a flat object takes per pattern."""
    where = computes_on(config.backend, execution.accelerator)
    extras = [f'calibrate-{config.calibrate}'] if config.calibrate != InferenceConfig.calibrate else []
    extras += ['probe'] * config.refine_probe + ['positions'] * config.refine_positions
    steps = ['solution', config.backend, where, execution.precision, model.architecture]
    return '/'.join([*steps, f'N{size}', f'p{modes}', *extras])


def _key(
    what: str,
    backend: str,
    execution: PyTorchExecutionConfig,
    model: ModelConfig,
    size: int,
    extras: Iterable[str],
) -> str:
    where = computes_on(backend, execution.accelerator)
    network = [model.architecture, f'N{size}', f'g{model.gridsize}', f'f{model.n_filters_scale}']
    return '/'.join([what, backend, where, execution.precision, *network, *extras])
