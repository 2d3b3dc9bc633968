"""The grouped dictionary: a scan's patterns, labels and coordinates gathered group by group."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import numpy as np
import numpy.typing as npt

from ..blocks import block_length, blocks
from ..errors import DataValueError
from ..physics.forward import cut_patches
from ..physics.geometry import PatchPlacement, overhang, place_patches
from ..physics.scaling import measure_scale
from .grouping import draw_groups
from .groups_cache import scan_neighbourhood
from .inpainting import Inpainter

if TYPE_CHECKING:
    from .raw_data import RawData

__all__ = ['GroupedData', 'group_raw_data']

Real = npt.NDArray[np.float32]
Coordinates = npt.NDArray[np.float64]


class GroupedData(TypedDict):
    """B groups of C patterns; axis 2 of coordinates is [x, y], all in object pixels."""

    diffraction: Real
    """(B, N, N, C) float32 measured amplitude, bad pixels 0."""
    X_full: Real
    """(B, N, N, C) float32 network input: the amplitude, bad pixels filled from around them, times
    ``sqrt((N/2)² / mean ΣA²)`` of the scan."""
    Y: npt.NDArray[np.complex64] | None
    """(B, N, N, C) complex64 known object patches; None where no object is known."""
    coords_nn: Coordinates
    """(B, 1, 2, C) float64 positions."""
    coords_offsets: Coordinates
    """(B, 1, 2, 1) float64 mean position of each group."""
    coords_relative: Coordinates
    """(B, 1, 2, C) float64 minus the positions relative to the mean."""
    coords_start_nn: Coordinates
    """As coords_nn, of the planned positions; of the measured ones where no others are known."""
    coords_start_offsets: Coordinates
    """As coords_offsets, of the planned positions."""
    coords_start_relative: Coordinates
    """As coords_relative, of the planned positions."""
    nn_indices: npt.NDArray[np.int32]
    """(B, C) int32 indices of the patterns in the scan."""
    objectGuess: npt.NDArray[np.complex64] | None
    """(H, W) complex64 the scan's object."""


def group_raw_data(
    raw: RawData,
    N: int,
    K: int,
    nsamples: int | None,
    gridsize: int,
    seed: int,
    sequential_sampling: bool,
    *,
    enable_oversampling: bool = False,
    neighbor_pool_size: int | None = None,
    use_groups_cache: bool = True,
) -> GroupedData:
    """Draw groups of a scan and gather them; the parameters are those of `RawData.generate_grouped_data`."""
    raw.require_patterns()
    if raw.N != N:
        raise DataValueError(
            f'{raw.source}: groups of {N}-pixel patterns were asked for but the patterns are {raw.N} pixels '
            f'wide; give N = {raw.N}, or crop the patterns.'
        )
    whole = scan_neighbourhood(raw, gridsize, K, neighbor_pool_size, use_cache=use_groups_cache)
    if gridsize == 1 and nsamples is not None and not enable_oversampling:
        nsamples = min(nsamples, len(raw))
    indices = draw_groups(
        whole, gridsize, K, nsamples, seed, sequential_sampling, enable_oversampling, pool=neighbor_pool_size
    )
    amplitude, network_input = _amplitude(raw, indices)
    measured = _coordinates(raw.xcoords, raw.ycoords, indices)
    planned = measured
    if raw.xcoords_start is not None and raw.ycoords_start is not None:
        planned = _coordinates(raw.xcoords_start, raw.ycoords_start, indices)
    return GroupedData(
        diffraction=amplitude,
        X_full=network_input,
        Y=_labels(raw, indices),
        coords_nn=measured[0],
        coords_offsets=measured[1],
        coords_relative=measured[2],
        coords_start_nn=planned[0],
        coords_start_offsets=planned[1],
        coords_start_relative=planned[2],
        nn_indices=indices,
        objectGuess=raw.objectGuess,
    )


def _coordinates(
    x: Coordinates, y: Coordinates, indices: npt.NDArray[np.int32]
) -> tuple[Coordinates, Coordinates, Coordinates]:
    """Return positions, means and minus relative positions of groups."""
    positions = np.stack([x[indices], y[indices]], axis=1)[:, np.newaxis]
    means = positions.mean(axis=-1, keepdims=True)
    return positions, means, means - positions


def _amplitude(raw: RawData, indices: npt.NDArray[np.int32]) -> tuple[Real, Real]:
    """Gather amplitudes (B, N, N, C), bad pixels 0, and the network input; the patterns may lie in a file."""
    n_groups, size = indices.shape
    scale = measure_scale(raw.diffraction, raw.probeGuess, raw.bad_pixels)
    inpainter = Inpainter(~raw.good)
    amplitude = np.empty((n_groups, raw.N, raw.N, size), np.float32)
    network_input = np.empty_like(amplitude)
    for part in blocks(n_groups, block_length(raw.N, size)):
        patterns = np.ascontiguousarray(raw.diffraction[indices[part].ravel()])
        patterns = patterns.reshape(-1, size, raw.N, raw.N)
        amplitude[part] = patterns.transpose(0, 2, 3, 1)
        inpainter.fill(patterns)
        network_input[part] = patterns.transpose(0, 2, 3, 1)
    network_input *= np.float32(scale.input_scale)
    return amplitude, network_input


def _labels(raw: RawData, indices: npt.NDArray[np.int32]) -> npt.NDArray[np.complex64] | None:
    """Gather the known object patches (B, N, N, C), cut on whole pixels as the forward model does."""
    if raw.Y is not None:
        patches = raw.Y[indices]
    elif raw.objectGuess is not None:
        placement = place_patches(raw.xcoords[indices.ravel()], raw.ycoords[indices.ravel()], raw.N)
        margin = overhang(placement.corner, raw.objectGuess.shape, raw.N)
        padded = np.pad(raw.objectGuess, margin, mode='edge')
        moved = PatchPlacement(placement.corner + margin, placement.remainder)
        patches = cut_patches(padded, moved, raw.N).reshape(*indices.shape, raw.N, raw.N)
    else:
        return None
    return np.ascontiguousarray(patches.transpose(0, 2, 3, 1), dtype=np.complex64)
