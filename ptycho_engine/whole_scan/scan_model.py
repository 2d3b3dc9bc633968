"""A scan made ready for a backend: scale, placement, illumination and batches of groups."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ..backends.base import Batch, Illumination
from ..blocks import block_length, blocks, first_to_last, most_patterns
from ..config import ModelConfig
from ..errors import DataValueError
from ..patterns.inpainting import Inpainter
from ..physics.coherent import CoherentModes
from ..physics.forward import cut_patches
from ..physics.geometry import PatchPlacement, overhang, place_patches
from ..physics.likelihood import ScanPatterns
from ..physics.probe import condition_probe, correct_probe, fourier_shift, mode_intensity
from ..physics.scaling import ScaleRecord, estimated_unit, measure_scale
from ..scan.scan import Scan

__all__ = ['LEAST_OWN', 'ScanModel', 'on_grid']

NOISE_PATTERNS, NOISE_PIXELS = 64, 1 << 22
"""Patterns and pixels of which the noise is estimated where they are no counts."""

LEAST_OWN = 0.01
"""Part of the counts that are taken for the object's at least."""


@dataclass(frozen=True)
class ScanModel:
    """One scan in the engine's scale; arrays are made when first used."""

    scan: Scan
    model: ModelConfig = field(default_factory=ModelConfig)
    """Says how the probe is conditioned; nothing else of it is used."""
    probe_correction: npt.NDArray[np.float32] | None = None
    """(P, N, N, 2) what a model has learned to add to the probe."""
    has_truth: bool = False
    """Whether the scan's object is the truth and may serve as labels."""
    known_scale: ScaleRecord | None = None
    """Scales of the scan that this one is a part of, or that it is with another probe."""
    intensity: npt.NDArray[np.float64] | None = None
    """(n,) relative intensity of the beam in each exposure, 1 in the mean; None where it is 1 in all."""
    background: npt.NDArray[np.float64] | None = None
    """(N, N) counts per pixel that are not the object's, in the engine's units; None where there are none."""

    @cached_property
    def scale(self) -> ScaleRecord:
        """Scales measured on this scan, which reads all its patterns once.

        Raises
        ------
        DataValueError
            If the valid pixels hold no counts, or the probe has no intensity on them.
        """
        if self.known_scale is not None:
            return self.known_scale
        raw = self.scan.raw
        try:
            varying = self._coherent_modes
            lit = self.probe if varying is None else varying.averaged(self.probe)
            scale = measure_scale(raw.diffraction, lit, raw.bad_pixels)
            if not raw.counted:
                chosen = first_to_last(len(raw), most_patterns(NOISE_PATTERNS, NOISE_PIXELS, raw.N))
                known = self.with_bad_filled(np.ascontiguousarray(raw.diffraction[chosen]))
                scale = estimated_unit(scale, known)
        except DataValueError as error:
            if raw.source in str(error):
                raise
            raise DataValueError(f'{raw.source}: {error}') from None
        if self.background is None:
            return scale
        # An object of amplitude 1 predicts what is beyond the background.
        own = 1 - float(self.background[self.valid].sum()) * scale.unit**2 / scale.mean_counts
        return replace(scale, probe_scale=scale.probe_scale * math.sqrt(max(own, LEAST_OWN)))

    @cached_property
    def probe(self) -> npt.NDArray[np.complex64]:
        """(P, N, N) the probe in the scan's own scale, as the model takes it: smoothed, masked, corrected."""
        probe = condition_probe(self.scan.raw.probeGuess, self.model)
        return probe if self.probe_correction is None else correct_probe(probe, self.probe_correction)

    @cached_property
    def _coherent_modes(self) -> CoherentModes | None:
        """Those of the scan in its own scale, as the model takes them."""
        varying = self.scan.raw.coherent
        if varying is None:
            return None
        return replace(varying, modes=condition_probe(varying.modes.astype(np.complex64), self.model))

    @cached_property
    def coherent(self) -> CoherentModes | None:
        """How the probe varies over the scan, in the engine's scale; None where it does not."""
        varying = self._coherent_modes
        return None if varying is None else varying.scaled(self.scale.probe_factor)

    @cached_property
    def placement(self) -> PatchPlacement:
        """Where the patches lie on the scan's grid."""
        raw, grid = self.scan.raw, self.scan.grid
        return place_patches(raw.xcoords - grid.origin_x, raw.ycoords - grid.origin_y, raw.N)

    @cached_property
    def valid(self) -> npt.NDArray[np.bool_]:
        """(N, N) True where the detector is to be trusted."""
        return self.scan.raw.valid

    @cached_property
    def illumination(self) -> Illumination:
        """The probe in the engine's scale and the mask."""
        scale = self.scale
        probe = (self.probe.astype(np.complex128) * scale.probe_factor).astype(np.complex64)
        return Illumination(probe, self.valid, scale.input_scale * scale.unit)

    def amplitude(self, chosen: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float32]:
        """Return the amplitudes (..., N, N) of some patterns, in the units in which the engine counts."""
        values = np.ascontiguousarray(self.scan.raw.diffraction[chosen])
        unit = self.scale.unit
        return values if unit == 1 else (values.astype(np.float64) / unit).astype(np.float32)

    def __len__(self) -> int:
        return len(self.scan.raw)

    def extent(self, groups: npt.NDArray[np.int32]) -> int:
        """Return the side in pixels of a square that holds the patches of any of the groups (B, C)."""
        corner = self.placement.corner[groups]
        return int(np.ptp(corner, axis=1).max()) + self.scan.raw.N

    def batch(self, groups: npt.NDArray[np.int32], extent: int | None = None) -> Batch:
        """Gather groups (B, C) of pattern indices into arrays; bad pixels are filled from around them.

        `extent` is that of all groups of the pass; None where these are all.
        """
        return Batch(
            illumination=self.illumination,
            amplitude=self.with_bad_filled(self.amplitude(groups)),
            corner=self.placement.corner[groups],
            subpixel_shift=self.placement.subpixel_shift[groups].astype(np.float32),
            extent=self.extent(groups) if extent is None else extent,
            labels=self._labels(groups) if self.has_truth else None,
        )

    def with_bad_filled(self, amplitude: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Fill the bad pixels of contiguous patterns (..., N, N) from around them, in place."""
        self._inpainter.fill(amplitude)
        return amplitude

    @cached_property
    def _inpainter(self) -> Inpainter:
        return Inpainter(~self.valid)

    def batches(self, groups: npt.NDArray[np.int32], batch_size: int) -> Iterator[Batch]:
        """Yield consecutive batches of groups."""
        extent = self.extent(groups)
        for start in range(0, len(groups), batch_size):
            yield self.batch(groups[start : start + batch_size], extent)

    def stitching_weights(self, indices: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """Return the illumination (n, N, N), in counts, at the positions of the given patterns."""
        probe, subpixel_shift = self.illumination.probe, self.placement.subpixel_shift[indices]
        weights = np.empty((len(indices), *probe.shape[-2:]), np.float32)
        # In blocks, because the shifted probes are complex128 and have a mode axis.
        for part in blocks(len(indices), block_length(probe.shape[-1], len(probe))):
            weights[part] = mode_intensity(fourier_shift(probe[None], subpixel_shift[part, None]))
        return weights

    def calibrated(
        self,
        probe: npt.NDArray[np.complex64] | None,
        position_shift: npt.NDArray[np.float64] | None,
        coherent: CoherentModes | None = None,
    ) -> ScanModel:
        """Return the scan, on its grid, with another probe and moved positions; None leaves what there is.

        `probe` (P, N, N) and `coherent` are in the engine's scale, `position_shift` (n, 2) is [dy, dx] in
        pixels. Without a probe, `coherent` is not looked at.
        """
        raw = self.scan.raw
        if probe is not None:
            factor = 1 / self.scale.probe_factor
            own = (probe.astype(np.complex128) * factor).astype(np.complex64)
            varying = self.coherent if coherent is None else coherent
            raw = replace(raw, probeGuess=own, coherent=None if varying is None else varying.scaled(factor))
        if position_shift is not None:
            dy, dx = position_shift.T
            raw = replace(raw, xcoords=raw.xcoords + dx, ycoords=raw.ycoords + dy)
        return ScanModel(
            replace(self.scan, raw=raw),
            known_scale=self.scale,
            intensity=self.intensity,
            background=self.background,
        )

    def of_experiment(
        self, patterns: ScanPatterns, bad_pixels: npt.NDArray[np.bool_] | None = None
    ) -> ScanModel:
        """Return the scan, on its grid, with the probe, positions, intensities and background of `patterns`.

        Its scales are measured anew, as they depend on the bad pixels (N, N) and the background. The probe is
        left as it is where it is that of the scan.
        """
        shift = patterns.placement.subpixel_shift - self.placement.subpixel_shift
        same = patterns.coherent is self.coherent and np.array_equal(patterns.probe, self.illumination.probe)
        found = self.calibrated(
            None if same else patterns.probe, shift if shift.any() else None, patterns.coherent
        )
        raw = found.scan.raw
        if bad_pixels is not None:
            raw = replace(raw, bad_pixels=bad_pixels)
        return replace(
            found,
            scan=replace(found.scan, raw=raw),
            model=self.model if same else found.model,
            probe_correction=self.probe_correction if same else None,
            known_scale=None,
            intensity=patterns.intensity,
            background=patterns.background,
        )

    def part(self, members: npt.NDArray[np.int64]) -> ScanModel:
        """Return some patterns (k,) of the scan in memory, on the part of its grid that they reach."""
        raw, grid = self.scan.raw, self.scan.grid
        corner = self.placement.corner[members]
        top, left = np.clip(corner.min(axis=0), 0, None)
        bottom, right = np.minimum(corner.max(axis=0) + raw.N, grid.shape)
        kept = raw.select(members)
        if raw.objectGuess is not None:
            kept = replace(kept, objectGuess=raw.objectGuess[top:bottom, left:right])
        place = replace(
            grid,
            height=int(bottom - top),
            width=int(right - left),
            origin_x=grid.origin_x + int(left),
            origin_y=grid.origin_y + int(top),
        )
        intensity = None if self.intensity is None else self.intensity[members]
        return replace(self, scan=Scan(kept, place), known_scale=self.scale, intensity=intensity)

    @cached_property
    def margin(self) -> int:
        """Pixels by which the outermost patch reaches over the grid."""
        return overhang(self.placement.corner, self.scan.grid.shape, self.scan.raw.N)

    def pad(self, obj: npt.NDArray[np.complex64]) -> npt.NDArray[np.complex64]:
        """Continue an object (H, W) beyond its edge as far as the outermost patch reaches."""
        return np.pad(obj, self.margin, mode='edge')

    def cut(
        self, padded: npt.NDArray[np.complex64], indices: npt.NDArray[np.integer[Any]]
    ) -> npt.NDArray[np.complex64]:
        """Cut the patches (n, N, N) of the given patterns from an object that :meth:`pad` returned."""
        corner = self.placement.corner[indices] + self.margin
        placement = PatchPlacement(corner, self.placement.subpixel_shift[indices])
        return cut_patches(padded, placement, self.scan.raw.N)

    def _labels(self, groups: npt.NDArray[np.int32]) -> npt.NDArray[np.complex64]:
        raw = self.scan.raw
        if raw.Y is not None:
            return np.asarray(raw.Y[groups] / self.scale.probe_scale, dtype=np.complex64)
        assert self.padded_truth is not None
        patches = self.cut(self.padded_truth, groups.ravel())
        return patches.reshape(*groups.shape, raw.N, raw.N).astype(np.complex64)

    @cached_property
    def padded_truth(self) -> npt.NDArray[np.complex64] | None:
        """The scan's object in the engine's scale as :meth:`pad` returns it; None where patches are known."""
        raw = self.scan.raw
        if raw.Y is not None or raw.objectGuess is None:
            return None
        return self.pad(raw.objectGuess / np.complex64(self.scale.probe_scale))


def on_grid(canvas: npt.NDArray[Any], prepared: ScanModel) -> npt.NDArray[Any]:
    """Cut what lies on the scan's grid (H, W) from a canvas that holds every patch whole."""
    margin = prepared.margin
    height, width = prepared.scan.grid.shape
    return canvas[margin : margin + height, margin : margin + width]
