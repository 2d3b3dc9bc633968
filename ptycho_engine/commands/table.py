"""Scores as a table for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..printable import printable

__all__ = ['scores_table']

NAME_WIDTH = 13
COLUMNS = (
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
"""Title, key, format and width; at most 80 columns are filled."""


def scores_table(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return rows, each with a `name` and some of the scores, as lines; empty columns are left out."""
    rows = list(rows)
    columns = [c for c in COLUMNS if any(row.get(c[1]) is not None for row in rows)]
    lines = [' ' * NAME_WIDTH + ''.join(f'{title:>{width}}' for title, _, _, width in columns)]
    for row in rows:
        name = printable(row['name'])
        name = name if len(name) < NAME_WIDTH else f'{name[: NAME_WIDTH - 2]}…'
        cells = ''.join(
            f'{"-":>{width}}' if row.get(key) is None else f'{row[key]:>{width}{form}}'
            for _, key, form, width in columns
        )
        lines.append(f'{name:<{NAME_WIDTH}}{cells}')
    return lines
