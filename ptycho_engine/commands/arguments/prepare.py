"""Bring a scan into the shape that it needs: crop, bin and centre its patterns.

INPUT is an NPZ file, a Ptychodus directory (diffraction.h5 and product.h5), a Ptychodus HDF5 file or a CXI
file; with --positions the patterns alone. The probe, the pixel sizes, the positions, the object and the bad
pixels follow the patterns.
  --square HOW makes patterns square: crop or pad
  --crop N     keeps the middle N×N pixels: same field of view, larger pixels
  --bin B      sums B×B pixels: same object pixels, smaller field of view, into
               which the probe must fit
Binning comes first. OUTPUT ending in .npz is an NPZ file; otherwise it is a Ptychodus directory.

example:
  ptychopinn prepare scan --crop 128 --output scan128
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from ...config.choices import AxisOrder
from .inputs import add_inputs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ptychopinn prepare``."""
    parser.add_argument('input', type=Path, metavar='INPUT', help='the scan')
    parser.add_argument('--output', type=Path, required=True, metavar='OUTPUT')
    parser.add_argument('--crop', type=int, metavar='N', help='side of the patterns to keep, after binning')
    parser.add_argument('--bin', type=int, default=1, metavar='B', help='sum B×B pixels (default: 1)')
    parser.add_argument(
        '--centre',
        default='',
        metavar='auto|ROW,COLUMN',
        help='pixel to crop around, after binning; auto: the centre of mass (default: N//2)',
    )
    parser.add_argument(
        '--axis-order',
        choices=get_args(AxisOrder),
        metavar='ORDER',
        help=f'of NPZ patterns, if not by the rule: {" or ".join(get_args(AxisOrder))}',
    )
    add_inputs(parser)
