"""The demonstration: a simulated scan, its image, and how good that is."""

from __future__ import annotations

import argparse
import shlex
import time
from pathlib import Path

import numpy as np

from ..config import InferenceConfig, PyTorchExecutionConfig
from ..errors import ConfigError
from ..formats.packaged import load_model
from ..formats.product import read_product, write_product
from ..io.preflight import require_writable
from ..reconstruction.picture import comparison_figure, save_figure
from ..scan.scan import load_scan
from ..scoring.scores import scan_box, score
from ..simulate import defocused_probe, make_object, raster_positions, simulate_scan
from ..simulate.directory import FILES, settings_text, write_scan
from .paragraph import say
from .reconstruct import run_reconstruction
from .table import scores_table

SIZE = 64
PHOTONS = 1e5
STEP_PX = 6.0
FEWEST_POINTS = 5
"""On a side; the region of fewer may be too small to score."""


def run(options: argparse.Namespace) -> None:
    """Run the whole chain."""
    tic = time.perf_counter()
    output: Path = options.output
    for name, least in (('points', FEWEST_POINTS), ('seed', 0)):
        if getattr(options, name) < least:
            raise ConfigError(
                f'--{name} is {getattr(options, name)}; expected a whole number at least {least}.'
            )
    require_writable(output, ('product.h5', 'demo.png'))
    require_writable(output / 'scan', FILES)
    _simulate(output / 'scan', options.points, options.seed)
    scan = load_scan(output / 'scan')
    truth = read_product(output / 'scan' / 'truth.h5').object_array[0]
    say(f'Simulated {len(scan.raw)} patterns of {SIZE}×{SIZE} pixels with {PHOTONS:g} photons each.')

    execution = PyTorchExecutionConfig(enable_progress_bar=not options.quiet)
    result = run_reconstruction(scan, load_model(), InferenceConfig(), execution)
    assert scan.product is not None
    write_product(output / 'product.h5', result.to_product(scan.product))

    box = scan_box(scan.raw.xcoords, scan.raw.ycoords, truth.shape)
    found = score(truth, result.object_array, box)
    flat = score(truth, np.ones_like(truth), box)
    title = f'PtychoPINN without training: NRMSE {found.nrmse:.3f} (flat object {flat.nrmse:.3f})'
    figure = comparison_figure(truth, result.object_array, box, [], title)
    save_figure(figure, output / 'demo.png')
    rows = [{'name': 'PtychoPINN', **found.to_dict()}, {'name': 'flat object', **flat.to_dict()}]
    say(*scores_table(rows))
    say(f'Wrote {output}/: product.h5, demo.png, scan/')
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
        '  the same from the command line, and what is wrong with data if something is:',
        f'    ptychopinn reconstruct {scan} --output {result}',
        f'    ptychopinn doctor {scan}',
        '  the window of Ptychodus; on Diffraction open scan/diffraction.h5 as PtychoPINN Scan, and then',
        '  scan/product.h5 on Products, with that dataset for it:',
        '    ptychodus',
        '  Ptychodus without its window; training on the scan itself takes minutes and is not needed:',
        f'    ptychodus -b reconstruct -i {scan} -o {demo}/reconstructed',
        f'    ptychodus -b train -i {scan} -o {demo}/trained',
    ]


def _simulate(directory: Path, points: int, seed: int) -> None:
    """Simulate a scan of an object of the demo's own."""
    rng = np.random.default_rng([seed, 0])
    probe = defocused_probe(SIZE, rng)
    x, y = raster_positions(points, points, STEP_PX, rng)
    side = int(np.ceil((points + 1) * STEP_PX)) + SIZE + 8
    truth = make_object('dead-leaves', (side, side), rng, absorption=0.5, phase=0.5)
    middle = (side - 1) / 2
    raw = simulate_scan(truth, probe, x + middle, y + middle, photons=PHOTONS, rng=rng)
    write_scan(directory, raw, name='demo', settings=settings_text(epochs=20, gridsize=1))
