"""A live session: arrays in, an image at any time, and at the end the result that the whole scan would give.

Clauses LIVE-* of ``specs/live.md``. Nothing is read or written here but a scratch file, where frames are more
than memory is to hold.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, get_args

import numpy as np
import numpy.typing as npt

from ..arrays import as_numbers
from ..backends.base import create_backend
from ..config import InferenceConfig, PyTorchExecutionConfig
from ..config.precedence import with_execution
from ..errors import ConfigError, DataValueError
from ..formats.archive import ModelArchive
from ..formats.packaged import load_model
from ..network.plan import SIDE_MULTIPLE, build_plan
from ..patterns.stack import Patterns
from ..physics.geometry import ObjectGrid, PatchPlacement, place_patches
from ..physics.likelihood import ScanPatterns
from ..physics.probe import as_mode_stack, fourier_shift, mode_intensity
from ..physics.scaling import measure_scale
from ..reconstruction.reconstruct import reconstruct
from ..reconstruction.result import Reconstructed, Reconstruction
from ..scan.raw_data import RawData
from ..scan.scan import Scan
from ..whole_scan.held_out import fit_and_noise
from ..whole_scan.solver import STRENGTHS
from .canvas import Canvas, Rectangle
from .intake import Counts, Intake
from .kept_frames import Domain, KeptFrames
from .neighbours import Neighbours, near_groups
from .quality import KNOWN, UnseenCurve, UnseenPoint
from .snapshot import Snapshot
from .window import improve_window

__all__ = ['LiveSession', 'open_session']

logger = logging.getLogger('ptychopinn.live')

BATCH = 8
"""Frames that are taken in together; fewer wait for more, or for the next snapshot."""

BACKLOG, MOST_AT_ONCE = 4, 64
"""Where more wait, a part of them is taken in at once, but no more than so many: less is done for each frame,
and none waits for long."""

MEMBERS = 96
"""Frames, those of a batch and their neighbours, over which the object near the batch is updated."""

NEAR = 0.5
"""Part of these that are the nearest; the others are spread over the surroundings. In idle time all are the
nearest."""

ITERATIONS, MOST_ITERATIONS = 6, 48
"""Of conjugate gradients over so many frames. Fewer frames get more of them, at the same cost in all."""

SPREAD = 2
"""Frames of a batch that lie more than so many patches apart are taken in one after another."""

LIT = 0.05
"""Of the largest illumination of one frame: a pixel with less is not known."""

GAUGE_DRIFT = 0.1
"""Relative change of the mean counts beyond which object and probe are scaled anew."""

BUDGET = 512 * 2**20
"""Bytes of frames that are kept in memory."""


def open_session(
    probe: npt.ArrayLike,
    grid: ObjectGrid | None = None,
    *,
    model: ModelArchive | None = None,
    config: InferenceConfig | None = None,
    execution: PyTorchExecutionConfig | None = None,
    bad_pixels: npt.NDArray[np.bool_] | None = None,
    domain: Domain = 'counts',
    budget: int = BUDGET,
    source: str = 'live frames',
) -> LiveSession:
    """Begin a session; what needs time, a framework and a network, is loaded here.

    Parameters
    ----------
    probe : (N, N) or (P, N, N) complex
        Incoherent modes, in any scale.
    grid : ObjectGrid, optional
        The grid that images lie on; None for the bounding box of the frames plus one probe, which grows.
    model : ModelArchive, optional
        'prior' or 'physics'; None for the learned prior that comes with the package.
    config : InferenceConfig, optional
        For :meth:`LiveSession.close`; its ``refine_smoothing`` is that of the live image too.
    bad_pixels : (N, N) bool, optional
        True where the detector is not to be trusted, beside what it marks itself.
    domain : str
        What frames hold: 'counts', or 'amplitude', their roots.
    budget : int
        Bytes of frames that are kept in memory; those beyond go into a scratch file.
    source : str
        For messages.

    Raises
    ------
    ConfigError
        If the model is a network of patterns, or the domain unknown.
    DataValueError
        If probe or mask are not of these shapes.
    BackendUnavailableError
        If the framework is not installed.
    """
    if domain not in get_args(Domain):
        raise ConfigError(f'domain is {domain!r}; expected counts or amplitude.')
    archive = load_model() if model is None else model
    if not archive.config.model.of_objects:
        raise ConfigError(
            f'The model is a network of patterns ({archive.config.model.architecture}); a live image is made '
            "by the learned prior or by physics alone ('none')."
        )
    execution = execution or PyTorchExecutionConfig()
    config = with_execution(config or InferenceConfig(), execution)
    modes = as_mode_stack(probe, f'{source}: probe')
    bad = np.zeros(modes.shape[-2:], bool)
    if bad_pixels is not None:
        bad = np.array(bad_pixels, bool)
        if bad.shape != modes.shape[-2:]:
            raise DataValueError(
                f'{source}: bad_pixels has shape {bad.shape}; expected {modes.shape[-2:]}, that of the probe.'
            )
    return LiveSession(modes, grid, archive, config, execution, bad, domain, budget, source)


class LiveSession:
    """Made by :func:`open_session`. Not for several threads at once."""

    def __init__(
        self,
        probe: npt.NDArray[np.complex64],
        grid: ObjectGrid | None,
        archive: ModelArchive,
        config: InferenceConfig,
        execution: PyTorchExecutionConfig,
        bad: npt.NDArray[np.bool_],
        domain: Domain,
        budget: int,
        source: str,
    ) -> None:
        self._probe, self._grid = probe, grid
        self._archive, self._config, self._execution = archive, config, execution
        self._source = source
        plan = build_plan(archive.config.model)
        self._strength = STRENGTHS[0] if plan.parts else 0.0
        self._backend = create_backend(config.backend, execution)
        self._backend.build(plan, archive.weights)
        size = probe.shape[-1]
        self.counts = Counts()
        self.curve = UnseenCurve()
        self._intake = Intake(self.counts)
        self._frames = KeptFrames(bad, domain, budget, source)
        self._canvas, self._neighbours = Canvas(size), Neighbours(size)
        self._waiting: list[int] = []
        self._used: list[int] = []
        self._q = math.nan
        self._rng = np.random.default_rng([config.seed, 5])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._backend.close()

    @property
    def size(self) -> int:
        """Side N of a frame in pixels."""
        return int(self._probe.shape[-1])

    @property
    def unplaced(self) -> int:
        """Frames whose position has not come."""
        return self._intake.unplaced

    @property
    def frames_on_disk(self) -> int:
        """Frames beyond the budget of memory."""
        return self._frames.on_disk

    @property
    def waiting(self) -> int:
        """Placed frames that wait for a batch to be full."""
        return len(self._waiting)

    def push(
        self,
        patterns: npt.NDArray[Any],
        positions: npt.ArrayLike | None = None,
        indices: Sequence[int] | npt.NDArray[np.integer[Any]] | None = None,
    ) -> None:
        """Take frames; the image follows as soon as ``BATCH`` of them have a position.

        Parameters
        ----------
        patterns : (b, N, N) real
            Counts, or amplitudes, zero frequency at N//2. Negative values, NaN and the largest value of an
            integer type are marks of the detector: such pixels are bad from then on.
        positions : (b, 2) float, optional
            [y, x] of the patch centres in object pixels; NaN where one is not known. It may come by
            :meth:`place`, before the frame or after it.
        indices : (b,) int, optional
            Number of each frame, by which positions find it and repeated frames are told; None to count on.

        Raises
        ------
        DataValueError
            If shapes do not match; nothing of the push is kept then.
        """
        frames = np.asarray(patterns)
        if frames.ndim != 3 or frames.shape[1:] != (self.size, self.size) or frames.dtype.kind not in 'biuf':
            raise DataValueError(
                f'{self._source}: frames have shape {frames.shape} and type {frames.dtype}; expected real '
                f'numbers (b, {self.size}, {self.size}), the size of the probe.'
            )
        numbers = self._numbers(indices, len(frames))
        place = None if positions is None else self._checked(positions, len(frames))
        fresh = self._intake.new(numbers)
        kept = self._frames.keep(frames[fresh])
        self.counts.dark += len(fresh) - len(kept)
        self._wait(self._intake.add([numbers[fresh[at]] for at in kept]))
        if place is not None:
            known = np.asarray(~np.isnan(place).all(axis=1))
            self._wait(
                self._intake.place([n for n, k in zip(numbers, known, strict=True) if k], place[known])
            )
        self._take_in(BATCH)

    def place(self, indices: Sequence[int] | npt.NDArray[np.integer[Any]], positions: npt.ArrayLike) -> None:
        """Take positions (b, 2), [y, x] in object pixels, of frames that came before or come later."""
        numbers = [int(index) for index in indices]
        self._wait(self._intake.place(numbers, self._checked(positions, len(numbers))))
        self._take_in(BATCH)

    def improve(self) -> bool:
        """Use idle time: iterate over the neighbourhood of a frame; return False where there is none yet."""
        if not self._used:
            return False
        slot = np.array([self._used[int(self._rng.integers(len(self._used)))]])
        self._solve(slot, np.empty(0, np.int64), MEMBERS, 1.0)
        return True

    def snapshot(self) -> Snapshot:
        """Return the image as it is, with all placed frames in it.

        Raises
        ------
        DataValueError
            If there are no placed frames yet.
        """
        self._take_in(1)
        if not self._used:
            raise DataValueError(f'{self._source}: no frame with a position has come yet.')
        placed = self._intake.position[self._used]
        y, x = placed.T
        grid = self._grid or ObjectGrid.around_scan(x, y, self.size)
        top, left = round(grid.origin_y), round(grid.origin_x)
        part = Rectangle(top, left, top + grid.height, left + grid.width)
        if self._grid is not None:
            part = Rectangle(0, 0, *grid.shape)
        obj, weight = self._canvas.window(part)
        return Snapshot(
            object_array=obj * np.float32(self._q),
            weight=weight,
            grid=grid,
            position=placed,
            quality=self.curve.quality(),
            counts=replace(self.counts),
            probe_scale=self._q,
            brightest=float(mode_intensity(self._probe).max()) * self._q**2,
        )

    def scan(self) -> Scan:
        """Return the kept frames with a position as a scan of its own.

        Raises
        ------
        DataValueError
            If there are none.
        """
        raw = self.raw()
        return Scan(raw, self._grid or ObjectGrid.around_scan(raw.xcoords, raw.ycoords, self.size))

    def raw(self, *, patterns: bool = True) -> RawData:
        """Return the kept frames with a position, in the order of their numbers, or their positions alone.

        Raises
        ------
        DataValueError
            If there are none.
        """
        self._take_in(1)
        used = np.array(self._used, np.int64)
        if not len(used):
            raise DataValueError(
                f'{self._source}: no frame with a position has come; nothing to reconstruct.'
            )
        used = used[np.argsort(self._intake.index[used], kind='stable')]
        y, x = self._intake.position[used].T
        frames: npt.NDArray[np.float32] | Patterns = np.empty((0, self.size, self.size), np.float32)
        if patterns:
            frames = self._frames.patterns().select(used).in_memory_if_small()
        return RawData(
            diffraction=frames,
            probeGuess=self._probe,
            xcoords=x,
            ycoords=y,
            scan_index=self._intake.index[used],
            bad_pixels=self._frames.bad if self._frames.bad.any() else None,
            source=self._source,
        )

    def close(self, should_stop: Callable[[], bool] | None = None) -> Reconstruction:
        """End the session and return the reconstruction of what was kept, that of a whole scan.

        Raises
        ------
        DataValueError
            If no frame with a position has come.
        Cancelled
            If `should_stop` turned true.
        """
        scan = self.scan()
        self._backend.close()
        for event in reconstruct(
            scan, self._archive, self._config, execution=self._execution, should_stop=should_stop
        ):
            if isinstance(event, Reconstructed):
                return event.reconstruction
        raise AssertionError('a reconstruction ends with its result')

    def _numbers(self, indices: Sequence[int] | npt.NDArray[np.integer[Any]] | None, count: int) -> list[int]:
        if indices is None:
            first = int(self._intake.index.max(initial=-1)) + 1
            return list(range(first, first + count))
        numbers = [int(index) for index in indices]
        if len(numbers) != count:
            raise DataValueError(
                f'{self._source}: {count} frames have {len(numbers)} numbers; expected one each.'
            )
        return numbers

    def _checked(self, positions: npt.ArrayLike, count: int) -> npt.NDArray[np.float64]:
        place = as_numbers(np.asarray(positions), np.float64, f'{self._source}: positions')
        if place.shape != (count, 2):
            raise DataValueError(
                f'{self._source}: positions have shape {place.shape}; expected ({count}, 2), [y, x] of each.'
            )
        return place

    def _wait(self, slots: list[int]) -> None:
        """Let placed frames wait, but those that lie too far off to be meant."""
        if not slots:
            return
        far = self._canvas.too_far(self._placement(np.array(slots)).corner, self.counts.frames)
        self.counts.astray += int(far.sum())
        self._waiting += [slot for slot, off in zip(slots, far, strict=True) if not off]

    def _take_in(self, least: int) -> None:
        """Take in the frames that wait, in batches, as long as there are so many."""
        while len(self._waiting) >= least:
            count = min(max(len(self._waiting) // BACKLOG, BATCH), MOST_AT_ONCE)
            batch, self._waiting = np.array(self._waiting[:count]), self._waiting[count:]
            self._hold_gauge()
            corner = self._placement(batch).corner
            groups = near_groups(corner, SPREAD * self.size)
            for group in groups:
                slots = batch[group]
                self._predict(slots)
                most = max(MEMBERS * len(slots) // len(batch), 2 * len(slots), len(slots) + BATCH)
                self._solve(slots, slots, most, NEAR)
                self._neighbours.add(slots, corner[group])
                self._used += slots.tolist()
                self.counts.used = len(self._used)

    def _hold_gauge(self) -> None:
        """Scale probe and object so that a flat object predicts the mean counts so far."""
        if math.isnan(self._q):
            first = self._frames.patterns()[np.arange(min(len(self._frames), BATCH))]
            scale = measure_scale(first, self._probe, self._frames.bad)
            self._power = scale.mean_counts / scale.probe_scale**2
            self._q = scale.probe_scale
        q = math.sqrt(self._frames.mean_counts / self._power)
        if abs(q / self._q - 1) > GAUGE_DRIFT / 2:
            self._canvas.scale(self._q / q)
            self._q = q

    def _placement(self, slots: npt.NDArray[np.int64]) -> PatchPlacement:
        y, x = self._intake.position[slots].T
        if self._grid is not None:
            y, x = y - self._grid.origin_y, x - self._grid.origin_x
        return place_patches(x, y, self.size)

    def _illumination(self, placement: PatchPlacement) -> npt.NDArray[np.float32]:
        """Return the illumination (b, N, N) of frames, in counts."""
        probe = self._probe.astype(np.complex128) * self._q
        return mode_intensity(fourier_shift(probe[None], placement.remainder[:, None])).astype(np.float32)

    def _in_window(
        self, slots: npt.NDArray[np.int64], held_out: npt.NDArray[np.int64]
    ) -> tuple[ScanPatterns, Rectangle]:
        """Return some frames on the window that holds them."""
        placement = self._placement(slots)
        window = Rectangle.around(placement.corner, self.size).in_multiples(SIDE_MULTIPLE)
        stack = self._frames.patterns()
        patterns = ScanPatterns(
            probe=(self._probe.astype(np.complex128) * self._q).astype(np.complex64),
            good=~self._frames.bad,
            placement=PatchPlacement(
                placement.corner - np.array([window.top, window.left]), placement.remainder
            ),
            shape=window.shape,
            amplitude=lambda chosen: stack[slots[chosen]],
            held_out=held_out,
        )
        return patterns, window

    def _predict(self, slots: npt.NDArray[np.int64]) -> None:
        """Compare new frames with what the image says of them before they are in it (LIVE-05)."""
        placement = self._placement(slots)
        light = self._illumination(placement)
        window = Rectangle.around(placement.corner, self.size)
        weight = self._canvas.window(window)[1]
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
            fit = fit_and_noise(patterns, self._canvas.window(window)[0])
            deviance, noise = fit.deviance, fit.noise
        self.curve.add(
            UnseenPoint(
                frames=len(self._used),
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
        placement = self._placement(slots)
        if len(new):
            self._canvas.light(placement.corner, self._illumination(placement))
        others = self._neighbours.nearest(placement.corner, most - len(slots), slots, near)
        members = np.concatenate([slots, others])
        patterns, window = self._in_window(members, np.empty((1, 0), np.int64))
        obj, weight = self._canvas.window(window)
        iterations = min(round(ITERATIONS * most / len(members)), MOST_ITERATIONS)
        found = improve_window(
            self._backend, patterns, obj, weight, self._config.refine_smoothing, self._strength, iterations
        )
        if not np.isfinite(found).all():
            logger.warning('%s: an update of the live image diverged and was left out.', self._source)
            return
        self._canvas.put(window, found)
