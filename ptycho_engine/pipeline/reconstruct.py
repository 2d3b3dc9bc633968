"""Reconstruction of a whole scan: predict every pattern's patch, synchronise, stitch, refine."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from ..backends.base import Backend, create_backend
from ..blocks import block_length, blocks
from ..config import InferenceConfig, PyTorchExecutionConfig
from ..config.precedence import with_execution
from ..data.centring import warn_if_off_centre
from ..data.grouping import covering_groups, group_coverage
from ..data.groups_cache import scan_neighbourhood
from ..data.scan import Scan
from ..errors import ArchiveError, Cancelled
from ..events import Event, PartialObject, PatchesDone, Reconstructed
from ..files.archive import ModelArchive
from ..files.product import ProductData
from ..files.product_extras import with_dataset
from ..network.plan import INTENSITY_SCALE, PROBE_CORRECTION, build_plan
from ..physics.forward import deviance, predict_intensity
from ..physics.geometry import ObjectGrid
from .patches import PatchStore
from .prepared import PreparedScan
from .progress import Pace, show_progress
from .quality import scan_box
from .refine import refine
from .report import PatchAgreement, QualityReport, half_set_resolution, measure_quality
from .stitch import Stitcher
from .synchronise import synchronise

__all__ = ['Reconstruction', 'judge_fit', 'reconstruct']

logger = logging.getLogger('ptychopinn.reconstruct')

UNCERTAINTY_DATASET = 'ptychopinn_object_uncertainty'
"""Name of the uncertainty map at the root of a product file; Ptychodus passes over what it does not know."""

JUDGED_PATTERNS = 512
JUDGED_PIXELS = 512 * 128**2
"""At most so many patterns and pixels are compared with the prediction; enough for three digits."""


@dataclass(frozen=True)
class Reconstruction:
    """The object of a scan and how it was obtained."""

    object_array: npt.NDArray[np.complex64]
    """(H, W) complex object on the scan's grid, in the gauge of the scan's own probe."""
    weight: npt.NDArray[np.float32]
    """(H, W) illumination that went into each pixel, in counts; 0 where nothing was scanned."""
    grid: ObjectGrid
    uncertainty: npt.NDArray[np.float32]
    """(H, W) standard deviation in units of the object's amplitude: of overlapping predictions, or after a
    refinement of the patterns' own wishes; NaN where nothing was scanned."""
    deviance: float = float('nan')
    """Poisson deviance per pixel of the patterns that the object predicts."""
    n_patterns: int = 0
    """Patterns that went in."""
    seconds: float = 0.0
    losses: list[tuple[int, float]] = field(default_factory=list)
    """(epoch, training deviance) of the model's training."""
    comments: str = ''
    """One line on how the result came about, for the product."""
    backend: str = ''
    """Framework that ran the network."""
    quality: QualityReport | None = None
    """Figures that need no truth; None while the object is still being made."""
    probe: npt.NDArray[np.complex64] | None = None
    """(P, N, N) probe with the model's correction, where the model has learned one."""

    def to_product(self, product: ProductData) -> ProductData:
        """Return `product` with this object, its loss history and a comment; all else is kept."""
        comments = '\n'.join(line for line in (product.comments, self.comments) if line)
        dtype = np.result_type(product.object_array.dtype, np.complex64)
        probe = product.probe
        if self.probe is not None:
            probe = probe.copy()
            probe[0] = self.probe
        return replace(
            product,
            probe=probe,
            object_array=self.object_array[np.newaxis].astype(dtype),
            object_layer_spacing_m=np.empty(0),
            comments=comments,
            loss_epochs=np.array([epoch for epoch, _ in self.losses], np.int64),
            loss_values=np.array([value for _, value in self.losses], np.float64),
            extras=with_dataset(
                product.extras,
                UNCERTAINTY_DATASET,
                self.uncertainty,
                {'description': 'standard deviation of the object, in units of its amplitude; NaN: unknown'},
            ),
        )


def reconstruct(
    scan: Scan,
    archive: ModelArchive,
    config: InferenceConfig | None = None,
    *,
    execution: PyTorchExecutionConfig | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Iterator[Event]:
    """Reconstruct the patterns of a scan with a trained model; iterate to make it run.

    Yields
    ------
    PatchesDone, PartialObject, SweepDone
        As they come.
    Reconstructed
        Last, with the :class:`Reconstruction`.

    Raises
    ------
    ArchiveError
        If the model is for patterns of another size.
    Cancelled
        If `should_stop` turned true.
    """
    execution = execution or PyTorchExecutionConfig()
    config = with_execution(config or InferenceConfig(), execution)
    events = _reconstruct(scan, archive, config, execution, should_stop or (lambda: False))
    return show_progress(events, execution.enable_progress_bar)


def _reconstruct(
    scan: Scan,
    archive: ModelArchive,
    config: InferenceConfig,
    execution: PyTorchExecutionConfig,
    stop: Callable[[], bool],
) -> Iterator[Event]:
    tic = time.perf_counter()
    model = archive.config.model
    if model.N != scan.raw.N:
        raise ArchiveError(
            f'The model is for patterns of {model.N}×{model.N} pixels but the data have '
            f'{scan.raw.N}×{scan.raw.N}; train a model on data of this size, or crop the patterns '
            '(ptychopinn prepare --crop).'
        )
    scan = _subsample(scan, config)
    warn_if_off_centre(scan.raw)
    prepared = PreparedScan(scan, model, archive.weights.get(PROBE_CORRECTION))
    groups = _covering_groups(scan, model.gridsize, config)
    with closing(create_backend(config.backend, execution)) as backend:
        yield from _run(backend, prepared, groups, archive, config, stop, tic)


def _run(
    backend: Backend,
    prepared: PreparedScan,
    groups: npt.NDArray[np.int32],
    archive: ModelArchive,
    config: InferenceConfig,
    stop: Callable[[], bool],
    tic: float,
) -> Iterator[Event]:
    """Predict, stitch, refine and judge; the clock has run since `tic`."""
    scan, model = prepared.scan, archive.config.model
    plan = build_plan(model, intensity_scale=INTENSITY_SCALE in archive.weights)
    backend.build(plan, {name: archive.weights[name] for name in plan.weight_shapes()})

    total = len(prepared)
    members = groups.ravel()
    patches = PatchStore(members.size, model.N)
    preview = Stitcher(scan.grid.shape)
    agreement = PatchAgreement(scan.grid.shape)
    yield from _predict(backend, prepared, groups, config.batch_size, patches, preview, agreement, stop)
    result, resolution = _assemble(prepared, patches, groups, preview.weight, agreement, stop)
    del patches
    refinement = None
    if config.refine_iterations > 0:
        start = result.object_array / np.float32(prepared.scale.probe_scale)
        refinement = yield from refine(
            prepared, backend, start, config, stop, partial(_refined_so_far, result, prepared)
        )
        if refinement.kept:
            result = _fitted(
                prepared,
                replace(result, uncertainty=refinement.uncertainty * prepared.scale.probe_scale),
                refinement.object_array * np.float32(prepared.scale.probe_scale),
            )
    box = _scanned_box(scan)
    quality = measure_quality(
        result.deviance, resolution, preview.weight, result.uncertainty, box, refinement
    )
    seconds = time.perf_counter() - tic
    comments = (
        f'PtychoPINN {model.architecture} ({model.model_type}, gridsize {model.gridsize}, trained by '
        f'{archive.backend}, run by {backend.name}): {total} patterns, {quality.sentence}'
    )
    logger.info('%s %.1f s.', comments, seconds)
    yield Reconstructed(
        replace(
            result,
            n_patterns=total,
            seconds=seconds,
            losses=_losses(archive),
            comments=comments,
            backend=backend.name,
            quality=quality,
            probe=None if prepared.probe_correction is None else prepared.probe,
        )
    )


def _subsample(scan: Scan, config: InferenceConfig) -> Scan:
    """Return the scan reduced to the patterns that are to be used."""
    total = len(scan.raw)
    if config.n_subsample is None or config.n_subsample >= total:
        return scan
    seed = config.seed if config.subsample_seed is None else config.subsample_seed
    chosen = np.random.default_rng([seed, 2]).choice(total, config.n_subsample, replace=False)
    return replace(scan, raw=scan.raw.select(np.sort(chosen)))


def _predict(
    backend: Backend,
    prepared: PreparedScan,
    groups: npt.NDArray[np.int32],
    batch_size: int,
    patches: PatchStore,
    preview: Stitcher,
    agreement: PatchAgreement,
    stop: Callable[[], bool],
) -> Iterator[Event]:
    """Predict the patches of all groups; leave them times their illumination in `patches` and `preview`."""
    odd = _in_odd_groups(groups)
    total = len(prepared)
    members = groups.ravel()
    covered = np.zeros(total, bool)
    pace = Pace()
    filled = 0
    for batch in prepared.batches(groups, batch_size):
        _check(stop)
        predicted = backend.predict(batch).reshape(-1, *patches.shape[1:])
        part = slice(filled, filled + len(predicted))
        filled = part.stop
        weight = prepared.stitching_weights(members[part])
        weighted = predicted * weight
        patches[part] = weighted
        corner = prepared.placement.corner[members[part]]
        preview.add(weighted, weight, corner)
        agreement.add(weighted, weight, corner, odd[part])
        covered[members[part]] = True
        yield PatchesDone(int(covered.sum()), total)
        yield from pace.show(lambda: PartialObject(_result(preview, agreement, prepared)))


def _check(stop: Callable[[], bool]) -> None:
    if stop():
        raise Cancelled('The reconstruction was stopped.')


def _covering_groups(scan: Scan, gridsize: int, config: InferenceConfig) -> npt.NDArray[np.int32]:
    """Return groups (B, C) that hold every pattern."""
    count = config.neighbor_count
    whole = scan_neighbourhood(scan.raw, gridsize, count, use_cache=config.use_groups_cache)
    groups = covering_groups(whole, gridsize, count, config.seed)
    coverage = group_coverage(groups, len(scan.raw))
    logger.info('%d groups of %d hold %s.', *groups.shape, coverage)
    return groups


def _scanned_box(scan: Scan) -> tuple[slice, slice]:
    raw, grid = scan.raw, scan.grid
    return scan_box(raw.xcoords - grid.origin_x, raw.ycoords - grid.origin_y, grid.shape)


def _in_odd_groups(groups: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """Return for each member of groups (B, C), in order, whether its group is an odd one."""
    return np.repeat(np.arange(len(groups)) % 2 == 1, groups.shape[1])


def _result(stitcher: Stitcher, agreement: PatchAgreement, prepared: PreparedScan) -> Reconstruction:
    obj, scale = stitcher.result(), np.float32(prepared.scale.probe_scale)
    return Reconstruction(
        object_array=obj * scale,
        weight=stitcher.weight.astype(np.float32),
        grid=prepared.scan.grid,
        uncertainty=agreement.spread(obj, stitcher.weight) * scale,
    )


def _assemble(
    prepared: PreparedScan,
    patches: PatchStore,
    groups: npt.NDArray[np.int32],
    total_weight: npt.NDArray[np.float64],
    agreement: PatchAgreement,
    stop: Callable[[], bool],
) -> tuple[Reconstruction, float]:
    """Synchronise and stitch all patches, fit the counts, and judge the result.

    Also returns the resolution to which the images of odd and even groups agree.
    """
    corner = prepared.placement.corner[groups.ravel()]
    in_odd = _in_odd_groups(groups)
    factors = synchronise(patches, corner)
    odd = Stitcher(prepared.scan.grid.shape, agreement.odd_weight)
    even = Stitcher(prepared.scan.grid.shape, total_weight - agreement.odd_weight)
    for part in blocks(len(patches), block_length(patches.shape[-1])):
        _check(stop)
        turned, half = patches[part] * factors[part, None, None], in_odd[part]
        odd.add(turned[half], None, corner[part][half])
        even.add(turned[~half], None, corner[part][~half])
    box = _scanned_box(prepared.scan)
    result = _result(odd.joined(even), agreement, prepared)
    return _fitted(prepared, result, result.object_array), half_set_resolution(odd, even, box)


def _fitted(
    prepared: PreparedScan, result: Reconstruction, object_array: npt.NDArray[np.complex64]
) -> Reconstruction:
    """Return `result` with an object times the factor that makes the counts right, and judged."""
    amplitude, quality = judge_fit(prepared, object_array)
    return replace(
        result,
        object_array=(object_array * np.float32(amplitude)).astype(np.complex64),
        uncertainty=(result.uncertainty * np.float32(amplitude)).astype(np.float32),
        deviance=quality,
    )


def _refined_so_far(
    result: Reconstruction, prepared: PreparedScan, obj: npt.NDArray[np.complex64]
) -> PartialObject:
    """Return `result` with the object (H, W), in the engine's gauge, of a refinement that goes on."""
    return PartialObject(replace(result, object_array=obj * np.float32(prepared.scale.probe_scale)))


def _losses(archive: ModelArchive) -> list[tuple[int, float]]:
    """Return (epoch, training deviance) of a model; a loss plot has a logarithmic axis, so positive ones."""
    return [
        (int(record['epoch']), record['training_deviance'])
        for record in archive.history
        if record.get('training_deviance', 0) > 0
    ]


def judge_fit(prepared: PreparedScan, object_array: npt.NDArray[np.complex64]) -> tuple[float, float]:
    """Return the factor that makes the predicted total counts right, and the deviance after it.

    On scans of many patterns an evenly spread part of them is judged.
    """
    raw = prepared.scan.raw
    judged = max(min(JUDGED_PATTERNS, JUDGED_PIXELS // raw.N**2), 1)
    chosen = np.arange(0, len(raw), -(-len(raw) // judged))
    padded = prepared.pad(object_array)
    good = prepared.good
    probe = raw.probeGuess.astype(np.complex128)
    rate = np.empty((len(chosen), raw.N, raw.N), np.float32)
    count = np.empty_like(rate)
    for part in blocks(len(chosen), block_length(raw.N, len(probe))):
        members = chosen[part]
        remainder = prepared.placement.remainder[members]
        rate[part] = predict_intensity(prepared.cut(padded, members), probe, remainder)
        count[part] = np.square(raw.diffraction[members])
    factor = count[:, good].sum(dtype=np.float64) / max(rate[:, good].sum(dtype=np.float64), 1e-30)
    values = [
        deviance(count[part], rate[part] * factor, good) for part in blocks(len(chosen), block_length(raw.N))
    ]
    return float(np.sqrt(factor)), float(np.concatenate(values).mean())
