"""Say what a model was trained on, or how a result came about: with what, when, and how well.

MODEL is wts.h5.zip, the directory that holds it, or a checkpoint. RESULT is a product, an NPZ or CXI file
with an object, or the output directory of `ptychopinn reconstruct`.

examples:
  ptychopinn inspect model
  ptychopinn inspect result
  ptychopinn inspect result/product.h5 --json
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ptychopinn inspect``."""
    parser.add_argument('model', type=Path, metavar='MODEL|RESULT', help='what to look at')
    parser.add_argument('--json', action='store_true', help='everything, as JSON')
