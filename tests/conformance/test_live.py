"""Images of a running reconstruction, between the run's thread and the window's (API-81)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from ptychopinn_ptychodus.live import SHARE, LiveImage, LiveImages, live_image
from ptychopinn_ptychodus.pictures import map_picture, object_pictures


@dataclass
class Window:
    """A window whose clock and ticks are a test's."""

    drawing_s: float = 0.02
    now: float = 0.0
    queue: list[Callable[[], None]] = field(default_factory=list)
    shown: list[int] = field(default_factory=list)
    prepared: list[int] = field(default_factory=list)
    broken: bool = False

    def images(self) -> LiveImages[int]:
        return LiveImages(self.prepare, self.draw, self.queue.append, clock=lambda: self.now)

    def prepare(self, image: LiveImage) -> int:
        self.prepared.append(number_of(image))
        return number_of(image)

    def draw(self, number: int) -> None:
        self.now += self.drawing_s
        if self.broken:
            raise RuntimeError
        self.shown.append(number)

    def tick(self) -> None:
        while self.queue:
            self.queue.pop(0)()


def image(number: int) -> LiveImage:
    return LiveImage(np.full((2, 2), number, np.complex64), 1, ())


def number_of(image: LiveImage) -> int:
    return int(image.array[0, 0].real)


def test_one_image_at_most_waits_for_the_window() -> None:
    """API-81: however many come, one task is in the window's queue, and only its image has been prepared."""
    window = Window()
    images = window.images()
    for number in range(100):
        images.offer(image(number))
        window.now += 0.01
    assert len(window.queue) == 1
    assert window.prepared == [0]


@pytest.mark.parametrize('drawing_s', [0.001, 0.05, 2.0])
def test_images_faster_than_drawing_lead_to_few_drawings_and_the_newest_is_the_last(drawing_s: float) -> None:
    """API-81: drawing takes its share of the window's time, and the newest is shown in the end."""
    window = Window(drawing_s)
    images = window.images()
    began = window.now
    for number in range(400):
        images.offer(image(number))
        window.tick()
        window.now += 0.01
    seconds = window.now - began
    spent = len(window.shown) * drawing_s
    assert window.shown == sorted(window.shown)
    # One is drawn before its cost is known.
    assert spent <= SHARE * seconds + drawing_s
    # The run goes on without another image, and looks at times.
    window.now += 10 * drawing_s / SHARE
    images.look()
    window.tick()
    assert window.shown[-1] == 399


def test_nothing_is_drawn_after_the_end_of_a_run() -> None:
    """API-81: neither what waits nor what comes."""
    window = Window()
    images = window.images()
    images.offer(image(1))
    images.close()
    window.tick()
    images.offer(image(2))
    window.tick()
    assert window.shown == []
    assert window.queue == []


def test_a_failure_to_draw_does_not_end_drawing() -> None:
    window = Window()
    images = window.images()
    window.broken = True
    images.offer(image(1))
    with pytest.raises(RuntimeError):
        window.tick()
    window.broken = False
    window.now += 60
    images.offer(image(2))
    window.tick()
    assert window.shown == [2]


@pytest.mark.parametrize(
    ('shape', 'every'), [((64, 64), 1), ((768, 10), 1), ((769, 10), 2), ((1500, 1530), 2), ((64, 34869), 46)]
)
def test_large_objects_are_thinned_out(shape: tuple[int, int], every: int) -> None:
    """API-81: at most 768 pixels on a side, each of them a pixel of the object."""
    obj = np.arange(shape[0] * shape[1], dtype=np.float32).reshape(shape).astype(np.complex64)
    found = live_image(obj)
    assert found.every == every
    assert max(found.array.shape) <= 768
    np.testing.assert_array_equal(found.array, obj[::every, ::every])
    assert not np.shares_memory(found.array, obj)
    assert [max(picture.levels.shape) <= 512 for picture in found.pictures] == [True, True]


def test_pictures_say_what_their_colours_stand_for() -> None:
    """API-82."""
    ramp = np.linspace(-0.5, 0.5, 64 * 64).reshape(64, 64)
    obj = (2 * np.exp(1j * ramp)).astype(np.complex64)
    amplitude, phase = object_pictures(obj)
    assert amplitude.title.startswith('Amplitude, 2 to 2')
    assert phase.title == 'Phase, -0.49 to 0.49 rad'
    assert phase.levels.shape == (64, 64)
    # From the darkest to the brightest.
    assert (phase.levels[0, 0], phase.levels[-1, -1]) == (0, 255)


def test_what_is_not_known_is_dark_in_a_map() -> None:
    values = np.full((8, 8), np.nan, np.float32)
    assert map_picture(values, 'Uncertainty', 'cividis').title == 'Uncertainty'
    values[4:] = np.linspace(0.1, 0.2, 32).reshape(4, 8)
    found = functools.partial(map_picture, values, 'Uncertainty', 'gray')()
    assert not found.levels[:4].any()
    assert found.levels[4:].any()
