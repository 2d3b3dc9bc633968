"""Load TensorFlow the way the engine needs it: quietly, under Keras, with as many threads as asked for.

All of this is read once, when TensorFlow is loaded or first used, so it happens before anything else.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from ...errors import BackendUnavailableError

__all__ = ['start']

logger = logging.getLogger('ptychopinn.tensorflow')

_CHATTER = re.compile(
    rb'[IWE]\d{4} [\d:.]+ +\d+ \S+\.cc:\d+\]|WARNING: All log messages before absl::|'
    rb'To enable the following instructions|Skipping registering GPU devices'
)
"""Lines that TensorFlow's C++ part writes while it looks for devices, whatever its log level is."""


def start() -> None:
    """Import TensorFlow and Keras and look for devices.

    Raises
    ------
    BackendUnavailableError
        If Keras runs on another framework in this process.
    """
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
    # TensorFlow takes the oneDNN kernels by itself on some processors only; they are a third faster on all.
    os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '1')
    if 'keras' not in sys.modules:
        os.environ['KERAS_BACKEND'] = 'tensorflow'
    with _without_chatter():
        tf = importlib.import_module('tensorflow')
        keras = importlib.import_module('keras')
        if keras.backend.backend() != 'tensorflow':
            raise BackendUnavailableError(
                f'TensorFlow backend selected but this program runs Keras on {keras.backend.backend()!r}; '
                "set the environment variable KERAS_BACKEND to 'tensorflow'."
            )
        _configure(tf)
        tf.config.list_logical_devices()


def _configure(tf: object) -> None:
    """Set threads and GPU memory, unless the program has used TensorFlow before."""
    config = tf.config  # type: ignore[attr-defined]
    threads = os.environ.get('OMP_NUM_THREADS', '')
    try:
        if threads.isdecimal() and int(threads) > 0:
            config.threading.set_intra_op_parallelism_threads(int(threads))
            config.threading.set_inter_op_parallelism_threads(int(threads))
        for device in config.list_physical_devices('GPU'):
            config.experimental.set_memory_growth(device, True)
    except RuntimeError as error:
        logger.debug('TensorFlow is in use already and keeps its settings (%s).', error)


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Hold back what is written to the standard error stream; pass on what is not TensorFlow's chatter."""
    try:
        sys.stderr.flush()
        saved = os.dup(2)
    except (AttributeError, OSError, ValueError):
        # A program without a standard error stream.
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
            held.seek(0)
            for line in held:
                if not _CHATTER.match(line):
                    os.write(2, line)
