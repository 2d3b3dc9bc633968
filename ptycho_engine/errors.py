"""Every exception that a caller of the engine may want to catch.

A user's mistake is an :class:`EngineError`: one sentence that names the file or the field, what was
found, what was expected, and what to do. Commands print that sentence and exit with status 2.
"""

from __future__ import annotations

from .printable import printable

__all__ = [
    'ArchiveError',
    'ArchiveNotFoundError',
    'BackendUnavailableError',
    'Cancelled',
    'ConfigError',
    'ConfigTypeError',
    'DataFileNotFoundError',
    'DataKeyError',
    'DataValueError',
    'DivergedError',
    'EngineError',
    'FolderInUseError',
    'OutputError',
    'ProductError',
    'is_out_of_memory',
]


OUT_OF_MEMORY = ('MemoryError', 'OutOfMemoryError', 'ResourceExhaustedError', "can't allocate memory")
"""Words by which Python, PyTorch and TensorFlow say it, in the type of an exception or in its text."""


class EngineError(Exception):
    """A mistake that the user can correct; its text is the sentence to show.

    Names and values of files that it quotes are shown as :func:`~.printable.printable` does.
    """

    def __str__(self) -> str:
        # KeyError shows the repr of its argument; a sentence should be shown as it is.
        return printable(' '.join(str(arg) for arg in self.args))


class ConfigError(EngineError, ValueError):
    """A configuration value is out of range, unknown, or contradicts another."""


class ConfigTypeError(ConfigError, TypeError):
    """Something else was given in place of a configuration."""


class DataKeyError(EngineError, KeyError):
    """A data file lacks a key that is needed."""


class DataValueError(EngineError, ValueError):
    """Data have the wrong shape, type or values."""


class DataFileNotFoundError(EngineError, FileNotFoundError):
    """A data file or directory is not there."""


class ProductError(EngineError, ValueError):
    """A product file breaks the product contract."""


class ArchiveError(EngineError, ValueError):
    """A model archive is damaged, foreign, or does not fit the data."""


class ArchiveNotFoundError(ArchiveError, FileNotFoundError):
    """There is no model archive where one was expected."""


class OutputError(EngineError, OSError):
    """What is to be written cannot be, as could be told before it was computed."""


class BackendUnavailableError(EngineError, RuntimeError):
    """The selected backend is not installed."""


class DivergedError(EngineError, ArithmeticError):
    """Training came to a loss, or a reconstruction to an object, that is not finite, with nothing to keep."""


class FolderInUseError(EngineError):
    """Another process writes into the folder."""


class Cancelled(EngineError):
    """The run was stopped on request."""


def is_out_of_memory(text: str) -> bool:
    """Return whether the type and text of an exception, or its traceback, say that memory ran out."""
    return any(word in text for word in OUT_OF_MEMORY)
