"""Where training takes its groups from: measured scans, or simulated ones drawn afresh each epoch."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ..config import TrainingConfig
from ..data.centring import warn_if_off_centre
from ..data.grouping import Coverage
from ..data.scan import Scan
from ..errors import DataValueError
from ..files.origin import ScanOrigin
from ..simulate import OBJECT_FAMILIES, make_object, simulate_scan
from .identity import combined, scan_identity, scan_origin
from .prepared import PreparedScan
from .selection import Selection, select_patterns

__all__ = ['GroupedScan', 'MeasuredScans', 'SimulatedScans', 'TrainingSource']

logger = logging.getLogger('ptychopinn.train')


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

    @property
    def identity(self) -> str:
        """A short text that differs between different data, to tell whether a run can be resumed."""

    @property
    def origins(self) -> tuple[ScanOrigin, ...]:
        """What the model is to say that it was trained on."""

    def training(self, epoch: int) -> list[GroupedScan]:
        """Return the training groups of an epoch (from 1); they follow from the seed and the epoch alone."""

    def validation(self) -> list[GroupedScan]:
        """Return the validation groups; they never change."""


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
        for scan in scans:
            warn_if_off_centre(scan.raw)
        self._prepared = [PreparedScan(scan, config.model, has_truth=labelled) for scan in scans]
        self._selections = select_patterns([scan.raw for scan in scans], config, config.validation_fraction)

    @property
    def reference(self) -> PreparedScan:
        """The first scan."""
        return self._prepared[0]

    @cached_property
    def identity(self) -> str:
        """That of all scans, in their order."""
        return combined(*(origin.identity for origin in self.origins))

    @cached_property
    def origins(self) -> tuple[ScanOrigin, ...]:
        """The scans, in their order."""
        return tuple(map(scan_origin, self._prepared))

    def training(self, epoch: int) -> list[GroupedScan]:
        """Draw this epoch's groups, shared among the scans by their size."""
        config = self._config
        total = sum(len(selection.training) for selection in self._selections)
        wanted = total if config.n_groups is None else config.n_groups
        grouped = []
        for number, (prepared, selection) in enumerate(zip(self._prepared, self._selections, strict=True)):
            share = max(round(wanted * len(selection.training) / total), 1)
            groups = selection.draw(config, share, _draw_seed(config, epoch, number))
            grouped.append(GroupedScan(prepared, groups))
        if epoch == 1:
            _report(grouped, [selection.training.members for selection in self._selections], config)
        return grouped

    def validation(self) -> list[GroupedScan]:
        """Groups of the patterns kept out of training."""
        return [
            GroupedScan(
                prepared, selection.draw_validation(self._config, _seed(self._config.seed, 0, number))
            )
            for number, (prepared, selection) in enumerate(zip(self._prepared, self._selections, strict=True))
            if len(selection.validation)
        ]


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

    @cached_property
    def identity(self) -> str:
        """That of the template and of what is simulated."""
        settings = (self._photons, self._families, self._absorption, self._phase)
        return combined(scan_identity(self.reference), *settings)

    @cached_property
    def origins(self) -> tuple[ScanOrigin, ...]:
        """The template."""
        return (scan_origin(self.reference),)

    @cached_property
    def _selection(self) -> Selection:
        """All chosen patterns: a simulated object is new each time, so none need be kept apart."""
        return select_patterns([self._template.raw], self._config, 0.0)[0]

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
        groups = self._selection.draw(config, n_groups, _draw_seed(config, *key))
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


def _draw_seed(config: TrainingConfig, epoch: int, number: int) -> int:
    """Return the seed of an epoch's draw; sequential sampling draws the same each epoch."""
    return _seed(config.seed, 1 if config.sequential_sampling else epoch, number)


def _seed(seed: int, epoch: int, number: int) -> int:
    state = np.random.SeedSequence([seed, epoch, number])
    return int(state.generate_state(1)[0])


def _report(
    grouped: Sequence[GroupedScan], members: Sequence[npt.NDArray[np.int64]], config: TrainingConfig
) -> None:
    """Log how many of the training patterns an epoch sees."""
    covered = sum(len(np.unique(item.groups)) for item in grouped)
    logger.info(
        'An epoch draws %d groups of %d: %s.',
        sum(len(item.groups) for item in grouped),
        config.model.gridsize**2,
        Coverage(covered, sum(map(len, members))),
    )


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
