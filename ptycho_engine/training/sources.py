"""Where training takes its groups from, and measured scans as such a source."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..backends.base import Batch
from ..blocks import evenly_spread
from ..config import TrainingConfig
from ..diagnostics.doubts import light_is_scarce, warn_of_doubts
from ..diagnostics.trials import disagreement
from ..errors import DataValueError
from ..formats.origin import ScanOrigin
from ..scan.centring import warn_if_off_centre
from ..scan.grouping import Coverage
from ..scan.neighbours import Neighbourhood
from ..scan.scan import Scan
from ..whole_scan.scan_model import ScanModel
from .identity import combined, scan_origin
from .selection import draw_seed, draw_validation, select_patterns
from .subscan import GROUPS_OF_PART, WHOLE_PIXELS, Part, draw_part

__all__ = ['BatchSource', 'GroupedScan', 'MeasuredScans', 'ReadyOrSampled', 'SampledScan', 'TrainingSource']

logger = logging.getLogger('ptychopinn.train')

JUDGING_GROUPS = 2 * GROUPS_OF_PART
"""Groups of each scan, at most, that judge a prior."""


class BatchSource(Protocol):
    """Gathers groups into batches, as :class:`~..whole_scan.scan_model.ScanModel` does."""

    def extent(self, groups: npt.NDArray[np.int32]) -> int:
        """Return the side in pixels of a square that holds the patches of any of the groups (b, C)."""

    def batch(self, groups: npt.NDArray[np.int32], extent: int | None = None) -> Batch:
        """Return the batch of some groups (b, C) of a pass with that extent, or that are all of it."""


@dataclass(frozen=True)
class GroupedScan:
    """A scan and the groups to take from it."""

    prepared: BatchSource
    groups: npt.NDArray[np.int32]
    """(B, C) what the groups are called: pattern indices of a measured scan."""

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """Yield consecutive batches of the groups."""
        for start in range(0, len(self.groups), batch_size):
            yield self.batch(self.groups[start : start + batch_size])

    def batch(self, groups: npt.NDArray[np.int32]) -> Batch:
        """Return the batch of some of the groups (b, C)."""
        return self.prepared.batch(groups, self._extent)

    def ready(self) -> GroupedScan:
        """Return itself: its patterns are there."""
        return self

    @cached_property
    def _extent(self) -> int:
        return self.prepared.extent(self.groups)


@dataclass(frozen=True)
class SampledScan:
    """Groups of a scan that is made when their turn comes, so that not all of an epoch are in memory."""

    make: Callable[[], ScanModel]
    groups: npt.NDArray[np.int32]
    """(B, C) pattern indices."""

    def ready(self) -> GroupedScan:
        """Return the groups with their scan, made anew."""
        return GroupedScan(self.make(), self.groups)


ReadyOrSampled = GroupedScan | SampledScan


class TrainingSource(Protocol):
    """Gives the groups of each epoch and those kept for validation."""

    simulated: bool
    """Whether its patterns are simulated."""

    @property
    def reference(self) -> ScanModel:
        """The scan whose scale and probe are recorded with the model."""

    @property
    def identity(self) -> str:
        """A short text that differs between different data, to tell whether a run can be resumed."""

    @property
    def origins(self) -> tuple[ScanOrigin, ...]:
        """What the model is to say that it was trained on."""

    def training(self, epoch: int) -> Sequence[ReadyOrSampled]:
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

    simulated = False

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
        self._prepared = [ScanModel(scan, config.model, has_truth=labelled) for scan in scans]
        # The image that a prior learns from is that of all patterns: pixels judge it, not patterns.
        kept = 0.0 if config.model.of_objects else config.validation_fraction
        self._selections = select_patterns([scan.raw for scan in scans], config, kept)
        for prepared in self._prepared:
            warn_of_doubts(prepared)
            warn_if_off_centre(prepared.scan.raw)
            _warn_of_disagreement(prepared)

    @property
    def reference(self) -> ScanModel:
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

    def training(self, epoch: int) -> list[ReadyOrSampled]:
        """Draw this epoch's groups, shared among the scans by their size."""
        config = self._config
        total = sum(len(selection.training) for selection in self._selections)
        wanted = total if config.n_groups is None else config.n_groups
        grouped: list[ReadyOrSampled] = []
        seen: list[npt.NDArray[np.integer[Any]]] = []
        for number, (prepared, selection) in enumerate(zip(self._prepared, self._selections, strict=True)):
            share = max(round(wanted * len(selection.training) / total), 1)
            if self._in_parts(prepared):
                parts = _draw_parts(prepared, selection.training, config, share, (epoch, number))
                grouped += [_drawn(prepared, part) for part in parts]
                seen.append(np.concatenate([part.patterns for part in parts]))
            else:
                groups = selection.draw(config, share, draw_seed(config, epoch, number))
                grouped.append(GroupedScan(prepared, groups))
                seen.append(groups)
        if epoch == 1:
            self._announce(seen, total)
        return grouped

    def validation(self) -> list[GroupedScan]:
        """Groups of the patterns kept out of training; for a prior some of all, judged by other pixels."""
        config = self._config
        if config.validation_fraction == 0:
            return []
        grouped = []
        for number, (prepared, selection) in enumerate(zip(self._prepared, self._selections, strict=True)):
            judging = selection.training if config.model.of_objects else selection.validation
            if not len(judging):
                continue
            if self._in_parts(prepared):
                parts = _draw_parts(prepared, judging, config, JUDGING_GROUPS, (0, number))
                grouped += [_drawn(prepared, part).ready() for part in parts]
            else:
                groups = draw_validation(judging, config, draw_seed(config, 0, number))
                most = JUDGING_GROUPS if config.model.of_objects else len(groups)
                grouped.append(GroupedScan(prepared, groups[evenly_spread(len(groups), most)]))
        return grouped

    def _announce(self, seen: Sequence[npt.NDArray[np.integer[Any]]], total: int) -> None:
        """Log what the patterns of each scan are for, and how many of them an epoch sees."""
        for number, (prepared, selection) in enumerate(zip(self._prepared, self._selections, strict=True), 1):
            training, validation = len(selection.training), len(selection.validation)
            logger.info(
                'Scan %d: %d patterns train, %d validate, %d are left out.',
                number,
                training,
                validation,
                len(prepared) - training - validation,
            )
        logger.info(
            'An epoch draws %d groups of %d: %s.',
            sum(map(len, seen)),
            self._config.model.gridsize**2,
            Coverage(sum(len(np.unique(groups)) for groups in seen), total),
        )

    def _in_parts(self, prepared: ScanModel) -> bool:
        """Return whether a scan is too large to be solved as a whole for its prior."""
        return self._config.model.of_objects and len(prepared) * prepared.scan.raw.N**2 > WHOLE_PIXELS


def _draw_parts(
    prepared: ScanModel,
    neighbourhood: Neighbourhood,
    config: TrainingConfig,
    n_groups: int,
    key: tuple[int, int],
) -> list[Part]:
    """Return random parts of a scan with that many groups in all."""
    bounds = np.linspace(0, n_groups, max(round(n_groups / GROUPS_OF_PART), 1) + 1).astype(int)
    return [
        draw_part(
            prepared.scan.raw,
            neighbourhood,
            config,
            size,
            draw_seed(config, *key, number),
            oversample=config.enable_oversampling,
        )
        for number, size in enumerate(np.diff(bounds).tolist())
    ]


def _drawn(prepared: ScanModel, part: Part) -> SampledScan:
    """Return a part of a scan as something to train on."""
    return SampledScan(partial(prepared.part, part.members), part.groups)


def _varies(scan: Scan) -> bool:
    """Return whether a scan's object is more than a flat start."""
    if scan.raw.Y is not None:
        return True
    obj = scan.raw.objectGuess
    return obj is not None and bool(np.ptp(np.abs(obj)) > 1e-6 or np.ptp(np.angle(obj)) > 1e-6)


def with_pattern_size(config: TrainingConfig, size: int) -> TrainingConfig:
    """Return the configuration with N as in the data; the prior, which works on objects, has none.

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
    return config if config.model.of_objects else replace(config, model=replace(config.model, N=size))


def _warn_of_disagreement(prepared: ScanModel) -> None:
    """Log a warning where a quick reconstruction speaks against what the file of a scan says (DOUBT-03)."""
    if prepared.scale.unit != 1 or light_is_scarce(prepared.scale):
        return
    words = disagreement(prepared.scan.raw)
    if words:
        logger.warning('%s: %s; ptychopinn doctor looks for the cause.', prepared.scan.raw.source, words)
