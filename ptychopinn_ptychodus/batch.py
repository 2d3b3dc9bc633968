"""Batch mode of Ptychodus: its failures end with exit code 1 and one sentence."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ptycho_engine.errors import EngineError
from ptycho_engine.io.preflight import require_writable

from .processing import HostedProcessingCore

__all__ = ['FAILURE', 'with_plain_failures']

logger = logging.getLogger('ptychopinn')

FAILURE = 1

BatchFunction = Callable[[Any, str, Path, Path], int]


def with_plain_failures(execute: BatchFunction) -> BatchFunction:
    """Return ``ModelCore.batch_mode_execute`` with a sentence in place of the traceback of our errors."""

    @functools.wraps(execute)
    def batch_mode_execute(model: Any, action: str, input_directory: Path, output_directory: Path) -> int:
        core = model.processing_core
        if not isinstance(core, HostedProcessingCore):
            return execute(model, action, input_directory, output_directory)
        try:
            # Ptychodus itself would make the folder, and end in a traceback.
            require_writable(output_directory)
            with core.batch_run(input_directory):
                return execute(model, action, input_directory, output_directory)
        except EngineError as error:
            logger.error('%s', error)
            return FAILURE

    return batch_mode_execute
