"""Start Ptychodus with PtychoPINN."""

from __future__ import annotations

import argparse
import importlib.util

from .host import HostError, host_commands

WINDOW_TOOLKIT = 'PyQt5'


def run(options: argparse.Namespace) -> int:
    """Start Ptychodus; returns its exit code.

    Raises
    ------
    HostError
        If Ptychodus is not installed, too old, or without what its window needs.
    """
    commands = host_commands()
    reason = commands.why_not()
    if reason is not None:
        raise HostError(f'{reason}; pip install "ptychodus[gui]".')
    if importlib.util.find_spec(WINDOW_TOOLKIT) is None:
        raise HostError(
            f'The window needs {WINDOW_TOOLKIT}, which is not installed; pip install "ptychodus[gui]".'
        )
    return int(commands.gui_main(options.arguments))
