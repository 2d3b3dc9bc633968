"""What a model was trained on, as its archive says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import ArchiveError

__all__ = ['ScanOrigin', 'origins_from_json', 'origins_to_json']


@dataclass(frozen=True)
class ScanOrigin:
    """One scan that a model was trained on."""

    name: str
    """Of the file or directory, without the directories above it, which are nobody else's business."""
    patterns: int
    mean_counts: float
    """Mean over patterns of the counts in good pixels."""
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
    try:
        return tuple(
            ScanOrigin(
                name=str(value['name']),
                patterns=int(value['patterns']),
                mean_counts=_finite(value['mean_counts']),
                step_px=None if value['step_px'] is None else _finite(value['step_px']),
                identity=str(value['identity']),
            )
            for value in values or ()
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArchiveError(
            f'{path}: what it says of its training data cannot be read ({error!r}); the file is damaged.'
        ) from error


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f'{value!r} is not finite')
    return number
