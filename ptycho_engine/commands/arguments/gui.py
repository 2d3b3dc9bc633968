"""Start Ptychodus with PtychoPINN, whether or not its plugin folder holds the plugin file.

What follows `gui` goes to Ptychodus; `--` before it keeps options from being taken for those of this command.

examples:
  ptychopinn gui
  ptychopinn gui -- --settings settings.ini
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ptychopinn gui``."""
    parser.add_argument('arguments', nargs='*', metavar='ARGUMENT', help='for Ptychodus')
