"""Frames from EPICS PVA on loopback, through PvaPy's own consumer (LIVE-20 to LIVE-24 of specs/live.md)."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ptycho_engine.formats.product import read_product
from tests.conftest import small_scan

if 'CI' in os.environ:
    import pvaccess
else:
    pvaccess = pytest.importorskip('pvaccess')

from pvapy.utility.adImageUtility import AdImageUtility

from ptycho_engine.errors import ConfigError
from ptychopinn_ptychodus.live_pva import FrameQueue, Options

CONSUMER = Path(sys.executable).with_name('pvapy-hpc-consumer')
PROCESSOR = 'ptychopinn_ptychodus.live_pva.LiveProcessor'
POSITION = {'uniqueId': pvaccess.UINT, 'x': pvaccess.DOUBLE, 'y': pvaccess.DOUBLE}
SAMPLES = {
    'values': [pvaccess.DOUBLE],
    't': [{'secondsPastEpoch': pvaccess.LONG, 'nanoseconds': pvaccess.INT}],
}


def free_port(kind):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(('127.0.0.1', 0))
        return str(probe.getsockname()[1])


@pytest.fixture(scope='module')
def network():
    """Yield a server of this process; channels are found on loopback alone."""
    names = {
        'EPICS_PVA_ADDR_LIST': '127.0.0.1',
        'EPICS_PVA_AUTO_ADDR_LIST': 'NO',
        'EPICS_PVAS_INTF_ADDR_LIST': '127.0.0.1',
        'EPICS_PVA_BROADCAST_PORT': free_port(socket.SOCK_DGRAM),
    }
    with pytest.MonkeyPatch.context() as patched:
        for name, value in names.items():
            patched.setenv(name, value)
        server = pvaccess.PvaServer()
        server.start()
        yield server
        server.stop()


@pytest.fixture(scope='module')
def raw():
    return small_scan(points=8, size=32, step=4.0)


def frame(raw, number, codec=None):
    counts = np.square(raw.diffraction[number]).round().astype(np.uint16)
    if codec is None:
        return AdImageUtility.generateNtNdArray2D(number, counts)
    if codec == 'lz4':
        import lz4.block

        data = lz4.block.compress(counts.tobytes(), store_size=False)
    elif codec == 'blosc':
        import blosc

        data = blosc.compress(counts.tobytes(), typesize=2)
    else:
        import bitshuffle

        data = bitshuffle.compress_lz4(counts).tobytes()
    packed = np.frombuffer(data, np.uint8)
    return AdImageUtility.generateNtNdArray2D(number, packed, 32, 32, np.uint16, codec)


class Consumer:
    """The consumer in a process of its own."""

    def __init__(self, folder, name, channels, **said):
        self.prefix = f'{name}:live'
        np.save(folder / 'probe.npy', said.pop('modes'))
        options = {'probe': str(folder / 'probe.npy'), 'prefix': self.prefix, 'model': 'none', 'every_s': 0.2}
        words = [str(CONSUMER), '--input-channel', f'{name}:image']
        words += ['--processor-class', PROCESSOR, '--processor-args', json.dumps({**options, **said})]
        words += ['--metadata-channels', ','.join(f'pva://{c}' for c in channels), '--disable-curses']
        words += ['--skip-initial-updates', '0', '--server-queue-size', '200', '--report-period', '0']
        words += ['--control-channel', f'{name}:control', '--status-channel', f'{name}:status']
        self.log = (folder / f'{name}.log').open('w+')
        root = str(Path(__file__).parents[2])
        self.process = subprocess.Popen(
            words,
            env={**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': root},
            stdin=subprocess.PIPE,
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )

    def get(self, record):
        return pvaccess.Channel(f'{self.prefix}:{record}').get('')

    def wait(self, condition, seconds=60):
        """Return the quality once a condition of it holds."""
        end, found = time.monotonic() + seconds, None
        while time.monotonic() < end and self.process.poll() is None:
            try:
                found = self.get('quality').toDict()
                if condition(found):
                    return found
            except pvaccess.PvaException:
                pass
            time.sleep(0.1)
        self.log.seek(0)
        raise AssertionError(f'{found}\n{self.log.read()}')

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(timeout=60)
        finally:
            self.process.kill()
            self.process.wait()
            self.log.close()


def place(raw, number):
    values = {'uniqueId': number, 'x': float(raw.xcoords[number]), 'y': float(raw.ycoords[number])}
    return pvaccess.PvObject(POSITION, values)


def test_live_20_frames_and_late_positions_make_an_image(network, raw, tmp_path):
    """In every codec, out of order, one frame twice, one lost, positions two seconds late, and one never."""
    network.addRecord('a:image', frame(raw, 63))
    network.addRecord('a:pos', place(raw, 63))
    consumer = Consumer(
        tmp_path, 'a', ['a:pos'], modes=raw.probeGuess, positions_pv='a:pos', output=str(tmp_path / 'out')
    )
    try:
        consumer.wait(lambda q: q['frames'] == 1)
        order = np.random.default_rng(0).permutation(62)
        for number in order:
            network.update('a:image', frame(raw, int(number), (None, 'lz4', 'blosc', 'bslz4')[number % 4]))
            time.sleep(0.01)
        network.update('a:image', frame(raw, 7))
        found = consumer.wait(lambda q: q['frames'] + q['leftOut'] == 64)
        assert (found['frames'], found['used'], found['leftOut']) == (63, 1, 1)
        time.sleep(2)
        for number in order[:-1]:
            network.update('a:pos', place(raw, int(number)))
            time.sleep(0.01)
        found = consumer.wait(lambda q: q['used'] == 62)
        assert (found['unplaced'], found['dropped']) == (1, 0)
        assert 'noise' in found['message']
        image = AdImageUtility.reshapeNtNdArray(consumer.get('amplitude'))[1]
        phase = AdImageUtility.reshapeNtNdArray(consumer.get('phase'))[1]
        assert image.shape == phase.shape
        assert min(image.shape) > 32
        assert image.std() > 0.01
    finally:
        consumer.stop()
    product = read_product(tmp_path / 'out' / 'product.h5')
    assert len(product.position_x_m) == 62
    inner = product.object_array[0][16:-16, 16:-16]
    assert np.ptp(np.angle(inner)) > 0.3


def test_live_21_positions_are_found_by_time(network, raw, tmp_path):
    network.addRecord('b:image', frame(raw, 0))
    names = {'x': 'b:x', 'y': 'b:y'}
    for axis, name in names.items():
        network.addRecord(
            name, pvaccess.PvObject(SAMPLES, {'values': [getattr(raw, f'{axis}coords')[0]], 't': []})
        )
    consumer = Consumer(tmp_path, 'b', names.values(), modes=raw.probeGuess, pos_x_pv='b:x', pos_y_pv='b:y')
    try:
        consumer.wait(lambda q: q['frames'] == 1)
        times = []
        for number in range(1, 41):
            one = frame(raw, number)
            times.append(one['timeStamp']['secondsPastEpoch'] + 1e-9 * one['timeStamp']['nanoseconds'])
            network.update('b:image', one)
            time.sleep(0.01)
        stamps = [{'secondsPastEpoch': int(t), 'nanoseconds': round(1e9 * (t % 1))} for t in times]
        for axis, name in names.items():
            values = getattr(raw, f'{axis}coords')[1:41].tolist()
            network.update(name, pvaccess.PvObject(SAMPLES, {'values': values, 't': stamps}))
        found = consumer.wait(lambda q: q['used'] >= 38)
        assert found['used'] + found['unplaced'] == 41
        assert found['unseen'] < 10
    finally:
        consumer.stop()


def test_live_22_the_queue_drops_as_it_is_told():
    frames = [(n, 0.0, np.zeros((2, 2))) for n in range(5)]
    for drop, kept in (('newest', [0, 1, 2]), ('oldest', [2, 3, 4])):
        queue = FrameQueue(3, drop)
        for one in frames:
            queue.put(one)
        assert queue.dropped == 2
        assert [n for n, *_ in queue.take(2)] == kept[:2]
        assert [n for n, *_ in queue.take(9)] == kept[2:]


@pytest.mark.parametrize(
    ('said', 'words'),
    [
        ({}, "'probe' is missing"),
        ({'probe': 'p', 'speed': 1}, "no option 'speed'"),
        ({'probe': 'p', 'positions_pv': 'a', 'drop': 'all'}, 'newest or oldest'),
        ({'probe': 'p'}, 'positions_pv, or pos_x_pv and pos_y_pv'),
        ({'probe': 'p', 'positions_pv': 'a', 'pos_x_pv': 'x', 'pos_y_pv': 'y'}, 'positions_pv, or'),
    ],
)
def test_live_23_options_that_cannot_be_are_refused(said, words):
    with pytest.raises(ConfigError, match=words):
        Options.of(said)


def test_live_24_a_consumer_that_is_killed_begins_again(network, raw, tmp_path):
    network.addRecord('c:image', frame(raw, 0))
    network.addRecord('c:pos', place(raw, 0))
    for first in (1, 20):
        consumer = Consumer(tmp_path, 'c', ['c:pos'], modes=raw.probeGuess, positions_pv='c:pos')
        try:
            consumer.wait(lambda q: q['frames'] == 1)
            for number in range(first, first + 16):
                network.update('c:image', frame(raw, number))
                network.update('c:pos', place(raw, number))
                time.sleep(0.01)
            consumer.wait(lambda q: q['used'] == 17)
        finally:
            consumer.process.kill()
            consumer.stop()
