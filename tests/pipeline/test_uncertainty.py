"""How true the stated uncertainty of an image is (clause SOLVE-07 of specs/physics.md)."""

from dataclasses import astuple, dataclass, replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ptycho_engine import reconstruct
from ptycho_engine.config import InferenceConfig, PyTorchExecutionConfig
from ptycho_engine.config.training import BACKENDS
from ptycho_engine.data.scan import Scan
from ptycho_engine.events import Reconstructed
from ptycho_engine.files.packaged import NO_MODEL, load_model
from ptycho_engine.pipeline import solve as solve_module
from ptycho_engine.pipeline.quality import align, scanned_box
from ptycho_engine.pipeline.result import Reconstruction
from ptycho_engine.pipeline.uncertainty import PHYSICS_ALONE, WITH_PRIOR, squared_parts, stated_uncertainty
from ptycho_engine.simulate import raster_positions, simulate_scan
from tests.benchmarks.quality_scenes import SIDE, TEXTURES, benchmark_object, benchmark_probe
from tests.pipeline.test_refine import dense_scan


@dataclass(frozen=True)
class Stated:
    """A result, what was stated of it, and how true that is."""

    result: Reconstruction
    shares: object
    of_square: np.ndarray
    """Part of each of the shares in the square of the uncertainty."""
    size: float
    """Relative to the true error, root mean squares over the scanned box."""
    correlation: float
    """With the true error, root mean square over a Gaussian of 4 px."""


def run(scan, model, monkeypatch, **options) -> Stated:
    kept = []

    def keep(parts, shares):
        kept.append((parts, shares))
        return stated_uncertainty(parts, shares)

    monkeypatch.setattr(solve_module, 'stated_uncertainty', keep)
    cpu = PyTorchExecutionConfig(accelerator='cpu')
    events = list(reconstruct(scan, model, InferenceConfig(**options), execution=cpu))
    assert isinstance(events[-1], Reconstructed)
    result = events[-1].reconstruction
    [(parts, shares)] = kept
    box = scanned_box(scan)
    power = np.array(astuple(shares)) * parts[(slice(None), *box)].mean(axis=(1, 2))
    aligned = align(scan.raw.objectGuess, result.object_array, box)
    error, stated = np.abs(aligned.result - aligned.truth), result.uncertainty[box]
    local = np.sqrt(gaussian_filter(error**2, 4))
    return Stated(
        result,
        shares,
        power / power.sum(),
        float(np.sqrt(np.mean(stated**2) / np.mean(error**2))),
        float(np.corrcoef(stated.ravel(), local.ravel())[0, 1]),
    )
