"""Let one backend take a step of the solver and of the learned prior on each kind of device.

``python -m ptycho_engine.diagnostics.backend_trial pytorch`` prints one line of JSON: the version of the
framework, and the milliseconds for each device that computes.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np

from ..backends.base import create_backend
from ..config import ModelConfig, PyTorchExecutionConfig
from ..errors import EngineError
from ..network.plan import build_plan, initial_weights
from ..physics.geometry import PatchPlacement
from ..physics.likelihood import ScanPatterns
from .frameworks import framework_version

__all__ = ['main']

DEVICES = ('cpu', 'cuda', 'mps')
SIZE = 32
PROBE, VALID = np.ones((1, SIZE, SIZE), np.complex64), np.ones((SIZE, SIZE), bool)


def main(backend: str) -> None:
    """Try every device and print the report."""
    devices = {}
    for device in DEVICES:
        milliseconds = _try(backend, device)
        if milliseconds is not None:
            devices[device] = milliseconds
    print(json.dumps({'version': framework_version(backend), 'devices': devices}))


def _try(backend: str, device: str) -> float | None:
    """Return the milliseconds of a step of the prior; None where the device is missing or fails."""
    try:
        runner = create_backend(backend, PyTorchExecutionConfig(accelerator=device))
        plan = build_plan(ModelConfig(architecture='prior'))
        runner.build(plan, initial_weights(plan, 0))
        physics = runner.scan_physics(_patterns())
        obj = physics.to_device(np.ones((SIZE, SIZE), np.complex64))
        runner.denoise(obj, abs(obj))
        tic = time.perf_counter()
        noise = physics.to_host(runner.denoise(obj, abs(obj)))
        milliseconds = 1e3 * (time.perf_counter() - tic)
        gradient = physics.to_host(physics.evaluate(obj, np.arange(1), 'poisson').gradient)
    except (EngineError, RuntimeError, TypeError):
        # A device without an operation or a dtype says so in one of these.
        return None
    return milliseconds if np.isfinite(noise).all() and np.isfinite(gradient).all() else None


def _patterns() -> ScanPatterns:
    """Return a scan of one pattern."""
    amplitude, corner = np.ones((1, SIZE, SIZE), np.float32), np.zeros((1, 2), np.int64)
    return ScanPatterns(
        probe=PROBE,
        valid=VALID,
        placement=PatchPlacement(corner, np.zeros((1, 2))),
        shape=(SIZE, SIZE),
        amplitude=lambda indices: amplitude[indices],
        held_out=np.zeros((1, 1), np.int64),
    )


if __name__ == '__main__':
    main(sys.argv[1])
