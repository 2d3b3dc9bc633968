"""A scan from bare detector frames and stage positions: the geometry and a first probe are made here."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..errors import DataValueError
from ..formats.product import ProductData
from ..patterns.detector_mask import survey
from ..patterns.frame_stack import StoredStack
from ..patterns.inpainting import filled_counts
from ..patterns.stack import Patterns
from ..patterns.units import decide_units
from ..physics.geometry import ObjectGrid, wavelength_m
from ..physics.probe import as_mode_stack
from ..physics.probe_estimate import estimate_probe, pupil_curvature
from .raw_data import RawData
from .scan import Scan

__all__ = ['scan_from_frames']


def scan_from_frames(
    counts: npt.NDArray[np.number] | StoredStack,
    x_m: npt.ArrayLike,
    y_m: npt.ArrayLike,
    *,
    pixel_size_m: float,
    photon_energy_eV: float,
    detector_distance_m: float,
    probe: npt.ArrayLike | None = None,
    defocus_m: float = 0.0,
    bad_pixels: npt.NDArray[np.bool_] | None = None,
    name: str = 'scan',
) -> Scan:
    """Make a scan with its product from frames, positions in metres and the experiment's geometry.

    Parameters
    ----------
    counts : (n, N, N) numbers
        Frames, zero frequency at N//2, rows and columns along y and x of the stage.
    x_m, y_m : (n,) float
        Positions in metres.
    pixel_size_m : float
        Side of an object pixel: wavelength · distance / (N · side of a detector pixel).
    photon_energy_eV, detector_distance_m : float
        For the product and the wavelength.
    probe : (N, N) or (P, N, N) complex, optional
        The probe; without one it is estimated from the mean of all frames.
    defocus_m : float
        Distance from focus to sample for the estimated probe.
    bad_pixels : (N, N) bool, optional
        True where the detector is not to be trusted.
    name : str
        Of the product.

    Raises
    ------
    DataValueError
        If frames and positions do not match, or the geometry is not positive.
    """
    stack = counts if isinstance(counts, StoredStack) else StoredStack.of_array(counts, name)
    xs, ys = (np.atleast_1d(np.asarray(values, dtype=np.float64)) for values in (x_m, y_m))
    if stack.ndim != 3 or stack.shape[1] != stack.shape[2] or not len(stack) == len(xs) == len(ys):
        raise DataValueError(
            f'{name}: the frames have shape {stack.shape} and there are {len(xs)} x and {len(ys)} y '
            'positions; expected (n, N, N), n and n.'
        )
    for what, value in (('pixel_size_m', pixel_size_m), ('photon_energy_eV', photon_energy_eV)):
        if not value > 0:
            raise DataValueError(f'{name}: {what} is {value}; expected a positive number.')
    found = survey(bad_pixels, stack, name)
    units = decide_units(stack, found, said='counts')
    mask = found.bad
    patterns = Patterns.of(stack, found, units, name)
    if probe is None:
        modes = estimate_probe(
            _mean_counts(patterns, mask),
            pupil_curvature(defocus_m, wavelength_m(photon_energy_eV), pixel_size_m),
        )
    else:
        modes = as_mode_stack(probe, f'{name}: the probe')
    remark = '' if probe is not None else f'probe estimated from the mean pattern, defocus {defocus_m:g} m'
    x, y = xs / pixel_size_m, ys / pixel_size_m
    around = ObjectGrid.around_scan(x, y, modes.shape[-1])
    height, width = around.shape
    grid = ObjectGrid(height, width, pixel_width_m=pixel_size_m, pixel_height_m=pixel_size_m)
    x_m_on_grid, y_m_on_grid = ProductData.positions_m(x - around.origin_x, y - around.origin_y, grid)
    flat = np.ones(grid.shape, np.complex64)
    product = ProductData(
        name=name,
        comments=remark,
        detector_distance_m=detector_distance_m,
        photon_energy_eV=photon_energy_eV,
        object_array=flat,
        object_pixel_width_m=pixel_size_m,
        object_pixel_height_m=pixel_size_m,
        probe=modes,
        position_x_m=x_m_on_grid,
        position_y_m=y_m_on_grid,
        position_indexes=np.arange(len(xs)),
    )
    raw = RawData(
        diffraction=patterns.in_memory_if_small(),
        probeGuess=modes,
        xcoords=x - around.origin_x,
        ycoords=y - around.origin_y,
        objectGuess=flat,
        bad_pixels=mask,
        source=name,
        counted=units.counted,
        assumed=(*found.told, *units.told),
    )
    return Scan(raw, grid, product)


def _mean_counts(patterns: Patterns, bad: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.float64]:
    """Return the mean counts (N, N) of all patterns, bad pixels filled."""
    total = np.zeros(patterns.shape[1:])
    for index in range(len(patterns)):
        total += np.square(patterns[index], dtype=np.float64)
    return filled_counts(total / len(patterns), bad)
