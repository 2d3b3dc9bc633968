"""One descent over the patterns of a scan, in subsets that become fewer (REF-12)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..physics.descent import Descent
from .subsets import subsets_in_sweep

__all__ = ['DescentRun']

RUNAWAY = 2.0
"""A run whose held-out deviance grows by this factor starts again without subsets."""


class DescentRun:
    """One start and how far it has come."""

    def __init__(self, make: Callable[[Any], Descent], start: Any, sweeps: int, most: int) -> None:
        self._make = make
        self._start = start
        self._descent = make(start)
        self._sweeps = sweeps
        self._most = most
        self._first = math.inf

    @property
    def current(self) -> Any:
        """The object (H, W) after the last step, on the device."""
        return self._descent.current

    def sweep(self, number: int, n: int, seed: int) -> tuple[float, Any]:
        """Do one sweep; return the sum of the held-out deviance, and the object it belongs to or None."""
        count = subsets_in_sweep(number, self._sweeps, self._most)
        order = np.random.default_rng([seed, number]).permutation(n)
        total = self._descent.sweep(np.array_split(order, min(count, n)))
        if math.isinf(self._first):
            self._first = total
        if not total <= RUNAWAY * self._first and self._most > 1:
            self._most = 1
            self._descent = self._make(self._start)
            return math.nan, None
        return total, self._descent.judged if count == 1 else None
