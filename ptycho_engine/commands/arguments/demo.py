"""Simulate a scan of a known object, reconstruct it without training, and show the scores.

Takes less than a minute on a laptop. Leaves in the output directory
  scan/         the simulated scan, as `ptychopinn simulate` writes it
  product.h5    the reconstruction, a Ptychodus product
  demo.png      truth beside reconstruction, error, Fourier ring correlation

example:
  ptychopinn demo
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ptychopinn demo``."""
    parser.add_argument('--output', type=Path, default=Path('ptychopinn-demo'), metavar='DIR')
    parser.add_argument('--points', type=int, default=23, help='scan points on a side (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='seed of everything (default: 0)')
