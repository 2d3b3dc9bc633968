"""Where training takes its groups from: measured scans, or simulated ones drawn afresh each epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ..config import TrainingConfig
from ..data.grouping import build_groups, split_validation
from ..data.scan import Scan
from ..errors import DataValueError
from ..simulate import OBJECT_FAMILIES, make_object, simulate_scan
from .prepared import PreparedScan

__all__ = ['GroupedScan', 'MeasuredScans', 'SimulatedScans', 'TrainingSource']


@dataclass(frozen=True)
class GroupedScan:
    """A prepared scan and the groups to take from it."""

    prepared: PreparedScan
    groups: npt.NDArray[np.int32]
    """(B, C) pattern indices."""


class TrainingSource(Protocol):
    """Gives the groups of each epoch and those kept for validation."""

    @property
    def reference(self) -> PreparedScan:
        """The scan whose scale and probe are recorded with the model."""

    def training(self, epoch: int) -> list[GroupedScan]:
        """Return the training groups of an epoch (from 1)."""

    def validation(self) -> list[GroupedScan]:
        """Return the validation groups; they never change."""


def _draw(
    prepared: PreparedScan,
    members: npt.NDArray[np.int64],
    config: TrainingConfig,
    n_groups: int,
    seed: int,
) -> npt.NDArray[np.int32]:
    """Draw groups among some patterns of a scan, each dataset of the scan by itself."""
    index = prepared.scan.raw.scan_index
    labels = np.zeros(len(members), np.int64) if index is None else index[members]
    parts = []
    for label in np.unique(labels):
        chosen = members[labels == label]
        share = max(round(n_groups * len(chosen) / len(members)), 1)
        local = build_groups(
            prepared.xy[chosen],
            config.model.gridsize,
            config.neighbor_count,
            share,
            seed,
            oversample=True,
        )
        parts.append(chosen[local])
    return np.concatenate(parts).astype(np.int32)


class MeasuredScans:
    """Groups of one or several measured scans; no known object is needed for 'pinn'.

    Raises
    ------
    DataValueError
        If there is no scan, the scans differ in pattern size, or a group does not fit.
    """

    def __init__(self, scans: Sequence[Scan], config: TrainingConfig) -> None:
        if not scans:
            raise DataValueError('There is no scan to train on.')
        sizes = sorted({scan.raw.N for scan in scans})
        if len(sizes) > 1:
            raise DataValueError(
                f'The scans have patterns of {sizes} pixels; train on scans of one pattern size.'
            )
        modes = sorted({len(scan.raw.probeGuess) for scan in scans})
        if config.probe_trainable and len(modes) > 1:
            raise DataValueError(
                f'The scans have probes of {modes} modes; with probe_trainable, train on scans of one probe.'
            )
        self._config = config
        supervised = config.model.model_type == 'supervised'
        labelled = supervised or config.realspace_mae_weight > 0
        for scan in scans:
            known = scan.raw.objectGuess is not None or scan.raw.Y is not None
            if labelled and not (known and _varies(scan)):
                raise DataValueError(
                    f'{scan.raw.source} has no known object, which '
                    f'{"supervised training" if supervised else "realspace_mae_weight > 0"} needs; give '
                    'a scan whose objectGuess (or product object) is a reconstruction, or train PINN.'
                )
        self._prepared = [PreparedScan(scan, config.model, has_truth=labelled) for scan in scans]
        self._splits = [split_validation(p.xy, config.validation_fraction) for p in self._prepared]
        smallest = config.model.gridsize**2
        for scan, (training, _) in zip(scans, self._splits, strict=True):
            if len(training) < smallest:
                raise DataValueError(
                    f'{scan.raw.source} has {len(training)} training patterns, but gridsize '
                    f'{config.model.gridsize} needs {smallest}; use a smaller gridsize.'
                )

    @property
    def reference(self) -> PreparedScan:
        """The first scan."""
        return self._prepared[0]

    def training(self, epoch: int) -> list[GroupedScan]:
        """Draw this epoch's groups, shared among the scans by their size."""
        config = self._config
        sizes = [len(training) for training, _ in self._splits]
        total = sum(sizes)
        wanted = total if config.n_groups is None else config.n_groups
        grouped = []
        for number, (prepared, (training, _)) in enumerate(zip(self._prepared, self._splits, strict=True)):
            share = max(round(wanted * len(training) / total), 1)
            seed = _epoch_seed(config.seed, epoch, number)
            grouped.append(GroupedScan(prepared, _draw(prepared, training, config, share, seed)))
        return grouped

    def validation(self) -> list[GroupedScan]:
        """Groups of the patterns kept out of training."""
        grouped = []
        for number, (prepared, (_, validation)) in enumerate(zip(self._prepared, self._splits, strict=True)):
            if len(validation) >= self._config.model.gridsize**2:
                seed = _epoch_seed(self._config.seed, 0, number)
                groups = _draw(prepared, validation, self._config, len(validation), seed)
                grouped.append(GroupedScan(prepared, groups))
        return grouped


def _varies(scan: Scan) -> bool:
    """Return whether a scan's object is more than a flat start."""
    if scan.raw.Y is not None:
        return True
    obj = scan.raw.objectGuess
    return obj is not None and bool(np.ptp(np.abs(obj)) > 1e-6 or np.ptp(np.angle(obj)) > 1e-6)


class SimulatedScans:
    """Scans of simulated objects with a given probe and positions; the truth serves as labels.

    Parameters
    ----------
    template : Scan
        Gives probe, positions, bad pixels and, unless `photons` is given, the photon level.
    config : TrainingConfig
        Groups per epoch, gridsize and seed.
    photons : float, optional
        Mean counts per pattern.
    families : sequence of str
        Object families, taken in turn.
    """

    def __init__(
        self,
        template: Scan,
        config: TrainingConfig,
        *,
        photons: float | None = None,
        families: Sequence[str] = OBJECT_FAMILIES,
        absorption: float = 0.5,
        phase: float = 1.0,
    ) -> None:
        self._template = template
        self._config = config
        self._photons = photons or PreparedScan(template).scale.mean_counts
        self._families = tuple(families)
        self._absorption = absorption
        self._phase = phase

    @cached_property
    def reference(self) -> PreparedScan:
        """The template itself: its probe and scale are what the model will meet."""
        return PreparedScan(self._template, self._config.model)

    def training(self, epoch: int) -> list[GroupedScan]:
        """Simulate fresh objects of every family for this epoch."""
        share = max(self._n_groups // len(self._families), 1)
        return [self._scan(family, share, (epoch, number)) for number, family in enumerate(self._families)]

    def validation(self) -> list[GroupedScan]:
        """One object of each family that training never sees."""
        share = max(round(self._n_groups * self._config.validation_fraction), 8)
        return [self._scan(family, share, (0, number)) for number, family in enumerate(self._families)]

    @property
    def _n_groups(self) -> int:
        return self._config.n_groups or len(self._template.raw)

    def _scan(self, family: str, n_groups: int, key: tuple[int, int]) -> GroupedScan:
        """Simulate the patterns of some groups of the template's positions on one random object."""
        raw, grid, config = self._template.raw, self._template.grid, self._config
        rng = np.random.default_rng([config.seed, *key])
        template = self.reference
        members = np.arange(len(raw))
        groups = _draw(template, members, config, n_groups, _epoch_seed(config.seed, *key))
        used, local = np.unique(groups, return_inverse=True)
        margin = raw.N
        obj = make_object(
            family,
            (grid.height + 2 * margin, grid.width + 2 * margin),
            rng,
            absorption=self._absorption * rng.uniform(0.2, 1),
            phase=self._phase * rng.uniform(0.2, 1),
        )
        simulated = simulate_scan(
            obj,
            raw.probeGuess,
            raw.xcoords[used] - grid.origin_x + margin,
            raw.ycoords[used] - grid.origin_y + margin,
            photons=self._photons,
            rng=rng,
            bad_pixels=raw.bad_pixels,
        )
        prepared = PreparedScan(Scan.from_raw(simulated), config.model, has_truth=True)
        return GroupedScan(prepared, local.reshape(groups.shape).astype(np.int32))


def _epoch_seed(seed: int, epoch: int, number: int) -> int:
    state = np.random.SeedSequence([seed, epoch, number])
    return int(state.generate_state(1)[0])


def with_pattern_size(config: TrainingConfig, size: int) -> TrainingConfig:
    """Return the configuration with N as in the data.

    Raises
    ------
    DataValueError
        If the configuration asks for another size.
    """
    if config.model.N not in (0, size):
        raise DataValueError(
            f'The network is for {config.model.N}-pixel patterns but the data have {size}; set N to {size} '
            'or to 0.'
        )
    return replace(config, model=replace(config.model, N=size))
