"""Reconstruct a scan with a trained network.

INPUT is an NPZ file or a Ptychodus directory (diffraction.h5 and product.h5). Writes into the output
directory
  reconstruction.npz   object, illumination, uncertainty, positions, and how
                       they came about
  reconstruction.png   amplitude, phase, illumination and uncertainty
  product.h5           a Ptychodus product, where the input has physical units
and with --truth what `ptychopinn evaluate` writes: scores and a figure.

examples:
  ptychopinn reconstruct scan --model model --output result
  ptychopinn reconstruct scan --model model --output out --truth scan/truth.h5
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from ..config import InferenceConfig, PyTorchExecutionConfig
from ..data.npz import write_arrays
from ..data.scan import Scan, load_scan
from ..errors import Cancelled
from ..events import Reconstructed
from ..figures import object_figure, save_figure
from ..files.archive import ModelArchive, load_archive
from ..files.atomic import require_writable
from ..files.product import write_product
from ..pipeline.evaluate import read_object
from ..pipeline.quality import scan_box
from ..pipeline.reconstruct import reconstruct
from ..pipeline.result import Reconstruction
from .evaluate import report_scores
from .interrupt import stop_on_interrupt
from .options import add_settings, read_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ptychopinn reconstruct``."""
    parser.add_argument('input', type=Path, metavar='INPUT', help='the scan')
    parser.add_argument(
        '--model', type=Path, required=True, help='wts.h5.zip, or the directory that holds it'
    )
    parser.add_argument('--output', type=Path, required=True, metavar='DIR', help='output directory')
    parser.add_argument(
        '--truth', type=Path, metavar='FILE', help='product or NPZ file with the known object, to score with'
    )
    add_settings(parser, 'reconstruct')


def run(options: argparse.Namespace) -> None:
    """Reconstruct and write the results."""
    settings = read_settings(options)
    config, execution = settings.inference(), settings.execution
    archive = load_archive(options.model)
    scan = load_scan(options.input)
    truth = None if options.truth is None else read_object(options.truth, truth=True)
    require_writable(options.output)
    result = run_reconstruction(scan, archive, config, execution)
    written = write_results(options.output, scan, result)
    if options.quiet or not sys.stdout.isatty():
        # On a terminal the log has just said it.
        print(result.comments)
    print(f'Wrote {", ".join(path.name for path in written)} to {options.output}.')
    if truth is not None:
        report_scores([read_object(options.output)], truth, scan, options.output)


def run_reconstruction(
    scan: Scan,
    archive: ModelArchive,
    config: InferenceConfig,
    execution: PyTorchExecutionConfig,
) -> Reconstruction:
    """Reconstruct; Ctrl-C stops it."""
    with stop_on_interrupt() as stopped:
        events = reconstruct(scan, archive, config, execution=execution, should_stop=stopped)
        try:
            for event in events:
                if isinstance(event, Reconstructed):
                    return event.reconstruction
        except Cancelled:
            raise KeyboardInterrupt from None
    raise AssertionError('a reconstruction ends with its result')


def write_results(directory: Path, scan: Scan, result: Reconstruction) -> list[Path]:
    """Write arrays, picture and, where there are physical units, the product."""
    grid = result.grid
    arrays = directory / 'reconstruction.npz'
    x, y = scan.raw.xcoords - grid.origin_x, scan.raw.ycoords - grid.origin_y
    if result.position_shift is not None:
        dy, dx = result.position_shift.T
        x, y = x + dx, y + dy
    write_arrays(
        arrays,
        {
            'objectGuess': result.object_array,
            'weight': result.weight,
            'uncertainty': result.uncertainty,
            'probeGuess': scan.raw.probeGuess if result.probe is None else result.probe,
            'xcoords': x,
            'ycoords': y,
            '_metadata': np.array(json.dumps(result.results)),
        },
    )
    picture = directory / 'reconstruction.png'
    box = scan_box(x, y, grid.shape)
    save_figure(object_figure(result, box), picture)
    written = [arrays, picture]
    if scan.product is not None:
        product = directory / 'product.h5'
        write_product(product, result.to_product(scan.product))
        written.append(product)
    return written
