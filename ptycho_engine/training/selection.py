"""Which patterns of a scan train and validate, and the groups drawn among them, as TrainingConfig says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..config import TrainingConfig
from ..errors import DataValueError
from ..scan.grouping import draw_groups
from ..scan.neighbours import Neighbourhood
from ..scan.raw_data import RawData
from ..scan.split import split_validation

__all__ = ['Selection', 'draw_seed', 'draw_training', 'draw_validation', 'select_patterns']


@dataclass(frozen=True)
class Selection:
    """The patterns of one scan that train and those that validate."""

    training: Neighbourhood
    validation: Neighbourhood

    def draw(self, config: TrainingConfig, n_groups: int, seed: int) -> npt.NDArray[np.int32]:
        """Draw training groups (B, C) as :func:`draw_training` does."""
        return draw_training(self.training, config, n_groups, seed, oversample=config.enable_oversampling)


def draw_validation(neighbourhood: Neighbourhood, config: TrainingConfig, seed: int) -> npt.NDArray[np.int32]:
    """Draw one group (B, C) around each pattern that validates."""
    return draw_groups(neighbourhood, config.model.gridsize, config.neighbor_count, None, seed)


def draw_training(
    neighbourhood: Neighbourhood, config: TrainingConfig, n_groups: int, seed: int, *, oversample: bool
) -> npt.NDArray[np.int32]:
    """Draw training groups (B, C): `n_groups`, but without oversampling at most one a pattern."""
    return draw_groups(
        neighbourhood,
        config.model.gridsize,
        config.neighbor_count,
        n_groups if oversample else min(n_groups, len(neighbourhood)),
        seed,
        config.sequential_sampling,
        oversample,
        pool=config.neighbor_pool_size,
    )


def select_patterns(
    scans: Sequence[RawData], config: TrainingConfig, validation_fraction: float
) -> list[Selection]:
    """Choose the training and validation patterns of each scan.

    ``n_subsample`` patterns are shared among the scans by their size and drawn from them without
    replacement; whole regions of what is left are kept for validation.

    Raises
    ------
    DataValueError
        If too few are left in a dataset for one group.
    """
    size = config.model.gridsize**2
    selections = []
    for raw, members in zip(scans, _subsample(scans, config), strict=True):
        xy = np.stack([raw.xcoords, raw.ycoords], axis=1)
        labels = None if raw.labels is None else raw.labels[members]
        training, validation = split_validation(
            xy[members], validation_fraction, smallest=size, scan_index=labels
        )
        if len(training) < size:
            raise DataValueError(
                f'{raw.source} has {len(training)} training patterns, but gridsize '
                f'{config.model.gridsize} needs {size}; use a smaller gridsize.'
            )
        whole = raw.neighbourhood(
            config.model.gridsize,
            config.neighbor_count,
            config.neighbor_pool_size,
            use_cache=config.use_groups_cache,
        )
        parts = [whole.part(members[p], size - 1, xy, raw.labels) for p in (training, validation)]
        selections.append(Selection(*parts))
    return selections


def _subsample(scans: Sequence[RawData], config: TrainingConfig) -> list[npt.NDArray[np.int64]]:
    """Return the sorted indices of the patterns of each scan that are used at all."""
    total = sum(len(raw) for raw in scans)
    if config.n_subsample is None or config.n_subsample >= total:
        return [np.arange(len(raw)) for raw in scans]
    seed = config.seed if config.subsample_seed is None else config.subsample_seed
    rng = np.random.default_rng([seed, 2])
    bounds = np.cumsum([0, *(len(raw) for raw in scans)]) * (config.n_subsample / total)
    shares = np.diff(np.rint(bounds).astype(np.int64))
    return [
        np.sort(rng.choice(len(raw), share, replace=False)) for raw, share in zip(scans, shares, strict=True)
    ]


def draw_seed(config: TrainingConfig, epoch: int, *numbers: int) -> int:
    """Return the seed of an epoch's draw, 0 for validation's; `numbers` tell its scans and parts apart.

    Sequential sampling draws the same in each epoch of training.
    """
    drawn_as = min(epoch, 1) if config.sequential_sampling else epoch
    state = np.random.SeedSequence([config.seed, drawn_as, *numbers])
    return int(state.generate_state(1)[0])
