"""The image of a live session on its way: what new frames find predicted, and what they change (LIVE-*)."""

from __future__ import annotations

import logging
import math

import numpy as np
import numpy.typing as npt

from ..backends.base import Backend
from ..blocks import evenly_spread
from ..network.plan import SIDE_MULTIPLE
from ..physics.calibration import next_intensities
from ..physics.geometry import ObjectGrid, PatchPlacement, place_patches
from ..physics.likelihood import ScanPatterns
from ..physics.probe import fourier_shift, mode_intensity
from ..physics.scaling import measure_scale
from ..whole_scan.held_out import fit_and_noise
from ..whole_scan.scan_model import LEAST_OWN
from ..whole_scan.subsets import overlap_of
from .canvas import Canvas, Rectangle
from .experiment import Experiment
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

SCALED = 64
"""Frames, evenly spread, that tell how much of the counts is the object's."""

COMPARED = 128
"""Frames, evenly spread, by which two images are compared."""


class LiveImage:
    """An object near whose frames a step is taken with each batch of new ones.

    Parameters
    ----------
    experiment : Experiment
        Probe, detector and axes.
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
        experiment: Experiment,
        grid: ObjectGrid | None,
        frames: KeptFrames,
        intake: Intake,
        backend: Backend,
        smoothing: float,
        strength: float,
        source: str,
    ) -> None:
        self.experiment = experiment
        self._probe, self._grid, self._frames, self._intake = experiment.probe, grid, frames, intake
        self._backend = backend
        self._smoothing, self._strength, self._source = smoothing, strength, source
        self.size = int(experiment.probe.shape[-1])
        """Side N of a frame in pixels."""
        self.curve = UnseenCurve()
        """What frames found predicted, each before it was used."""
        self.canvas, self._neighbours = Canvas(self.size), Neighbours(self.size)
        self.used: list[int] = []
        """Slots of the frames that are in the image."""
        self.scale = math.nan
        """Of the given probe, so that an object of 1 predicts the mean counts."""
        self._power = math.nan
        self._own = 1.0
        self._intensity = np.ones(0)

    @property
    def position(self) -> npt.NDArray[np.float64]:
        """(n, 2) [y, x] of the frames that are in the image, in object pixels, by the experiment."""
        return self.experiment.place(self._intake.position[self.used])

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

    def nearest(self, slot: int, most: int) -> npt.NDArray[np.int64]:
        """Return the slots of at most so many frames nearest to one of the image, itself among them."""
        corner = self.placement(np.array([slot])).corner
        return self._neighbours.nearest(corner, most, np.empty(0, np.int64), 1.0)

    def overlap(self, slots: npt.NDArray[np.int64]) -> float:
        """Return how many frames fall on a pixel where those of some slots lie."""
        window = Rectangle.around(self.placement(slots).corner, self.size)
        return overlap_of(self.canvas.window(window)[1], self.peak_illumination)

    def unexplained(self) -> float:
        """Return the deviance that the image leaves of its frames, in units of photon noise."""
        slots = np.array(self.used)[evenly_spread(len(self.used), COMPARED)]
        patterns, window = self._in_window(slots, np.empty((1, 0), np.int64))
        fit = fit_and_noise(patterns, self.canvas.window(window)[0])
        return fit.fitted / fit.fitted_noise

    def placement(self, slots: npt.NDArray[np.int64]) -> PatchPlacement:
        """Return where the patches of placed frames lie on the canvas."""
        y, x = self.experiment.place(self._intake.position[slots]).T
        if self._grid is not None:
            y, x = y - self._grid.origin_y, x - self._grid.origin_x
        return place_patches(x, y, self.size)

    def _hold_scale(self) -> None:
        """Scale probe and object so that a flat object predicts the mean counts so far."""
        if math.isnan(self.scale):
            stack = self._frames.patterns()
            first = stack[evenly_spread(len(stack), SCALED)]
            scale = measure_scale(first, self._probe, ~self._valid)
            dark = self.experiment.background
            own = scale.mean_counts - (0.0 if dark is None else float(dark[self._valid].sum()))
            counted = float(np.square(first, dtype=np.float64).sum(axis=(1, 2)).mean())
            self._own = max(own / counted, LEAST_OWN)
            self._power = scale.mean_counts / scale.probe_scale**2
            self.scale = math.sqrt(self._own * counted / self._power)
        q = math.sqrt(self._own * self._frames.mean_counts / self._power)
        if abs(q / self.scale - 1) > SCALE_DRIFT / 2:
            self.canvas.scale(self.scale / q)
            self.scale = q

    @property
    def _valid(self) -> npt.NDArray[np.bool_]:
        bad, more = self._frames.bad, self.experiment.bad
        return ~bad if more is None else ~(bad | more)

    def _illumination(self, placement: PatchPlacement) -> npt.NDArray[np.float32]:
        """Return the illumination (b, N, N) of frames, in counts."""
        probe = self._probe.astype(np.complex128) * self.scale
        return mode_intensity(fourier_shift(probe[None], placement.subpixel_shift[:, None])).astype(
            np.float32
        )

    def intensity(self, slots: npt.NDArray[np.int64]) -> npt.NDArray[np.float64] | None:
        """Return the relative intensities (b,) of the beam in some exposures; None where all are alike."""
        if not self.experiment.uneven:
            return None
        unknown = len(self._frames) - len(self._intensity)
        if unknown:
            self._intensity = np.concatenate([self._intensity, np.ones(unknown)])
        return self._intensity[slots]

    def _measure_intensities(self, slots: npt.NDArray[np.int64]) -> None:
        """Take a step of Fisher's scoring for the intensities of frames on known area."""
        before = self.intensity(slots)
        if before is None or not len(slots):
            return
        patterns, window = self._in_window(slots, np.empty((1, 0), np.int64))
        physics = self._backend.scan_physics(patterns)
        obj = physics.to_device(self.canvas.window(window)[0])
        found = physics.experiment_gradient(obj, np.arange(len(slots)))
        self._intensity[slots] = next_intensities(before, found)

    def _in_window(
        self, slots: npt.NDArray[np.int64], held_out: npt.NDArray[np.int64]
    ) -> tuple[ScanPatterns, Rectangle]:
        """Return some frames on the window that holds them."""
        placement = self.placement(slots)
        window = Rectangle.around(placement.corner, self.size).in_multiples(SIDE_MULTIPLE)
        stack, valid = self._frames.patterns(), self._valid
        patterns = ScanPatterns(
            probe=(self._probe.astype(np.complex128) * self.scale).astype(np.complex64),
            valid=valid,
            placement=PatchPlacement(
                placement.corner - np.array([window.top, window.left]), placement.subpixel_shift
            ),
            shape=window.shape,
            amplitude=lambda chosen: np.where(valid, stack[slots[chosen]], np.float32(0)),
            held_out=held_out,
            intensity=self.intensity(slots),
            background=self.experiment.background,
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
            self._measure_intensities(known)
            pixels = np.flatnonzero(np.fft.ifftshift(self._valid))[None].astype(np.int64)
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
        self._measure_intensities(others)
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
