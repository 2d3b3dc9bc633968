"""The image of a live session on its way: what new frames find predicted, and what they change (LIVE-*)."""

from __future__ import annotations

import logging
import math

import numpy as np
import numpy.typing as npt

from ..backends.base import Backend
from ..network.plan import SIDE_MULTIPLE
from ..physics.geometry import ObjectGrid, PatchPlacement, place_patches
from ..physics.likelihood import ScanPatterns
from ..physics.probe import fourier_shift, mode_intensity
from ..physics.scaling import measure_scale
from ..whole_scan.held_out import fit_and_noise
from .canvas import Canvas, Rectangle
from .intake import Intake
from .kept_frames import KeptFrames
from .neighbours import Neighbours, near_groups
from .quality import KNOWN, UnseenCurve, UnseenPoint
from .window import improve_window

__all__ = ['BATCH', 'LiveImage']

logger = logging.getLogger('ptychopinn.live')

BATCH = 8
"""Frames that are taken in together."""

MEMBERS = 104
"""Frames, those of a batch and their neighbours, over which the object near the batch is updated."""

NEAR = 0.5
"""Part of these that are the nearest; the others are spread over the surroundings. In idle time all are the
nearest."""

ITERATIONS, MOST_ITERATIONS = 5, 48
"""Of conjugate gradients over so many frames. Fewer frames get more of them, at the same cost in all."""

SPREAD = 2
"""Frames of a batch that lie more than so many patches apart are taken in one after another."""

LIT = 0.05
"""Of the largest illumination of one frame: a pixel with less is not known."""

SCALE_DRIFT = 0.1
"""Relative change of the mean counts beyond which object and probe are scaled anew."""


class LiveImage:
    """An object near whose frames a step is taken with each batch of new ones.

    Parameters
    ----------
    probe : (P, N, N) complex64
        Incoherent modes, in any scale.
    grid : ObjectGrid, optional
        Whose origin positions are relative to; None for that of positions.
    frames : KeptFrames
        All frames; a slot is the number of one.
    intake : Intake
        Their positions, by slots.
    backend : Backend
        Built for the plan of the prior, or for physics alone.
    smoothing, strength : float
        Of total variation, and of the learned prior; 0 for none.
    source : str
        For messages.
    """

    def __init__(
        self,
        probe: npt.NDArray[np.complex64],
        grid: ObjectGrid | None,
        frames: KeptFrames,
        intake: Intake,
        backend: Backend,
        smoothing: float,
        strength: float,
        source: str,
    ) -> None:
        self._probe, self._grid, self._frames, self._intake = probe, grid, frames, intake
        self._backend = backend
        self._smoothing, self._strength, self._source = smoothing, strength, source
        self.size = int(probe.shape[-1])
        """Side N of a frame in pixels."""
        self.curve = UnseenCurve()
        """What frames found predicted, each before it was used."""
        self.canvas, self._neighbours = Canvas(self.size), Neighbours(self.size)
        self.used: list[int] = []
        """Slots of the frames that are in the image."""
        self.scale = math.nan
        """Of the given probe, so that an object of 1 predicts the mean counts."""
        self._power = math.nan

    @property
    def peak_illumination(self) -> float:
        """Largest illumination of one frame, in counts."""
        return float(mode_intensity(self._probe).max()) * self.scale**2

    def take_in(self, slots: npt.NDArray[np.int64]) -> None:
        """Take in placed frames by their slots (b,)."""
        self._hold_scale()
        corner = self.placement(slots).corner
        for group in near_groups(corner, SPREAD * self.size):
            members = slots[group]
            self._predict(members)
            most = max(MEMBERS * len(members) // len(slots), 2 * len(members), len(members) + BATCH)
            self._solve(members, members, most, NEAR)
            self._neighbours.add(members, corner[group])
            self.used += members.tolist()

    def improve(self, slot: int) -> None:
        """Iterate over the neighbourhood of a frame that is in the image."""
        self._solve(np.array([slot]), np.empty(0, np.int64), MEMBERS, 1.0)

    def placement(self, slots: npt.NDArray[np.int64]) -> PatchPlacement:
        """Return where the patches of placed frames lie on the canvas."""
        y, x = self._intake.position[slots].T
        if self._grid is not None:
            y, x = y - self._grid.origin_y, x - self._grid.origin_x
        return place_patches(x, y, self.size)

    def _hold_scale(self) -> None:
        """Scale probe and object so that a flat object predicts the mean counts so far."""
        if math.isnan(self.scale):
            first = self._frames.patterns()[np.arange(min(len(self._frames), BATCH))]
            scale = measure_scale(first, self._probe, self._frames.bad)
            self._power = scale.mean_counts / scale.probe_scale**2
            self.scale = scale.probe_scale
        q = math.sqrt(self._frames.mean_counts / self._power)
        if abs(q / self.scale - 1) > SCALE_DRIFT / 2:
            self.canvas.scale(self.scale / q)
            self.scale = q

    def _illumination(self, placement: PatchPlacement) -> npt.NDArray[np.float32]:
        """Return the illumination (b, N, N) of frames, in counts."""
        probe = self._probe.astype(np.complex128) * self.scale
        return mode_intensity(fourier_shift(probe[None], placement.subpixel_shift[:, None])).astype(
            np.float32
        )

    def _in_window(
        self, slots: npt.NDArray[np.int64], held_out: npt.NDArray[np.int64]
    ) -> tuple[ScanPatterns, Rectangle]:
        """Return some frames on the window that holds them."""
        placement = self.placement(slots)
        window = Rectangle.around(placement.corner, self.size).in_multiples(SIDE_MULTIPLE)
        stack = self._frames.patterns()
        patterns = ScanPatterns(
            probe=(self._probe.astype(np.complex128) * self.scale).astype(np.complex64),
            valid=~self._frames.bad,
            placement=PatchPlacement(
                placement.corner - np.array([window.top, window.left]), placement.subpixel_shift
            ),
            shape=window.shape,
            amplitude=lambda chosen: stack[slots[chosen]],
            held_out=held_out,
        )
        return patterns, window

    def _predict(self, slots: npt.NDArray[np.int64]) -> None:
        """Compare new frames with what the image says of them before they are in it (LIVE-05)."""
        placement = self.placement(slots)
        light = self._illumination(placement)
        window = Rectangle.around(placement.corner, self.size)
        weight = self.canvas.window(window)[1]
        lit = weight > LIT * light.max()
        corner = placement.corner - np.array([window.top, window.left])
        seen = np.array(
            [
                float((one * lit[r : r + self.size, c : c + self.size]).sum() / one.sum())
                for one, (r, c) in zip(light, corner.tolist(), strict=True)
            ]
        )
        known = slots[seen >= KNOWN]
        deviance = noise = math.nan
        pixels = np.empty((1, 0), np.int64)
        if len(known):
            pixels = np.flatnonzero(np.fft.ifftshift(~self._frames.bad))[None].astype(np.int64)
            patterns, window = self._in_window(known, pixels)
            fit = fit_and_noise(patterns, self.canvas.window(window)[0])
            deviance, noise = fit.deviance, fit.noise
        self.curve.add(
            UnseenPoint(
                frames=len(self.used),
                deviance=deviance,
                noise=noise,
                known=len(known),
                new_area=float((1 - seen).sum()),
                pixels=len(known) * pixels.size,
            )
        )

    def _solve(
        self, slots: npt.NDArray[np.int64], new: npt.NDArray[np.int64], most: int, near: float
    ) -> None:
        """Bring the object near some frames up to date; those of them that are new add their light first."""
        placement = self.placement(slots)
        if len(new):
            self.canvas.light(placement.corner, self._illumination(placement))
        others = self._neighbours.nearest(placement.corner, most - len(slots), slots, near)
        members = np.concatenate([slots, others])
        patterns, window = self._in_window(members, np.empty((1, 0), np.int64))
        obj, weight = self.canvas.window(window)
        iterations = min(round(ITERATIONS * most / len(members)), MOST_ITERATIONS)
        found = improve_window(
            self._backend, patterns, obj, weight, self._smoothing, self._strength, iterations
        )
        if not np.isfinite(found).all():
            logger.warning('%s: an update of the live image diverged and was left out.', self._source)
            return
        self.canvas.put(window, found)
