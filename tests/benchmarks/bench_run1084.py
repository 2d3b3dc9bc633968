"""Label-free training on the geometry of Run1084, scored against its object.

    python tests/benchmarks/bench_run1084.py --data FILE.npz [--architecture cnn] ...

Patterns are simulated from the file's probe, object and positions. Prints one line of figures
(``specs/physics.md``, scores) and, with ``--output``, keeps the model, the object and a picture.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from pathlib import Path

import numpy as np

from ptycho_engine.config import InferenceConfig, ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho_engine.config.model import ARCHITECTURES
from ptycho_engine.config.training import BACKENDS
from ptycho_engine.events import ModelSaved
from ptycho_engine.formats.archive import load_archive
from ptycho_engine.reconstruction.reconstruct import reconstruct
from ptycho_engine.reconstruction.result import Reconstructed, Reconstruction
from ptycho_engine.scan.scan import Scan
from ptycho_engine.scoring.scores import scan_box, score
from ptycho_engine.simulate import simulate_scan
from ptycho_engine.training.train import train


def run1084_scan(data: Path, photons: float, seed: int = 0) -> Scan:
    """Simulate the patterns of Run1084; the scan's object is the truth, which 'pinn' does not look at."""
    with np.load(data) as file:
        raw = simulate_scan(
            file['objectGuess'].astype(np.complex64),
            file['probeGuess'].astype(np.complex64),
            file['xcoords'],
            file['ycoords'],
            photons=photons,
            rng=np.random.default_rng(seed),
        )
    return Scan.from_raw(raw)


def main() -> None:
    """Train, reconstruct, score."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--data', type=Path, required=True)
    parser.add_argument('--photons', type=float, default=1e9)
    parser.add_argument('--architecture', choices=ARCHITECTURES, default='prior')
    parser.add_argument('--backend', choices=BACKENDS, default='pytorch')
    parser.add_argument('--gridsize', type=int, default=1)
    parser.add_argument('--scale', type=int, default=2, help='n_filters_scale')
    parser.add_argument('--groups', type=int, default=512)
    parser.add_argument('--epochs', type=int, default=20)
    parser.add_argument('--batch', type=int, default=16)
    parser.add_argument('--refine', type=int, default=0, help='iterations after the network (default: none)')
    parser.add_argument('--rate', type=float, help='learning rate (default: as the configuration)')
    parser.add_argument('--set', nargs='*', default=[], metavar='NAME=VALUE', help='model fields, as Python')
    parser.add_argument('--output', type=Path, help='keep the model and the picture here')
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format='%(asctime)s %(message)s')

    scan = run1084_scan(options.data, options.photons)
    fields = dict(item.split('=', 1) for item in options.set)
    model = ModelConfig(
        architecture=options.architecture,
        gridsize=options.gridsize,
        n_filters_scale=options.scale,
        **{name: _value(text) for name, text in fields.items()},
    )
    rate = {} if options.rate is None else {'learning_rate': options.rate}
    training = TrainingConfig(
        model=model,
        backend=options.backend,
        n_groups=options.groups,
        nepochs=options.epochs,
        batch_size=options.batch,
        **rate,
    )
    execution = PyTorchExecutionConfig(accelerator='cpu')
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.output or Path(scratch)
        tic, cpu = time.perf_counter(), time.process_time()
        *_, saved = train([scan], training, folder, execution=execution)
        assert isinstance(saved, ModelSaved)
        trained, trained_cpu = time.perf_counter() - tic, time.process_time() - cpu
        inference = InferenceConfig(backend=options.backend, refine_iterations=options.refine)
        archive = load_archive(saved.path)
        *_, last = reconstruct(scan, archive, inference, execution=execution)
    assert isinstance(last, Reconstructed)
    result = last.reconstruction
    scores = _scores(scan, result)
    print(
        f'{options.backend} {options.architecture} gridsize {options.gridsize} batch {options.batch} '
        f'photons {options.photons:g} refine {options.refine}: {scores}; '
        f'training {trained:.0f} s ({trained_cpu:.0f} CPU-s), '
        f'reconstruction {result.seconds:.1f} s, deviance {result.deviance:.4g}'
    )
    if options.output:
        np.savez(options.output / 'object.npz', object=result.object_array)
        _picture(options.output / 'object.png', scan, result)


def _value(text: str) -> bool | int | float | str:
    if text in ('True', 'False'):
        return text == 'True'
    try:
        return int(text) if text.isdigit() else float(text)
    except ValueError:
        return text


def _scores(scan: Scan, result: Reconstruction) -> str:
    truth = scan.raw.objectGuess
    assert truth is not None
    grid = scan.grid
    box = scan_box(scan.raw.xcoords - grid.origin_x, scan.raw.ycoords - grid.origin_y, truth.shape)
    found = score(truth, result.object_array, box)
    return (
        f'NRMSE {found.nrmse:.3f}, amplitude SSIM {found.amplitude_ssim:.3f}, '
        f'phase SSIM {found.phase_ssim:.3f}'
    )


def _picture(path: Path, scan: Scan, result: Reconstruction) -> None:
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot as plt

    truth = scan.raw.objectGuess
    assert truth is not None
    figure, axes = plt.subplots(2, 2, figsize=(9, 9))
    for row, obj in zip(axes, (truth, result.object_array), strict=True):
        row[0].imshow(np.abs(obj), cmap='gray')
        row[1].imshow(np.angle(obj * np.exp(-1j * np.angle(obj.mean()))), cmap='twilight')
    figure.savefig(path, dpi=80)


if __name__ == '__main__':
    main()
