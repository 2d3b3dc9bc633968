"""Parts of a scan: patterns that lie together, where physics is not to be run over all of a large one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..blocks import most_patterns
from ..config import TrainingConfig
from ..scan.neighbours import Neighbourhood
from ..scan.raw_data import RawData
from .selection import draw_training

__all__ = ['GROUPS_OF_PART', 'MOST_PATTERNS', 'WHOLE_PIXELS', 'Part', 'draw_part', 'part_of']

WIDTH = 2.5
"""Side of the square of positions of a part, in patterns."""

MOST_PATTERNS, MOST_PIXELS = 196, 1 << 22
"""At most so many positions, and so many pixels of patterns, the nearest to the middle first."""

GROUPS_OF_PART = 64
"""Groups drawn from each part: bringing it to the first correction costs about half as much as they do."""

WHOLE_PIXELS = 1 << 24
"""Pixels of the patterns of a scan up to which it is not cut into parts."""


@dataclass(frozen=True)
class Part:
    """Some patterns of a scan and groups of these."""

    members: npt.NDArray[np.int64]
    """(k,) indices into the scan, sorted."""
    groups: npt.NDArray[np.int32]
    """(B, C) indices into `members`."""

    @property
    def patterns(self) -> npt.NDArray[np.int64]:
        """(B, C) the groups as indices into the scan."""
        return self.members[self.groups]


def draw_part(
    raw: RawData,
    whole: Neighbourhood,
    config: TrainingConfig,
    n_groups: int,
    seed: int,
    *,
    oversample: bool = True,
) -> Part:
    """Draw a part of a scan at random, and groups in it, as the configuration says.

    Where the part has fewer patterns than groups are wanted, each seeds several with `oversample`, and one
    without.

    Raises
    ------
    DataValueError
        If there are too few patterns for a group.
    """
    size = config.model.gridsize**2
    members = part_of(raw, whole.members, size, np.random.default_rng([seed, 5]))
    xy = np.stack([raw.xcoords, raw.ycoords], axis=1)
    near = whole.part(members, size - 1, xy, raw.labels)
    groups = draw_training(near, config, n_groups, seed, oversample=oversample)
    return Part(members, np.searchsorted(members, groups).astype(np.int32))


def part_of(
    raw: RawData, members: npt.NDArray[np.int64], fewest: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Return the members of a scan in a random square.

    It is around one of them, moved so that none of it lies outside of the scan where the scan is larger: a
    pattern at its edge has the neighbours that it has in the whole scan.

    Parameters
    ----------
    raw : RawData
        The scan.
    members : (m,) int
        Patterns to choose from; parts never mix datasets.
    fewest : int
        As many are returned at least, where the dataset has as many.
    rng : Generator

    Returns
    -------
    (k,) int64, sorted
    """
    middle = rng.choice(members)
    if raw.labels is not None:
        members = members[raw.labels[members] == raw.labels[middle]]
    half = WIDTH / 2 * raw.N
    away = np.maximum(
        *(
            abs(axis[members] - _inside(axis[members], axis[middle], half))
            for axis in (raw.xcoords, raw.ycoords)
        )
    )
    most = most_patterns(MOST_PATTERNS, MOST_PIXELS, raw.N, fewest)
    inside = int(np.count_nonzero(away <= half))
    nearest = np.argsort(away, kind='stable')[: min(max(inside, fewest), most)]
    return np.sort(members[nearest])


def _inside(axis: npt.NDArray[np.float64], middle: float, half: float) -> float:
    """Return `middle`, moved so that the range of `half` around it ends where the values of `axis` do."""
    low, high = float(axis.min()) + half, float(axis.max()) - half
    return float(np.clip(middle, low, high)) if low < high else (low + high) / 2
