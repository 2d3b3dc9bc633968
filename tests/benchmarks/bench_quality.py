"""Image quality in one table: network alone, network and refinement, refinement and rPIE from flat, pty-chi.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_quality.py [--model DIR] [--run1084 NPZ] [--only TEXT ...]

Everything is simulated from fixed seeds, two objects for each case; seconds are CPU seconds of one thread.
The networks are trained on simulated objects (never on the tested ones), those for Run1084 on its patterns
without labels, and kept in ``--model``. Pty-chi takes part where it is installed (extra ``benchmark``).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from pty_chi import ENGINES, available, pty_chi
from quality_bars import Line, Throughput, judge
from quality_scenes import SIZE, TEXTURES, Case, Texture, cases, raster_scan
from scipy.ndimage import gaussian_filter

from ptycho_engine.backends.base import create_backend
from ptycho_engine.config import InferenceConfig, ModelConfig, TrainingConfig
from ptycho_engine.data.scan import Scan
from ptycho_engine.events import PatchesDone, Reconstructed
from ptycho_engine.files.archive import ModelArchive, load_archive
from ptycho_engine.pipeline.held_out import scan_patterns
from ptycho_engine.pipeline.prepared import PreparedScan
from ptycho_engine.pipeline.quality import align, scan_box, score
from ptycho_engine.pipeline.reconstruct import reconstruct
from ptycho_engine.pipeline.refine import refine
from ptycho_engine.pipeline.result import Reconstruction
from ptycho_engine.pipeline.simulated import ObjectVariety, SimulatedScans
from ptycho_engine.pipeline.sources import MeasuredScans, TrainingSource
from ptycho_engine.pipeline.train import train
from ptycho_engine.simulate import without_truth

CORRECTIONS = {0: 2, 1: 2, 2: 3, 3: 4, 4: 4}
"""Of the network for every n-th row and column (0: Run1084)."""

GROUPS = {0: 256, 1: 600, 2: 600, 3: 600, 4: 600}
EPOCHS = {0: 4, 1: 44, 2: 24, 3: 28, 4: 32}
"""As many as some 500 CPU-s allow; --train-seconds ends it in any case."""

VARIETY = ObjectVariety(('composite',), absorption=0.45, phase=0.9, weakest=0.5)
"""What the networks learn from, Run1084's aside: composites about as strong as the test objects."""

TRAINING_SEED = 99
LOCAL_ERROR_PX = 2.0
"""Width of the Gaussian over which the true error is averaged for the second figure of the uncertainty."""


def trained_model(directory: Path, seconds: float, case: Case) -> ModelArchive | None:
    """Load the network for a case, or train it for so many CPU seconds first; half as many for Run1084.

    Both objects share one, which learns from simulated objects with the probe, the steps and the dose of the
    case. One for Run1084 has the patterns of the case alone. None where 0 seconds are to train one that is
    not kept yet.
    """
    every = case.every
    name = f'every{every}' if every else f'run1084-{case.letter}'
    folder = directory / f'{name}-{case.photons:.0e}'
    if not (folder / 'wts.h5.zip').exists():
        if seconds == 0:
            return None
        config = TrainingConfig(
            model=ModelConfig(N=SIZE, unrolled_steps=CORRECTIONS[every]),
            nepochs=EPOCHS[every],
            n_groups=GROUPS[every],
            validation_fraction=0.02,
            early_stop_patience=10_000,
            lr_warmup_epochs=1,
            seed=3,
        )
        source: TrainingSource
        if every:
            template = raster_scan(Texture(TRAINING_SEED, 0, 0), case.photons, every).raw
            source = SimulatedScans(Scan.from_raw(without_truth(template)), config, variety=VARIETY)
        else:
            source = MeasuredScans([Scan.from_raw(without_truth(case.scan.raw))], config)
            seconds /= 2
        tic = time.process_time()
        for _ in train(source, config, folder, should_stop=lambda: time.process_time() - tic > seconds):
            pass
        print(f'Trained {folder.name} for {time.process_time() - tic:.0f} CPU-s.', flush=True)
    return load_archive(folder)


def refined_from_flat(case: Case, method: str, sweeps: int) -> tuple[npt.NDArray[np.complex64], str]:
    """Refine a flat start; return the object in the scan's gauge, and how many sweeps it took."""
    prepared = PreparedScan(case.scan)
    flat = np.ones(case.scan.grid.shape, np.complex64)
    config = InferenceConfig(refine_iterations=sweeps, refine_method=method)
    run = refine(prepared, create_backend('pytorch'), flat, config, lambda: False)
    while True:
        try:
            next(run)
        except StopIteration as end:
            return end.value.object_array * prepared.scale.probe_scale, f'{end.value.sweeps} sweeps'


def error_correlation(
    case: Case, obj: npt.NDArray[np.complex64], uncertainty: npt.NDArray[np.float32]
) -> tuple[float, float]:
    """Correlate the uncertainty with the true error inside the scan, and with its local average."""
    raw = case.scan.raw
    box = scan_box(raw.xcoords, raw.ycoords, raw.objectGuess.shape)
    aligned = align(raw.objectGuess, obj, box)
    error, stated = np.abs(aligned.result - aligned.truth), uncertainty[box]
    known = np.isfinite(stated)
    local = np.sqrt(gaussian_filter(error**2, LOCAL_ERROR_PX))
    return tuple(float(np.corrcoef(e[known], stated[known])[0, 1]) for e in (error, local))


def scored(case: Case, method: str, run: Callable[[], tuple[npt.NDArray[np.complex64], str]]) -> Line:
    """Run a method, time it and score it."""
    tic = time.process_time()
    obj, remark = run()
    seconds = time.process_time() - tic
    raw = case.scan.raw
    found = score(raw.objectGuess, obj, scan_box(raw.xcoords, raw.ycoords, raw.objectGuess.shape))
    return Line(case, method, found.amplitude_ssim, found.phase_ssim, found.nrmse, seconds, remark)


def with_network(case: Case, archive: ModelArchive) -> Iterator[Line]:
    """Yield the network's line, and that with refinement; its seconds are those after the network's image."""
    for sweeps, method in ((0, 'network'), (case.sweeps, 'network, refined')):
        tic = time.process_time()
        result: Reconstruction | None = None
        for event in reconstruct(case.scan, archive, InferenceConfig(refine_iterations=sweeps)):
            if isinstance(event, PatchesDone) and sweeps:
                tic = time.process_time()
            elif isinstance(event, Reconstructed):
                result = event.reconstruction
        seconds = time.process_time() - tic
        assert result is not None
        line = scored(
            case, method, lambda result=result: (result.object_array, result.quality.refinement or '')
        )
        correlations = error_correlation(case, result.object_array, result.uncertainty)
        yield line.with_uncertainty(*correlations, seconds)


def measure(case: Case, archive: ModelArchive | None, chi: bool) -> Iterator[Line]:
    """Yield the lines of one case."""
    yield scored(case, 'flat', lambda: (np.ones_like(case.scan.raw.objectGuess), ''))
    if archive is not None:
        yield from with_network(case, archive)
    yield scored(case, 'flat, refined', lambda: refined_from_flat(case, 'accelerated', case.sweeps))
    sweeps = 40 if len(case.scan.raw) < 200 else 12
    yield scored(case, 'rPIE', lambda: refined_from_flat(case, 'rpie', sweeps))
    for engine in ENGINES if chi else ():
        yield scored(case, f'pty-chi {engine}', lambda engine=engine: (pty_chi(case.scan, engine), ''))


def throughput(archive: ModelArchive | None) -> Throughput:
    """Return patterns per CPU-s of one gradient over a dense scan, and of a network's image of it."""
    scan = raster_scan(TEXTURES['a'], 1e5)
    patterns = scan_patterns(PreparedScan(scan), 0)
    physics = create_backend('pytorch').scan_physics(patterns)
    flat = physics.to_device(np.ones(patterns.shape, np.complex64))
    everything = np.arange(len(patterns))
    seconds = []
    for _ in range(6):
        tic = time.process_time()
        physics.evaluate(flat, everything, 'poisson')
        seconds.append(time.process_time() - tic)
    own = judged = float('nan')
    if archive is not None:
        tic = time.process_time()
        for event in reconstruct(scan, archive, InferenceConfig(refine_iterations=0)):
            # The second half of the work is what judges the image: two half scans.
            if isinstance(event, PatchesDone) and 2 * event.done >= event.total and np.isnan(own):
                own = len(patterns) / (time.process_time() - tic)
        judged = len(patterns) / (time.process_time() - tic)
    return Throughput(len(patterns) / min(seconds), own, judged)


def main() -> None:
    """Print the table and the bars."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--model', type=Path, default=Path('bench-quality-model'))
    parser.add_argument('--train-seconds', type=float, default=600.0, help='0: without networks not kept yet')
    parser.add_argument('--run1084', type=Path, help='NPZ with probeGuess, objectGuess, xcoords, ycoords')
    parser.add_argument('--only', nargs='+', default=[''], help='parts of the names of the wanted cases')
    parser.add_argument('--without-pty-chi', action='store_true')
    options = parser.parse_args()
    torch.set_num_threads(1)
    chi = available() and not options.without_pty_chi
    lines: list[Line] = []
    dense: ModelArchive | None = None
    print(Line.heading())
    for case in cases(options.run1084):
        if not any(part in case.name for part in options.only):
            continue
        archive = trained_model(options.model, options.train_seconds, case)
        dense = archive if case.every == 1 else dense
        for line in measure(case, archive, chi):
            lines.append(line)
            print(line, flush=True)
    print('\n'.join(judge(lines, throughput(dense))))


if __name__ == '__main__':
    main()
