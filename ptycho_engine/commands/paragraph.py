"""All that a command says: one line each, wrapped to the terminal, without what could steer it."""

from __future__ import annotations

import copy
import json
import logging
import shutil
import sys
import textwrap
from typing import Any

from ..printable import plain_arguments, printable
from .streams import drop, show

__all__ = ['LogHandler', 'SentenceFormatter', 'beside', 'complain', 'say', 'say_json']

NARROWEST, WIDEST = 60, 110


def say(*lines: str) -> None:
    """Print lines on the standard output; a line break within one is shown as its escape."""
    for line in lines:
        show(printable(line))


def say_json(value: Any, indent: int | None = None) -> None:
    """Print a value as JSON: as it reads best where that is safe to show, else in ASCII."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    encoding = getattr(sys.stdout, 'encoding', None) or 'ascii'
    try:
        text.encode(encoding)
        safe = all(line.isprintable() for line in text.split('\n'))
    except (UnicodeEncodeError, LookupError):
        safe = False
    show(text if safe else json.dumps(value, indent=indent))


def beside(head: str, text: str) -> list[str]:
    """Return `head` and, to its right, `text` wrapped to the width of the terminal, as lines."""
    head = printable(head)
    first, *rest = _lines(printable(text), len(head)) or ['']
    return [head + first, *(' ' * len(head) + line for line in rest)]


def complain(sentence: str) -> None:
    """Print a sentence on the error output."""
    show(_for_errors(printable(sentence)), 'stderr')


class LogHandler(logging.StreamHandler[Any]):
    """Writes the log to the error output as sentences, as long as somebody reads it."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(SentenceFormatter('%(message)s'))

    def handleError(self, record: logging.LogRecord) -> None:
        """Lose the record where the error output takes nothing any longer."""
        error = sys.exception()
        if isinstance(error, OSError):
            drop('stderr', error)
        else:
            super().handleError(record)


class SentenceFormatter(logging.Formatter):
    """Wraps messages where the error output is a terminal, and leaves them as they are in a file.

    What is put into a message is shown as :func:`~..printable.printable` does; line breaks of the message
    itself stay.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the message as it is to be shown."""
        record = copy.copy(record)
        record.args = plain_arguments(record.args)
        text = super().format(record).expandtabs()
        return _for_errors('\n'.join(printable(line) for line in text.split('\n')))


def _for_errors(text: str) -> str:
    if not sys.stderr.isatty() or '\n' in text:
        return text
    return '\n'.join(_lines(text, 0))


def _lines(text: str, indent: int) -> list[str]:
    width = max(min(shutil.get_terminal_size().columns, WIDEST), NARROWEST)
    return textwrap.wrap(text, width - indent, break_on_hyphens=False, break_long_words=False)
