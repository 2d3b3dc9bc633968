"""Put the plugin where another Ptychodus looks for it."""

from __future__ import annotations

import argparse
import importlib

from .host import HOST, host_commands
from .paragraph import say


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
