"""Standard output and error as the user has them: closed, cut off by ``| head``, or without our characters.

None of these may end a run whose results are written, nor print a traceback: what cannot be shown is spelled
in ASCII, or lost.
"""

from __future__ import annotations

import codecs
import os
import sys
import unicodedata
from typing import Any, TextIO

__all__ = ['drop', 'flush_streams', 'one_reader', 'prepare_streams', 'show']

SPELLED = 'ptychopinn.spelled'
"""Name of our way to encode characters that an encoding lacks."""

SPELLING = {
    '×': 'x',
    'µ': 'u',
    'μ': 'u',
    '–': '-',
    '—': '-',
    '…': '...',
    '±': '+-',
    '·': '*',
    '→': '->',
    '’': "'",
}

_lost: dict[str, OSError] = {}
"""Why streams take nothing any longer, by their names."""


def prepare_streams() -> None:
    """Make standard output and error take every text; call it before anything is printed or opened."""
    _lost.clear()
    _fill_closed_descriptors()
    codecs.register_error(SPELLED, _spell)
    for name in ('stdout', 'stderr'):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, 'w', encoding='utf-8'))  # noqa: SIM115
        elif hasattr(stream, 'reconfigure'):
            stream.reconfigure(errors=SPELLED)


def _fill_closed_descriptors() -> None:
    # Otherwise the next file that is opened becomes standard output, and what libraries print goes into it.
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _spell(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    wrong = error.object[error.start : error.end]
    return ''.join(map(_in_ascii, wrong)), error.end


def _in_ascii(character: str) -> str:
    spelled = SPELLING.get(character) or unicodedata.normalize('NFKD', character)
    plain = ''.join(c for c in spelled if c.isascii())
    return plain or character.encode('ascii', 'backslashreplace').decode('ascii')


def show(text: str, name: str = 'stdout') -> None:
    """Print a line on ``sys.stdout`` or ``sys.stderr`` at once; lost where that takes nothing any longer."""
    stream: TextIO = getattr(sys, name)
    try:
        print(text, file=stream, flush=True)
    except OSError as error:
        drop(name, error)


def one_reader() -> bool:
    """Return whether standard output and error lead to one place: a terminal, or one file or pipe."""
    try:
        out, err = (os.fstat(stream.fileno()) for stream in (sys.stdout, sys.stderr))
    except (OSError, ValueError, AttributeError):
        return False
    return os.path.samestat(out, err)


def drop(name: str, error: OSError) -> None:
    """Let a stream that takes nothing any longer lead nowhere, so that nothing fails on it again."""
    _lost.setdefault(name, error)
    stream: Any = getattr(sys, name)
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError, AttributeError):
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def flush_streams() -> OSError | None:
    """Write out what is waiting; returns why not all that was printed could be written, if so."""
    for name in ('stdout', 'stderr'):
        try:
            getattr(sys, name).flush()
        except OSError as error:
            drop(name, error)
    return next(iter(_lost.values()), None)
