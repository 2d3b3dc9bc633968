"""Start Ptychodus with PtychoPINN, whether or not its plugin folder holds the plugin file.

What follows `gui` goes to Ptychodus; `--` before it keeps options from being taken for those of this command.

examples:
  ptychopinn gui
  ptychopinn gui -- --settings settings.ini
"""

from __future__ import annotations

import argparse

from .host import HostError, host_commands


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ptychopinn gui``."""
    parser.add_argument('arguments', nargs='*', metavar='ARGUMENT', help='for Ptychodus')


def run(options: argparse.Namespace) -> int:
    """Start Ptychodus; returns its exit code.

    Raises
    ------
    HostError
        If Ptychodus is not installed or too old.
    """
    commands = host_commands()
    reason = commands.why_not()
    if reason is not None:
        raise HostError(f'{reason}; pip install "ptychodus[gui]".')
    return int(commands.gui_main(options.arguments))
