"""Simulate a scan of a known object, train on simulated objects, reconstruct, and show the scores.

Takes a few minutes on a laptop. Leaves in the output directory
  scan/         the simulated scan, as `ptychopinn simulate` writes it
  wts.h5.zip    the trained model
  product.h5    the reconstruction, a Ptychodus product
  demo.png      truth beside reconstruction, losses, Fourier ring correlation

example:
  ptychopinn demo
"""

from __future__ import annotations

import argparse
import shlex
import time
from pathlib import Path

import numpy as np

from ..config import InferenceConfig, ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ..data.scan import load_scan
from ..errors import ConfigError
from ..figures import comparison_figure, save_figure
from ..files.archive import ARCHIVE_NAME, CHECKPOINT_NAME, load_archive
from ..files.product import read_product, write_product
from ..io.preflight import require_writable
from ..pipeline.quality import scan_box, score
from ..pipeline.simulated import ObjectVariety, SimulatedScans
from ..simulate import defocused_probe, make_object, raster_positions, simulate_scan
from ..simulate.directory import FILES, settings_text, write_scan
from .paragraph import say
from .reconstruct import run_reconstruction
from .table import scores_table
from .train import run_training

SIZE = 64
PHOTONS = 1e5
STEP_PX = 6.0
FEWEST_POINTS = 5
"""On a side; the region of fewer may be too small to score."""
GROUPS_PER_EPOCH = 256
FAMILIES = ('dead-leaves', 'dead-leaves', 'siemens', 'dead-leaves')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ptychopinn demo``."""
    parser.add_argument('--output', type=Path, default=Path('ptychopinn-demo'), metavar='DIR')
    parser.add_argument('--epochs', type=int, default=5, help='epochs of training (default: %(default)s)')
    parser.add_argument('--points', type=int, default=23, help='scan points on a side (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='seed of everything (default: 0)')


def run(options: argparse.Namespace) -> None:
    """Run the whole chain."""
    tic = time.perf_counter()
    output: Path = options.output
    for name, least in (('points', FEWEST_POINTS), ('seed', 0)):
        if getattr(options, name) < least:
            raise ConfigError(
                f'--{name} is {getattr(options, name)}; expected a whole number at least {least}.'
            )
    config = TrainingConfig(
        model=ModelConfig(n_filters_scale=1, unrolled_steps=2),
        nepochs=options.epochs,
        n_groups=GROUPS_PER_EPOCH,
        batch_size=4,
        nll_weight=0.05,
        realspace_mae_weight=1.0,
        seed=options.seed + 1,
    )
    execution = PyTorchExecutionConfig(
        enable_checkpointing=False, logger_backend='none', enable_progress_bar=not options.quiet
    )
    require_writable(output, (ARCHIVE_NAME, CHECKPOINT_NAME, 'product.h5', 'demo.png'))
    require_writable(output / 'scan', FILES)
    _simulate(output / 'scan', options.points, options.seed)
    scan = load_scan(output / 'scan')
    truth = read_product(output / 'scan' / 'truth.h5').object_array[0]
    say(f'Simulated {len(scan.raw)} patterns of {SIZE}×{SIZE} pixels with {PHOTONS:g} photons each.')

    source = SimulatedScans(scan, config, variety=ObjectVariety(FAMILIES, absorption=0.6, phase=0.8))
    model_path, stopped = run_training(source, config, output, execution)
    if stopped is not None:
        raise stopped
    archive = load_archive(model_path)
    result = run_reconstruction(scan, archive, InferenceConfig(), execution)
    assert scan.product is not None
    write_product(output / 'product.h5', result.to_product(scan.product))

    box = scan_box(scan.raw.xcoords, scan.raw.ycoords, truth.shape)
    network = score(truth, result.object_array, box)
    flat = score(truth, np.ones_like(truth), box)
    title = f'PtychoPINN on an object it never saw: NRMSE {network.nrmse:.3f} (flat {flat.nrmse:.3f})'
    figure = comparison_figure(truth, result.object_array, box, archive.history, title)
    save_figure(figure, output / 'demo.png')
    rows = [{'name': 'PtychoPINN', **network.to_dict()}, {'name': 'flat object', **flat.to_dict()}]
    say(*scores_table(rows))
    say(f'Wrote {output}/: product.h5, {model_path.name}, demo.png, scan/')
    say(f'{time.perf_counter() - tic:.0f} s in all.')
    if not options.quiet:
        say(*_next_steps(output))


def _next_steps(output: Path) -> list[str]:
    """Return how to read the scores, and commands that go on with what the demo has left."""
    demo, scan, result = (shlex.quote(str(path)) for path in (output, output / 'scan', output / 'result'))
    return [
        '',
        'NRMSE is the error (0 is perfect), SSIM the likeness of amplitude and phase (1 is perfect),',
        'FRC50 the finest detail in cycles per pixel (0.5 is the finest that there can be).',
        '',
        'What to try next:',
        f'  look at {demo}/demo.png',
        '  the same model again, from the command line, and what is wrong with data if something is:',
        f'    ptychopinn reconstruct {scan} --model {demo} --output {result}',
        f'    ptychopinn doctor {scan}',
        '  the window of Ptychodus; open scan/diffraction.h5 as PtychoPINN Scan, then scan/product.h5:',
        '    ptychodus',
        '  Ptychodus without its window; this trains first, on the scan itself:',
        f'    ptychodus -b train -i {scan} -o {demo}/trained',
        f'    cp {demo}/trained/model.zip {scan}/',
        f'    ptychodus -b reconstruct -i {scan} -o {demo}/reconstructed',
    ]


def _simulate(directory: Path, points: int, seed: int) -> None:
    """Simulate a scan of an object that training never draws."""
    rng = np.random.default_rng([seed, 0])
    probe = defocused_probe(SIZE, rng)
    x, y = raster_positions(points, points, STEP_PX, rng)
    side = int(np.ceil((points + 1) * STEP_PX)) + SIZE + 8
    truth = make_object('dead-leaves', (side, side), rng, absorption=0.5, phase=0.5)
    middle = (side - 1) / 2
    raw = simulate_scan(truth, probe, x + middle, y + middle, photons=PHOTONS, rng=rng)
    write_scan(directory, raw, name='demo', settings=settings_text(epochs=20, gridsize=1))
