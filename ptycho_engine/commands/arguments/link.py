"""Put the plugin file where a Ptychodus looks for it that the installer did not know.

Installing this package beside Ptychodus is enough; this command is for an editable clone of Ptychodus, for a
Ptychodus in another environment (which needs this package too), and for a plugin file that was lost.

examples:
  ptychopinn link
  ptychopinn link --ptychodus ~/src/ptychodus
  ptychopinn link --ptychodus ~/src/ptychodus --remove
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ptychopinn link``."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument('--ptychodus', type=Path, metavar='DIR', help='a clone of Ptychodus')
    where.add_argument('--python', type=Path, metavar='EXE', help='the Python of another environment')
    parser.add_argument('--remove', action='store_true', help='take the plugin file away again')
