"""Configurations in files come back as they were; what is wrong in a file is named."""

import dataclasses

import pytest

from ptycho_engine.config import InferenceConfig, ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho_engine.config.describe import describe, parse_text
from ptycho_engine.config.files import load_config, read_sections, save_config, write_sections
from ptycho_engine.errors import ConfigError, DataFileNotFoundError

CHANGED = (
    ModelConfig(N=64, gridsize=2, probe_mask=True, probe_mask_diameter=20.5),
    TrainingConfig(
        model=ModelConfig(architecture='cnn', amp_activation='swish'),
        n_groups=None,
        learning_rate=1e-5,
        gradient_clip_val=None,
        n_subsample=40,
        subsample_seed=0,
        probe_trainable=True,
    ),
    InferenceConfig(batch_size=3),
    PyTorchExecutionConfig(deterministic=False, learning_rate=2e-3, logger_backend='none'),
)


@pytest.mark.parametrize('suffix', ['json', 'yaml', 'yml', 'toml'])
@pytest.mark.parametrize('config', CHANGED, ids=lambda c: type(c).__name__)
def test_cfg_06_round_trip(config, suffix, tmp_path):
    for number, item in enumerate((config, type(config)())):
        path = tmp_path / f'{number}.{suffix}'
        save_config(path, item)
        assert load_config(path, type(config)) == item


@pytest.mark.parametrize('suffix', ['json', 'yaml', 'toml'])
def test_cfg_07_sections_round_trip(suffix, tmp_path):
    path = tmp_path / f'run.{suffix}'
    write_sections(path, CHANGED[1:], 'ptychopinn train scan')
    sections = read_sections(path)
    assert ModelConfig(**sections['model']) == CHANGED[1].model
    assert TrainingConfig(model=CHANGED[1].model, **sections['training']) == CHANGED[1]
    assert InferenceConfig(**sections['inference']) == CHANGED[2]
    assert PyTorchExecutionConfig(**sections['execution']) == CHANGED[3]
    assert suffix == 'json' or path.read_text().startswith('# ptychopinn train scan\n')


def test_cfg_07_fields_outside_sections_find_their_configuration(tmp_path):
    path = tmp_path / 'old.yaml'
    path.write_text('gridsize: 2\nnepochs: 7\nlearning_rate: 1e-3\ndeterministic: no\n')
    sections = read_sections(path)
    assert sections['model'] == {'gridsize': 2}
    assert sections['training'] == {'nepochs': 7, 'learning_rate': 1e-3}
    assert sections['execution'] == {'deterministic': False}


def test_cfg_07_fields_outside_sections_are_looked_up_in_the_sections_that_are_used_first(tmp_path):
    path = tmp_path / 'run.yaml'
    path.write_text('batch_size: 8\ngridsize: 2\n')
    sections = read_sections(path, ('inference', 'execution'))
    assert sections == {
        'model': {'gridsize': 2},
        'training': {},
        'inference': {'batch_size': 8},
        'execution': {},
    }


@pytest.mark.parametrize(
    ('name', 'text', 'words'),
    [
        ('a.toml', 'gridsise = 2', ["no setting 'gridsise'", "did you mean 'gridsize'"]),
        ('b.toml', '[training]\nnepoch = 2', ['section training', "'nepoch'", "did you mean 'nepochs'"]),
        ('c.toml', 'training = 3', ['expected a section']),
        ('d.toml', '[training]\nnepochs = "many"', ['section training', 'nepochs', 'a whole number']),
        ('e.toml', '[training', ['not a readable settings file']),
        ('f.yaml', 'a: [', ['not a readable settings file']),
        ('g.json', '[1, 2]', ['holds list', 'expected named settings']),
        ('h.ini', 'x', ["ends in '.ini'", '.toml']),
    ],
)
def test_cfg_02_mistakes_are_named(name, text, words, tmp_path):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_sections(path)
    for word in [str(path), *words]:
        assert word in str(caught.value)
    assert '\n' not in str(caught.value)


def test_a_value_out_of_range_names_file_and_field(tmp_path):
    path = tmp_path / 'm.toml'
    path.write_text('gridsize = 9')
    with pytest.raises(ConfigError, match=r'm\.toml: ModelConfig\.gridsize is 9; expected .* from 1 to 5'):
        load_config(path, ModelConfig)
    with pytest.raises(DataFileNotFoundError, match=r'none\.toml'):
        load_config(tmp_path / 'none.toml', ModelConfig)


@pytest.mark.parametrize('cls', [ModelConfig, TrainingConfig, InferenceConfig, PyTorchExecutionConfig])
def test_every_field_is_described(cls):
    infos = {info.name: info for info in describe(cls)}
    assert set(infos) == {f.name for f in dataclasses.fields(cls)} - {'model'}
    assert all(len(info.doc) > 10 and '\n' not in info.doc for info in infos.values())


def test_words_stand_for_values():
    infos = {info.name: info for cls in (ModelConfig, TrainingConfig) for info in describe(cls)}
    assert parse_text(infos['probe_mask'], 'False') is False
    assert parse_text(infos['probe_mask'], 'yes') is True
    assert parse_text(infos['n_groups'], 'none') is None
    assert parse_text(infos['learning_rate'], '1e-3') == 1e-3
    with pytest.raises(ConfigError, match='expected true or false'):
        parse_text(infos['probe_mask'], 'perhaps')
