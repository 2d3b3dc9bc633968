"""What the corrections of 'unrolled' learn from: whole scans, brought there by physics and the ones before.

A network takes a whole scan for one object. So that it learns what it will meet, the scan of each pass is run
through all steps with the weights of the moment, and groups are cut from what each correction then sees.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import fft

from ..backends.base import Backend, Batch
from ..network.plan import PROBE_CORRECTION, NetworkPlan
from ..physics.unrolled import UnrolledState
from .coupled import WholeScan
from .prepared import PreparedScan
from .sources import GroupedScan

__all__ = ['Approach']

JUDGED_FRACTION = 0.05
"""Part of the good pixels that the physics is not shown, so that fitting noise does not pay."""

VALIDATION_SEED = 0
"""Of the choice of these pixels in validation; epochs of training have their numbers."""


class Approach:
    """Brings the scans of a pass to each correction of a network.

    Parameters
    ----------
    backend : Backend
        Built for `plan`.
    plan : NetworkPlan
        Where it does not couple whole scans, groups stay as they are.
    stop : callable
        Asked every few thousand patterns.
    """

    def __init__(self, backend: Backend, plan: NetworkPlan, stop: Callable[[], bool]) -> None:
        self._backend = backend
        self._plan = plan
        self._stop = stop
        self._starts: dict[int, tuple[PreparedScan, UnrolledState]] = {}

    def training(self, grouped: Sequence[GroupedScan], epoch: int) -> list[GroupedScan]:
        """Return groups with what the corrections, as they are now, see of them.

        Each epoch (from 1) has other pixels that judge: a network would learn those of a small scan by heart.

        Raises
        ------
        Cancelled
            If the run is to stop.
        """
        return [self._approached(item, epoch) for item in grouped]

    def validation(self, grouped: Sequence[GroupedScan]) -> list[GroupedScan]:
        """Return the same for groups that come again, judged by the same pixels each time.

        Their way to the first correction, which no weight changes, is gone once.

        Raises
        ------
        Cancelled
            If the run is to stop.
        """
        return [self._approached(item, VALIDATION_SEED, keep=True) for item in grouped]

    def _approached(self, item: GroupedScan, seed: int, *, keep: bool = False) -> GroupedScan:
        if not self._plan.couples:
            return item
        assert isinstance(item.prepared, PreparedScan)
        scan, weights = item.prepared, self._backend.weights()
        if PROBE_CORRECTION in weights:
            # Another probe is another way.
            scan, keep = replace(scan, probe_correction=weights[PROBE_CORRECTION]), False
        start = self._starts[id(scan)][1] if keep and id(scan) in self._starts else None
        network = WholeScan(self._backend, self._plan, weights, scan, self._stop, seed, JUDGED_FRACTION)
        seen = network.look(start)
        if keep:
            # With the scan, so that no other one gets its identity.
            self._starts[id(scan)] = scan, seen[0].before
        features = [each.features for each in seen]
        return GroupedScan(
            _ApproachedScan(item.prepared, self._plan, features, network.held_out), item.groups
        )


@dataclass(frozen=True)
class _ApproachedScan:
    """Gathers groups of a scan with what each correction sees of them."""

    prepared: PreparedScan
    plan: NetworkPlan
    features: list[npt.NDArray[np.float32]]
    """(F, H, W) of each correction, on the canvas of :func:`~.held_out.scan_patterns`."""
    held_out: npt.NDArray[np.int64]
    """Of :attr:`~.coupled.WholeScan.held_out`."""

    @cached_property
    def _judged(self) -> npt.NDArray[np.bool_]:
        """(K, N, N) the pixels of each set, zero frequency at N//2."""
        size = self.prepared.scan.raw.N
        judged = np.zeros((len(self.held_out), size * size), bool)
        np.put_along_axis(judged, self.held_out, True, axis=1)
        return np.asarray(fft.fftshift(judged.reshape(-1, size, size), axes=(-2, -1)))

    def extent(self, groups: npt.NDArray[np.int32]) -> int:
        """Return the side in pixels of a square that holds the patches of any of the groups (b, C)."""
        return self.prepared.extent(groups)

    def batch(self, groups: npt.NDArray[np.int32], extent: int | None = None) -> Batch:
        """Return the batch of some groups (b, C) of a pass with that extent, or that are all of it."""
        batch = self.prepared.batch(groups, extent)
        first = batch.corner.min(axis=1) + self.prepared.margin
        pixel = np.arange(self.plan.canvas_side(batch.extent))
        height, width = self.features[0].shape[1:]
        # What lies beyond the canvas holds no patch.
        rows = np.minimum(first[:, 0, None] + pixel, height - 1)[:, :, None]
        columns = np.minimum(first[:, 1, None] + pixel, width - 1)[:, None, :]
        windows = np.stack([image[:, rows, columns] for image in self.features])
        truth = self.prepared.padded_truth if self.prepared.has_truth else None
        if truth is not None:
            truth = truth[np.minimum(rows, len(truth) - 1), np.minimum(columns, truth.shape[1] - 1)]
        return replace(
            batch,
            truth=truth,
            features=np.ascontiguousarray(np.moveaxis(windows, 1, 2)),
            judged=self._judged[groups % len(self._judged)],
        )
