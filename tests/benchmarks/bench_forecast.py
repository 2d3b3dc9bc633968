"""CPU time of training steps, patterns, iterations and solutions: the constants of ``reference_speeds.py``.

Run with one thread: ``OMP_NUM_THREADS=1 python tests/benchmarks/bench_forecast.py``.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / 'conformance'))

from scan_maker import simulated_scan

from ptycho_engine.config import InferenceConfig, ModelConfig, TrainingConfig
from ptycho_engine.events import BatchDone, EpochDone, IterationDone, PatchesDone
from ptycho_engine.formats.archive import load_archive
from ptycho_engine.formats.packaged import NO_MODEL, load_model
from ptycho_engine.reconstruction.reconstruct import reconstruct
from ptycho_engine.reconstruction.result import Reconstructed
from ptycho_engine.scan.scan import Scan
from ptycho_engine.training.train import train
from ptychopinn_ptychodus.reference_speeds import core_seconds

SETTINGS = (
    (64, {'architecture': 'prior'}),
    (64, {'architecture': 'prior', 'gridsize': 2}),
    (128, {'architecture': 'prior'}),
    (64, {'architecture': 'cnn', 'n_filters_scale': 1}),
    (64, {'architecture': 'cnn', 'n_filters_scale': 2}),
    (128, {'architecture': 'cnn', 'n_filters_scale': 1}),
)

EPOCHS = 5
"""Those of a prior make images too, up to the fourth."""


def main() -> None:
    print(f'one core: {core_seconds():.4f} s')
    for size, network in SETTINGS:
        scan = Scan.from_raw(simulated_scan(size=size, grid=8))
        config = TrainingConfig(
            model=ModelConfig(**network), nepochs=EPOCHS, n_groups=128, early_stop_patience=EPOCHS
        )
        with tempfile.TemporaryDirectory() as folder:
            steps, begin = 0, time.process_time()
            for event in train([scan], config, Path(folder)):
                if isinstance(event, BatchDone):
                    steps += 1
                elif isinstance(event, EpochDone):
                    print(
                        size,
                        network,
                        f'epoch {event.epoch}: {(time.process_time() - begin) / steps:.3f} s per step',
                    )
                    steps, begin = 0, time.process_time()
            archive = load_archive(Path(folder) / 'wts.h5.zip')
        if archive.config.model.of_objects:
            continue  # its solutions follow
        begin = time.process_time()
        for event in reconstruct(scan, archive, InferenceConfig(refine_iterations=25)):
            if isinstance(event, PatchesDone):
                network_s = time.process_time() - begin
            elif isinstance(event, IterationDone):
                iterations, refined_s = event.iteration, time.process_time() - begin
            elif isinstance(event, Reconstructed):
                per_iteration = (refined_s - network_s) / iterations / len(scan.raw)
                print(
                    size,
                    network,
                    f'network {network_s:.2f} s, iteration {per_iteration * 1e3:.3f} ms per pattern',
                )
    for size, grid in ((64, 8), (64, 20), (128, 8)):
        scan = Scan.from_raw(simulated_scan(size=size, grid=grid))
        for model in (NO_MODEL, None):
            begin = time.process_time()
            for event in reconstruct(scan, load_model(model)):
                if isinstance(event, IterationDone) and event.iteration == 1:
                    begin = time.process_time()
            per_pattern = (time.process_time() - begin) / len(scan.raw)
            print(size, len(scan.raw), f'solution, model {model}: {per_pattern:.4f} s per pattern')


if __name__ == '__main__':
    main()
