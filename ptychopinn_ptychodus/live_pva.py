"""A live image from EPICS PVA: a processor for ``pvapy-hpc-consumer`` (clauses LIVE-20 to LIVE-24).

Named to it as ``--processor-class ptychopinn_ptychodus.live_pva.LiveProcessor``. Frames are NTNDArrays,
plain or compressed by lz4, bslz4 or blosc; positions come by metadata channels; the image and its quality go
out as records of the consumer's own PVA server.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pvaccess
from pvapy.hpc.adImageProcessor import AdImageProcessor
from pvapy.utility.adImageUtility import AdImageUtility
from pvapy.utility.timeUtility import TimeUtility

from ptycho_engine.errors import ConfigError, EngineError
from ptycho_engine.live.timed_positions import TimedPositions

__all__ = ['LiveProcessor', 'Options']

Drop = Literal['newest', 'oldest']

AT_ONCE = 64
"""Frames that are pushed at once, so that the image is shown now and then however many wait."""
SLEEP_S = 0.01

QUALITY = {
    'frames': pvaccess.UINT,
    'used': pvaccess.UINT,
    'unplaced': pvaccess.UINT,
    'waiting': pvaccess.UINT,
    'leftOut': pvaccess.UINT,
    'dropped': pvaccess.UINT,
    'unseen': pvaccess.DOUBLE,
    'error': pvaccess.DOUBLE,
    'gain': pvaccess.DOUBLE,
    'growth': pvaccess.DOUBLE,
    'enough': pvaccess.BOOLEAN,
    'message': pvaccess.STRING,
}
"""Fields of the record of the quality."""


@dataclass(frozen=True)
class Options:
    """What ``--processor-args`` may say."""

    probe: str
    """File of the probe: as for ``ptychopinn live --probe``."""
    object_pixel_size_m: float | None = None
    """Side of an object pixel; None where positions are in pixels."""
    pos_x_pv: str = ''
    pos_y_pv: str = ''
    """Metadata channels of the axes, with ``values`` and ``t``, or ``value`` and ``timeStamp``: by time."""
    positions_pv: str = ''
    """Metadata channel with ``uniqueId``, ``x`` and ``y``: by number."""
    prefix: str = 'ptychopinn:live'
    """Of the records: prefix:amplitude, prefix:phase, prefix:quality."""
    every_s: float = 1.0
    """Between two images."""
    queue: int = 256
    """Frames that wait at most."""
    drop: Drop = 'newest'
    """Which frame is dropped where more come: the one that comes, or the one that waits longest."""
    model: str | None = None
    """As for ``ptychopinn live --model``."""
    output: str = ''
    """Folder for the reconstruction of all frames when the consumer stops; none without it."""

    @classmethod
    def of(cls, said: dict[str, Any]) -> Options:
        """Return the options of a dictionary.

        Raises
        ------
        ConfigError
            If one is unknown, missing or cannot be.
        """
        known = {field.name for field in fields(cls)}
        # Those of the framework have capital letters.
        own = {name: value for name, value in said.items() if name.islower()}
        for name in sorted(set(own) - known):
            raise ConfigError(f'There is no option {name!r}; expected some of {", ".join(sorted(known))}.')
        if 'probe' not in own:
            raise ConfigError("The option 'probe' is missing: the file of the probe.")
        options = cls(**own)
        if options.drop not in get_args(Drop) or options.queue < 1 or not options.every_s > 0:
            raise ConfigError(
                f'drop is {options.drop!r}, queue {options.queue} and every_s {options.every_s}; expected '
                'newest or oldest, and positive numbers.'
            )
        if bool(options.positions_pv) == bool(options.pos_x_pv and options.pos_y_pv):
            raise ConfigError('Give positions_pv, or pos_x_pv and pos_y_pv.')
        return options


class FrameQueue:
    """Frames between the consumer and the session, some of which are dropped where too many wait."""

    def __init__(self, most: int, drop: Drop) -> None:
        self._frames: deque[tuple[int, float, npt.NDArray[Any]]] = deque()
        self._most, self._drop, self._lock = most, drop, threading.Lock()
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._frames)

    def put(self, frame: tuple[int, float, npt.NDArray[Any]]) -> None:
        """Let a frame wait, or drop one."""
        with self._lock:
            if len(self._frames) >= self._most:
                self.dropped += 1
                if self._drop == 'newest':
                    return
                self._frames.popleft()
            self._frames.append(frame)

    def take(self, most: int) -> list[tuple[int, float, npt.NDArray[Any]]]:
        """Return at most so many frames, those first that have waited longest."""
        with self._lock:
            return [self._frames.popleft() for _ in range(min(most, len(self._frames)))]


class LiveProcessor(AdImageProcessor):  # type: ignore[misc]
    """Receives frames; a thread of its own keeps the image up to date."""

    def __init__(self, configDict: dict[str, Any] | None = None) -> None:
        super().__init__(configDict or {})
        self.options = Options.of(configDict or {})
        self._queue = FrameQueue(self.options.queue, self.options.drop)
        self._timed = TimedPositions()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work, name='ptychopinn-live')
        self._session: Any = None
        self.pvaServer: Any
        self._own_server: Any = None
        self._failure = ''

    def start(self) -> None:
        """Begin; frames wait until the framework is loaded."""
        if self.pvaServer is None:
            self._own_server = self.pvaServer = pvaccess.PvaServer()
            self.pvaServer.start()
        for name in ('amplitude', 'phase'):
            self.pvaServer.addRecord(f'{self.options.prefix}:{name}', pvaccess.NtNdArray())
        self.pvaServer.addRecord(f'{self.options.prefix}:quality', pvaccess.PvObject(QUALITY))
        self._thread.start()

    def process(self, pvObject: Any) -> Any:
        """Take a frame; what it takes is done elsewhere."""
        number, image, width, *_ = self.reshapeNtNdArray(pvObject)
        if width is not None:
            stamp = TimeUtility.getTimeStampAsFloat(pvObject['timeStamp'])
            self._queue.put((int(number), stamp, np.array(image)))
        self.updateOutputChannel(pvObject)
        return pvObject

    def stop(self) -> None:
        """End the session, with the reconstruction of all frames where a folder is given for it."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._own_server is not None:
            self._own_server.stop()

    def getStats(self) -> dict[str, Any]:
        """Return what the status channel of the consumer says."""
        used = 0 if self._session is None else self._session.counts.used
        return {'nUsed': used, 'nQueued': len(self._queue), 'nDropped': self._queue.dropped}

    def getStatsPvaTypes(self) -> dict[str, Any]:
        """Return the types of :meth:`getStats`."""
        return dict.fromkeys(('nUsed', 'nQueued', 'nDropped'), pvaccess.UINT)

    def _work(self) -> None:
        try:
            self._session, scale = self._open()
            with self._session:
                self._follow(scale)
                self._finish()
        except (EngineError, OSError, LookupError, ValueError, pvaccess.PvaException) as error:
            self._failure = str(error)
            self.logger.error('%s', error)
            self._publish_quality()

    def _open(self) -> tuple[Any, float]:
        """Return the session, and object pixels per unit of the positions."""
        from ptycho_engine.commands.scan_parts import read_probe
        from ptycho_engine.formats.packaged import load_model
        from ptycho_engine.live.session import open_session

        pixel = self.options.object_pixel_size_m
        modes = read_probe(self.options.probe).modes
        session = open_session(modes, model=load_model(self.options.model), source=self.inputChannel or 'PVA')
        return session, 1.0 if pixel is None else 1 / pixel

    def _follow(self, scale: float) -> None:
        shown, in_image = time.monotonic(), 0
        while not (self._ending.is_set() and not len(self._queue)):
            frames = self._queue.take(AT_ONCE)
            if frames:
                self._push(frames)
            self._place(scale)
            self._session.counts.lost = self._queue.dropped
            if not frames and not self._session.improve():
                time.sleep(SLEEP_S)
            now = time.monotonic()
            if now - shown > self.options.every_s:
                if self._session.counts.used + self._session.waiting > in_image:
                    self._publish_image()
                    in_image = self._session.counts.used
                self._publish_quality()
                shown = now

    def _push(self, frames: list[tuple[int, float, npt.NDArray[Any]]]) -> None:
        for number, stamp, _ in frames:
            self._timed.frame(number, stamp)
        self._session.push(np.stack([image for *_, image in frames]), indices=[n for n, *_ in frames])

    def _place(self, scale: float) -> None:
        options = self.options
        if options.positions_pv:
            found = [(int(p['uniqueId']), p['y'], p['x']) for p in self._received(options.positions_pv)]
            if found:
                self._session.place([n for n, *_ in found], scale * np.array([p[1:] for p in found]))
            return
        for axis, channel in (('y', options.pos_y_pv), ('x', options.pos_x_pv)):
            for sample in self._received(channel):
                if 'values' in sample:
                    stamps, values = (
                        [TimeUtility.getTimeStampAsFloat(t) for t in sample['t']],
                        sample['values'],
                    )
                else:
                    stamps, values = [TimeUtility.getTimeStampAsFloat(sample['timeStamp'])], [sample['value']]
                self._timed.sample(axis, stamps, values)
        numbers, positions = self._timed.placed()
        if numbers:
            self._session.place(numbers, scale * positions)

    def _received(self, channel: str) -> list[Any]:
        """Return what a metadata channel has said since the last call."""
        queue, found = self.metadataQueueMap[channel], []
        while True:
            try:
                found.append(queue.get(0))
            except pvaccess.QueueEmpty:
                return found

    def _publish_image(self) -> None:
        shot = self._session.snapshot()
        inside = shot.object_array[shot.box]
        phase_aligned = shot.object_array * np.exp(-1j * np.angle(inside.mean(dtype=np.complex128) or 1))
        for name, image in (('amplitude', np.abs(phase_aligned)), ('phase', np.angle(phase_aligned))):
            record = AdImageUtility.generateNtNdArray2D(shot.counts.used, image.astype(np.float32))
            self.pvaServer.update(f'{self.options.prefix}:{name}', record)

    def _publish_quality(self) -> None:
        said: dict[str, Any] = {'dropped': self._queue.dropped, 'message': self._failure}
        if self._session is not None:
            counts, quality = self._session.counts, self._session.quality
            said |= {
                'frames': counts.frames,
                'used': counts.used,
                'unplaced': self._session.unplaced,
                'waiting': self._session.waiting + len(self._queue),
                'leftOut': counts.left_out,
                'unseen': quality.unseen,
                'error': quality.error,
                'gain': quality.gain,
                'growth': quality.growth,
                'enough': quality.enough,
                'message': self._failure or quality.sentence,
            }
        self.pvaServer.update(f'{self.options.prefix}:quality', pvaccess.PvObject(QUALITY, said))

    def _finish(self) -> None:
        """Publish what came last, and reconstruct all frames where a folder is given for it."""
        if self._session.counts.used + self._session.waiting == 0:
            return
        self._publish_image()
        self._publish_quality()
        if not self.options.output:
            return
        from ptycho_engine.commands.live import write_final

        write_final(
            Path(self.options.output), self._session, self.options.model, self.options.object_pixel_size_m
        )
