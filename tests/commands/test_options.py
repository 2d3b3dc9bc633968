"""Flags come from the configurations' fields, and stand above ``--config FILE``."""

import pytest

from ptycho_engine.commands import build_parser, main
from ptycho_engine.commands.options import read_settings
from ptycho_engine.config import InferenceConfig, ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho_engine.config.describe import describe
from ptycho_engine.config.execution import INFERENCE_ONLY, OVERRIDING, TRAINING_ONLY


def settings(command, *words):
    inputs = {'train': ['in', '--output', 'out'], 'reconstruct': ['in', '--model', 'm', '--output', 'out']}
    return read_settings(build_parser(command).parse_args([command, *inputs[command], *words]))


def test_without_flags_everything_is_at_its_default():
    assert settings('train', '--quiet').training() == TrainingConfig()
    assert settings('train', '--quiet').execution == PyTorchExecutionConfig()
    assert settings('reconstruct').inference() == InferenceConfig()
    assert settings('train').execution.enable_progress_bar


@pytest.mark.parametrize(
    ('command', 'cls', 'idle'),
    [
        ('train', ModelConfig, ()),
        ('train', TrainingConfig, ()),
        ('train', PyTorchExecutionConfig, (*INFERENCE_ONLY, *OVERRIDING, 'enable_progress_bar')),
        ('reconstruct', InferenceConfig, ()),
        ('reconstruct', PyTorchExecutionConfig, (*TRAINING_ONLY, 'enable_progress_bar')),
    ],
)
def test_every_field_is_a_flag(command, cls, idle, capsys):
    with pytest.raises(SystemExit):
        build_parser(command).parse_args([command, '--help-all'])
    text = capsys.readouterr().out
    for info in describe(cls):
        flag = f'--{info.name.replace("_", "-")}'
        assert (flag in text) or info.name in idle, flag


@pytest.mark.parametrize('command', ['train', 'reconstruct', 'live'])
def test_an_unknown_flag_is_one_sentence(command, capsys):
    """Also of `live`, which the original PtychoPINN has not."""
    with pytest.raises(SystemExit, match='2'):
        main([command, 'in', '--output', 'out', '--qq', '3'])
    assert capsys.readouterr().err == (
        f'ptychopinn {command}: there is no option --qq. See ptychopinn {command} --help.\n'
    )


def test_flags_reach_their_fields():
    words = '--epochs 3 --groups 0 --filters-scale 1 --gridsize 2 --no-enable-oversampling --optimizer sgd'
    words += ' --gradient-clip-val none --num-workers 2 --no-deterministic --probe-mask'
    found = settings('train', *words.split())
    config = found.training()
    assert config.model == ModelConfig(n_filters_scale=1, gridsize=2, probe_mask=True)
    assert (config.nepochs, config.n_groups, config.optimizer) == (3, None, 'sgd')
    assert (config.gradient_clip_val, config.enable_oversampling) == (None, False)
    assert (found.execution.num_workers, found.execution.deterministic) == (2, False)


def test_cfg_04_flags_stand_above_the_file_in_every_section(tmp_path):
    path = tmp_path / 'run.toml'
    path.write_text(
        '[model]\ngridsize = 2\n[training]\nnepochs = 7\nlearning_rate = 1e-3\n'
        '[execution]\nlearning_rate = 2e-3\naccelerator = "cpu"\n'
    )
    plain = settings('train', '--config', str(path))
    assert plain.training().model.gridsize == 2
    assert plain.training().learning_rate == 2e-3
    assert plain.execution.accelerator == 'cpu'
    flagged = settings('train', '--config', str(path), '--learning-rate', '5e-3', '--gridsize', '1')
    assert flagged.training().learning_rate == 5e-3
    assert flagged.training().model.gridsize == 1
    assert flagged.training().nepochs == 7
    assert flagged.execution.learning_rate is None


def test_cfg_07_fields_outside_sections_belong_to_what_the_command_uses(tmp_path):
    path = tmp_path / 'run.toml'
    path.write_text('backend = "tensorflow"\nbatch_size = 8\nseed = 3\naccelerator = "cpu"\n')
    found = settings('reconstruct', '--config', str(path))
    assert found.inference() == InferenceConfig(backend='tensorflow', batch_size=8, seed=3)
    assert found.execution.accelerator == 'cpu'
    found = settings('train', '--config', str(path))
    assert found.training() == TrainingConfig(backend='tensorflow', batch_size=8, seed=3)


def test_the_batch_size_of_a_flag_stands_above_that_of_the_execution_in_the_file(tmp_path):
    path = tmp_path / 'run.toml'
    path.write_text('[inference]\nbatch_size = 32\n[execution]\ninference_batch_size = 64\n')
    assert settings('reconstruct', '--config', str(path)).inference().batch_size == 64
    assert settings('reconstruct', '--config', str(path), '--batch-size', '8').inference().batch_size == 8
    found = settings('train', '--config', str(path), '--batch-size', '8')
    assert (found.training().batch_size, found.execution.inference_batch_size) == (8, 64)


@pytest.mark.parametrize(
    ('words', 'sentence'),
    [
        (
            ['train', 'x', '--output', 'y', '--gridsise', '2'],
            'no option --gridsise; did you mean --gridsize?',
        ),
        (['train', 'x', '--output', 'y', '--epochs', '2.5'], "'2.5' is not a whole number"),
        (['train', 'x'], 'required: --output'),
        (['prepare', 'x', 'z', '--output', 'y'], "one word too many, 'z'"),
        (['trian'], "no command 'trian'; did you mean train?"),
    ],
)
def test_cfg_02_a_mistaken_word_gets_one_sentence(words, sentence, capsys):
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert len(error.splitlines()) == 1


def test_a_value_out_of_range_is_named_by_its_flag(capsys, tmp_path):
    assert main(['train', 'x', '--output', str(tmp_path), '--epochs', '0']) == 2
    assert '--epochs is 0; expected a whole number at least 1.' in capsys.readouterr().err
    path = tmp_path / 'x.toml'
    path.write_text('nepoch = 3')
    assert main(['train', 'x', '--output', str(tmp_path), '--config', str(path)]) == 2
    assert "did you mean 'nepochs'" in capsys.readouterr().err
