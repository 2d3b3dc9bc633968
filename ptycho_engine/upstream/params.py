"""The flat dictionary of older PtychoPINN code, for callers who read it; the engine never does."""

from __future__ import annotations

from typing import Any

__all__ = ['cfg']

cfg: dict[str, Any] = {}
"""Settings by their legacy names; empty until :func:`~.legacy.populate_legacy_params` fills it."""
