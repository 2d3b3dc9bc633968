"""Write a scan, or the result of a reconstruction, in another format.

A scan is an NPZ file, a Ptychodus directory, a CXI file, or with --positions patterns in any file that
Ptychodus reads. The ending of OUTPUT says what it becomes
  scan.npz     for every command of ours and for the original PtychoPINN
  scan.cxi     for programs that read CXI, Ptychodus among them
  scan.h5      a Ptychodus product that holds its patterns
  scan         a Ptychodus directory: diffraction.h5 and product.h5
A result is a product, a CXI file, an NPZ file with objectGuess, or the output directory of `ptychopinn
reconstruct`; it becomes
  image.tif    image_amplitude.tif and image_phase.tif, single precision, with
               the pixel size in their tags
  image.cxi, image.h5, image.npz
Of several INPUTs, OUTPUT is a folder, in which each has a file or a folder of its own name, in the format
that --format says. One that cannot be converted does not end the list.

examples:
  ptychopinn convert scan --output scan.cxi
  ptychopinn convert scan1 scan2 image --output out --format cxi
  ptychopinn convert master.h5 --positions stage.csv --probe estimate \\
    --energy-eV 8800 --distance-m 2 --pixel-size-m 75e-6 --output scan
  ptychopinn convert result --output image.tif
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .inputs import add_inputs

__all__ = ['FOLDER', 'add_arguments']

FOLDER = 'folder'
FORMATS = ('npz', 'cxi', 'h5', 'tif', FOLDER)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ptychopinn convert``."""
    parser.add_argument('inputs', nargs='+', type=Path, metavar='INPUT', help='scans and results')
    parser.add_argument('--output', type=Path, required=True, metavar='OUTPUT')
    parser.add_argument(
        '--format',
        choices=FORMATS,
        metavar='FORMAT',
        help=f'OUTPUT is a folder, and each INPUT becomes NAME.FORMAT there: {", ".join(FORMATS)} (default '
        f'for several: {FOLDER}, a Ptychodus directory, for scans, and h5 for results)',
    )
    add_inputs(parser)
