"""Simulated scans of an object, their bad pixels, and what of them a user knows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..errors import DataValueError
from ..scan.raw_data import RawData

__all__ = ['random_bad_pixels', 'simulate_scan', 'without_truth']


def simulate_scan(
    obj: npt.ArrayLike,
    probe: npt.ArrayLike,
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    photons: float,
    rng: np.random.Generator,
    bad_pixels: npt.NDArray[np.bool_] | None = None,
    background: float = 0.0,
) -> RawData:
    """Simulate a scan of an object: :meth:`~ptycho_engine.RawData.from_simulation` with a generator."""
    return RawData.from_simulation(
        x, y, probe, obj, photons=photons, seed=rng, bad_pixels=bad_pixels, background=background
    )


def random_bad_pixels(size: int, fraction: float, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Return a mask (size, size) in which `fraction` of the pixels, at random places, are bad.

    Raises
    ------
    DataValueError
        If `fraction` is not from 0 to below 1.
    """
    if not 0 <= fraction < 1:
        raise DataValueError(f'The fraction of bad pixels is {fraction}; expected from 0 to below 1.')
    mask = np.zeros(size * size, bool)
    mask[rng.choice(size * size, round(fraction * size * size), replace=False)] = True
    return mask.reshape(size, size)


def without_truth(raw: RawData) -> RawData:
    """Return the scan with a flat object in place of the truth."""
    if raw.objectGuess is None:
        return raw
    return replace(raw, objectGuess=np.ones_like(raw.objectGuess), Y=None)
