"""Ptychodus' side of the commands, found when it is asked for: the engine knows nothing of Ptychodus."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from ..errors import EngineError

__all__ = ['HostError', 'host_commands']

HOST = 'ptychopinn_ptychodus'


class HostError(EngineError, RuntimeError):
    """Ptychodus, or what joins it to PtychoPINN, is not as it should be."""


def host_commands() -> Any:
    """Return the module with the functions behind ``gui``, ``link`` and the Ptychodus part of ``doctor``.

    Raises
    ------
    HostError
        If it is not installed.
    """
    if importlib.util.find_spec(HOST) is None:
        raise HostError(
            f"{HOST} is not installed; in the folder of the project run: python -m pip install '.[gui]'"
        )
    return importlib.import_module(f'{HOST}.commands')


def host_readers() -> Any:
    """Return the module that reads files of beamlines by the readers of the installed Ptychodus.

    It has ``read_patterns``, ``read_positions`` and ``read_probe``, which return what
    :mod:`~..formats.measurement` is made of.

    Raises
    ------
    HostError
        If it, or Ptychodus, is not installed.
    """
    problem = host_commands().why_no_readers()
    if problem is not None:
        raise HostError(
            f'{problem}, whose readers open files of beamlines; python -m pip install ptychodus, or name '
            'arrays as FILE::KEY.'
        )
    return importlib.import_module(f'{HOST}.file_readers')
