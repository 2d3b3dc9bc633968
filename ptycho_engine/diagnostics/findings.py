"""What an examination found: facts, cautions, and what would stop a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

__all__ = ['Finding', 'Grade']


class Grade(StrEnum):
    """How bad a finding is."""

    FINE = 'ok'
    CAUTION = 'caution'
    """A run goes through, but its result will suffer."""
    WRONG = 'WRONG'
    """A run goes through, but its image, unless calibration corrects the scan, is far from the patterns."""
    STOP = 'STOP'
    """A run would end with an error."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    grade: Grade
    topic: str
    """What was looked at, in a word or two."""
    text: str
    """What was found, with advice where it is not fine."""
    values: dict[str, Any] = field(default_factory=dict)
    """Figures of it, for programs."""
