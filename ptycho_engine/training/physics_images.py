"""What the prior learns from: images that physics makes of whole scans, judged by pixels kept from it.

They are what the prior meets in the solver. No weight changes them, so that each is made once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from weakref import finalize

import numpy as np
import numpy.typing as npt
from scipy import fft

from ..backends.base import Backend, Batch
from ..config import InferenceConfig
from ..network.plan import NetworkPlan
from ..physics.descent import step_curvature
from ..physics.learned_prior import noise_told
from ..physics.likelihood import draw_held_out
from ..whole_scan.object_solver import IterationCount, ObjectSolver
from ..whole_scan.scan_model import ScanModel
from ..whole_scan.solver import STRENGTHS
from .sources import GroupedScan

__all__ = [
    'HELD_OUT_FRACTION',
    'LOOKS',
    'VALIDATION_SEED',
    'PhysicsImage',
    'PhysicsImages',
    'physics_image',
]

HELD_OUT_FRACTION = 0.05
"""Part of the valid pixels that the physics is not shown, so that fitting noise does not pay."""

LOOKS = 4
"""Choices of these pixels, taken in turn from epoch to epoch: the prior would learn those of one choice by
heart, and each costs a solution of the scan."""

VALIDATION_SEED = 0
"""Of the choice in validation; those of training have the numbers from 1."""


@dataclass(frozen=True)
class PhysicsImage:
    """What physics and total variation make of a scan, on a canvas that holds every patch whole."""

    object_array: npt.NDArray[np.complex64]
    """(H, W) in the engine's scale."""
    weight: npt.NDArray[np.float32]
    """(H, W) illumination in counts."""
    peak_illumination: float
    """Largest value of the illumination of one pattern, in counts."""
    held_out: npt.NDArray[np.int64]
    """(K, h) pixels that were not shown to it (:class:`~..physics.likelihood.ScanPatterns`)."""

    @property
    def curvature(self) -> npt.NDArray[np.float32]:
        """(H, W) that of the steps of the solver."""
        return np.asarray(step_curvature(self.weight, float(self.weight.max())), dtype=np.float32)


def physics_image(prepared: ScanModel, backend: Backend, seed: int, stop: Callable[[], bool]) -> PhysicsImage:
    """Solve by physics alone, ``HELD_OUT_FRACTION`` of the valid pixels, chosen by a seed, being kept from
    it.

    Raises
    ------
    Cancelled
        If `stop` turned true.
    """
    held_out = draw_held_out(prepared.valid, HELD_OUT_FRACTION, seed)
    solver = ObjectSolver(prepared, backend, InferenceConfig(seed=seed), IterationCount(stop, None), held_out)
    for _ in solver.descend():
        pass
    return PhysicsImage(
        object_array=solver.physics.to_host(solver.current).astype(np.complex64),
        weight=solver.physics.to_host(solver.weight).astype(np.float32),
        peak_illumination=solver.patterns.peak_illumination,
        held_out=held_out,
    )


class PhysicsImages:
    """Makes the images of the scans of a pass, and cuts groups from them.

    Parameters
    ----------
    backend : Backend
        Built for `plan`.
    plan : NetworkPlan
        Of any architecture but 'prior', groups stay as they are.
    stop : callable
        Asked before each iteration over a scan.
    """

    def __init__(self, backend: Backend, plan: NetworkPlan, stop: Callable[[], bool]) -> None:
        self._backend = backend
        self._plan = plan
        self._stop = stop
        self._known: dict[int, dict[int, PhysicsImage]] = {}

    def training(self, grouped: Sequence[GroupedScan], epoch: int) -> list[GroupedScan]:
        """Return groups with the images and the strength whose turn it is in an epoch (from 1).

        Raises
        ------
        Cancelled
            If the run is to stop.
        """
        strength = STRENGTHS[epoch % len(STRENGTHS)]
        return [self._seen(item, 1 + (epoch - 1) % LOOKS, (strength,)) for item in grouped]

    def validation(self, grouped: Sequence[GroupedScan]) -> list[GroupedScan]:
        """Return the same for groups that come again, judged by the same pixels each time.

        Raises
        ------
        Cancelled
            If the run is to stop.
        """
        return [self._seen(item, VALIDATION_SEED, STRENGTHS) for item in grouped]

    def _seen(self, item: GroupedScan, seed: int, strengths: tuple[float, ...]) -> GroupedScan:
        if self._plan.model.architecture != 'prior':
            return item
        assert isinstance(item.prepared, ScanModel)
        scan = id(item.prepared)
        if scan not in self._known:
            self._known[scan] = {}
            # Parts of scans and simulated ones are new in each epoch.
            finalize(item.prepared, self._known.pop, scan, None)
        images = self._known[scan]
        if seed not in images:
            images[seed] = physics_image(item.prepared, self._backend, seed, self._stop)
        seen = _SeenScan(item.prepared, self._plan, images[seed], strengths)
        return GroupedScan(seen, item.groups)


@dataclass(frozen=True)
class _SeenScan:
    """Gathers groups of a scan with what the prior sees of them."""

    prepared: ScanModel
    plan: NetworkPlan
    image: PhysicsImage
    strengths: tuple[float, ...]
    """Of the prior, at each of which it looks."""

    @cached_property
    def _looks(self) -> npt.NDArray[np.float32]:
        """(K, F, H, W) what the prior sees of the whole scan."""
        image = self.image
        light = image.weight / image.peak_illumination
        seen = [
            [image.object_array.real, image.object_array.imag, noise_told(strength, image.curvature), light]
            for strength in self.strengths
        ]
        return np.asarray(seen, dtype=np.float32)

    @cached_property
    def _judged(self) -> npt.NDArray[np.bool_]:
        """(K, N, N) the pixels of each set, zero frequency at N//2."""
        size, held_out = self.prepared.scan.raw.N, self.image.held_out
        judged = np.zeros((len(held_out), size * size), bool)
        np.put_along_axis(judged, held_out, True, axis=1)
        return np.asarray(fft.fftshift(judged.reshape(-1, size, size), axes=(-2, -1)))

    def extent(self, groups: npt.NDArray[np.int32]) -> int:
        """Return the side in pixels of a square that holds the patches of any of the groups (b, C)."""
        return self.prepared.extent(groups)

    def batch(self, groups: npt.NDArray[np.int32], extent: int | None = None) -> Batch:
        """Return the batch of some groups (b, C) of a pass with that extent, or that are all of it."""
        batch = self.prepared.batch(groups, extent)
        first = batch.corner.min(axis=1) + self.prepared.margin
        pixel = np.arange(self.plan.canvas_side(batch.extent))
        height, width = self.image.weight.shape
        # What lies beyond the canvas holds no patch.
        rows = np.minimum(first[:, 0, None] + pixel, height - 1)[:, :, None]
        columns = np.minimum(first[:, 1, None] + pixel, width - 1)[:, None, :]
        truth = self.prepared.padded_truth if self.prepared.has_truth else None
        if truth is not None:
            truth = truth[np.minimum(rows, len(truth) - 1), np.minimum(columns, truth.shape[1] - 1)]
        return replace(
            batch,
            truth=truth,
            looks=np.ascontiguousarray(np.moveaxis(self._looks[:, :, rows, columns], 1, 2)),
            judged=self._judged[groups % len(self._judged)],
        )
