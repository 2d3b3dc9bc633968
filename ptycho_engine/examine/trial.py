"""Let one backend predict a small batch, and take a step of a refinement, on each kind of device.

``python -m ptycho_engine.examine.trial pytorch`` prints one line of JSON: the framework's version, and the
milliseconds for each device that computes.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time

import numpy as np
import numpy.typing as npt

from ..backends.base import Backend, Batch, Illumination, create_backend
from ..config import ModelConfig, PyTorchExecutionConfig
from ..errors import EngineError
from ..network.plan import build_plan, initial_weights
from ..physics.geometry import PatchPlacement
from ..physics.refinement import ScanPatterns

__all__ = ['main']

DEVICES = ('cpu', 'cuda', 'mps')
DISTRIBUTIONS = {'pytorch': ('torch',), 'tensorflow': ('tensorflow', 'tensorflow-cpu')}
SIZE = 32
PROBE, GOOD = np.ones((1, SIZE, SIZE), np.complex64), np.ones((SIZE, SIZE), bool)


def main(backend: str) -> None:
    """Try every device and print the report."""
    devices = {}
    for device in DEVICES:
        milliseconds = _try(backend, device)
        if milliseconds is not None:
            devices[device] = milliseconds
    print(json.dumps({'version': _version(backend), 'devices': devices}))


def _version(backend: str) -> str:
    for name in DISTRIBUTIONS[backend]:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return 'of unknown version'


def _try(backend: str, device: str) -> float | None:
    """Return the milliseconds of a prediction, or None where the device is not there or computes wrongly."""
    try:
        runner = create_backend(backend, PyTorchExecutionConfig(accelerator=device))
        plan = build_plan(ModelConfig(N=SIZE, n_filters_scale=1, unrolled_steps=1))
        runner.build(plan, initial_weights(plan, 0))
        batch = _batch()
        runner.predict(batch)
        tic = time.perf_counter()
        patches = runner.predict(batch)
        milliseconds = 1e3 * (time.perf_counter() - tic)
        gradient = _gradient(runner)
    except (EngineError, RuntimeError, TypeError):
        # A device without an operation or a dtype says so in one of these.
        return None
    return milliseconds if np.isfinite(patches).all() and np.isfinite(gradient).all() else None


def _gradient(runner: Backend) -> npt.NDArray[np.complex64]:
    """Return the gradient (SIZE, SIZE) of one pattern, as refinements and whole scans take it."""
    amplitude, corner = np.ones((1, SIZE, SIZE), np.float32), np.zeros((1, 2), np.int64)
    physics = runner.scan_physics(
        ScanPatterns(
            probe=PROBE,
            good=GOOD,
            placement=PatchPlacement(corner, np.zeros((1, 2))),
            shape=(SIZE, SIZE),
            amplitude=lambda indices: amplitude[indices],
            held_out=np.zeros((1, 1), np.int64),
        )
    )
    flat = physics.to_device(np.ones((SIZE, SIZE), np.complex64))
    return physics.to_host(physics.evaluate(flat, np.arange(1), 'poisson').gradient)


def _batch() -> Batch:
    return Batch(
        illumination=Illumination(PROBE, GOOD, 1.0),
        amplitude=np.ones((1, 1, SIZE, SIZE), np.float32),
        corner=np.zeros((1, 1, 2), np.int64),
        remainder=np.zeros((1, 1, 2), np.float32),
        extent=SIZE,
    )


if __name__ == '__main__':
    main(sys.argv[1])
