"""``ptychopinn live`` (clauses LIVE-10 to LIVE-14 of specs/live.md)."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import h5py
import numpy as np
import pytest

from ptycho_engine.commands import live as live_module
from ptycho_engine.commands import main
from ptycho_engine.commands.live_display import progress_line
from ptycho_engine.formats.product import read_product
from ptycho_engine.live.quality import UnseenCurve
from ptycho_engine.live.settling import Settling
from ptycho_engine.scoring.scores import scan_box, score
from tests.conftest import small_scan

QUICK = ['--model', 'none', '--calibrate', 'off', '--quiet']


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """Return a folder with a scan and the result of `reconstruct`."""
    folder = tmp_path_factory.mktemp('live')
    small_scan(points=8, size=32, step=4.0).to_file(folder / 'run.npz')
    assert main(['simulate', '--from', str(folder / 'run.npz'), '--output', str(folder / 'IN')]) == 0
    out = folder / 'batch'
    assert main(['reconstruct', str(folder / 'IN'), '--output', str(out), *QUICK]) == 0
    return folder


WRITER = """
import pathlib
import sys
import time

import h5py
import numpy as np

folder = pathlib.Path(sys.argv[1])
whole = np.load(folder / 'all.npz')
with h5py.File(folder / 'run.h5', 'w', libver='latest') as file:
    shape = whole['frames'].shape[1:]
    data = file.create_dataset('data', (0, *shape), whole['frames'].dtype, maxshape=(None, *shape))
    stage = file.create_dataset('stage', (0, 2), 'f8', maxshape=(None, 2))
    file.swmr_mode = True
    (folder / 'open').touch()
    for rows, name in [(rows, name) for rows in range(8, 65, 8) for name in ('data', 'stage')]:
        file[name].resize(rows, axis=0)
        file[name][rows - 8 :] = whole['frames' if name == 'data' else 'place'][rows - 8 : rows]
        file[name].flush()
        # Positions come after their frames.
        time.sleep(0.05)
"""


def objects(*folders):
    return [read_product(folder / 'product.h5').object_array[0] for folder in folders]


def test_live_13_a_played_scan_ends_with_what_reconstruct_writes(whole, tmp_path):
    out = tmp_path / 'out'
    assert main(['live', '--replay', str(whole / 'IN'), '--output', str(out), *QUICK]) == 0
    found, expected = objects(out, whole / 'batch')
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    given, result = read_product(whole / 'IN' / 'product.h5'), read_product(out / 'product.h5')
    np.testing.assert_array_equal(result.position_x_m, given.position_x_m)
    assert result.object_center_x_m == given.object_center_x_m
    assert sorted(path.name for path in out.iterdir()) == [
        'product.h5',
        'reconstruction.npz',
        'reconstruction.png',
    ]


def test_live_13_the_image_so_far_is_written_on_the_way(whole, tmp_path, monkeypatch):
    seen = []
    real = live_module.write_image

    def watch(directory, shot, *rest):
        real(directory, shot, *rest)
        product = read_product(directory / 'product.h5')
        seen.append((len(product.position_x_m), product.comments, (directory / 'so_far.png').stat().st_size))

    monkeypatch.setattr(live_module, 'write_image', watch)
    words = [
        'live',
        '--replay',
        str(whole / 'IN'),
        '--rate',
        '60',
        '--every',
        '0.1',
        '--output',
        str(tmp_path / 'o'),
    ]
    assert main([*words, *QUICK]) == 0
    assert len(seen) >= 2
    counts = [count for count, _, _ in seen]
    assert counts == sorted(counts)
    assert counts[0] < 64
    assert all('Live image of' in comments and size > 10_000 for _, comments, size in seen)
    assert not (tmp_path / 'o' / 'so_far.png').exists()


def test_live_10_a_growing_file_ends_with_what_reconstruct_writes(whole, tmp_path):
    with h5py.File(whole / 'IN' / 'diffraction.h5') as file:
        frames = file['patterns'][()]
    product = read_product(whole / 'IN' / 'product.h5')
    place = np.stack(product.positions_px()[::-1], axis=1)
    probe = tmp_path / 'probe.npy'
    np.save(probe, product.probe[0])
    path = tmp_path / 'run.h5'
    np.savez(tmp_path / 'all.npz', frames=frames, place=place)
    writer = subprocess.Popen([sys.executable, '-c', WRITER, str(tmp_path)])
    end = time.monotonic() + 30
    while not (tmp_path / 'open').exists() and time.monotonic() < end:
        time.sleep(0.02)
    out = tmp_path / 'out'
    words = ['live', f'{path}::data', '--positions', f'{path}::stage', '--probe', str(probe)]
    words += ['--object-pixel-size-m', str(product.object_pixel_width_m), '--frames', '64']
    words += ['--positions-unit', 'px']
    code = main([*words, '--output', str(out), *QUICK])
    assert writer.wait(timeout=30) == 0
    assert code == 0
    found, expected = read_product(out / 'product.h5'), read_product(whole / 'batch' / 'product.h5')
    assert found.object_pixel_width_m == pytest.approx(expected.object_pixel_width_m)
    # On the bounding box of its frames, whole pixels of the other's grid.
    height, width = found.object_array.shape[1:]
    (x, y), (other_x, other_y) = found.positions_px(), expected.positions_px()
    top, left = round(float(other_y[0] - y[0])), round(float(other_x[0] - x[0]))
    there = expected.object_array[0, top : top + height, left : left + width]
    # The low-frequency phase, which patterns hardly hold, depends a little on the canvas.
    assert score(there, found.object_array[0], scan_box(x, y, (height, width))).nrmse < 0.02


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_live_14_a_signal_ends_the_scan_with_the_result_of_what_came(whole, tmp_path, number):
    out = tmp_path / 'out'
    words = [
        'live',
        '--replay',
        str(whole / 'IN'),
        # For long enough to be interrupted on a busy machine.
        '--rate',
        '6',
        '--every',
        '0.2',
        '--output',
        str(out),
        *QUICK,
    ]
    process = subprocess.Popen(
        [sys.executable, '-m', 'ptycho_engine', *words],
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    end = time.monotonic() + 60
    while not (out / 'so_far.png').is_file() and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(number)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 0, text
    count = len(read_product(out / 'product.h5').position_x_m)
    assert 8 <= count < 64
    assert f'{count} patterns' in text


def test_live_16_the_page_follows_a_scan_to_its_result(whole, tmp_path):
    """The real command: images so far, the end by Ctrl-C, the reconstruction, and no more page."""
    words = ['live', '--replay', str(whole / 'IN'), '--rate', '6', '--output', str(tmp_path / 'out'), *QUICK]
    process = subprocess.Popen(
        [sys.executable, '-m', 'ptycho_engine', *words, '--web', '0'],
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    url = process.stdout.readline().split()[-1]
    states = []
    with urllib.request.urlopen(f'{url}events', timeout=30) as stream:
        for line in stream:
            if line.startswith(b'data: '):
                states.append(json.loads(line[6:]))
                if sum('images' in state for state in states) == 2:
                    process.send_signal(signal.SIGINT)
    text, _ = process.communicate(timeout=30)
    assert process.returncode == 0, text
    phases = [state['phase'] for state in states]
    assert phases[-1] == 'ended'
    assert 'measuring' in phases
    counts = [state['used'] for state in states]
    assert counts == sorted(counts)
    assert 8 <= counts[-1] < 64
    product = read_product(tmp_path / 'out' / 'product.h5')
    assert len(product.position_x_m) == counts[-1]
    for state in states:
        for image in state.get('images', {}).values():
            levels = np.frombuffer(base64.b64decode(image['pixels'], validate=True), np.uint8)
            assert (image['height'], image['width']) == product.object_array.shape[1:]
            assert levels.size == image['height'] * image['width']
            assert 0.02 < (levels > 0).mean() < 1
    final = states[-1]['images']['amplitude']
    levels = np.frombuffer(base64.b64decode(final['pixels']), np.uint8).reshape(
        product.object_array.shape[1:]
    )
    known = (levels > 1) & (levels < 255)
    assert np.corrcoef(levels[known], np.abs(product.object_array[0])[known])[0, 1] > 0.999
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(url, timeout=5)


def test_live_15_a_port_that_is_taken_ends_it_before_it_begins(whole, tmp_path, capsys):
    with socket.create_server(('127.0.0.1', 0)) as other:
        port = str(other.getsockname()[1])
        words = ['live', '--replay', str(whole / 'IN'), '--output', str(tmp_path / 'out'), '--web', port]
        assert main([*words, *QUICK]) == 2
    assert f'port {port} cannot be had' in ' '.join(capsys.readouterr().err.split())
    assert not (tmp_path / 'out').exists()


def test_live_13_the_progress_line_says_how_it_stands():
    class Stub:
        counts = type('C', (), {'used': 120, 'frames': 130, 'left_out': 3, 'lost': 7})
        waiting, unplaced = 3, 5
        quality = Settling().quality(UnseenCurve())

    line = progress_line(Stub, 51.4, 4)
    assert line.split(', ') == [
        *('120 frames in the image', '51 frames/s', '7 wait', '5 without position', '3 left out', '7 lost'),
        'all on new area',
    ]


@pytest.mark.parametrize(
    ('words', 'expected'),
    [
        ([], 'one of them'),
        (['x.h5::d', '--replay', 'y'], 'one of them'),
        (['x.h5::d'], 'need --positions and --probe'),
        (['x.h5::d', '--rate', '3'], '--rate is that of --replay'),
        (['--replay', 'y', '--rate', '-3'], '--rate is -3.0'),
        (['x.h5::d', '--positions', 'p.csv', '--probe', 'probe.npy'], '--object-pixel-size-m'),
        (
            ['x.h5::d', '--positions', 'p.csv', '--probe', 'probe.npy', '--object-pixel-size-m', '1e-8'],
            'x.h5',
        ),
    ],
)
def test_live_14_what_is_missing_is_said_in_a_sentence(words, expected, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save('probe.npy', np.ones((8, 8), np.complex64))
    assert main(['live', *words, '--output', 'out', '--quiet']) == 2
    assert expected in ' '.join(capsys.readouterr().err.split())
    assert not (tmp_path / 'out').exists()
