"""The settings file that a run leaves repeats it."""

import tomllib

import numpy as np
import pytest

from ptycho_engine.commands import main
from ptycho_engine.config import TrainingConfig
from ptycho_engine.config.files import read_sections
from ptycho_engine.formats.archive import load_archive

WORDS = (
    '--epochs 2 --groups 16 --batch-size 8 --filters-scale 1 --architecture cnn '
    '--gridsize 2 --seed 5 '
    '--optimizer adam'
)


def train(directory, output, *words) -> None:
    code = main(['train', str(directory), '--output', str(output), '--accelerator', 'cpu', *words, '--quiet'])
    assert code == 0


def assert_same(first, second) -> None:
    a, b = load_archive(first), load_archive(second)
    assert a.config == b.config
    for name, value in a.weights.items():
        np.testing.assert_array_equal(value, b.weights[name])


def test_cfg_07_the_settings_of_a_run_give_the_same_weights(directory, tmp_path):
    train(directory, tmp_path / 'a', *WORDS.split())
    settings = tmp_path / 'a' / 'train.toml'
    assert settings.read_text().splitlines()[1].startswith('# ptychopinn train')
    parsed = tomllib.loads(settings.read_text())
    assert parsed['training']['seed'] == 5
    assert parsed['model']['gridsize'] == 2
    train(directory, tmp_path / 'b', '--config', str(settings))
    assert_same(tmp_path / 'a', tmp_path / 'b')
    again = (tmp_path / 'b' / 'train.toml').read_text()
    assert again.splitlines()[2:] == settings.read_text().splitlines()[2:]
    train(directory, tmp_path / 'c', '--config', str(settings), '--seed', '6')
    with pytest.raises(AssertionError):
        assert_same(tmp_path / 'a', tmp_path / 'c')


def test_every_training_field_is_in_the_settings_of_a_run(model):
    sections = read_sections(model / 'train.toml')
    config = load_archive(model).config
    found = TrainingConfig(**sections['training'])
    assert found.nepochs == config.nepochs == 2
    assert found.n_groups == 48
    assert set(sections['training']) | {'model'} == set(TrainingConfig.__dataclass_fields__)


def test_the_settings_are_there_as_soon_as_training_runs_and_not_before(directory, tmp_path, capsys):
    """A run that fails in its first epoch leaves them; one that is refused leaves those of the run before."""
    output = tmp_path / 'run'
    words = ['train', str(directory), '--output', str(output), '--accelerator', 'cpu', '--quiet']
    assert (
        main(
            [
                *words,
                *WORDS.split(),
                '--gridsize',
                '1',
                '--learning-rate',
                '1e9',
            ]
        )
        == 2
    )
    assert 'lower learning_rate' in capsys.readouterr().err
    first = (output / 'train.toml').read_text()
    assert tomllib.loads(first)['training']['learning_rate'] == 1e9
    assert main([*words, '--model-type', 'supervised']) == 2
    assert 'known object' in capsys.readouterr().err
    assert (output / 'train.toml').read_text() == first
