"""A live session: arrays in, an image at any time, and at the end the result that the whole scan would give.

Clauses LIVE-* of ``specs/live.md``. Nothing is read or written here but a scratch file, where frames are more
than memory is to hold.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, Self, get_args

import numpy as np
import numpy.typing as npt

from ..backends.base import create_backend
from ..config import InferenceConfig, PyTorchExecutionConfig
from ..config.precedence import with_execution
from ..errors import ConfigError, DataValueError
from ..formats.archive import ModelArchive
from ..formats.packaged import load_model
from ..network.plan import build_plan
from ..patterns.stack import Patterns
from ..physics.geometry import ObjectGrid
from ..physics.probe import as_mode_stack
from ..reconstruction.reconstruct import reconstruct
from ..reconstruction.result import Reconstructed, Reconstruction
from ..scan.raw_data import RawData
from ..scan.scan import Scan
from ..whole_scan.solver import STRENGTHS
from .calibration import LiveCalibration
from .canvas import Rectangle
from .experiment import Experiment
from .image import BATCH, LiveImage
from .intake import Counts, Intake, as_positions
from .kept_frames import Domain, KeptFrames
from .quality import LiveQuality, UnseenCurve
from .settling import Settling
from .snapshot import Snapshot

__all__ = ['LiveSession', 'open_session']

logger = logging.getLogger('ptychopinn.live')

BACKLOG, MOST_AT_ONCE = 4, 64
"""Where more wait, a part of them is taken in at once, but no more than so many: less is done for each frame,
and none waits for long."""

SHARE, REBUILDING_SHARE = 0.1, 0.35
"""Part of the time of the frames that calibration takes where there is no idle time: while it looks for what
is wrong, and while the frames are taken in anew by what was found, which must be faster than they come."""

FAR = 2.0
"""Deviance of unseen frames in units of noise from which on idle time is for calibration alone."""

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
        self._backend = create_backend(config.backend, execution)
        self._backend.build(plan, archive.weights)
        self.counts = Counts()
        self._intake = Intake(self.counts, source)
        self._frames = KeptFrames(bad, domain, budget, source)
        strength = STRENGTHS[0] if plan.parts else 0.0
        told = Experiment(probe)
        self._new_image = partial(
            LiveImage,
            grid=grid,
            frames=self._frames,
            intake=self._intake,
            backend=self._backend,
            smoothing=config.refine_smoothing,
            strength=strength,
            source=source,
        )
        self._image = self._new_image(told)
        self._calibration = LiveCalibration(told, self._backend, config, self._raw_of, self._new_image)
        self._calibrates = bool(config.calibrated_parts)
        self._credit_s, self._turn = 0.0, False
        self._settling = Settling()
        self._waiting: list[int] = []
        self._rng = np.random.default_rng([config.seed, 5])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._backend.close()

    @property
    def source(self) -> str:
        """What messages call the frames."""
        return self._source

    @property
    def size(self) -> int:
        """Side N of a frame in pixels."""
        return int(self._probe.shape[-1])

    @property
    def curve(self) -> UnseenCurve:
        """What frames found predicted, each before it was used."""
        return self._image.curve

    @property
    def quality(self) -> LiveQuality:
        """How good the image is, and whether it is good enough."""
        return replace(self._settling.quality(self.curve), calibrated=self._image.experiment.found)

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
        numbers = self._intake.numbers(indices, len(frames))
        place = None if positions is None else as_positions(positions, len(frames), self._source)
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
        self._wait(self._intake.place(numbers, as_positions(positions, len(numbers), self._source)))
        self._take_in(BATCH)

    def improve(self) -> bool:
        """Use idle time: iterate over the neighbourhood of a frame, or do a slice of calibration.

        Returns False where there is no frame yet.
        """
        if not self._image.used:
            return False
        self._turn = not self._turn
        if self._calibrating and (self._turn or self.curve.unseen > FAR):
            self._calibrate()
            return True
        self._image.improve(self._image.used[int(self._rng.integers(len(self._image.used)))])
        return True

    def snapshot(self, *, all_placed: bool = True) -> Snapshot:
        """Return the image as it is.

        Parameters
        ----------
        all_placed : bool
            Whether frames that wait for a batch to be full are taken in first, which costs as much as that.

        Raises
        ------
        DataValueError
            If there are no placed frames yet.
        """
        self._take_in(1 if all_placed else BATCH)
        if not self._image.used:
            raise DataValueError(f'{self._source}: no frame with a position has come yet.')
        return self._shot()

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
        used = np.array(self._image.used, np.int64)
        if not len(used):
            raise DataValueError(
                f'{self._source}: no frame with a position has come; nothing to reconstruct.'
            )
        return self._raw_of(used[np.argsort(self._intake.index[used], kind='stable')], patterns=patterns)

    def _raw_of(self, slots: npt.NDArray[np.int64], *, patterns: bool = True) -> RawData:
        """Return frames by their slots as they came."""
        y, x = self._intake.position[slots].T
        frames: npt.NDArray[np.float32] | Patterns = np.empty((0, self.size, self.size), np.float32)
        if patterns:
            frames = self._frames.patterns().select(slots).in_memory_if_small()
        return RawData(
            diffraction=frames,
            probeGuess=self._probe,
            xcoords=x,
            ycoords=y,
            scan_index=self._intake.index[slots],
            bad_pixels=self._frames.bad if self._frames.bad.any() else None,
            source=self._source,
            assumed=self._frames.told if patterns else (),
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

    def _shot(self) -> Snapshot:
        """Return the image of the frames that are in it."""
        placed = self._image.position
        y, x = placed.T
        grid = self._grid or ObjectGrid.around_scan(x, y, self.size)
        top, left = round(grid.origin_y), round(grid.origin_x)
        part = Rectangle(top, left, top + grid.height, left + grid.width)
        if self._grid is not None:
            part = Rectangle(0, 0, *grid.shape)
        obj, weight = self._image.canvas.window(part)
        return Snapshot(
            object_array=obj * np.float32(self._image.scale),
            weight=weight,
            grid=grid,
            position=placed,
            quality=self.quality,
            counts=replace(self.counts),
            probe_scale=self._image.scale,
            size=self.size,
            peak_illumination=self._image.peak_illumination,
            experiment=self._image.experiment,
        )

    def _wait(self, slots: list[int]) -> None:
        """Let placed frames wait, but those that lie too far off to be meant."""
        if not slots:
            return
        corner = self._image.placement(np.array(slots)).corner
        far = self._image.canvas.too_far(corner, self.counts.frames)
        self.counts.astray += int(far.sum())
        self._waiting += [slot for slot, off in zip(slots, far, strict=True) if not off]

    def _take_in(self, least: int) -> None:
        """Take in the frames that wait, in batches, as long as there are so many."""
        while len(self._waiting) >= least:
            count = min(max(len(self._waiting) // BACKLOG, BATCH), MOST_AT_ONCE)
            batch, self._waiting = np.array(self._waiting[:count]), self._waiting[count:]
            begin = time.perf_counter()
            self._image.take_in(batch)
            self.counts.used = len(self._image.used)
            if self._settling.due(self.counts.used):
                self._settling.look(self._shot())
            if self._calibrating:
                share = REBUILDING_SHARE if self._calibration.rebuilding else SHARE
                self._credit_s += share * (time.perf_counter() - begin)
                if self._credit_s > 0:
                    self._credit_s -= self._calibrate()

    @property
    def _calibrating(self) -> bool:
        return self._calibrates and self._calibration.has_work(len(self._image.used))

    def _calibrate(self) -> float:
        """Do a slice of calibration; return the seconds that it took."""
        begin = time.perf_counter()
        better = self._calibration.work(self._image)
        if better is not None:
            self._image, self._settling = better, Settling()
            self._settling.look(self._shot())
        return time.perf_counter() - begin
