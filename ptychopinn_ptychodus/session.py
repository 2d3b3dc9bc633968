"""What the algorithms share: the loaded model, measured speeds, the queued runs, and the window."""

from __future__ import annotations

from dataclasses import dataclass, field

from .loaded_model import ModelMemory
from .run_queue import RunQueue
from .settings import ReconstructorSettings
from .speeds import SpeedBook
from .window import WindowLink

__all__ = ['Session']


@dataclass(frozen=True)
class Session:
    """Settings of one program, and what it learns while it runs."""

    settings: ReconstructorSettings
    memory: ModelMemory
    speeds: SpeedBook
    window: WindowLink
    queue: RunQueue = field(default_factory=RunQueue)

    @classmethod
    def of(cls, settings: ReconstructorSettings) -> Session:
        """Return the session of a program with these settings."""
        return cls(settings, ModelMemory(settings.inference.model_path), SpeedBook(), WindowLink())
