"""What refinement of a network's object leads to."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ['Refinement', 'in_words']


@dataclass(frozen=True)
class Refinement:
    """An object after refinement and how it came about."""

    object_array: npt.NDArray[np.complex64]
    """(H, W) complex64 on the scan's grid, in the engine's scale."""
    probe: npt.NDArray[np.complex64] | None
    """(P, N, N) refined probe in the engine's scale; None where it is the scan's."""
    position_shift: npt.NDArray[np.float64] | None
    """(n, 2) [dy, dx] in pixels that the refinement added to the positions; None where it added nothing."""
    uncertainty: npt.NDArray[np.float32]
    """(H, W) standard error in units of the object's amplitude, engine's scale; NaN where nothing was
    scanned."""
    start: str
    """'network' or 'flat': the start that went on."""
    kept: bool
    """Whether the refined object is better than the network's on the held-out pixels."""
    averaged: bool
    """Whether the object is the mean of the refined one and the network's."""
    iterations: int
    """Iterations of the start that went on."""
    deviance_before: float
    """Poisson deviance per held-out pixel of the network's object."""
    deviance_after: float
    """The same of :attr:`object_array`; never above `deviance_before`."""
    seconds: float

    @property
    def sentence(self) -> str:
        """What happened, for logs and comments."""
        change = f'held-out deviance {in_words(self.deviance_before)} → {in_words(self.deviance_after)}'
        if not self.kept:
            return f'refinement did not improve on the network and was dropped ({change})'
        mean = ', averaged with the network' if self.averaged else ''
        return (
            f'refined by {self.iterations} iterations from the {self.start} start{mean} '
            f'({change}){self._calibrated}'
        )

    @property
    def _calibrated(self) -> str:
        what = ['the probe'] if self.probe is not None else []
        if self.position_shift is not None:
            moved = np.sqrt(np.square(self.position_shift).sum(axis=1).mean())
            what.append(f'positions by {moved:.2g} px (root mean square)')
        return f', with {" and ".join(what)}' if what else ''


def in_words(deviance: float) -> str:
    """Return a deviance for a sentence."""
    return f'{deviance:.4g}' if math.isfinite(deviance) else 'not a finite number'
