"""Image quality of the network, of refinement from it and from a flat start, and of rPIE, in one table.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_quality.py [--model DIR] [--run1084 NPZ]

Everything is simulated from fixed seeds, two objects for each case; seconds are CPU seconds of one thread.
A network is trained once on simulated objects (never on the tested ones) and kept in ``--model``.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from quality_scenes import SIZE, TEXTURES, Case, Texture, cases, raster_scan

from ptycho_engine.backends.base import create_backend
from ptycho_engine.config import InferenceConfig, ModelConfig, TrainingConfig
from ptycho_engine.data.scan import Scan
from ptycho_engine.files.archive import ModelArchive, load_archive
from ptycho_engine.pipeline.prepared import PreparedScan
from ptycho_engine.pipeline.quality import align, scan_box, score
from ptycho_engine.pipeline.reconstruct import reconstruct
from ptycho_engine.pipeline.refine import Refinement, refine, scan_patterns
from ptycho_engine.pipeline.simulated import SimulatedScans
from ptycho_engine.pipeline.train import train
from ptycho_engine.simulate import without_truth

GRIDSIZE = {1: 5, 2: 4, 3: 3, 4: 3}
"""Of the network for every n-th row and column: groups of about one width on the object."""

EPOCHS = {1: 14, 2: 20, 3: 30, 4: 60}
"""About 600 CPU-s."""

TRAINING_SEED = 99


def trained_model(directory: Path, seconds: float, every: int) -> ModelArchive:
    """Load the network for scans of every n-th row and column, or train it for so many CPU seconds first.

    Its objects, of all families, are simulated at 1e5 photons with the probe and the steps of such a scan.
    """
    folder = directory / f'every{every}'
    if not (folder / 'wts.h5.zip').exists():
        config = TrainingConfig(
            model=ModelConfig(N=SIZE, gridsize=GRIDSIZE[every], n_filters_scale=2, unrolled_steps=12),
            nepochs=EPOCHS[every],
            n_groups=64,
            neighbor_count=GRIDSIZE[every] ** 2 - 1,
            batch_size=2,
            nll_weight=0.0,
            realspace_mae_weight=1.0,
            early_stop_patience=10_000,
            seed=3,
        )
        template = Scan.from_raw(without_truth(raster_scan(Texture(TRAINING_SEED, 0, 0), 1e5, every).raw))
        source = SimulatedScans(template, config)
        tic = time.process_time()
        for _ in train(source, config, folder, should_stop=lambda: time.process_time() - tic > seconds):
            pass
        print(f'Trained for {time.process_time() - tic:.0f} CPU-s on every {every}.', flush=True)
    return load_archive(folder)


def refined_from_flat(case: Case, method: str, sweeps: int) -> tuple[Refinement, np.ndarray]:
    """Refine a flat start; return the refinement and the object in the scan's gauge."""
    prepared = PreparedScan(case.scan)
    flat = np.ones(case.scan.grid.shape, np.complex64)
    config = InferenceConfig(refine_iterations=sweeps, refine_method=method)
    run = refine(prepared, create_backend('pytorch'), flat, config, lambda: False)
    while True:
        try:
            next(run)
        except StopIteration as end:
            result: Refinement = end.value
            return result, result.object_array * prepared.scale.probe_scale


def line(case: Case, method: str, obj: np.ndarray, seconds: float, remark: str = '') -> None:
    """Print one line of the table."""
    raw = case.scan.raw
    s = score(raw.objectGuess, obj, scan_box(raw.xcoords, raw.ycoords, raw.objectGuess.shape))
    print(
        f'{case.name:22} {method:22} {s.amplitude_ssim:6.3f} {s.phase_ssim:6.3f} {s.nrmse:7.4f} '
        f'{seconds:6.1f}  {remark}',
        flush=True,
    )


def error_correlation(case: Case, obj: np.ndarray, uncertainty: np.ndarray) -> float:
    """Correlate the true error with the uncertainty inside the scan."""
    raw = case.scan.raw
    box = scan_box(raw.xcoords, raw.ycoords, raw.objectGuess.shape)
    aligned = align(raw.objectGuess, obj, box)
    error, stated = np.abs(aligned.result - aligned.truth), uncertainty[box]
    known = np.isfinite(stated)
    return float(np.corrcoef(error[known], stated[known])[0, 1])


def measure(case: Case, archive: ModelArchive | None) -> None:
    """Print the lines of one case."""
    tic = time.process_time()
    flat, obj = refined_from_flat(case, 'accelerated', case.sweeps)
    line(case, 'refined from flat', obj, time.process_time() - tic, f'{flat.sweeps} sweeps')
    tic = time.process_time()
    pie, obj = refined_from_flat(case, 'rpie', 40 if len(case.scan.raw) < 200 else 12)
    line(case, 'rPIE from flat', obj, time.process_time() - tic, f'{pie.sweeps} sweeps')
    if archive is not None:
        for sweeps, method in ((0, 'network'), (case.sweeps, 'network and refined')):
            tic = time.process_time()
            (*_, last) = reconstruct(case.scan, archive, InferenceConfig(refine_iterations=sweeps))
            found = last.reconstruction
            correlation = error_correlation(case, found.object_array, found.uncertainty)
            seconds = time.process_time() - tic
            remark = f'uncertainty {correlation:.2f}; {found.quality.refinement}'
            line(case, method, found.object_array, seconds, remark)


def throughput() -> None:
    """Print patterns per second of one gradient over the whole scan."""
    patterns = scan_patterns(PreparedScan(raster_scan(TEXTURES['a'], 1e5)), 0)
    physics = create_backend('pytorch').scan_physics(patterns)
    flat = physics.to_device(np.ones(patterns.shape, np.complex64))
    everything = np.arange(len(patterns))
    seconds = []
    for _ in range(6):
        tic = time.process_time()
        physics.evaluate(flat, everything, 'poisson')
        seconds.append(time.process_time() - tic)
    print(f'Gradient of all patterns: {len(patterns) / min(seconds):.0f} patterns/s.')


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--model', type=Path, default=Path('bench-quality-model'))
    parser.add_argument('--train-seconds', type=float, default=600.0)
    parser.add_argument('--run1084', type=Path, help='NPZ with probeGuess, objectGuess, xcoords, ycoords')
    options = parser.parse_args()
    torch.set_num_threads(1)
    archives = {every: trained_model(options.model, options.train_seconds, every) for every in GRIDSIZE}
    throughput()
    print(f'{"case":22} {"method":22} {"amp":>6} {"phase":>6} {"NRMSE":>7} {"CPU-s":>6}')
    for case in cases(options.run1084):
        measure(case, archives.get(case.every))


if __name__ == '__main__':
    main()
