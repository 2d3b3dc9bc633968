"""The objects and the noise that the learned prior is trained on."""

import numpy as np
import pytest

from ptycho_engine.simulate import noisy_images
from ptycho_engine.simulate.noisy_images import NoisyImages, draw_object
from ptycho_engine.simulate.structures import STRUCTURES, draw_structure


@pytest.mark.parametrize('kind', STRUCTURES)
def test_a_structure_keeps_to_its_ranges_and_follows_its_seed(kind):
    for seed in range(4):
        shape = 72, 56
        thickness, angle = STRUCTURES[kind](shape, np.random.default_rng(seed))
        assert thickness.shape == angle.shape == shape
        assert thickness.min() >= 0
        assert thickness.max() <= 1
        assert np.abs(angle).max() <= 1
        first, again = (
            draw_structure(kind, shape, np.random.default_rng(seed), absorption=0.5, phase=0.8)
            for _ in range(2)
        )
        np.testing.assert_array_equal(first, again)
        assert np.abs(first).min() >= np.exp(-0.5) * np.cos(0.8)


@pytest.mark.parametrize('kind', STRUCTURES)
def test_most_structures_show_something(kind):
    seen = [
        draw_structure(kind, (96, 96), np.random.default_rng(seed), absorption=0.5, phase=0.8).std()
        for seed in range(6)
    ]
    assert np.median(seen) > 0.05


def test_objects_are_of_all_contrasts():
    objects = [draw_object(np.random.default_rng(seed), 64) for seed in range(40)]
    spread = np.array([obj.std() for obj in objects])
    assert spread.min() < 0.05
    assert spread.max() > 0.5
    assert any(np.abs(np.abs(obj) - np.abs(obj).mean()).max() < 0.05 for obj in objects)


@pytest.fixture
def few_objects(monkeypatch):
    monkeypatch.setattr(noisy_images, 'KEPT_OBJECTS', 6)
    monkeypatch.setattr(noisy_images, 'OBJECT_SIDE', 128)


def test_a_batch_does_not_depend_on_those_before_it(few_objects):
    long_run = NoisyImages(3)
    for number in range(10):
        last = long_run.batch(number)
    fresh = NoisyImages(3).batch(9)
    for name in ('clean', 'noisy', 'deviation'):
        np.testing.assert_array_equal(getattr(last, name), getattr(fresh, name))
    assert not np.array_equal(last.clean, NoisyImages(4).batch(9).clean)


def test_the_noise_has_the_deviation_that_is_stated(few_objects):
    images = NoisyImages(0)
    ratios = []
    for number in range(0, 24, 2):
        batch = images.batch(number)
        assert (batch.deviation > 0).all()
        ratios += [*np.mean(np.abs((batch.noisy - batch.clean) / batch.deviation) ** 2, axis=(1, 2))]
    # 64² pixels: 1.6 % for white noise, and more where some of it is correlated.
    assert np.mean(ratios) == pytest.approx(1, abs=0.05)
