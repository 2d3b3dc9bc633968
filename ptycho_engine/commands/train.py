"""Train a network on scans and write the model wts.h5.zip, and train.toml, which repeats the run.

INPUT is an NPZ file, a Ptychodus directory (diffraction.h5 and product.h5), or a directory of NPZ
files; several may be given if their patterns have one size. Ctrl-C stops and keeps the best model so far.

After each epoch checkpoint.zip holds what --resume needs to go on as if the run had never ended.

examples:
  ptychopinn train scan --output model --epochs 20
  ptychopinn train scan --output model --epochs 20 --resume
  ptychopinn train scan --output again --config model/train.toml
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from ..config import PyTorchExecutionConfig, TrainingConfig
from ..data.scan import Scan, load_training_scans
from ..events import ModelSaved
from ..files.atomic import require_writable
from ..pipeline.sources import TrainingSource
from ..pipeline.train import train
from .interrupt import stop_on_interrupt
from .options import add_settings, read_settings, write_settings

SETTINGS_FILE = 'train.toml'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ptychopinn train``."""
    parser.add_argument('inputs', nargs='+', type=Path, metavar='INPUT', help='scans to train on')
    parser.add_argument('--output', type=Path, required=True, metavar='DIR', help='for wts.h5.zip')
    parser.add_argument(
        '--resume',
        action='store_true',
        help='go on from the last epoch of the run in DIR, with the same scans and settings; --epochs may be '
        'larger than it was',
    )
    add_settings(parser, 'train')


def run(options: argparse.Namespace) -> None:
    """Train and save."""
    settings = read_settings(options)
    config, execution = settings.training(), settings.execution
    scans = [scan for path in options.inputs for scan in load_training_scans(path)]
    require_writable(options.output)
    saved, stopped = run_training(
        scans,
        config,
        options.output,
        execution,
        resume=options.resume,
        # Early, so that a run that is killed can be repeated too.
        started=lambda: write_settings(options.output / SETTINGS_FILE, [config, execution], options.words),
    )
    print(f'Saved the model to {saved}, and the settings to {SETTINGS_FILE} beside it.')
    if stopped:
        raise KeyboardInterrupt


def run_training(
    scans: Sequence[Scan] | TrainingSource,
    config: TrainingConfig,
    output: Path,
    execution: PyTorchExecutionConfig,
    *,
    resume: bool = False,
    started: Callable[[], None] | None = None,
) -> tuple[Path, bool]:
    """Train; return the model's path and whether Ctrl-C cut the training short.

    `started` is called once nothing more can be wrong with what was asked for.
    """
    saved = output
    with stop_on_interrupt() as stopped:
        events = train(scans, config, output, execution=execution, should_stop=stopped, resume=resume)
        for number, event in enumerate(events):
            if number == 0 and started is not None:
                started()
            if isinstance(event, ModelSaved):
                saved = event.path
        return saved, stopped()
