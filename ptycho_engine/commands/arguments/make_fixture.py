"""Write the first positions of a scan as a small canonical NPZ file, for tests.

The same source gives the same bytes, whenever and wherever it is made. A JSON file beside it tells what was
done and holds the checksum.

example:
  ptychopinn make-fixture --source run1084.npz --output minimal.npz
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ptychopinn make-fixture``."""
    parser.add_argument('--source', type=Path, required=True, metavar='NPZ', help='the scan')
    parser.add_argument('--output', type=Path, required=True, metavar='NPZ', help='the file to write')
    parser.add_argument(
        '--subset-size',
        type=int,
        default=64,
        metavar='N',
        help='positions to keep, at least 16 (default: %(default)s)',
    )
    parser.add_argument(
        '--metadata-out',
        type=Path,
        metavar='JSON',
        help='the description (default: the output with the suffix .json)',
    )
