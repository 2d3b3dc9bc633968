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
import importlib
from pathlib import Path

from .host import HOST, host_commands
from .paragraph import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ptychopinn link``."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument('--ptychodus', type=Path, metavar='DIR', help='a clone of Ptychodus')
    where.add_argument('--python', type=Path, metavar='EXE', help='the Python of another environment')
    parser.add_argument('--remove', action='store_true', help='take the plugin file away again')


def run(options: argparse.Namespace) -> None:
    """Link or unlink, and say what was done."""
    host_commands()
    link = importlib.import_module(f'{HOST}.link')
    folder = link.plugins_folder(options.ptychodus, options.python)
    if options.remove:
        path, changed = link.unlink(folder)
        say(f'Removed {path}.' if changed else f'There is no {path}; nothing to remove.')
    else:
        path, changed = link.link(folder)
        say(f'Wrote {path}.' if changed else f'{path} is there already and up to date.')
