"""The network's image of a scan: of the whole scan at once, or group by group and stitched."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from ..arrays import require_finite_result
from ..backends.base import Backend
from ..blocks import block_length, blocks
from ..config import InferenceConfig
from ..data.grouping import covering_groups, group_coverage
from ..data.groups_cache import scan_neighbourhood
from ..data.scan import Scan
from ..errors import Cancelled
from ..events import Event, PartialObject, PatchesDone
from ..io.mapping import scratch_array
from .coupled import CoupledObject, WholeScan
from .prepared import PreparedScan
from .progress import Pace
from .ramp import with_ramp_of
from .report import PatchAgreement, half_set_resolution
from .result import Reconstruction
from .stitch import Stitcher, faded, weakest_weight
from .synchronise import synchronise

__all__ = ['PatchStore', 'Prediction', 'predict_groups', 'predict_whole', 'scan_groups']

logger = logging.getLogger('ptychopinn.reconstruct')

Stop = Callable[[], bool]

MEMORY_LIMIT_BYTES = 256 * 2**20
"""Up to this size the patches of a scan are kept in memory: 8192 patches of 64×64 pixels."""

ERROR_WIDTH = 2.0
"""Standard deviation in pixels of the Gaussian that averages the squared difference of two half scans."""

CHECKED_PATTERNS = 4000
FEWEST_SWEEPS, MOST_SWEEPS = 8, 24
"""Sweeps of refinement that a network's image is checked by: about so many patterns in all, within these."""


@dataclass(frozen=True)
class Prediction:
    """What the network makes of a scan, in the engine's gauge."""

    object_array: npt.NDArray[np.complex64]
    """(H, W) object; 1 where nothing was scanned."""
    weight: npt.NDArray[np.float32]
    """(H, W) illumination in counts."""
    uncertainty: npt.NDArray[np.float32]
    """(H, W) in units of the object's amplitude; NaN where nothing was scanned."""
    resolution: float
    """Cycles per pixel up to which two halves of the scan give the same image; NaN where unknown."""

    def result(self, prepared: PreparedScan) -> Reconstruction:
        """Return the reconstruction in the gauge of the scan's own probe, not yet judged."""
        scale = np.float32(prepared.scale.probe_scale)
        return Reconstruction(
            object_array=self.object_array * scale,
            weight=self.weight,
            grid=prepared.scan.grid,
            uncertainty=self.uncertainty * scale,
        )


def predict_whole(
    network: WholeScan, prepared: PreparedScan, box: tuple[slice, slice], smoothing: float | None
) -> Generator[Event, None, Prediction]:
    """Let all patterns work on one object; then the odd and the even ones on one each, to judge it.

    The uncertainty is how far a refinement with this `smoothing` would move it; with None, where it will be
    refined anyhow, the difference of its halves (QUALITY-04).

    Yields
    ------
    PatchesDone, PartialObject

    Raises
    ------
    Cancelled
        If the run is to stop.
    """
    total = len(prepared)
    logger.info('All %d patterns work on one object.', total)
    pace = Pace()
    everything = np.arange(total)
    whole = yield from _steps(network, everything, total, 0.0, prepared, pace)
    if total < 2:
        unknown = np.full(whole.weight.shape, np.nan, np.float32)
        return Prediction(_with_edge(whole), whole.weight, unknown, np.nan)
    # Subsets as large as those of the whole scan: half as many.
    most = max(network.subsets_of(whole.weight, total) // 2, 1)
    odd = yield from _steps(network, everything[1::2], total, 0.5, prepared, None, most)
    even = yield from _steps(network, everything[::2], total, 0.75, prepared, None, most)
    obj, halves = _with_edge(whole), (_with_edge(odd), _with_edge(even))
    if smoothing is None:
        uncertainty = _half_difference(odd, even, whole.weight)
    else:
        sweeps = min(max(CHECKED_PATTERNS // total, FEWEST_SWEEPS), MOST_SWEEPS)
        checked = network.after_physics(obj, sweeps, smoothing)
        turned = with_ramp_of(checked, obj, whole.weight)
        uncertainty = _where_scanned(_difference(turned, checked, whole.weight), whole.weight)
    return Prediction(obj, whole.weight, uncertainty, half_set_resolution(*halves, box))


def _steps(
    network: WholeScan,
    members: npt.NDArray[np.int64],
    total: int,
    before: float,
    prepared: PreparedScan,
    pace: Pace | None,
    most: int | None = None,
) -> Generator[Event, None, CoupledObject]:
    """Run all steps; `before` is the part of the work that came earlier, `pace` how often to show it."""
    share = 0.5 * len(members) / total
    run = network.run(members, most)
    while True:
        try:
            found = next(run)
        except StopIteration as end:
            last: CoupledObject = end.value
            require_finite_result(last.object_array)
            return last
        yield PatchesDone(round(total * (before + share * found.done)), total)
        if pace is not None:
            yield from pace.show(lambda found=found: PartialObject(_partial(found, prepared)))  # type: ignore[misc]


def _partial(found: CoupledObject, prepared: PreparedScan) -> Reconstruction:
    unknown = np.full(found.weight.shape, np.nan, np.float32)
    return Prediction(_with_edge(found), found.weight, unknown, np.nan).result(prepared)


def _with_edge(found: CoupledObject) -> npt.NDArray[np.complex64]:
    return faded(found.object_array * found.weight, found.weight)


def _half_difference(
    odd: CoupledObject, even: CoupledObject, weight: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Return half the local difference of two half scans (H, W), one phase aside (QUALITY-04)."""
    common = np.minimum(odd.weight, even.weight)
    squared = _difference(odd.object_array, even.object_array, common) ** 2 * common
    spread = gaussian_filter(squared, ERROR_WIDTH) / np.maximum(gaussian_filter(common, ERROR_WIDTH), 1e-30)
    return _where_scanned(np.sqrt(spread) / 2, weight)


def _difference(
    a: npt.NDArray[np.complex64], b: npt.NDArray[np.complex64], weight: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Return ``|a − b|`` (H, W), one phase aside."""
    cross = complex((weight * a.conj() * b).sum(dtype=np.complex128))
    return np.asarray(np.abs(a * np.complex64(cross / max(abs(cross), 1e-30)) - b), dtype=np.float32)


def _where_scanned(
    values: npt.NDArray[np.floating], weight: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    return np.where(weight > weakest_weight(weight), values, np.nan).astype(np.float32)


def predict_groups(
    backend: Backend,
    prepared: PreparedScan,
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
    pace = Pace()
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
        yield from pace.show(lambda: PartialObject(_prediction(preview, agreement, np.nan).result(prepared)))
    return _assemble(prepared, patches, members, odd, preview.weight, agreement, box, stop)


def _check(stop: Stop) -> None:
    if stop():
        raise Cancelled('The reconstruction was stopped.')


def scan_groups(scan: Scan, gridsize: int, config: InferenceConfig) -> npt.NDArray[np.int32]:
    """Return groups (B, C) that hold every pattern."""
    count = config.neighbor_count
    whole = scan_neighbourhood(scan.raw, gridsize, count, use_cache=config.use_groups_cache)
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
    prepared: PreparedScan,
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
