"""Write files of the original PtychoPINN as ours, and say what was kept, changed and dropped.

PATH is an NPZ file, a product with or without its patterns, a YAML configuration, or a folder of these, such
as that of a run. Into DIR go
  scan.npz       a scan, as every command takes it
  product.h5     a product, with its positions on its object
  settings.toml  for --config of `ptychopinn train`
Models are not brought over: their networks are others, and what they pickle is never executed. No file is
replaced unless --overwrite says so.

examples:
  ptychopinn import-upstream scan.npz config.yaml --output ours
  ptychopinn train ours/scan.npz --config ours/config.toml --output model
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ptychopinn import-upstream``."""
    parser.add_argument('paths', nargs='+', type=Path, metavar='PATH', help='files and folders')
    parser.add_argument('--output', type=Path, required=True, metavar='DIR', help='for what is written')
    parser.add_argument('--overwrite', action='store_true', help='replace files of earlier imports in DIR')
