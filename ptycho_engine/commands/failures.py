"""What went wrong in a run, as one sentence and an exit code."""

from __future__ import annotations

import errno
from pathlib import Path

from ..errors import EngineError, OutputError, is_out_of_memory
from .options import in_flags

__all__ = ['EXIT_FAILURE', 'EXIT_USAGE', 'failure_of']

EXIT_FAILURE = 1
EXIT_USAGE = 2


def failure_of(error: Exception, output: Path | None) -> tuple[str, int] | None:
    """Return a sentence on what the user or the machine did, and its exit code; None for a fault of ours.

    Parameters
    ----------
    error : Exception
    output : Path, optional
        What was being written, for a full disk does not say itself which file it was.
    """
    if isinstance(error, EngineError):
        return in_flags(str(error)), EXIT_FAILURE if isinstance(error, OutputError) else EXIT_USAGE
    if isinstance(error, OSError):
        return _of_the_system(error, output), EXIT_FAILURE
    # TensorFlow's has no base in common with the others.
    if is_out_of_memory(f'{type(error).__name__}: {error}'):
        return 'memory ran out; choose a smaller --batch-size or --filters-scale.', EXIT_FAILURE
    return None


def _of_the_system(error: OSError, output: Path | None) -> str:
    file = error.filename if error.filename is not None else output
    if not error.strerror or file is None:
        return str(error)
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
    what = ' cannot be written' if full or error.filename is None else ''
    return f'{file}{what}: {error.strerror}.'
