"""Text beside a heading, wrapped to the terminal."""

from __future__ import annotations

import shutil
import textwrap

__all__ = ['beside']

NARROWEST, WIDEST = 60, 110


def beside(head: str, text: str) -> str:
    """Return `head` and, to its right, `text` wrapped to the width of the terminal."""
    width = max(min(shutil.get_terminal_size().columns, WIDEST), NARROWEST)
    lines = textwrap.wrap(text, width - len(head), break_on_hyphens=False) or ['']
    return head + f'\n{" " * len(head)}'.join(lines)
