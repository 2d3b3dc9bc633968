"""The image that 'cnn' makes of a scan: group by group, stitched."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..arrays import require_finite_result
from ..backends.base import Backend
from ..blocks import block_length, blocks
from ..config import InferenceConfig
from ..errors import Cancelled
from ..events import Event, PatchesDone
from ..io.mapping import scratch_array
from ..progress import RateLimiter
from ..scan.grouping import covering_groups, group_coverage
from ..scan.scan import Scan
from ..whole_scan.scan_model import ScanModel
from ..whole_scan.stitch import Stitcher
from .report import PatchAgreement, half_set_resolution
from .result import PartialObject, Reconstruction
from .synchronise import synchronise

__all__ = ['PatchStore', 'Prediction', 'predict_groups', 'scan_groups']

logger = logging.getLogger('ptychopinn.reconstruct')

Stop = Callable[[], bool]

MEMORY_LIMIT_BYTES = 256 * 2**20
"""Up to this size the patches of a scan are kept in memory: 8192 patches of 64×64 pixels."""


@dataclass(frozen=True)
class Prediction:
    """What the network makes of a scan, in the engine's scale."""

    object_array: npt.NDArray[np.complex64]
    """(H, W) object; 1 where nothing was scanned."""
    weight: npt.NDArray[np.float32]
    """(H, W) illumination in counts."""
    uncertainty: npt.NDArray[np.float32]
    """(H, W) in units of the object's amplitude; NaN where nothing was scanned."""
    resolution: float
    """Cycles per pixel up to which two halves of the scan give the same image; NaN where unknown."""

    def result(self, prepared: ScanModel) -> Reconstruction:
        """Return the reconstruction in the scale of the scan's own probe, not yet judged."""
        scale = np.float32(prepared.scale.probe_scale)
        return Reconstruction(
            object_array=self.object_array * scale,
            weight=self.weight,
            grid=prepared.scan.grid,
            uncertainty=self.uncertainty * scale,
        )


def predict_groups(
    backend: Backend,
    prepared: ScanModel,
    gridsize: int,
    config: InferenceConfig,
    box: tuple[slice, slice],
    stop: Stop,
) -> Generator[Event, None, Prediction]:
    """Predict the patches of groups that hold every pattern, synchronise and stitch them.

    Yields
    ------
    PatchesDone, PartialObject

    Raises
    ------
    Cancelled
        If the run is to stop.
    """
    groups = scan_groups(prepared.scan, gridsize, config)
    members = groups.ravel()
    patches = PatchStore(members.size, prepared.scan.raw.N)
    preview = Stitcher(prepared.scan.grid.shape)
    agreement = PatchAgreement(prepared.scan.grid.shape)
    odd = np.repeat(np.arange(len(groups)) % 2 == 1, groups.shape[1])
    covered = np.zeros(len(prepared), bool)
    limiter = RateLimiter()
    filled = 0
    for batch in prepared.batches(groups, config.batch_size):
        _check(stop)
        predicted = backend.predict(batch).reshape(-1, *patches.shape[1:])
        require_finite_result(predicted)
        part = slice(filled, filled + len(predicted))
        filled = part.stop
        weight = prepared.stitching_weights(members[part])
        weighted = predicted * weight
        patches[part] = weighted
        corner = prepared.placement.corner[members[part]]
        preview.add(weighted, weight, corner)
        agreement.add(weighted, weight, corner, odd[part])
        covered[members[part]] = True
        yield PatchesDone(int(covered.sum()), len(prepared))
        yield from limiter.show(
            lambda: PartialObject(_prediction(preview, agreement, np.nan).result(prepared))
        )
    return _assemble(prepared, patches, members, odd, preview.weight, agreement, box, stop)


def _check(stop: Stop) -> None:
    if stop():
        raise Cancelled('The reconstruction was stopped.')


def scan_groups(scan: Scan, gridsize: int, config: InferenceConfig) -> npt.NDArray[np.int32]:
    """Return groups (B, C) that hold every pattern."""
    count = config.neighbor_count
    whole = scan.raw.neighbourhood(gridsize, count, use_cache=config.use_groups_cache)
    groups = covering_groups(whole, gridsize, count, config.seed)
    coverage = group_coverage(groups, len(scan.raw))
    logger.info('%d groups of %d hold %s.', *groups.shape, coverage)
    return groups


def _prediction(stitcher: Stitcher, agreement: PatchAgreement, resolution: float) -> Prediction:
    obj = stitcher.result()
    return Prediction(
        object_array=obj,
        weight=stitcher.weight.astype(np.float32),
        uncertainty=agreement.spread(obj, stitcher.weight),
        resolution=resolution,
    )


def _assemble(
    prepared: ScanModel,
    patches: PatchStore,
    members: npt.NDArray[np.int32],
    in_odd: npt.NDArray[np.bool_],
    total_weight: npt.NDArray[np.float64],
    agreement: PatchAgreement,
    box: tuple[slice, slice],
    stop: Stop,
) -> Prediction:
    """Synchronise and stitch all patches, those of odd and of even groups apart first."""
    corner = prepared.placement.corner[members]
    factors = synchronise(patches, corner)
    odd = Stitcher(prepared.scan.grid.shape, agreement.odd_weight)
    even = Stitcher(prepared.scan.grid.shape, total_weight - agreement.odd_weight)
    for part in blocks(len(patches), block_length(patches.shape[-1])):
        _check(stop)
        turned, half = patches[part] * factors[part, None, None], in_odd[part]
        odd.add(turned[half], None, corner[part][half])
        even.add(turned[~half], None, corner[part][~half])
    resolution = half_set_resolution(odd.result(), even.result(), box)
    return _prediction(odd.joined(even), agreement, resolution)


class PatchStore:
    """Patches times their illumination, (n, N, N) complex64, written once and read in any order.

    They are in memory while they are few, in a scratch file beyond that.

    Parameters
    ----------
    count : int
        Patches.
    size : int
        Side of a patch in pixels.
    memory_limit : int
        Bytes up to which they are kept in memory.
    """

    def __init__(self, count: int, size: int, memory_limit: int = MEMORY_LIMIT_BYTES) -> None:
        self.shape = (count, size, size)
        self._backing = scratch_array(self.shape, np.complex64, 'Stitching so many patches', memory_limit)

    def __len__(self) -> int:
        return self.shape[0]

    def __setitem__(self, part: slice, weighted: npt.NDArray[np.complexfloating[Any, Any]]) -> None:
        self._backing.array[part] = weighted
        self._backing.release()

    def __getitem__(self, part: slice | npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.complex64]:
        block = np.array(self._backing.array[part])
        self._backing.release()
        return block
