"""The networks as data."""

import math

import numpy as np
import pytest
from scipy.special import expit

from ptycho_engine.config import ModelConfig, TrainingConfig
from ptycho_engine.config.model import AMPLITUDE_ACTIVATIONS
from ptycho_engine.network.cnn import amplitude_offset
from ptycho_engine.network.plan import (
    INTENSITY_SCALE,
    PROBE_CORRECTION,
    build_plan,
    training_plan,
)

HEADS = {
    'sigmoid': expit,
    'softplus': lambda x: np.log1p(np.exp(x)),
    'relu': lambda x: max(x, 0.0),
    'swish': lambda x: x * expit(x),
}


def test_net_06_the_cnn_has_as_many_weights_as_the_public_one():
    """The public TensorFlow network at N = 64, one channel, scale 2 has 2 331 772 with its scale."""
    assert build_plan(ModelConfig(N=64, architecture='cnn')).n_weights == 2_331_772


@pytest.mark.parametrize('N', [32, 40, 64, 72, 96, 128, 136, 256])
@pytest.mark.parametrize('pad_object', [True, False])
def test_net_06_every_size_decodes_to_the_size_of_the_pattern(N, pad_object):
    model = ModelConfig(N=N, gridsize=2, n_filters_scale=1, architecture='cnn', pad_object=pad_object)
    ((_, layers),) = build_plan(model).parts
    side, width = {'input': N}, {'input': 4}
    for layer in layers:
        sides = {side[name] for name in layer.inputs}
        assert len(sides) == 1, layer.name
        assert sum(width[name] for name in layer.inputs) == layer.in_channels or layer.op == 'add'
        factor = {'mean_pool': 0.5, 'upsample': 2, 'pad_to_double': 2}.get(layer.op, 1)
        after = sides.pop() * factor
        assert after == int(after), layer.name
        side[layer.name] = int(after)
        width[layer.name] = layer.out_channels
    assert side['logits'] == N
    assert width['logits'] == 8


@pytest.mark.parametrize('activation', AMPLITUDE_ACTIVATIONS)
@pytest.mark.parametrize('scale', [2.0, 4.0, 10.0])
def test_net_07_every_head_gives_one_for_zero(activation, scale):
    model = ModelConfig(N=64, architecture='cnn', amp_activation=activation, probe_scale=scale)
    offset = amplitude_offset(model)
    assert math.isclose(scale * HEADS[activation](offset), 1.0, rel_tol=1e-12)


def test_only_what_is_trainable_has_weights():
    model = ModelConfig(N=64, n_filters_scale=1, architecture='cnn')
    plain = training_plan(TrainingConfig(model=model), probe_modes=3).weight_shapes()
    both = training_plan(
        TrainingConfig(model=model, probe_trainable=True, intensity_scale_trainable=True), probe_modes=3
    ).weight_shapes()
    assert both.pop(PROBE_CORRECTION) == (3, 64, 64, 2)
    assert both.pop(INTENSITY_SCALE) == (1,)
    assert both == plain
