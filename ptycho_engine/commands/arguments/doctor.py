"""Look at the installation and at data, and say in plain words what would go wrong.

Python, frameworks and GPUs, the learned prior, memory and disk, Ptychodus and its plugin: whether they are
there. With --thorough each framework computes on each device, and Ptychodus lists its algorithms. With DATA,
an NPZ file, a Ptychodus directory, a CXI file, or with --positions patterns in any file: sizes, units, light,
probe, positions, overlap, and whether patterns, probe and positions agree down to photon noise; where they do
not, what is wrong, among all that is known to go wrong. Lines marked "caution" say what makes results worse,
lines marked "WRONG" what spoils an image, lines marked "STOP" what would end a run; with one of the last two
the exit code is 1.

examples:
  ptychopinn doctor
  ptychopinn doctor --thorough
  ptychopinn doctor scan.npz
  ptychopinn doctor scan.npz --fix corrected.npz
  ptychopinn doctor --data-only --json scans/
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .inputs import add_inputs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ptychopinn doctor``."""
    parser.add_argument('data', nargs='*', type=Path, metavar='DATA', help='scans to look at')
    parser.add_argument('--data-only', action='store_true', help='do not look at the installation')
    parser.add_argument(
        '--thorough',
        action='store_true',
        help='start each framework on each device, and Ptychodus, to see that they work (many seconds)',
    )
    parser.add_argument(
        '--fix',
        type=Path,
        metavar='OUT.npz',
        help='write the one scan that is given, with what was found wrong undone',
    )
    parser.add_argument('--json', action='store_true', help='print one JSON object, for programs')
    add_inputs(parser)
