"""Train a network on scans, or on simulated ones."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..config import PyTorchExecutionConfig, TrainingConfig
from ..errors import ConfigError
from ..events import EpochDone, ModelSaved
from ..formats.archive import ARCHIVE_NAME, CHECKPOINT_NAME, ModelArchive, load_archive
from ..io.preflight import require_room, require_writable
from ..network.plan import build_plan
from ..scan.scan import Scan, load_training_scans
from ..simulate.template import load_templates
from ..training.simulated import ObjectVariety, SimulatedScans
from ..training.sources import TrainingSource
from ..training.train import train
from ..training.universal import train_universal
from .inputs import opening
from .interrupt import stop_on_interrupt
from .options import read_settings, write_settings
from .paragraph import say

SETTINGS_FILE = 'train.toml'

ASSUMED_SIZE = 64
MODELS_SAVED = 10
"""Times the size of the weights: model, and two checkpoints with weights, best weights and two moments."""


def run(options: argparse.Namespace) -> None:
    """Train and save."""
    settings = read_settings(options)
    config, execution = settings.training(), settings.execution
    _add_files(options, settings.files)
    if options.universal:
        _make_prior(options, config, execution)
        return
    source: Sequence[Scan] | TrainingSource
    source = _simulated(options, config) if options.simulate_from else _measured(options)
    initial = None if options.start_from is None else load_archive(options.start_from)
    require_writable(options.output, (ARCHIVE_NAME, CHECKPOINT_NAME, SETTINGS_FILE))
    require_room(options.output, _saved_bytes(config), 'model and checkpoints')
    saved, stopped = run_training(
        source,
        config,
        options.output,
        execution,
        initial=initial,
        resume=options.resume,
        # Early, so that a run that is killed can be repeated too.
        started=lambda: write_settings(options.output / SETTINGS_FILE, [config, execution], options.words),
    )
    say(f'Saved the model to {saved}, and the settings to {SETTINGS_FILE} beside it.')
    if stopped is not None:
        raise stopped


def _add_files(options: argparse.Namespace, named: Mapping[str, Path]) -> None:
    """Take scan and output directory from a settings file of the original where flags do not say them."""
    if not (options.inputs or options.simulate_from or options.universal):
        found = named.get('train_data_file') or named.get('ptycho_dir')
        options.inputs = [found] if found is not None else []
    if options.output is None:
        options.output = named.get('output_dir')
    if options.output is None:
        options.parser.error('the following arguments are required: --output')


def _make_prior(
    options: argparse.Namespace, config: TrainingConfig, execution: PyTorchExecutionConfig
) -> None:
    """Train the learned prior of objects."""
    given = [*options.inputs, *(options.simulate_from or [])]
    if given or options.start_from is not None:
        raise ConfigError(
            f'{(*given, options.start_from)[0]} and --universal were both given; the prior is trained on '
            'simulated objects alone.'
        )
    require_writable(options.output, (ARCHIVE_NAME, CHECKPOINT_NAME))
    saved = options.output
    with stop_on_interrupt() as stopped:
        for event in train_universal(
            config.nepochs,
            options.output,
            seed=config.seed,
            execution=execution,
            should_stop=stopped,
            resume=options.resume,
        ):
            if isinstance(event, ModelSaved):
                saved = event.path
        say(f'Saved the prior to {saved}.')
        if stopped.interruption is not None:
            raise stopped.interruption


def _saved_bytes(config: TrainingConfig) -> int:
    """Return about how much a training writes: the model, and checkpoints with the optimiser's memory."""
    # That of 'cnn' hardly depends on the patterns, whose size only the scans know.
    model = replace(config.model, N=config.model.N or ASSUMED_SIZE)
    weights = sum(math.prod(shape) for shape in build_plan(model).weight_shapes().values())
    return weights * np.dtype(np.float32).itemsize * MODELS_SAVED


def _measured(options: argparse.Namespace) -> list[Scan]:
    """Load the scans; say what is missing, or would have no effect."""
    if not options.inputs:
        raise ConfigError('There is nothing to train on; give INPUT, or --simulate-from FILE.')
    for name in ('photons', 'families', 'absorption', 'phase', 'vary_probe'):
        if getattr(options, name) is not None:
            raise ConfigError(f'--{name.replace("_", "-")} has no effect without --simulate-from.')
    opened = opening(options)
    opened.require_one(options.inputs)
    return [
        scan
        for path in options.inputs
        for scan in (
            [opened.load(path)] if opened.is_foreign(path) else load_training_scans(path, load=opened.load)
        )
    ]


def _simulated(options: argparse.Namespace, config: TrainingConfig) -> SimulatedScans:
    """Return the source of simulated objects."""
    if options.verify:
        raise ConfigError('--verify has no effect with --simulate-from, which reads no measured patterns.')
    if options.inputs:
        raise ConfigError(
            f'{options.inputs[0]} and --simulate-from were both given; train on simulated objects first, and '
            'then on the scan with --start-from.'
        )
    templates = [scan for path in options.simulate_from for scan in load_templates(path, options.photons)]
    stated = {
        'families': None if options.families is None else tuple(options.families),
        'absorption': options.absorption,
        'phase': options.phase,
        'probe_variation': options.vary_probe,
    }
    variety = ObjectVariety(**{name: value for name, value in stated.items() if value is not None})
    return SimulatedScans(templates, config, photons=options.photons, variety=variety)


def run_training(
    scans: Sequence[Scan] | TrainingSource,
    config: TrainingConfig,
    output: Path,
    execution: PyTorchExecutionConfig,
    *,
    initial: ModelArchive | None = None,
    resume: bool = False,
    started: Callable[[], None] | None = None,
) -> tuple[Path, KeyboardInterrupt | None]:
    """Train; return the model's path and, if a signal cut the training short, what is to be raised then.

    `started` is called once nothing more can be wrong with what was asked for, and again where the output
    directory was removed meanwhile.
    """
    saved = output
    with stop_on_interrupt() as stopped:
        events = train(
            scans, config, output, execution=execution, should_stop=stopped, initial=initial, resume=resume
        )
        for number, event in enumerate(events):
            gone = isinstance(event, EpochDone | ModelSaved) and not (output / SETTINGS_FILE).is_file()
            if (number == 0 or gone) and started is not None:
                started()
            if isinstance(event, ModelSaved):
                saved = event.path
        return saved, stopped.interruption
