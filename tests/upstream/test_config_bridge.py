"""The older vocabularies arrive as the canonical one."""

from pathlib import Path

import pytest

from ptycho_engine import config_bridge
from ptycho_engine.config import ModelConfig
from ptycho_engine.errors import ConfigError
from ptycho_engine.upstream.torch_configs import (
    PTDataConfig,
    PTInferenceConfig,
    PTModelConfig,
    PTTrainingConfig,
)

NEEDED = {'train_data_file': 'scan.npz', 'n_groups': 64}


def training(data=None, model=None, training=None, **overrides):
    return config_bridge.to_training_config(
        ModelConfig(),
        data or PTDataConfig(),
        model or PTModelConfig(),
        training or PTTrainingConfig(),
        {**NEEDED, **overrides},
    )


def test_cfg_11_a_network_is_translated():
    model = config_bridge.to_model_config(
        PTDataConfig(N=64, grid_size=(2, 2), C=4, K=6),
        PTModelConfig(mode='Supervised', architecture='cnn', amp_activation='SiLU', C_model=4, C_forward=4),
        {'n_filters_scale': 1},
    )
    assert model == ModelConfig(
        N=64,
        gridsize=2,
        model_type='supervised',
        architecture='cnn',
        amp_activation='swish',
        n_filters_scale=1,
    )
    assert config_bridge.to_model_config(PTDataConfig(), PTModelConfig(mode='Unsupervised')) == ModelConfig()


def test_cfg_11_training_is_translated():
    run = training(
        PTDataConfig(N=64, grid_size=(2, 2), K=6, nphotons=1e5, n_subsample=99, subsample_seed=3),
        PTModelConfig(intensity_scale_trainable=True),
        PTTrainingConfig(epochs=7, nll=False, batch_size=4, learning_rate=1e-4),
        mae_weight=1.0,
        output_dir='out',
    )
    assert (run.nepochs, run.neighbor_count, run.nll_weight, run.mae_weight) == (7, 6, 0.0, 1.0)
    assert (run.n_groups, run.n_subsample, run.subsample_seed, run.nphotons) == (64, 99, 3, 1e5)
    assert run.intensity_scale_trainable
    assert (run.train_data_file, run.output_dir) == (Path('scan.npz'), Path('out'))


@pytest.mark.parametrize(('loss', 'weights'), [('poisson', (1.0, 0.0)), ('MAE', (0.0, 1.0))])
def test_cfg_11_a_loss_mode_becomes_weights(loss, weights):
    for run in (training(torch_loss_mode=loss), training(model=PTModelConfig(loss_function=loss))):
        assert (run.nll_weight, run.mae_weight) == weights


def test_inference_is_translated():
    run = config_bridge.to_inference_config(
        ModelConfig(gridsize=2),
        PTDataConfig(K=5, n_subsample=10, nphotons=1e9),
        PTInferenceConfig(batch_size=3),
        {'model_path': 'm', 'test_data_file': 's.npz', 'seed': 2},
    )
    assert (run.neighbor_count, run.n_subsample, run.batch_size, run.seed) == (5, 10, 3, 2)
    assert (run.model_path, run.test_data_file) == (Path('m'), Path('s.npz'))
    assert run.model.gridsize == 2


def test_cfg_11_n_images_still_works_with_a_warning():
    with pytest.warns(DeprecationWarning, match='use n_groups'):
        values = config_bridge.translate({'n_images': 9}, {'n_groups'}, 'TrainingConfig')
    assert values == {'n_groups': 9}


@pytest.mark.parametrize(
    ('call', 'words'),
    [
        (lambda: training(n_group=3), "'n_group'; did you mean 'n_groups'"),
        (lambda: training(torch_loss_mode='l2'), "expected 'poisson' or 'mae'"),
        (lambda: training(positions_provided=False), 'always comes with its positions'),
        (lambda: training(nphotons=-1.0), 'nphotons is -1'),
        (
            lambda: config_bridge.to_model_config(PTDataConfig(grid_size=(1, 2)), PTModelConfig()),
            'expected a square grid',
        ),
        (
            lambda: config_bridge.to_model_config(PTDataConfig(), PTModelConfig(mode='Both')),
            "expected 'Unsupervised' or 'Supervised'",
        ),
        (
            lambda: config_bridge.to_model_config(PTDataConfig(grid_size=(2, 2), C=3), PTModelConfig()),
            'C is 3; expected 4',
        ),
        (
            lambda: config_bridge.to_training_config(
                ModelConfig(), PTDataConfig(), PTModelConfig(), PTTrainingConfig(), {'n_groups': 3}
            ),
            'train_data_file is missing',
        ),
        (
            lambda: config_bridge.to_inference_config(
                ModelConfig(), PTDataConfig(), PTInferenceConfig(), {'model_path': 'm'}
            ),
            'test_data_file is missing',
        ),
    ],
)
def test_cfg_11_what_has_no_translation_is_an_error(call, words):
    with pytest.raises(ConfigError) as caught:
        call()
    assert words in str(caught.value)


@pytest.mark.parametrize('names', [{'epochs': 3, 'nepochs': 4}, {'epochs': 3, 'max_epochs': 4}])
def test_cfg_12_two_names_that_contradict_each_other_are_an_error(names):
    with pytest.raises(ConfigError, match='contradict each other about nepochs: 3 and 4'):
        training(**names)
    assert training(**dict.fromkeys(names, 3)).nepochs == 3
