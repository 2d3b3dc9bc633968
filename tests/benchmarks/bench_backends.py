"""Both backends from equal initial weights, and gridsize 2 beside 1 for equal CPU time, in one table.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_backends.py [--run1084 NPZ] [--seconds S]

'leaves' is trained on simulated objects, Run1084 label-free on its own patterns; both are scored on the
network alone. PyTorch trains a gridsize for about S CPU seconds; TensorFlow then takes the same steps. Every
model runs on both backends.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from quality_scenes import SIZE, TEXTURES, Texture, raster_scan, run1084_scan

from ptycho_engine.config import InferenceConfig, ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho_engine.config.training import BACKENDS
from ptycho_engine.formats.archive import ModelArchive, load_archive
from ptycho_engine.reconstruction.reconstruct import reconstruct
from ptycho_engine.scan.scan import Scan
from ptycho_engine.scoring.scores import Scores, scan_box, score
from ptycho_engine.simulate import without_truth
from ptycho_engine.training.simulated import SimulatedScans
from ptycho_engine.training.sources import MeasuredScans, TrainingSource
from ptycho_engine.training.train import train

PHOTONS = 1e6
TRAINING_SEED = 99
CPU = PyTorchExecutionConfig(accelerator='cpu', checkpoint_save_top_k=0, logger_backend='none')


def scenes(run1084: Path | None) -> Iterator[tuple[str, Scan, Scan, bool]]:
    """Yield name, scan to score, scan to train on and whether that is only a template for simulation."""
    template = Scan.from_raw(without_truth(raster_scan(Texture(TRAINING_SEED, 0, 0), PHOTONS).raw))
    yield 'leaves', raster_scan(TEXTURES['a'], PHOTONS), template, True
    if run1084 is not None:
        scan = run1084_scan(run1084, PHOTONS, flip=False)
        yield 'Run1084', scan, Scan.from_raw(without_truth(scan.raw)), False


def configuration(gridsize: int, groups: int, simulated: bool) -> TrainingConfig:
    """Return the settings of a training of one epoch."""
    return TrainingConfig(
        model=ModelConfig(N=SIZE, architecture='cnn', gridsize=gridsize, n_filters_scale=1),
        nepochs=1,
        n_groups=groups,
        batch_size=8 // gridsize**2,
        nll_weight=0.0 if simulated else 1.0,
        realspace_mae_weight=1.0 if simulated else 0.0,
        validation_fraction=0.02,
        early_stop_patience=10_000,
        seed=3,
    )


def trained(scan: Scan, config: TrainingConfig, simulated: bool) -> tuple[ModelArchive, float]:
    """Train; return the model and the CPU seconds."""
    source: TrainingSource = SimulatedScans(scan, config) if simulated else MeasuredScans([scan], config)
    tic = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        for _ in train(source, config, folder, execution=CPU):
            pass
        return load_archive(folder), time.process_time() - tic


def epochs_within(seconds: float, scan: Scan, config: TrainingConfig, simulated: bool) -> int:
    """Return how many epochs take about so many CPU seconds."""
    # What is loaded and made once is not to count.
    trained(scan, config, simulated)
    _, two = trained(scan, replace(config, nepochs=2), simulated)
    return max(round(2 * seconds / two), 1)


def scores(scan: Scan, archive: ModelArchive, backend: str) -> Scores:
    """Score the network's image, by one of the backends."""
    config = InferenceConfig(backend=backend, refine_iterations=0)
    *_, last = reconstruct(scan, archive, config, execution=CPU)
    raw = scan.raw
    box = scan_box(raw.xcoords - scan.grid.origin_x, raw.ycoords - scan.grid.origin_y, raw.objectGuess.shape)
    return score(raw.objectGuess, last.reconstruction.object_array, box)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--run1084', type=Path, help='NPZ with probeGuess, objectGuess, xcoords, ycoords')
    parser.add_argument('--seconds', type=float, default=120.0, help='CPU seconds of each training')
    parser.add_argument('--groups', type=int, default=64, help='groups of four patterns an epoch')
    options = parser.parse_args()
    print(
        f'{"scene":8} {"grid":>4} {"trained by":10} {"CPU-s":>6} {"run by":10} {"NRMSE":>7} {"amp":>6} phase'
    )
    for name, scan, material, simulated in scenes(options.run1084):
        for gridsize in (1, 2):
            config = configuration(gridsize, 4 * options.groups // gridsize**2, simulated)
            epochs = epochs_within(options.seconds, material, config, simulated)
            found = []
            for backend in BACKENDS:
                whole = replace(config, nepochs=epochs, backend=backend)
                archive, seconds = trained(material, whole, simulated)
                for runner in BACKENDS:
                    s = scores(scan, archive, runner)
                    found.append(s.nrmse)
                    print(
                        f'{name:8} {gridsize:4} {backend:10} {seconds:6.0f} {runner:10} {s.nrmse:7.4f} '
                        f'{s.amplitude_ssim:6.3f} {s.phase_ssim:.3f}',
                        flush=True,
                    )
            apart = 20 * math.log10(max(found) / min(found))
            print(
                f'{name}, gridsize {gridsize}, {epochs} epochs: all within {apart:.2f} dB in NRMSE.',
                flush=True,
            )


if __name__ == '__main__':
    main()
