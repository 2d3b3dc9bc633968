"""Batch mode of Ptychodus: its failures end with exit code 1 and one sentence."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ptycho_engine.errors import EngineError
from ptycho_engine.io.hdf5 import open_hdf5
from ptycho_engine.io.preflight import require_writable

from .processing import HostedProcessingCore

__all__ = ['FAILURE', 'with_plain_failures']

logger = logging.getLogger('ptychopinn')

FAILURE = 1

READ_BY_PTYCHODUS = ('diffraction.h5', 'product.h5')
"""Files of an input directory that Ptychodus opens in its own process."""

BatchFunction = Callable[[Any, str, Path, Path], int]


def with_plain_failures(execute: BatchFunction) -> BatchFunction:
    """Return ``ModelCore.batch_mode_execute`` with a sentence in place of a traceback, for runs of ours."""

    @functools.wraps(execute)
    def batch_mode_execute(model: Any, action: str, input_directory: Path, output_directory: Path) -> int:
        core = model.processing_core
        if not isinstance(core, HostedProcessingCore):
            return execute(model, action, input_directory, output_directory)
        ours = core.is_asked_for_ours(input_directory)
        try:
            # Ptychodus itself would make the folder, and end in a traceback.
            require_writable(output_directory)
            with core.batch_run(input_directory):
                if ours:
                    _require_safe(input_directory / name for name in READ_BY_PTYCHODUS)
                return execute(model, action, input_directory, output_directory)
        except EngineError as error:
            logger.error('%s', error)
        except Exception as error:
            if not ours:
                raise
            logger.debug('Ptychodus failed.', exc_info=True)
            logger.error('%s', _sentence(error))
        return FAILURE

    return batch_mode_execute


def _require_safe(paths: Iterable[Path]) -> None:
    """Check that Ptychodus can open files without harm: it would follow whatever they link to (HDF-01 to 08).

    Raises
    ------
    EngineError
        If a file cannot be read, or an item lies where nothing is read from.
    """
    for path in paths:
        if path.is_file():
            with open_hdf5(path) as file:
                for name in file:
                    file.get(name)


def _sentence(error: BaseException) -> str:
    """Return what Ptychodus says of a failure and, if it says so, what caused it."""
    causes = [error]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    said = '; '.join(str(cause).strip().rstrip('.!') or type(cause).__name__ for cause in causes)
    return f'Ptychodus cannot do this run ({said}); `ptychopinn doctor INPUT_DIR` says more of the files.'
