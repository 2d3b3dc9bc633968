"""What a model was trained on, as its archive says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import ArchiveError
from .stated import LARGEST_COUNTS, number, text, whole_number

__all__ = ['ScanOrigin', 'origins_from_json', 'origins_to_json']


@dataclass(frozen=True)
class ScanOrigin:
    """One scan that a model was trained on."""

    name: str
    """Of the file or directory, without the directories above it, which are nobody else's business."""
    patterns: int
    mean_counts: float
    """Mean over patterns of the counts in valid pixels."""
    step_px: float | None
    """Median distance from a position to its nearest neighbour; None for a single pattern."""
    identity: str
    """Sha256 of positions, probe, mask, mean counts, some patterns, and labels if used."""


def origins_to_json(origins: Sequence[ScanOrigin]) -> list[dict[str, Any]]:
    """Return plain values for JSON."""
    return [asdict(origin) for origin in origins]


def origins_from_json(values: Any, path: Path) -> tuple[ScanOrigin, ...]:
    """Rebuild what :func:`origins_to_json` returned; None, as in archives that do not say, gives none.

    Raises
    ------
    ArchiveError
        If it is something else.
    """
    if values is None:
        return ()
    what = f'{path}: trained_on of the manifest'
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise ArchiveError(f'{what} is no list of scans; the file is damaged.')
    return tuple(
        ScanOrigin(
            name=text(value.get('name'), f'{what}, name'),
            patterns=whole_number(value.get('patterns'), f'{what}, patterns', 1),
            mean_counts=number(value.get('mean_counts'), f'{what}, mean_counts', 0, LARGEST_COUNTS),
            step_px=None if value.get('step_px') is None else number(value['step_px'], f'{what}, step_px', 0),
            identity=text(value.get('identity'), f'{what}, identity'),
        )
        for value in values
    )
