"""Frames of an Eiger and positions of a PandABox over ZeroMQ (clauses LIVE-25 to LIVE-28 of specs/live.md).

The senders here encode with the libraries of the formats: bitshuffle, lz4 and cbor2.
"""

import json
import logging
import re
import shlex
import socket
import struct
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from ptycho_engine.commands import main
from ptycho_engine.errors import ConfigError
from ptycho_engine.formats.product import read_product
from ptycho_engine.live.eiger import read_message
from ptycho_engine.live.zmq_sources import PandaPositions, ZmqAddress, ZmqSource
from ptycho_engine.scoring.scores import scan_box, score
from tests.conftest import small_scan

zmq, cbor2, bitshuffle, block = (
    pytest.importorskip(name) for name in ('zmq', 'cbor2', 'bitshuffle', 'lz4.block')
)

DOCS = Path(__file__).parents[2] / 'docs' / 'live.md'
WAIT_S = 60.0


def squeezed(frame, codec, block_bytes=0):
    """Return a frame as the HDF5 filters and the detector compress it, with their head of 12 bytes."""
    size = frame.itemsize
    if codec == 'bslz4':
        body = bitshuffle.compress_lz4(frame, block_bytes // size).tobytes()
        return struct.pack('>QI', frame.nbytes, block_bytes) + body
    data, step = frame.tobytes(), block_bytes or frame.nbytes
    pieces = [block.compress(data[at : at + step], store_size=False) for at in range(0, len(data), step)]
    return struct.pack('>QI', frame.nbytes, step) + b''.join(
        struct.pack('>I', len(piece)) + piece for piece in pieces
    )


def version_1(frame, number, codec='bslz4', series=7):
    """Return the parts of an image of stream version 1."""
    bits = 8 * frame.itemsize
    encoding, blob = {
        'bslz4': (f'bs{bits}-lz4<', lambda: squeezed(frame, 'bslz4')),
        'lz4': ('lz4<', lambda: block.compress(frame.tobytes(), store_size=False)),
        '': ('<', frame.tobytes),
    }[codec]
    heads = (
        {
            'htype': 'dimage-1.0',
            'series': series,
            'frame': number,
            'hash': 'fc67f000d08fe6b380ea9434b8362d22',
        },
        {
            'htype': 'dimage_d-1.0',
            'shape': list(frame.shape[::-1]),
            'type': str(frame.dtype),
            'encoding': encoding,
            'size': 0,
        },
    )
    tail = {'htype': 'dconfig-1.0', 'start_time': 8, 'stop_time': 9, 'real_time': 1}
    return [*(json.dumps(head).encode() for head in heads), blob(), json.dumps(tail).encode()]


def stream2(frame, number, codec='bslz4', series=7, block_bytes=0):
    """Return the one part of an image of Stream2."""
    data = frame.tobytes()
    if codec:
        compressed = [codec, frame.itemsize, squeezed(frame, codec, block_bytes)]
        data = cbor2.CBORTag(56500, compressed)
    values = cbor2.CBORTag({1: 64, 2: 69, 4: 70}[frame.itemsize], data)
    image = {
        'type': 'image',
        'series_id': series,
        'image_id': number,
        'data': {'threshold_1': cbor2.CBORTag(40, [list(frame.shape), values])},
    }
    return [cbor2.dumps(image)]


def some_frame(dtype, shape=(37, 53)):
    rng = np.random.default_rng(3)
    return rng.poisson(20, shape).astype(dtype)


@pytest.mark.parametrize('dtype', ['uint8', 'uint16', 'uint32'])
@pytest.mark.parametrize('codec', ['', 'lz4', 'bslz4'])
@pytest.mark.parametrize('encode', [version_1, stream2])
def test_live_26_frames_of_both_streams_are_read(encode, codec, dtype):
    frame = some_frame(dtype)
    message = read_message(encode(frame, 12, codec))
    assert (message.kind, message.series, message.number) == ('frame', 7, 12)
    np.testing.assert_array_equal(message.frame, frame)


@pytest.mark.parametrize('codec', ['lz4', 'bslz4'])
@pytest.mark.parametrize('shape', [(64, 64), (33, 5), (129, 131)])
def test_live_26_blocks_of_any_length_are_read(codec, shape):
    frame = some_frame('uint16', shape)
    np.testing.assert_array_equal(read_message(stream2(frame, 0, codec, block_bytes=1024)).frame, frame)


def test_live_26_starts_and_ends_are_told():
    start = json.dumps({'htype': 'dheader-1.0', 'series': 7, 'header_detail': 'none'}).encode()
    end = json.dumps({'htype': 'dseries_end-1.0', 'series': 7}).encode()
    assert read_message([start]).kind == 'other'
    assert (read_message([end]).kind, read_message([end]).series) == ('end', 7)
    assert read_message([cbor2.dumps({'type': 'start', 'series_id': 3, 'channels': []})]).kind == 'other'
    assert read_message([cbor2.dumps({'type': 'end', 'series_id': 3})]).kind == 'end'


def changed(parts, at, **changes):
    return [json.dumps({**json.loads(p), **changes}).encode() if n == at else p for n, p in enumerate(parts)]


GOOD = version_1(some_frame('uint16'), 1)
BAD = {
    'nothing': ([], '0 parts'),
    'text': ([b'hello'], 'no CBOR'),
    'pickle': ([b'\x80\x04cos\nsystem\n(S"touch pwned"\ntR.'], 'no map'),
    'huge': (changed(GOOD, 1, shape=[1 << 30, 1 << 30]), 'at most'),
    'negative': (changed(GOOD, 1, shape=[-4, 8]), 'shape'),
    'number': (changed(GOOD, 0, frame=1.5), 'frame is 1.5'),
    'codec': (changed(GOOD, 1, encoding='zstd'), 'zstd'),
    'bits': (changed(GOOD, 1, encoding='bs32-lz4<'), 'bs32-lz4<'),
    'type': (changed(GOOD, 1, type='float32'), 'float32'),
    'large': (changed(GOOD, 1, shape=[54, 37]), 'expected'),
    'short': ([*GOOD[:2], GOOD[2][:40], GOOD[3]], 'cut short'),
    'lengths': ([*GOOD[:2], GOOD[2][:12] + b'\xff' * 200, GOOD[3]], 'cut short'),
    'block': ([*GOOD[:2], GOOD[2][:8] + b'\x00\x00\x00\x07' + GOOD[2][12:], GOOD[3]], 'in blocks of 7'),
    'parts': ([GOOD[0]] * 17, '17 parts'),
    'two': (GOOD[:2], 'of 2 parts'),
    'deep': ([b'\x81' * 100_000], 'no CBOR'),
    'list': ([cbor2.dumps([1, 2])], 'no map'),
    'tag': (
        [cbor2.dumps({'type': 'image', 'series_id': 1, 'image_id': 1, 'data': {'threshold_1': [1]}})],
        'CBOR tag',
    ),
    'memory': ([b'\xa1\x64type\x5b\x00\x00\xff\xff\xff\xff\xff\xff'], 'no CBOR'),
}


@pytest.mark.parametrize('name', BAD)
def test_live_27_what_is_no_frame_is_refused_in_little_memory(name):
    parts, words = BAD[name]
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        read_message(parts)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize('encode', [version_1, stream2])
def test_live_27_any_damage_ends_with_a_frame_or_a_refusal(encode):
    """Bytes that were changed on the way, and messages that were cut, never end the process."""
    rng = np.random.default_rng(1)
    good = encode(some_frame('uint16', (24, 24)), 5)
    for _ in range(1500):
        parts = [bytearray(part) for part in good]
        part = parts[rng.integers(len(parts))]
        for at in rng.integers(0, len(part), rng.integers(1, 4)):
            part[at] = rng.integers(256)
        if rng.random() < 0.2:
            del part[rng.integers(len(part)) :]
        try:
            read_message([bytes(part) for part in parts])
        except ValueError:
            continue


class Sender:
    """Sends messages from a thread: pushes to who connects, or publishes once somebody has subscribed."""

    def __init__(self, messages, *, publish=False):
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.XPUB if publish else zmq.PUSH)
        self._socket.setsockopt(zmq.LINGER, 0)
        self.port = self._socket.bind_to_random_port('tcp://127.0.0.1')
        self._thread = threading.Thread(target=self._send, args=(messages, publish))
        self._done = threading.Event()

    def _send(self, messages, publish):
        if publish:
            self._socket.recv()
        for parts in messages:
            self._socket.send_multipart(parts)
        self._done.wait(WAIT_S)
        self._socket.close()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        self._thread.join()
        self._context.term()


class Session:
    """Takes what a source pushes."""

    def __init__(self):
        self.frames, self.place_of, self.counts = {}, {}, type('Counts', (), {'lost': 0})()

    def push(self, frames, indices):
        self.frames.update(zip(map(int, indices), frames, strict=True))

    def place(self, indices, positions):
        self.place_of.update(zip(map(int, indices), positions.tolist(), strict=True))


def samples(field_values, first=None):
    """Return what the writer of a PandABox sends of some samples."""
    more = {} if first is None else {'starting_sample_number': first}
    datasets = {
        name: {'dtype': 'float64', 'size': len(values), 'data': list(values), **more}
        for name, values in field_values.items()
    }
    return [json.dumps({'msg_type': 'data', 'frame_number': 0, 'datasets': datasets}).encode()]


def followed(source, until):
    session, end = Session(), time.monotonic() + WAIT_S
    while not until(session) and time.monotonic() < end:
        source.feed(session)
        time.sleep(0.005)
    return session


class Nowhere:
    """No positions."""

    def new(self):
        return np.empty((0, 2))

    def close(self):
        pass


def address(port, query='', scheme='zmq'):
    names = ('center', 'x', 'y', 'per_frame')
    return ZmqAddress.parse(f'{scheme}://127.0.0.1:{port}{query}', names)


def test_live_25_frames_are_cut_about_the_centre_and_bad_ones_counted(caplog):
    whole = some_frame('uint32', (90, 70))
    messages = [
        version_1(whole, 0),
        [b'hello'],
        stream2(whole + 2, 2),
        version_1(whole + 3, 3, series=8),
        version_1(whole[:20], 4),
        version_1(whole + 5, 5, 'lz4'),
        [json.dumps({'htype': 'dseries_end-1.0', 'series': 8}).encode()],
        version_1(whole + 6, 6, ''),
        [json.dumps({'htype': 'dseries_end-1.0', 'series': 7}).encode()],
    ]
    with Sender(messages) as sender, caplog.at_level(logging.WARNING, 'ptychopinn.live'):
        source = ZmqSource(address(sender.port, '?center=50,31'), 32, Nowhere(), None)
        session = followed(source, lambda s: source._over)
        source.close()
    assert sorted(session.frames) == [0, 2, 5, 6]
    for number, frame in session.frames.items():
        np.testing.assert_array_equal(frame, whole[34:66, 15:47] + number)
    assert session.counts.lost == 3
    assert 'series 8, while series 7' in caplog.text
    assert 'center=ROW,COLUMN' in caplog.text


@pytest.mark.parametrize('publish', [True, False])
def test_live_25_a_publisher_is_subscribed_to(publish):
    frame = some_frame('uint16', (32, 32))
    with Sender([stream2(frame, n) for n in range(5)], publish=publish) as sender:
        source = ZmqSource(address(sender.port, scheme='zmq+sub' if publish else 'zmq'), 32, Nowhere(), 5)
        session = followed(source, lambda s: len(s.frames) == 5)
        source.close()
    assert sorted(session.frames) == [0, 1, 2, 3, 4]


def test_live_28_samples_are_averaged_and_lost_ones_leave_frames_without_position():
    x = np.arange(24.0)
    messages = [
        [json.dumps({'msg_type': 'start', 'arm_time': '2025-02-28T18:44:22Z'}).encode()],
        samples({'/X': x[:9], '/Y': -x[:9]}, 0),
        [b'{"msg_type": "data", "datasets": {"/X": {"data": [1]}}}'],
        samples({'/X': x[9:12], '/Y': -x[9:12]}, 9),
        samples({'/X': [1e9], '/Y': [0]}, 1 << 26),
        samples({'/X': [7], '/Y': [7]}, 2),
        samples({'/X': x[17:], '/Y': -x[17:]}, 17),
    ]
    with Sender(messages, publish=True) as sender:
        followed_ = PandaPositions(address(sender.port, '?x=/X&y=/Y&per_frame=4'), (2.0, 3.0))
        rows, end = np.empty((0, 2)), time.monotonic() + WAIT_S
        while len(rows) < 6 and time.monotonic() < end:
            rows = np.concatenate([rows, followed_.new()])
        followed_.close()
    means = x.reshape(6, 4).mean(axis=1)
    expected = np.stack([-2 * means, 3 * means], axis=1)
    expected[[3, 4]] = np.nan
    np.testing.assert_allclose(rows, expected)


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('zmq://127.0.0.1', 'is no address'),
        ('zmq://127.0.0.1:99999', 'is no address'),
        ('zmq://127.0.0.1:5555/a', 'is no address'),
        ('zmq://127.0.0.1:5555?centre=3,4', "says 'centre'"),
    ],
)
def test_live_25_what_is_no_address_is_refused(text, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        ZmqAddress.parse(text, ('center',))


def test_live_25_other_sources_are_no_addresses():
    assert ZmqAddress.parse('run.h5::frames', ()) is None
    assert ZmqAddress.parse(None, ()) is None


def test_live_25_wrong_values_and_missing_packages_are_refused(monkeypatch):
    with pytest.raises(ConfigError, match='2 whole numbers'):
        ZmqSource(address(5555, '?center=3'), 32, Nowhere(), None)
    with pytest.raises(ConfigError, match='at least 1'):
        PandaPositions(address(5555, '?x=a&y=b&per_frame=0'), (1, 1))
    with pytest.raises(ConfigError, match='needs x=FIELD'):
        PandaPositions(address(5555, '?x=a'), (1, 1))
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None if name == 'zmq' else True)
    with pytest.raises(ConfigError, match='pip install pyzmq'):
        address(5555)


def documented(port, stage):
    """Return the words of the command in docs/live.md, with other ports."""
    (code,) = [
        text for text in re.findall(r'```console\n(.*?)```', DOCS.read_text(), re.S) if 'zmq://' in text
    ]
    text = code.replace('\\\n', ' ').replace('detector:31001', f'127.0.0.1:{port}')
    return shlex.split(text.replace('panda:5555', f'127.0.0.1:{stage}'))[1:]


def test_live_25_and_28_a_scan_over_zmq_ends_with_what_reconstruct_writes(tmp_path, monkeypatch):
    """The command of the page: Stream2 of a large detector, ten samples of the stage to a frame."""
    monkeypatch.chdir(tmp_path)
    raw = small_scan(points=8, size=32, step=4.0)
    raw.to_file(tmp_path / 'run.npz')
    quick = ['--model', 'none', '--calibrate', 'off', '--quiet']
    assert main(['reconstruct', 'run.npz', '--output', 'batch', *quick]) == 0
    np.save('probe.npy', raw.probeGuess[0])
    counts = np.rint(np.square(raw.diffraction[:], dtype=np.float64)).astype(np.uint32)
    large = np.full((len(raw), 100, 120), 3, np.uint32)
    large[:, 34:66, 45:77] = counts
    start = cbor2.dumps({'type': 'start', 'series_id': 4, 'channels': ['threshold_1']})
    end = cbor2.dumps({'type': 'end', 'series_id': 4})
    frames = [[start], *(stream2(frame, n, series=4) for n, frame in enumerate(large)), [end]]
    # The unit of the page is µm, of pixels of 10 nm.
    x, y = (np.repeat(at, 10) * 1e-2 for at in (raw.xcoords, raw.ycoords))
    names = '/INENC2.VAL.Value', '/INENC3.VAL.Value'
    stage = [
        samples(dict(zip(names, (x[at : at + 70], y[at : at + 70]), strict=True)), at)
        for at in range(0, len(x), 70)
    ]
    with Sender(frames) as detector, Sender(stage, publish=True) as panda:
        words = documented(detector.port, panda.port)
        words = [word.replace('center=512,530', 'center=50,61') for word in words]
        assert main([*words, '--idle', '30', *quick]) == 0
    found, expected = (read_product(tmp_path / name / 'product.h5') for name in ('live', 'batch'))
    (x, y), (other_x, other_y) = found.positions_px(), expected.positions_px()
    assert len(x) == len(other_x) == 64
    # On the bounding box of its frames, whole pixels of the other's grid.
    height, width = found.object_array.shape[1:]
    top, left = round(float(other_y[0] - y[0])), round(float(other_x[0] - x[0]))
    there = expected.object_array[0, top : top + height, left : left + width]
    assert score(there, found.object_array[0], scan_box(x, y, (height, width))).nrmse < 0.02


def test_live_14_a_sender_that_is_not_there_ends_after_the_idle_time(tmp_path, capsys):
    np.save(tmp_path / 'probe.npy', np.ones((16, 16), np.complex64))
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
    words = ['live', f'zmq://127.0.0.1:{port}', '--positions', f'zmq://127.0.0.1:{port}?x=a&y=b']
    words += ['--probe', str(tmp_path / 'probe.npy'), '--object-pixel-size-m', '1e-8', '--idle', '0.3']
    assert main([*words, '--model', 'none', '--output', str(tmp_path / 'out'), '--quiet']) == 2
    assert 'no frame with a position has come' in ' '.join(capsys.readouterr().err.split())
