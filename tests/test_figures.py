"""What the pictures of a result show."""

import numpy as np
import pytest

from ptycho_engine.figures import comparison_figure
from ptycho_engine.simulate import make_object

BOX = slice(8, 56), slice(8, 56)
HISTORY = [{'epoch': 1, 'training_loss': 0.5}, {'epoch': 2, 'training_loss': 0.2}]


@pytest.mark.parametrize(('history', 'known'), [(HISTORY, True), ([], False)])
def test_losses_are_drawn_or_said_to_be_unknown(history, known):
    truth = make_object('dead-leaves', (64, 64), np.random.default_rng(0), absorption=0.4, phase=0.6)
    figure = comparison_figure(truth, truth, BOX, history, 'a scan')
    (axis,) = (axis for axis in figure.axes if axis.get_title() == 'loss')
    assert bool(axis.lines) == known
    assert [text.get_text() for text in axis.texts] == ([] if known else ['not in this file'])


@pytest.mark.parametrize(('last', 'scale'), [(0.4, 'linear'), (0.004, 'log')])
def test_losses_have_a_readable_axis(last, scale):
    truth = make_object('dead-leaves', (64, 64), np.random.default_rng(0), absorption=0.4, phase=0.6)
    history = [*HISTORY, {'epoch': 3, 'training_loss': last}]
    figure = comparison_figure(truth, truth, BOX, history, 'a scan')
    (axis,) = (axis for axis in figure.axes if axis.get_title() == 'loss')
    assert axis.get_yscale() == scale
