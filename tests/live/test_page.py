"""The page of a live session, and what it shows (clauses LIVE-15 and LIVE-16 of specs/live.md)."""

import base64
import http.client
import importlib.util
import json
import re
import socket
import time

import numpy as np
import pytest

from ptycho_engine.errors import ConfigError
from ptycho_engine.live.page import FILES, LivePage
from ptycho_engine.live.quality import UnseenCurve, UnseenPoint
from ptycho_engine.live.view import curve_view, image_views


class Viewer:
    """A browser as far as the page asks for one."""

    def __init__(self, port, path='/events', **headers):
        self._connection = http.client.HTTPConnection('127.0.0.1', port, timeout=10)
        self._connection.request('GET', path, headers=headers)
        self.answer = self._connection.getresponse()

    def event(self):
        """Return the next event; None at the end of the stream."""
        while line := self.answer.readline():
            if line.startswith(b'data: '):
                return json.loads(line[6:])
        return None

    def close(self):
        self._connection.close()


def decoded(image):
    """Return the bytes (h, w) of an image."""
    pixels = np.frombuffer(base64.b64decode(image['pixels'], validate=True), np.uint8)
    return pixels.reshape(image['height'], image['width'])


def until(condition):
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    assert condition()


def test_live_15_events_reach_all_who_look_and_those_who_come_later():
    with LivePage(0) as page:
        assert not page.watched
        early = Viewer(page.port)
        until(lambda: page.watched)
        page.show({'used': 1})
        assert early.event() == {'used': 1}
        late = Viewer(page.port)
        assert late.event() == {'used': 1}
        page.show({'used': 2})
        assert early.event() == late.event() == {'used': 2}
        assert early.answer.getheader('content-type').startswith('text/event-stream')
        early.close()
        late.close()
        page.show({'used': 3})
        until(lambda: not page.watched)


def test_live_15_the_last_event_arrives_and_the_end_is_at_once():
    """Though a viewer holds the stream open; the port is free again."""
    with LivePage(0) as page:
        viewer = Viewer(page.port)
        until(lambda: page.watched)
        page.show({'phase': 'ended'})
        end = time.monotonic()
    assert time.monotonic() - end < 0.9
    assert viewer.event() == {'phase': 'ended'}
    assert viewer.event() is None
    LivePage(page.port)._socket.close()


def test_live_15_the_page_needs_nothing_from_elsewhere():
    with LivePage(0) as page:
        texts = {}
        for path, (_, kind) in FILES.items():
            answer = Viewer(page.port, path).answer
            texts[path] = answer.read().decode()
            assert answer.status == 200
            assert answer.getheader('content-type').startswith(kind)
            assert "default-src 'none'" in answer.getheader('content-security-policy')
        assert Viewer(page.port, '/else').answer.status == 404
        assert Viewer(page.port, '/../page.py').answer.status == 404
    assert re.findall('(?:src|href)="([^"]*)"', texts['/']) == ['data:,', 'page.css', 'page.js']
    # The name space of SVG is no address that is asked.
    assert re.findall(r'https?://[^\'" ]*', ' '.join(texts.values())) == ['http://www.w3.org/2000/svg']


@pytest.mark.parametrize(
    ('headers', 'status'),
    [
        ({'Host': 'localhost:{}'}, 200),
        ({'Host': '127.0.0.1:{}', 'Origin': 'http://127.0.0.1:{}'}, 200),
        ({'Host': 'evil.example:{}'}, 400),
        ({'Host': 'evil.example:{}', 'Origin': 'http://evil.example:{}'}, 400),
        ({'Origin': 'https://evil.example'}, 403),
        ({'Origin': 'http://127.0.0.1:1'}, 403),
        ({'Origin': 'null'}, 403),
    ],
)
@pytest.mark.parametrize('path', ['/events', '/'])
def test_live_15_no_other_page_can_read_it(path, headers, status):
    with LivePage(0) as page:
        viewer = Viewer(page.port, path, **{name: value.format(page.port) for name, value in headers.items()})
        assert viewer.answer.status == status
        assert viewer.answer.getheader('access-control-allow-origin') is None
        if status == 200:
            assert viewer.answer.getheader('cross-origin-resource-policy') == 'same-origin'
        viewer.close()


def test_live_15_it_listens_on_the_loopback_address_alone():
    with LivePage(0) as page:
        assert page._socket.getsockname()[0] == '127.0.0.1'
        assert page.url == f'http://127.0.0.1:{page.port}/'


def test_live_15_what_stands_in_its_way_is_one_sentence(monkeypatch):
    with socket.create_server(('127.0.0.1', 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f'port {port} cannot be had .another program uses it'):
            LivePage(port)
    with pytest.raises(ConfigError, match='--web is 70000; expected a port'):
        LivePage(70000)
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None if name == 'uvicorn' else real(name))
    with pytest.raises(ConfigError, match='needs uvicorn, not installed; pip install starlette uvicorn'):
        LivePage(0)


def test_live_16_images_are_bytes_with_their_range():
    rng = np.random.default_rng(0)
    amplitude = 1 + 0.2 * rng.random((40, 50))
    phase = np.linspace(-0.5, 0.5, 50)[None]
    weight = np.full((40, 50), 100.0, np.float32)
    weight[:5] = 4
    box = slice(8, 32), slice(10, 40)
    views = image_views((amplitude * np.exp(1j * (phase + 2))).astype(np.complex64), weight, box)
    for name, truth in (('amplitude', amplitude), ('phase', np.broadcast_to(phase, (40, 50)))):
        levels = decoded(views[name])
        assert (levels[:5] == 0).all()
        assert (levels[5:] > 0).all()
        low, high = views[name]['low'], views[name]['high']
        values = low + (levels[box].astype(float) - 1) / 254 * (high - low)
        truth = truth[box] - (truth[box].mean() if name == 'phase' else 0)
        assert np.median(np.abs(values - truth)) < 0.01
        assert (low, high) == pytest.approx(np.percentile(truth, [0.5, 99.5]), abs=0.01)
    assert views['illumination']['low'] == 0
    assert decoded(views['illumination']).min() == pytest.approx(1 + 254 * 0.04, abs=0.6)


def test_live_16_a_large_image_is_shown_smaller():
    obj = np.ones((1300, 700), np.complex64)
    obj[600:] *= 2
    views = image_views(obj, np.ones(obj.shape, np.float32), (slice(100, 1200), slice(100, 600)))
    levels = decoded(views['amplitude'])
    assert levels.shape == (433, 233)
    assert (levels[:200] == 1).all()
    assert (levels[200:] == 255).all()


def test_live_16_a_long_curve_is_shown_in_few_points():
    curve = UnseenCurve()
    for frames in range(8, 8 * 1001, 8):
        curve.add(UnseenPoint(frames, 1 + 100 / frames, 1.0, 8 if frames > 80 else 0, 0.0, 8 * 4096))
    view = curve_view(curve)
    assert len(view['frames']) == len(view['unseen']) == 200
    assert view['frames'][0] == pytest.approx(96, abs=8)
    np.testing.assert_allclose(view['unseen'], 1 + 100 / np.array(view['frames']), rtol=0.01)
    assert curve_view(UnseenCurve()) == {'frames': [], 'unseen': []}
