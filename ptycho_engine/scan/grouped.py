"""The grouped dictionary: a scan's patterns, labels and coordinates gathered group by group."""

from __future__ import annotations

from typing import TypedDict

import numpy as np
import numpy.typing as npt

from ..blocks import block_length, blocks
from ..patterns.inpainting import Inpainter
from ..patterns.stack import AmplitudeStack, LazyFrames
from ..physics.forward import cut_patches
from ..physics.geometry import PatchPlacement, overhang, place_patches
from ..physics.scaling import measure_scale

__all__ = ['GroupedData', 'gather_groups']

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


def gather_groups(
    indices: npt.NDArray[np.int32],
    *,
    diffraction: AmplitudeStack,
    probe: npt.NDArray[np.complex64],
    bad_pixels: npt.NDArray[np.bool_] | None,
    positions: tuple[Coordinates, Coordinates],
    planned: tuple[Coordinates, Coordinates] | None,
    known_patches: LazyFrames[np.complex64] | npt.NDArray[np.complex64] | None,
    obj: npt.NDArray[np.complex64] | None,
) -> GroupedData:
    """Gather what belongs to groups of patterns.

    Parameters
    ----------
    indices : (B, C) int32
        Patterns of each group.
    diffraction : (n, N, N) float32
        Amplitudes of the scan.
    probe : (P, N, N) complex64
        For the scale of the network's input.
    bad_pixels : (N, N) bool, optional
    positions, planned : two (n,) float64
        x and y in object pixels; those that were planned where they differ.
    known_patches : (n, N, N) complex64, optional
    obj : (H, W) complex64, optional
        The object, from which patches are cut where none are known.
    """
    amplitude, network_input = _amplitude(diffraction, probe, bad_pixels, indices)
    measured = _coordinates(*positions, indices)
    start = measured if planned is None else _coordinates(*planned, indices)
    return GroupedData(
        diffraction=amplitude,
        X_full=network_input,
        Y=_labels(known_patches, obj, positions, amplitude.shape[1], indices),
        coords_nn=measured[0],
        coords_offsets=measured[1],
        coords_relative=measured[2],
        coords_start_nn=start[0],
        coords_start_offsets=start[1],
        coords_start_relative=start[2],
        nn_indices=indices,
        objectGuess=obj,
    )


def _coordinates(
    x: Coordinates, y: Coordinates, indices: npt.NDArray[np.int32]
) -> tuple[Coordinates, Coordinates, Coordinates]:
    """Return positions, means and minus relative positions of groups."""
    positions = np.stack([x[indices], y[indices]], axis=1)[:, np.newaxis]
    means = positions.mean(axis=-1, keepdims=True)
    return positions, means, means - positions


def _amplitude(
    diffraction: AmplitudeStack,
    probe: npt.NDArray[np.complex64],
    bad_pixels: npt.NDArray[np.bool_] | None,
    indices: npt.NDArray[np.int32],
) -> tuple[Real, Real]:
    """Gather amplitudes (B, N, N, C), bad pixels 0, and the network input; the patterns may lie in a file."""
    n_groups, size = indices.shape
    width = diffraction.shape[-1]
    scale = measure_scale(diffraction, probe, bad_pixels)
    inpainter = Inpainter(np.zeros((width, width), bool) if bad_pixels is None else bad_pixels)
    amplitude = np.empty((n_groups, width, width, size), np.float32)
    network_input = np.empty_like(amplitude)
    for part in blocks(n_groups, block_length(width, size)):
        patterns = np.ascontiguousarray(diffraction[indices[part].ravel()])
        patterns = patterns.reshape(-1, size, width, width)
        amplitude[part] = patterns.transpose(0, 2, 3, 1)
        inpainter.fill(patterns)
        network_input[part] = patterns.transpose(0, 2, 3, 1)
    network_input *= np.float32(scale.input_scale)
    return amplitude, network_input


def _labels(
    known_patches: LazyFrames[np.complex64] | npt.NDArray[np.complex64] | None,
    obj: npt.NDArray[np.complex64] | None,
    positions: tuple[Coordinates, Coordinates],
    width: int,
    indices: npt.NDArray[np.int32],
) -> npt.NDArray[np.complex64] | None:
    """Gather the known object patches (B, N, N, C), cut on whole pixels as the forward model does."""
    if known_patches is not None:
        patches = known_patches[indices]
    elif obj is not None:
        placement = place_patches(positions[0][indices.ravel()], positions[1][indices.ravel()], width)
        margin = overhang(placement.corner, obj.shape, width)
        padded = np.pad(obj, margin, mode='edge')
        moved = PatchPlacement(placement.corner + margin, placement.subpixel_shift)
        patches = cut_patches(padded, moved, width).reshape(*indices.shape, width, width)
    else:
        return None
    return np.ascontiguousarray(patches.transpose(0, 2, 3, 1), dtype=np.complex64)
