"""What the pictures of a result show."""

import numpy as np
import pytest

from ptycho_engine.reconstruction.picture import comparison_figure
from ptycho_engine.simulate import make_object

BOX = slice(8, 56), slice(8, 56)
HISTORY = [{'epoch': 1, 'training_loss': 0.5}, {'epoch': 2, 'training_loss': 0.2}]


@pytest.mark.parametrize(('history', 'title'), [(HISTORY, 'loss'), ([], 'error')])
def test_without_losses_the_error_is_drawn(history, title):
    truth = make_object('dead-leaves', (64, 64), np.random.default_rng(0), absorption=0.4, phase=0.6)
    wrong = truth.copy()
    wrong[30:34, 30:34] *= np.exp(0.5j)
    figure = comparison_figure(truth, wrong, BOX, history, 'a scan')
    (axis,) = (axis for axis in figure.axes if axis.get_title() in ('loss', 'error'))
    assert axis.get_title() == title
    if not history:
        (image,) = axis.images
        row, column = np.unravel_index(np.argmax(image.get_array()), image.get_array().shape)
        assert 22 <= row < 26
        assert 22 <= column < 26


@pytest.mark.parametrize(('last', 'scale'), [(0.4, 'linear'), (0.004, 'log')])
def test_losses_have_a_readable_axis(last, scale):
    truth = make_object('dead-leaves', (64, 64), np.random.default_rng(0), absorption=0.4, phase=0.6)
    history = [*HISTORY, {'epoch': 3, 'training_loss': last}]
    figure = comparison_figure(truth, truth, BOX, history, 'a scan')
    (axis,) = (axis for axis in figure.axes if axis.get_title() == 'loss')
    assert axis.get_yscale() == scale
