"""Check a Ptychodus product file against every rule of the product contract.

Prints a JSON summary: name, number of positions, shapes of probe and object. A file that breaks the contract
ends in exit code 1 with every broken rule, one sentence each, in the summary and as messages. What is no
breach but may trouble another program is a warning.

example:
  ptychopinn validate-product product.h5
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ptychopinn validate-product``."""
    parser.add_argument('file', type=Path, metavar='FILE', help='the product file')
