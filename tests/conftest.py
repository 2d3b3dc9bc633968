"""Shared small scans; everything here is simulated and quick."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

# Before a framework is loaded: several test processes with a thread for every core would wait for each other.
if 'PYTEST_XDIST_WORKER' in os.environ:
    os.environ.setdefault('OMP_NUM_THREADS', '1')

from ptycho_engine.formats.product_data import ProductData
from ptycho_engine.network import cnn
from ptycho_engine.scan.raw_data import RawData
from ptycho_engine.scan.scan import Scan
from ptycho_engine.simulate import (
    defocused_probe,
    make_object,
    raster_positions,
    simulate_scan,
)

RUN1084 = Path(__file__).parents[2] / 'shared' / 'data' / 'run1084_probe_object_positions.npz'


def small_scan(
    points: int = 8,
    size: int = 64,
    photons: float = 1e5,
    modes: int = 1,
    seed: int = 0,
    bad_pixels: np.ndarray | None = None,
    step: float = 6.0,
) -> RawData:
    """Simulate points² patterns of `size` pixels; objectGuess is the truth."""
    rng = np.random.default_rng(seed)
    probe = defocused_probe(size, rng, width_px=0.3 * size)
    if modes > 1:
        extra = [
            0.4 / k * probe[0] * np.exp(2j * np.pi * k * np.linspace(0, 2, size))[None, :]
            for k in range(1, modes)
        ]
        probe = np.stack([probe[0], *extra]).astype(np.complex64)
    x, y = raster_positions(points, points, step, rng)
    side = int(step * points) + size + 8
    truth = make_object('dead-leaves', (side, side + 4), rng, absorption=0.4, phase=0.6)
    return simulate_scan(
        truth,
        probe,
        x + (side + 3) / 2,
        y + (side - 1) / 2,
        photons=photons,
        rng=rng,
        bad_pixels=bad_pixels,
    )


def slim(patched: pytest.MonkeyPatch) -> None:
    """Give 'cnn' an eighth of its filters."""
    patched.setattr(cnn, 'DEEPEST_FILTERS', 16)
    patched.setattr(cnn, 'DECODER_LAST_FILTERS', 8)
    patched.setattr(cnn, 'OUTER_FILTERS_TIMES_N', 256)


@pytest.fixture(scope='module')
def slim_cnn() -> Iterator[None]:
    """Train 'cnn' with an eighth of its filters, for tests of what trains it."""
    with pytest.MonkeyPatch.context() as patched:
        slim(patched)
        yield


def flat_product() -> ProductData:
    """Return a product of two positions, whose object and probe are 1 everywhere."""
    return ProductData(
        name='p',
        comments='',
        detector_distance_m=1.0,
        photon_energy_eV=1e4,
        object_array=np.ones((20, 20), np.complex64),
        object_pixel_width_m=1e-8,
        object_pixel_height_m=1e-8,
        probe=np.ones((1, 1, 8, 8), np.complex64),
        position_x_m=np.zeros(2),
        position_y_m=np.zeros(2),
        position_indexes=np.arange(2),
    )


@pytest.fixture(autouse=True, scope='session')
def heard() -> Iterator[None]:
    """Hear signals in children, also where tests run in the background or under nohup, which ignore them."""
    default = {'SIGINT': signal.default_int_handler, 'SIGTERM': signal.SIG_DFL, 'SIGHUP': signal.SIG_DFL}
    handlers = {getattr(signal, name): handler for name, handler in default.items() if hasattr(signal, name)}
    ignored = [signum for signum in handlers if signal.getsignal(signum) is signal.SIG_IGN]
    for signum in ignored:
        signal.signal(signum, handlers[signum])
    yield
    for signum in ignored:
        signal.signal(signum, signal.SIG_IGN)


@pytest.fixture(scope='session')
def raw() -> RawData:
    return small_scan()


@pytest.fixture(scope='session')
def scan(raw: RawData) -> Scan:
    return Scan.from_raw(raw)


@pytest.fixture(scope='session')
def run1084() -> dict[str, np.ndarray]:
    if not RUN1084.is_file():
        pytest.skip('the Run1084 probe, object and positions are not on this machine')
    with np.load(RUN1084, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
