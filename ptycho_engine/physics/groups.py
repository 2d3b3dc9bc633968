"""Patches that share an object: the common pixels of a group, over a table of operations (FWD-03, NET-05)."""

from __future__ import annotations

from typing import Any, Generic, NamedTuple

from .forward import total_intensity
from .losses import LABEL_LIGHT
from .operations import A, Operations

__all__ = [
    'WINDOW_FLOOR',
    'Canvas',
    'Optics',
    'corrected_probe',
    'group_window',
    'label_weight',
    'merge_and_cut',
]

WINDOW_FLOOR = 1e-3
"""Smallest weight of a pixel in a merge, relative to the peak intensity of the probe."""


class Optics(NamedTuple, Generic[A]):
    """A known probe and its detector mask on a device."""

    probe: A
    """(P, N, N) complex incoherent modes in the engine's scale."""
    valid: A
    """(N, N) bool, valid pixels, zero frequency at index 0."""
    peak: A
    """() largest value of the unshifted illumination."""
    input_scale: A
    """() factor from measured amplitude to the input of 'cnn'."""

    @classmethod
    def of(cls, ops: Operations[A], probe: A, valid: A, input_scale: A) -> Optics[A]:
        """Return what a group is computed with.

        `probe` is (P, N, N), `valid` (N, N) has zero frequency in the middle, `input_scale` is ().
        """
        peak = ops.largest(ops.sum(ops.abs2(probe), 0))
        return cls(probe, ops.to_corner(valid), peak, input_scale)


def corrected_probe(ops: Operations[A], optics: Optics[A], correction: A | None) -> A:
    """Return the probe (P, N, N) with a trained correction (P, N, N, 2), relative to the root of its peak."""
    if correction is None:
        return optics.probe
    change = ops.sqrt(optics.peak) * correction
    return optics.probe + ops.complex(change[..., 0], change[..., 1])


class Canvas(Generic[A]):
    """The common pixels of the C patches of each of B groups.

    Parameters
    ----------
    ops : Operations
    start : (B, C, 2) int
        [row, column] of each patch on the canvas.
    size : int
        Side N of a patch.
    side : int
        Of the canvas; a number, or a tensor () of a graph.
    """

    def __init__(self, ops: Operations[A], start: A, size: int, side: Any) -> None:
        self._ops, self._side = ops, side
        self._groups = ops.length(start)
        self._patches = (-1, start.shape[1], size, size)
        pixel = ops.arange(size, start)
        group = ops.arange(self._groups, start)[:, None, None]
        rows = (group * side + start[..., 0, None] + pixel) * side
        columns = start[..., 1, None] + pixel
        self._index = ops.reshape(rows[..., None] + columns[..., None, :], (-1,))

    def gather(self, patches: A) -> A:
        """Add patches (B, C, N, N) up where they overlap: (B, side, side)."""
        pixels = self._groups * self._side * self._side
        total = self._ops.scatter_add(self._ops.reshape(patches, (-1,)), self._index, pixels)
        return self._ops.reshape(total, (-1, self._side, self._side))

    def cut(self, canvas: A) -> A:
        """Cut patches (B, C, N, N) from a canvas (B, side, side)."""
        values = self._ops.gather(self._ops.reshape(canvas, (-1,)), self._index)
        return self._ops.reshape(values, self._patches)


def group_window(ops: Operations[A], probes: A, peak: A) -> A:
    """Return the positive weights (n, N, N) of patches in a merge under shifted probes (n, P, N, N)."""
    return total_intensity(ops, probes) / peak + WINDOW_FLOOR


def merge_and_cut(ops: Operations[A], patches: A, window: A, canvas: Canvas[A]) -> A:
    """Merge the patches (B, C, N, N) of each group with weights (B, C, N, N) and cut them again."""
    weight = canvas.cut(canvas.gather(window))
    return ops.scaled(canvas.cut(canvas.gather(ops.scaled(patches, window))), 1 / weight)


def label_weight(illumination: A, canvas: Canvas[A] | None, peak: A) -> A:
    """Return the weights (B, C, N, N) of labels for the illumination (B, C, N, N), in counts.

    Over the patches of a group they add up to one at each pixel that gets light, and fade where it gets less
    than ``LABEL_LIGHT`` of the peak. `canvas` is None where each patch stands alone.
    """
    total = illumination if canvas is None else canvas.cut(canvas.gather(illumination))
    return illumination / (total + LABEL_LIGHT * peak)
