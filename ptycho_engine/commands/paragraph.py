"""Text wrapped to the terminal: beside a heading, and sentences on the error output."""

from __future__ import annotations

import logging
import shutil
import sys
import textwrap

__all__ = ['SentenceFormatter', 'beside', 'complain']

NARROWEST, WIDEST = 60, 110


def beside(head: str, text: str) -> str:
    """Return `head` and, to its right, `text` wrapped to the width of the terminal."""
    lines = _lines(text, len(head)) or ['']
    return head + f'\n{" " * len(head)}'.join(lines)


def complain(sentence: str) -> None:
    """Print a sentence on the error output."""
    print(_for_errors(sentence), file=sys.stderr)


class SentenceFormatter(logging.Formatter):
    """Wraps messages where the error output is a terminal, and leaves them as they are in a file."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the message as it is to be shown."""
        return _for_errors(super().format(record))


def _for_errors(text: str) -> str:
    if not sys.stderr.isatty() or '\n' in text:
        return text
    return '\n'.join(_lines(text, 0))


def _lines(text: str, indent: int) -> list[str]:
    width = max(min(shutil.get_terminal_size().columns, WIDEST), NARROWEST)
    return textwrap.wrap(text, width - indent, break_on_hyphens=False, break_long_words=False)
