"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..printable import printable

__all__ = ['Column', 'rows_table', 'scores_table']

Column = tuple[str, str, str, int]
"""Title, key, format and width."""

NAME_WIDTH = 13
SCORES: tuple[Column, ...] = (
    ('NRMSE', 'nrmse', '.3f', 7),
    ('SSIM amp', 'amplitude_ssim', '.3f', 10),
    ('phase', 'phase_ssim', '.3f', 7),
    ('PSNR amp', 'amplitude_psnr', '.1f', 10),
    ('phase', 'phase_psnr', '.1f', 7),
    ('FRC50', 'frc50', '.2f', 7),
    ('half bit', 'half_bit', '.2f', 10),
    ('deviance', 'deviance', '.3g', 10),
    ('covered', 'coverage', '.0%', 9),
)
"""At most 80 columns of the terminal are filled."""


def scores_table(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return rows, each with a `name` and some of the scores, as lines."""
    return rows_table(rows, SCORES)


def rows_table(
    rows: Iterable[Mapping[str, Any]], columns: Iterable[Column], name_width: int = NAME_WIDTH
) -> list[str]:
    """Return rows, each with a `name` and some of the columns, as lines; empty columns are left out."""
    rows = list(rows)
    columns = [c for c in columns if any(row.get(c[1]) is not None for row in rows)]
    lines = [' ' * name_width + ''.join(f'{title:>{width}}' for title, _, _, width in columns)]
    for row in rows:
        name = printable(row['name'])
        name = name if len(name) < name_width else f'{name[: name_width - 2]}…'
        cells = ''.join(
            f'{"-":>{width}}' if row.get(key) is None else f'{row[key]:>{width}{form}}'
            for _, key, form, width in columns
        )
        lines.append(f'{name:<{name_width}}{cells}')
    return lines
