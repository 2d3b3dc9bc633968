"""Opening time and peak memory on scans of several gigabytes.

    python tests/benchmarks/bench_memory.py [--gigabytes 6] [--folder DIR] [--only npz]

Simulates one scan and writes it as an uncompressed NPZ (float64 amplitude), as a Ptychodus pair whose
diffraction.h5 is contiguous (float64 counts), and as a pair compressed with lzf. Each is opened, trained on
for one epoch over part of it, and reconstructed whole, every step in a process of its own. Peak memory is
given above that of the same step on a scan of a few patterns, which is the framework's own: resident in all
(VmHWM, which counts pages of mapped files) and anonymous (sampled). Needs about three times the size in the
folder and in TMPDIR; everything is removed at the end.

float64 and 256-pixel patterns, because the time goes into the network and that grows with the pixels: 6 GB
are then 11 444 patterns.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

SIZE = 256
STEP_PX = 12.0
BATCH = 16
SUBSET = 256
LIMIT_GB = 1.5
WAYS = ('npz', 'pair', 'pair-lzf')


class LargeScan:
    """A raster of `n` positions on dead leaves, whose patterns are made when they are asked for."""

    def __init__(self, n: int, size: int, step_px: float, width_px: float, strength: float) -> None:
        from ptycho_engine.physics.geometry import place_patches
        from ptycho_engine.simulate import defocused_probe, make_object, raster_positions

        rng = np.random.default_rng(0)
        rows = int(np.ceil(np.sqrt(n)))
        x, y = (values[:n] for values in raster_positions(rows, rows, step_px, rng))
        self.side = int(np.ceil((rows + 1) * step_px)) + size
        self.x, self.y = x + (self.side - 1) / 2, y + (self.side - 1) / 2
        self.truth = make_object('dead-leaves', (self.side, self.side), rng)
        self.probe = defocused_probe(size, rng, width_px=width_px) * np.float32(strength)
        self._placement = place_patches(self.x, self.y, size)

    def rate(self, part: slice) -> np.ndarray:
        """Return the expected counts (k, N, N) of some patterns."""
        from ptycho_engine.physics.forward import cut_patches, predict_intensity

        everywhere = self._placement
        where = type(everywhere)(everywhere.corner[part], everywhere.subpixel_shift[part])
        patches = cut_patches(self.truth, where, self.probe.shape[-1])
        return predict_intensity(patches, self.probe, where.subpixel_shift)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what a scan file holds beside the patterns, with nothing known of the object."""
        flat = np.ones_like(self.truth)
        return {'probeGuess': self.probe, 'objectGuess': flat, 'xcoords': self.x, 'ycoords': self.y}


def write_all(folder: Path, n: int, ways: list[str]) -> None:
    """Simulate `n` patterns in blocks and write them in every way."""
    from ptycho_engine.formats.npz import write_arrays
    from ptycho_engine.formats.product import ProductData, write_product
    from ptycho_engine.physics.geometry import ObjectGrid

    scan = LargeScan(n, SIZE, STEP_PX, width_px=60, strength=1e3)

    def counts(part: slice) -> np.ndarray:
        return np.random.default_rng(part.start).poisson(scan.rate(part)).astype(np.float64)

    class Amplitude:
        shape = (n, SIZE, SIZE)
        dtype = np.dtype(np.float64)

        def __len__(self) -> int:
            return n

        def __getitem__(self, part: slice) -> np.ndarray:
            return np.sqrt(counts(part))

    if 'npz' in ways:
        write_arrays(folder / 'npz.npz', {'diffraction': Amplitude(), **scan.arrays()}, compressed=False)
    grid = ObjectGrid(scan.side, scan.side, pixel_width_m=1e-8, pixel_height_m=1e-8)
    x_m, y_m = ProductData.positions_m(scan.x, scan.y, grid)
    product = ProductData(
        name='large',
        comments='',
        detector_distance_m=1.0,
        photon_energy_eV=1e4,
        object_array=np.ones_like(scan.truth),
        object_pixel_width_m=1e-8,
        object_pixel_height_m=1e-8,
        probe=scan.probe,
        position_x_m=x_m,
        position_y_m=y_m,
        position_indexes=np.arange(n),
    )
    for way in set(ways) & {'pair', 'pair-lzf'}:
        (folder / way).mkdir()
        write_product(folder / way / 'product.h5', product)
        options = {'chunks': (1, SIZE, SIZE), 'compression': 'lzf'} if way == 'pair-lzf' else {}
        with h5py.File(folder / way / 'diffraction.h5', 'w') as file:
            patterns = file.create_dataset('patterns', (n, SIZE, SIZE), np.float64, **options)
            for start in range(0, n, 16):
                part = slice(start, min(start + 16, n))
                patterns[part] = counts(part)
            file['indexes'] = np.arange(n)
            file['bad_pixels'] = np.zeros((SIZE, SIZE), bool)


def memory(name: str) -> float:
    """Return a line of ``/proc/self/status`` in GB."""
    for line in Path('/proc/self/status').read_text().splitlines():
        if line.startswith(f'{name}:'):
            return int(line.split()[1]) * 1024 / 1e9
    raise KeyError(name)


def open_scan(path: Path, model: Path) -> str:
    """Load the scan."""
    from ptycho_engine import load_scan

    load_scan(path)
    return ''


def train_scan(path: Path, model: Path) -> str:
    """Train for one epoch over part of the scan."""
    from ptycho_engine import ModelConfig, TrainingConfig, load_scan, train

    network = ModelConfig(n_filters_scale=1, architecture='cnn')
    config = TrainingConfig(
        model=network,
        nepochs=1,
        n_groups=SUBSET,
        batch_size=BATCH,
        validation_fraction=0.005,
    )
    *_, last = train([load_scan(path)], config, model)
    return str(last)


def reconstruct_scan(path: Path, model: Path) -> str:
    """Predict and stitch the whole scan."""
    from ptycho_engine import InferenceConfig, load_archive, load_scan, reconstruct

    partial = 0
    for event in reconstruct(load_scan(path), load_archive(model), InferenceConfig(batch_size=BATCH)):
        partial += type(event).__name__ == 'PartialObject'
    return f'{event.reconstruction.comments} {partial} previews.'


STEPS: dict[str, Callable[[Path, Path], str]] = {
    'open': open_scan,
    'train': train_scan,
    'reconstruct': reconstruct_scan,
}


def run_step(name: str, path: Path, model: Path) -> None:
    """Run one step in this process and print its figures as JSON."""
    import ptycho_engine.backends.base
    import ptycho_engine.scan.scan  # noqa: F401  opening is timed without imports

    peak = 0.0
    ended = threading.Event()

    def sample() -> None:
        nonlocal peak
        while not ended.wait(0.02):
            peak = max(peak, memory('RssAnon'))

    watcher = threading.Thread(target=sample)
    watcher.start()
    tic = time.perf_counter()
    remark = STEPS[name](path, model)
    seconds = time.perf_counter() - tic
    ended.set()
    watcher.join()
    figures = {
        'seconds': seconds,
        'resident': memory('VmHWM'),
        'anonymous': max(peak, memory('RssAnon')),
        'remark': remark,
    }
    print(json.dumps(figures))


def measured(name: str, path: Path, model: Path) -> dict[str, float]:
    """Run a step in a child."""
    words = [sys.executable, __file__, '--step', name, '--path', str(path), '--model', str(model)]
    output = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
    return dict(json.loads(output.splitlines()[-1]))


def main() -> int:
    """Print the table; returns 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--gigabytes', type=float, default=6.0)
    parser.add_argument('--folder', type=Path, help='default: a new one in TMPDIR')
    parser.add_argument('--only', choices=WAYS, action='append')
    parser.add_argument('--step', choices=STEPS)
    parser.add_argument('--path', type=Path)
    parser.add_argument('--model', type=Path)
    options = parser.parse_args()
    if options.step:
        run_step(options.step, options.path, options.model)
        return 0
    folder = Path(tempfile.mkdtemp(prefix='bench-memory-', dir=options.folder))
    ways = options.only or list(WAYS)
    missed = False
    try:
        n = round(options.gigabytes * 1e9 / (8 * SIZE**2))
        (folder / 'small').mkdir()
        write_all(folder / 'small', 4 * BATCH, ways)
        tic = time.perf_counter()
        write_all(folder, n, ways)
        print(f'{n} patterns of {SIZE}×{SIZE} pixels, written in {time.perf_counter() - tic:.0f} s')
        print(f'{"way":>9} {"step":>12} {"seconds":>8} {"resident":>9} {"anonymous":>10}  (GB above small)')
        for way in ways:
            name = 'npz.npz' if way == 'npz' else way
            for step in STEPS:
                own = measured(step, folder / 'small' / name, folder / 'small' / 'model')
                found = measured(step, folder / name, folder / 'model')
                above = [found[key] - own[key] for key in ('resident', 'anonymous')]
                late = step == 'open' and found['seconds'] >= 1
                missed |= late or max(above) >= LIMIT_GB
                print(
                    f'{way:>9} {step:>12} {found["seconds"]:>8.2f} {above[0]:>9.2f} {above[1]:>10.2f}  '
                    f'(own {own["resident"]:.2f}) {found["remark"]}',
                    flush=True,
                )
    finally:
        shutil.rmtree(folder)
    return int(missed)


if __name__ == '__main__':
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    sys.exit(main())
