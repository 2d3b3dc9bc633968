"""Frames of an Eiger detector and positions of a PandABox over ZeroMQ, as at NSLS-II (LIVE-25 to LIVE-28)."""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import numpy.typing as npt

from ..errors import ConfigError
from ..io.bounded_json import parse_bounded
from .eiger import PART_BYTES, read_message
from .session import LiveSession
from .sources import MOST_AT_ONCE, Followed, PositionFollower, scaled_positions

__all__ = ['PandaPositions', 'ZmqAddress', 'ZmqSource']

logger = logging.getLogger('ptychopinn.live')

WAITING = 64
"""Messages that wait in memory; of more, a sender that pushes waits, and one that publishes drops."""

POSITION_BYTES, POSITION_ELEMENTS = 16 << 20, 1 << 20
"""Of a message with positions."""

MOST_SAMPLES = 1 << 26
"""Positions of a scan: a number beyond is none."""

PACKAGES = {'zmq': 'pyzmq', 'lz4': 'lz4', 'bitshuffle': 'bitshuffle', 'cbor2': 'cbor2'}


@dataclass(frozen=True)
class ZmqAddress:
    """``zmq://HOST:PORT?NAME=VALUE&…``, or ``zmq+sub://…`` of a sender that publishes."""

    endpoint: str
    subscribe: bool
    said: dict[str, str]

    @classmethod
    def parse(cls, text: str | None, names: tuple[str, ...]) -> ZmqAddress | None:
        """Return what an address says; None for what is none.

        Raises
        ------
        ConfigError
            If it names no host or port, says anything but `names`, or a package is missing.
        """
        if text is None or not text.startswith(('zmq://', 'zmq+sub://')):
            return None
        try:
            parts = urlsplit(text)
            said = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port, said = None, None, {}
        if not host or not port or parts.path not in ('', '/'):
            raise ConfigError(f'{text} is no address; expected zmq://HOST:PORT.')
        for name in sorted(set(said) - set(names)):
            raise ConfigError(f'{text} says {name!r}; expected some of {", ".join(names)}.')
        missing = [package for name, package in PACKAGES.items() if importlib.util.find_spec(name) is None]
        if missing:
            raise ConfigError(
                f'{text} needs {", ".join(missing)}, not installed; pip install {" ".join(missing)}.'
            )
        host = f'[{host}]' if ':' in host else host
        return cls(f'tcp://{host}:{port}', parts.scheme == 'zmq+sub', said)

    def whole(self, name: str, least: int, count: int) -> tuple[int, ...] | None:
        """Return so many whole numbers that it says under a name, with commas between them."""
        text = self.said.get(name)
        if text is None:
            return None
        words = text.split(',')
        if len(words) != count or not all(word.isdecimal() and len(word) < 10 for word in words):
            raise ConfigError(f'{name} is {text!r} in the address; expected {count} whole numbers.')
        found = tuple(map(int, words))
        if min(found) < least:
            raise ConfigError(f'{name} is {text!r} in the address; expected at least {least}.')
        return found


class _Receiver:
    """Messages of an address, without waiting."""

    def __init__(self, address: ZmqAddress, *, subscribe: bool, most_bytes: int) -> None:
        import zmq

        self._zmq = zmq
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB if subscribe else zmq.PULL)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVHWM, WAITING)
        self._socket.setsockopt(zmq.MAXMSGSIZE, most_bytes)
        self._socket.setsockopt(zmq.IPV6, 1)
        if subscribe:
            self._socket.setsockopt(zmq.SUBSCRIBE, b'')
        try:
            self._socket.connect(address.endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise ConfigError(f'{address.endpoint} cannot be used: {error}.') from error

    def next(self) -> list[bytes] | None:
        """Return the parts of the next message; None where there is none yet."""
        try:
            return list(self._socket.recv_multipart(self._zmq.NOBLOCK))
        except self._zmq.Again:
            return None

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()
        self._context.term()


class ZmqSource(Followed):
    """Follows the frames of an Eiger.

    Parameters
    ----------
    address : ZmqAddress
        ``center=ROW,COLUMN``: the pixel of its frames about which those of the session are cut out; without
        it they are taken whole.
    size : int
        Side N of a frame of the session.
    positions : PositionFollower
        The n-th position belongs to the frame of the number n.
    most : int, optional
        Frames after which it ends, once their positions have come; so it does with the detector's series.

    Raises
    ------
    ConfigError
        If the address cannot be used.
    """

    def __init__(self, address: ZmqAddress, size: int, positions: PositionFollower, most: int | None) -> None:
        super().__init__(positions, most)
        self._size, self._center = size, address.whole('center', 0, 2)
        self._receiver = _Receiver(address, subscribe=address.subscribe, most_bytes=PART_BYTES)
        self._name = address.endpoint
        self._series: int | None = None
        self._over = False
        self._complaints: set[str] = set()

    @property
    def behind(self) -> int:
        """Frames that wait cannot be counted before they are received."""
        return 0

    def feed(self, session: LiveSession) -> int:
        """Push what has come; what is no frame of the series is left out, and counted as lost."""
        frames: list[npt.NDArray[Any]] = []
        numbers: list[int] = []
        while len(frames) < MOST_AT_ONCE and not self._over:
            parts = self._receiver.next()
            if parts is None:
                break
            try:
                found = self._frame(parts)
            except ValueError as error:
                session.counts.lost += 1
                self._complain(f'a message was left out: {error}')
                continue
            if found is not None:
                numbers.append(found[0])
                frames.append(found[1])
        if frames:
            session.push(np.stack(frames), indices=numbers)
        self._place(session)
        count = self._pushed_so_many(len(frames))
        self.ended = self.ended or (self._over and self._placed >= self._pushed)
        return count

    def _frame(self, parts: list[bytes]) -> tuple[int, npt.NDArray[Any]] | None:
        """Return number and frame of a message; None of one that has none.

        Raises
        ------
        ValueError
            With the reason, if it cannot be used.
        """
        message = read_message(parts)
        if message.kind == 'end':
            self._over |= message.series == self._series
        if message.frame is None:
            return None
        if self._series is None:
            self._series = message.series
            logger.info('%s: frames of series %d.', self._name, message.series)
        if message.series != self._series:
            raise ValueError(f'a frame of series {message.series}, while series {self._series} is followed')
        return message.number, self._cut(message.frame)

    def _cut(self, frame: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the pixels (N, N) of a frame (h, w) that the session has."""
        size = self._size
        if self._center is None:
            top = left = 0
            fits = frame.shape == (size, size)
        else:
            top, left = (at - size // 2 for at in self._center)
            fits = min(top, left) >= 0 and top + size <= frame.shape[0] and left + size <= frame.shape[1]
        if not fits:
            raise ValueError(
                f'a frame of {frame.shape[0]}×{frame.shape[1]} pixels, from which the {size}×{size} of the '
                'probe cannot be cut; say center=ROW,COLUMN in the address'
            )
        return frame[top : top + size, left : left + size]

    def _complain(self, what: str) -> None:
        """Say the same but once."""
        if what not in self._complaints and len(self._complaints) < MOST_AT_ONCE:
            self._complaints.add(what)
            logger.warning('%s: %s.', self._name, what)

    def close(self) -> None:
        """Let go of the sockets."""
        self._receiver.close()
        self._positions.close()


class PandaPositions:
    """Positions that the writer of a PandABox publishes: JSON with the samples of each captured field.

    Parameters
    ----------
    address : ZmqAddress
        ``x=FIELD`` and ``y=FIELD`` name the two fields; ``per_frame=K``: the mean of so many samples is the
        position of a frame (1).
    scale : (2,) float
        Object pixels per unit of y and of x, negative along an axis that is mirrored.

    Raises
    ------
    ConfigError
        If a field is not named, or the address cannot be used.
    """

    def __init__(self, address: ZmqAddress, scale: tuple[float, float]) -> None:
        fields = [address.said.get(axis) for axis in 'yx']
        if None in fields:
            raise ConfigError('--positions zmq://… needs x=FIELD and y=FIELD.')
        self._fields, self._scale, self._name = fields, scale, address.endpoint
        (self._per_frame,) = address.whole('per_frame', 1, 1) or (1,)
        self._receiver = _Receiver(address, subscribe=True, most_bytes=POSITION_BYTES)
        self._rest = np.empty((0, 2))
        self._samples = 0

    def new(self) -> npt.NDArray[np.float64]:
        """Return what came since the last call; NaN for samples that were lost on the way."""
        parts = [self._rest]
        while (message := self._receiver.next()) is not None:
            try:
                found = self._read(message)
            except ValueError as error:
                logger.warning('%s: a message was left out: %s.', self._name, error)
                continue
            self._samples += len(found)
            parts.append(found)
        rows = np.concatenate(parts)
        count = len(rows) // self._per_frame
        self._rest = rows[count * self._per_frame :]
        means = rows[: count * self._per_frame].reshape(count, self._per_frame, 2).mean(axis=1)
        return scaled_positions(means, 'yx', self._scale)

    def _read(self, message: list[bytes]) -> npt.NDArray[np.float64]:
        """Return the samples (b, 2), [y, x], of a message, after those that are missing before them."""
        if sum(map(len, message)) > POSITION_BYTES:
            raise ValueError(f'{sum(map(len, message))} bytes')
        told = parse_bounded(message[-1], POSITION_ELEMENTS)
        if not isinstance(told, dict) or told.get('msg_type') != 'data':
            return np.empty((0, 2))
        datasets, columns, first = told.get('datasets'), [], self._samples
        for field in self._fields:
            one = datasets.get(field) if isinstance(datasets, dict) else None
            if not isinstance(one, dict) or not isinstance(one.get('data'), list):
                raise ValueError(f'it has no samples of {field!r}')
            first = one.get('starting_sample_number', self._samples)
            columns.append(one['data'])
        try:
            rows = np.array(columns, np.float64).T
        except (TypeError, ValueError):
            rows = np.empty(0)
        if rows.ndim != 2 or rows.shape[1] != 2:
            raise ValueError('its samples are no numbers, or not as many of x as of y')
        if type(first) is not int or not self._samples <= first < MOST_SAMPLES:
            raise ValueError(f'starting_sample_number is {first!r}; {self._samples} samples came before')
        return np.concatenate([np.full((first - self._samples, 2), np.nan), rows])

    def close(self) -> None:
        """Let go of the socket."""
        self._receiver.close()
