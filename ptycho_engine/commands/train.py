"""Train a network on scans and write the model wts.h5.zip.

INPUT is an NPZ file, a Ptychodus directory (diffraction.h5 and product.h5), or a directory of NPZ
files; several may be given if their patterns have one size. Ctrl-C stops and keeps the best model so far.

example:
  ptychopinn train scan --output model --epochs 20
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..config import ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ..config.execution import ACCELERATORS
from ..config.model import MODEL_TYPES
from ..data.scan import Scan, load_training_scans
from ..events import ModelSaved
from ..pipeline.sources import TrainingSource
from ..pipeline.train import train
from .interrupt import stop_on_interrupt
from .progress import show_progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ptychopinn train``."""
    model, training = ModelConfig(), TrainingConfig()
    parser.add_argument('inputs', nargs='+', type=Path, metavar='INPUT', help='scans to train on')
    parser.add_argument('--output', type=Path, required=True, metavar='DIR', help='for wts.h5.zip')
    parser.add_argument('--epochs', type=int, default=training.nepochs, help='default: %(default)s')
    parser.add_argument(
        '--batch-size', type=int, default=training.batch_size, help='groups; default: %(default)s'
    )
    parser.add_argument(
        '--groups',
        type=int,
        default=training.n_groups,
        help='groups drawn for each epoch, 0 for all; default: %(default)s',
    )
    parser.add_argument('--gridsize', type=int, default=model.gridsize, help='1 to 5; default: %(default)s')
    parser.add_argument(
        '--filters-scale', type=int, default=model.n_filters_scale, help='1 to 4; default: %(default)s'
    )
    parser.add_argument('--model-type', choices=MODEL_TYPES, default=model.model_type)
    parser.add_argument(
        '--learning-rate', type=float, default=training.learning_rate, help='default: %(default)s'
    )
    parser.add_argument('--accelerator', choices=ACCELERATORS, default='auto')
    parser.add_argument('--seed', type=int, default=training.seed, help='default: %(default)s')


def run(options: argparse.Namespace) -> None:
    """Train and save."""
    config = TrainingConfig(
        model=ModelConfig(
            gridsize=options.gridsize,
            n_filters_scale=options.filters_scale,
            model_type=options.model_type,
        ),
        nepochs=options.epochs,
        batch_size=options.batch_size,
        n_groups=options.groups or None,
        learning_rate=options.learning_rate,
        seed=options.seed,
    )
    execution = PyTorchExecutionConfig(accelerator=options.accelerator)
    scans = [scan for path in options.inputs for scan in load_training_scans(path)]
    saved, stopped = run_training(scans, config, options.output, execution, quiet=options.quiet)
    print(f'Saved the model to {saved}.')
    if stopped:
        raise KeyboardInterrupt


def run_training(
    scans: Sequence[Scan] | TrainingSource,
    config: TrainingConfig,
    output: Path,
    execution: PyTorchExecutionConfig,
    *,
    quiet: bool,
) -> tuple[Path, bool]:
    """Train under a progress bar; return the model's path and whether Ctrl-C cut the training short."""
    saved = output
    with stop_on_interrupt() as stopped:
        events = train(scans, config, output, execution=execution, should_stop=stopped)
        for event in show_progress(events, quiet):
            if isinstance(event, ModelSaved):
                saved = event.path
        return saved, stopped()
