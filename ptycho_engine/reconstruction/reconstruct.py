"""Reconstruction of a scan: the network's image, refined and judged."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ..arrays import all_finite
from ..backends.base import Backend, create_backend
from ..config import InferenceConfig, PyTorchExecutionConfig
from ..config.inactive import idle_settings
from ..config.precedence import with_execution
from ..diagnostics.doubts import warn_of_doubts
from ..diagnostics.slips import likely_slip, root_mean_square
from ..diagnostics.trials import likely_reading, median_step
from ..errors import ArchiveError, ConfigError, DataValueError
from ..events import Event
from ..formats.archive import ModelArchive
from ..formats.packaged import load_model
from ..network.plan import INTENSITY_SCALE, PROBE_CORRECTION, build_plan
from ..printable import printable
from ..progress import show_progress
from ..scan.centring import warn_if_off_centre
from ..scan.fix_command import fix_command
from ..scan.scan import Scan
from ..scoring.scores import scanned_box
from ..whole_scan.corrections import became_another, became_twin
from ..whole_scan.refine import refine
from ..whole_scan.scan_model import ScanModel
from ..whole_scan.solver import Solution, solve
from .fit import judge_fit, with_fit
from .predict import predict_groups
from .report import QualityReport, is_far, measure_quality
from .result import PartialObject, Reconstructed, Reconstruction

__all__ = ['reconstruct', 'require_fit']

logger = logging.getLogger('ptychopinn.reconstruct')

BACKEND_SHOWN = 40
"""Characters of what an archive calls its backend."""

TWIN = 'the probe of the file inverted and conjugated'
MOVED, ANOTHER = 'positions far from those of the file', 'a probe far from that of the file'
"""What a wrong orientation or order leads to in a calibrated scan."""

PART_OF_STEP = 0.5
"""Steps of a scan by which its positions, if they were moved so far, may have made up for something else."""

SCALING_PATTERNS = 64
"""Patterns that the size of the counts is taken from before a refinement."""


def reconstruct(
    scan: Scan,
    archive: ModelArchive | None = None,
    config: InferenceConfig | None = None,
    *,
    execution: PyTorchExecutionConfig | None = None,
    should_stop: Callable[[], bool] | None = None,
    begin: npt.NDArray[np.complexfloating[Any, Any]] | None = None,
) -> Iterator[Event]:
    """Reconstruct the patterns of a scan; iterate to make it run.

    Parameters
    ----------
    archive : ModelArchive, optional
        A model that was trained, or one that needs no training (:func:`~..formats.packaged.load_model`); None
        for the learned prior that comes with the package.
    begin : (H, W) complex, optional
        Object on the scan's grid to begin at, up to a factor; a flat one without it. For models of objects
        alone.

    Yields
    ------
    PatchesDone, PartialObject, IterationDone
        As they come.
    Reconstructed
        Last, with the :class:`~.result.Reconstruction`.

    Raises
    ------
    ArchiveError
        If the model is for patterns of another size.
    Cancelled
        If `should_stop` turned true.
    DivergedError
        If the object, or the probe or the positions that belong to it, are not finite.
    """
    execution = execution or PyTorchExecutionConfig()
    config = with_execution(config or InferenceConfig(), execution)
    archive = load_model() if archive is None else archive
    events = _reconstruct(scan, archive, config, execution, should_stop or (lambda: False), begin)
    return show_progress(events, execution.enable_progress_bar)


def _reconstruct(
    scan: Scan,
    archive: ModelArchive,
    config: InferenceConfig,
    execution: PyTorchExecutionConfig,
    stop: Callable[[], bool],
    begin: npt.NDArray[np.complexfloating[Any, Any]] | None,
) -> Iterator[Event]:
    tic = time.perf_counter()
    model = archive.config.model
    require_fit(archive, scan)
    for phrase in idle_settings(config):
        logger.warning('%s.', phrase)
    chosen = _subsample(scan, config)
    prepared = ScanModel(
        replace(scan, raw=scan.raw.select(chosen)) if len(chosen) < len(scan.raw) else scan,
        model,
        archive.weights.get(PROBE_CORRECTION),
    )
    warn_of_doubts(prepared)
    run = _run
    if model.of_objects:
        run = partial(_solve, begin=None if begin is None else _beginning(prepared, begin))
    elif begin is not None:
        raise ConfigError(
            f'The network ({model.architecture}) makes the image that is refined; an object to begin at is '
            'for the learned prior or physics alone.'
        )
    with closing(create_backend(config.backend, execution)) as backend:
        result = yield from run(backend, prepared, archive, config, stop, tic)
    if result.position_shift is not None:
        shift = np.zeros((len(scan.raw), 2))
        shift[chosen] = result.position_shift
        result = replace(result, position_shift=shift)
    if result.coherent is not None:
        # Where no pattern was looked at the probe is the mean one.
        weights = np.zeros((len(scan.raw), len(result.coherent)))
        weights[chosen] = result.coherent.weights
        result = replace(result, coherent=replace(result.coherent, weights=weights))
    if scan.raw.assumed:
        result = replace(result, comments='\n'.join([result.comments, *scan.raw.assumed]))
    yield Reconstructed(result)


def require_fit(archive: ModelArchive, scan: Scan) -> None:
    """Check that a model is for patterns of the size that a scan has.

    Raises
    ------
    ArchiveError
        If it is for others.
    """
    size, found = archive.config.model.N, scan.raw.N
    if size != found and not archive.config.model.of_objects:
        raise ArchiveError(
            f'The model is for patterns of {size}×{size} pixels but the data have {found}×{found} '
            f'({scan.raw.source}); train a model on data of this size, or crop the patterns '
            '(ptychopinn prepare --crop).'
        )


def _run(
    backend: Backend,
    prepared: ScanModel,
    archive: ModelArchive,
    config: InferenceConfig,
    stop: Callable[[], bool],
    tic: float,
) -> Generator[Event, None, Reconstruction]:
    """Predict, refine and judge; the clock has run since `tic`."""
    scan, model = prepared.scan, archive.config.model
    warn_if_off_centre(scan.raw)
    plan = build_plan(model, intensity_scale=INTENSITY_SCALE in archive.weights)
    backend.build(plan, {name: archive.weights[name] for name in plan.weight_shapes()})

    box = scanned_box(scan)
    prediction = yield from predict_groups(backend, prepared, model.gridsize, config, box, stop)
    result = prediction.result(prepared)
    learned = None if prepared.probe_correction is None else prepared.illumination.probe
    refinement = None
    if config.refine_iterations > 0:
        # A refinement needs counts of about the right size to start from; what comes out of it is judged.
        result, fit = with_fit(prepared, result, result.object_array, learned, judged=SCALING_PATTERNS)
        start = result.object_array / np.float32(prepared.scale.probe_scale)
        refinement = yield from refine(
            prepared, backend, start, config, stop, partial(_refined_so_far, result, prepared)
        )
        if refinement.kept:
            result, fit = with_fit(
                prepared,
                replace(result, uncertainty=refinement.uncertainty * prepared.scale.probe_scale),
                refinement.object_array * np.float32(prepared.scale.probe_scale),
                learned if refinement.probe is None else refinement.probe,
                refinement.position_shift,
            )
    if refinement is None or not refinement.kept:
        result, fit = with_fit(prepared, result, result.object_array, learned)
    held_out = math.nan if refinement is None else refinement.deviance_after
    quality = measure_quality(
        result.deviance,
        prediction.resolution,
        prediction.weight,
        result.uncertainty,
        box,
        '' if refinement is None else refinement.sentence,
        fit.noise,
        held_out,
        far=refinement is not None and is_far(fit.deviance, held_out, fit.noise, fit.counts),
    )
    quality = _doubted(prepared, quality)
    by = (
        f'{model.architecture} ({model.model_type}, gridsize {model.gridsize}, trained by '
        f'{printable(archive.backend, BACKEND_SHOWN)}, run by {backend.name})'
    )
    return _told(replace(result, losses=_losses(archive)), quality, by, prepared, backend, tic)


def _solve(
    backend: Backend,
    prepared: ScanModel,
    archive: ModelArchive,
    config: InferenceConfig,
    stop: Callable[[], bool],
    tic: float,
    begin: npt.NDArray[np.complex64] | None,
) -> Generator[Event, None, Reconstruction]:
    """Solve from the object to begin at, or a flat one, and judge; the clock has run since `tic`."""
    if config.refine_method != 'accelerated':
        raise ConfigError(
            f'refine_method is {config.refine_method!r}, but only the image of a network that was trained on '
            "scans can be refined so; choose 'accelerated' or such a model."
        )
    plan = build_plan(archive.config.model)
    learned = bool(plan.parts)
    backend.build(plan, archive.weights)
    grid = prepared.scan.grid
    so_far = Reconstruction(
        object_array=np.ones(grid.shape, np.complex64),
        weight=np.zeros(grid.shape, np.float32),
        grid=grid,
        uncertainty=np.full(grid.shape, np.nan, np.float32),
    )
    solution = yield from solve(
        prepared,
        backend,
        config,
        stop,
        partial(_refined_so_far, so_far, prepared),
        learned=learned,
        begin=begin,
    )
    result, quality = _judged(prepared, so_far, solution)
    model = 'with the learned prior' if solution.strength else 'by physics alone'
    if learned and not solution.strength:
        model += ', the learned prior tried and left out'
    if begin is not None:
        model += ', begun at an object that was given'
    return _told(result, quality, f'{model} (run by {backend.name})', prepared, backend, tic)


def _judged(
    prepared: ScanModel, so_far: Reconstruction, solution: Solution
) -> tuple[Reconstruction, QualityReport]:
    """Return what was solved, with what was corrected of the scan and how good it is."""
    scan, found = prepared.scan, solution.prepared
    scale = np.float32(found.scale.probe_scale)
    result, fit = with_fit(
        found,
        replace(so_far, weight=solution.weight, uncertainty=solution.uncertainty * scale),
        solution.object_array * scale,
        None,
    )
    probe, shift = _corrected(scan, found.scan)
    masked = not np.array_equal(scan.raw.valid, found.scan.raw.valid)
    result = replace(
        result,
        probe=probe,
        coherent=None if probe is None else found.scan.raw.coherent,
        position_shift=shift,
        intensity=found.intensity,
        background=found.background,
        bad_pixels=~found.scan.raw.valid if masked else None,
    )
    warn_if_off_centre(found.scan.raw)
    quality = measure_quality(
        result.deviance,
        math.nan,
        result.weight,
        result.uncertainty,
        scanned_box(scan),
        solution.sentence,
        fit.noise,
        solution.deviance,
        far=is_far(fit.deviance, solution.deviance, fit.noise, fit.counts),
        suspected='' if math.isnan(fit.noise) else ', '.join(solution.suspected),
    )
    return result, _doubted(prepared, quality, found)


def _told(
    result: Reconstruction,
    quality: QualityReport,
    by: str,
    prepared: ScanModel,
    backend: Backend,
    tic: float,
) -> Reconstruction:
    """Return the result with its quality and what it was made `by`; logged, as the clock runs since `tic`."""
    seconds = time.perf_counter() - tic
    comments = f'PtychoPINN {by}: {len(prepared)} patterns, {quality.sentence}'
    logger.info('%s %.1f s.', comments, seconds)
    return replace(
        result,
        n_patterns=len(prepared),
        seconds=seconds,
        comments=comments,
        backend=backend.name,
        quality=quality,
    )


def _beginning(
    prepared: ScanModel, begin: npt.NDArray[np.complexfloating[Any, Any]]
) -> npt.NDArray[np.complex64]:
    """Return an object to begin at (H, W) in the engine's scale, as bright as the counts are."""
    shape = prepared.scan.grid.shape
    if begin.shape != shape or not all_finite(begin) or not np.any(begin):
        raise DataValueError(
            f'The object to begin at has shape {begin.shape}, or holds NaN or nothing but 0; expected finite '
            f'numbers of shape {shape}, that of the object of the scan.'
        )
    obj = np.asarray(begin, np.complex64)
    return np.asarray(obj * np.float32(judge_fit(prepared, obj).factor / prepared.scale.probe_scale))


def _corrected(
    given: Scan, found: Scan
) -> tuple[npt.NDArray[np.complex64] | None, npt.NDArray[np.float64] | None]:
    """Return the probe (P, N, N) and the shift (n, 2) of the positions; None where they are the same."""
    old, new = given.raw, found.raw
    shift = np.stack([new.ycoords - old.ycoords, new.xcoords - old.xcoords], axis=1)
    same = old.coherent is new.coherent and np.array_equal(old.probeGuess, new.probeGuess)
    return None if same else new.probeGuess, shift if shift.any() else None


def _subsample(scan: Scan, config: InferenceConfig) -> npt.NDArray[np.int64]:
    """Return the indices, in their order, of the patterns that are to be used."""
    total = len(scan.raw)
    if config.n_subsample is None or config.n_subsample >= total:
        return np.arange(total)
    seed = config.seed if config.subsample_seed is None else config.subsample_seed
    return np.sort(np.random.default_rng([seed, 2]).choice(total, config.n_subsample, replace=False))


def _doubted(
    prepared: ScanModel, quality: QualityReport, calibrated: ScanModel | None = None
) -> QualityReport:
    """Warn of what speaks against an image; returns its quality with why that is so, where it is soon found.

    Of a scan that was calibrated, single positions that were moved as far as their neighbours may make up for
    an orientation, and so may another probe.
    """
    raw = prepared.scan.raw
    only_with = '' if calibrated is None else _far_fetched(prepared, calibrated)
    if quality.far or only_with:
        quality = replace(
            quality, likely=likely_reading(raw, backwards=only_with == ANOTHER and not quality.far)
        )
    if not quality.likely and calibrated is not None:
        quality = replace(quality, likely=likely_slip(raw, _moved(prepared, calibrated)))
        only_with = only_with or MOVED
    if quality.likely or only_with == TWIN:
        quality = replace(quality, only_with=only_with)
    if quality.likely:
        quality = replace(quality, fix=fix_command(raw))
    if quality.doubt:
        logger.warning('%s: %s.', raw.source, quality.doubt)
    return quality


def _far_fetched(before: ScanModel, after: ScanModel) -> str:
    """Return in words what calibration has changed so much that something else may be wrong in the file."""
    if became_twin(before, after):
        return TWIN
    if root_mean_square(_moved(before, after)) > PART_OF_STEP:
        return MOVED
    return ANOTHER if became_another(before, after) else ''


def _moved(before: ScanModel, after: ScanModel) -> npt.NDArray[np.float64]:
    """Return the [y, x] (n, 2) by which calibration has moved positions, in steps of the scan."""
    raw = before.scan.raw
    _, shift = _corrected(before.scan, after.scan)
    # A single pattern has no step; nor has it moved.
    return np.zeros((len(raw), 2)) if shift is None else shift / max(median_step(raw), 1e-9)


def _refined_so_far(
    result: Reconstruction, prepared: ScanModel, obj: npt.NDArray[np.complex64]
) -> PartialObject:
    """Return `result` with the object (H, W), in the engine's scale, of a refinement that goes on."""
    return PartialObject(replace(result, object_array=obj * np.float32(prepared.scale.probe_scale)))


def _losses(archive: ModelArchive) -> list[tuple[int, float]]:
    """Return (epoch, training deviance) of a model; a loss plot has a logarithmic axis, so positive ones."""
    return [
        (int(record['epoch']), record['training_deviance'])
        for record in archive.history
        if record.get('training_deviance', 0) > 0
    ]
