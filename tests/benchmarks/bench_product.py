"""Time of writing and reading a large product, against a plain h5py copy of the same arrays.

4096×4096 object, 64 probe modes of 256×256 pixels, 1e5 positions. Run it by itself:

  python tests/benchmarks/bench_product.py [DIR]

DIR is where the files go, by default a temporary folder. Exit code 1 if anything takes twice as long as the
copy. Files are written anew and over earlier ones, which the file system has to drop.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from ptycho_engine.formats.product import ProductData, read_product, write_product

REPEATS = 7
LIMIT = 2.0
N_SCAN = 100_000


def large_product() -> ProductData:
    rng = np.random.default_rng(0)

    def wave(*shape: int) -> np.ndarray:
        parts = rng.random((*shape, 2), dtype=np.float32)
        return parts.view(np.complex64)[..., 0]

    return ProductData(
        name='large',
        comments='',
        detector_distance_m=2.0,
        photon_energy_eV=1e4,
        object_array=wave(4096, 4096),
        object_pixel_width_m=1e-8,
        object_pixel_height_m=1e-8,
        probe=wave(1, 64, 256, 256),
        position_indexes=np.arange(N_SCAN),
        position_x_m=rng.uniform(-1e-5, 1e-5, N_SCAN),
        position_y_m=rng.uniform(-1e-5, 1e-5, N_SCAN),
    )


def best_of_each(actions: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the shortest time of each action in seconds; they take turns, so that all see the same load."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for turn in range(REPEATS + 1):
        for name, action in actions.items():
            tic = time.perf_counter()
            action()
            if turn > 0:  # the first finds no earlier files
                times[name].append(time.perf_counter() - tic)
    return {name: min(taken) for name, taken in times.items()}


def main(folder: Path) -> int:
    product = large_product()
    arrays = {
        'object': product.object_array,
        'probe': product.probe,
        'probe_position_indexes': product.position_indexes,
        'probe_position_x_m': product.position_x_m,
        'probe_position_y_m': product.position_y_m,
    }

    numbers = iter(range(1_000_000))

    def plain_write(path: Path) -> None:
        with h5py.File(path, 'w') as file:
            for name, array in arrays.items():
                file.create_dataset(name, data=array)

    def plain_read() -> dict[str, np.ndarray]:
        with h5py.File(folder / 'plain.h5') as file:
            return {name: file[name][()] for name in arrays}

    def new_path() -> Path:
        # One new file at a time; the one before is removed outside of what is timed.
        return folder / f'new-{next(numbers)}.h5'

    def forget() -> None:
        for path in folder.glob('new-*.h5'):
            path.unlink()

    best = best_of_each(
        {
            'plain write': lambda: plain_write(folder / 'plain.h5'),
            'product write': lambda: write_product(folder / 'product.h5', product),
            'plain write, new file': lambda: plain_write(new_path()),
            'product write, new file': lambda: write_product(new_path(), product),
            'removal': forget,
            'plain read': plain_read,
            'product read': lambda: read_product(folder / 'product.h5'),
        }
    )
    size = sum(array.nbytes for array in arrays.values()) / 2**20
    worst = 0.0
    for what in ('write', 'write, new file', 'read'):
        ratio = best[f'product {what}'] / best[f'plain {what}']
        worst = max(worst, ratio)
        print(
            f'{what}: {best[f"product {what}"] * 1e3:.0f} ms for {size:.0f} MiB, plain h5py '
            f'{best[f"plain {what}"] * 1e3:.0f} ms, ratio {ratio:.2f} (limit {LIMIT:g})'
        )
    return int(worst >= LIMIT)


if __name__ == '__main__':
    if len(sys.argv) > 1:
        sys.exit(main(Path(sys.argv[1])))
    with tempfile.TemporaryDirectory() as temporary:
        sys.exit(main(Path(temporary)))
