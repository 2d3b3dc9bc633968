"""Flags and settings files of the original PtychoPINN (specs/configuration.md, IMPORT-01 and IMPORT-02)."""

import tomllib

import numpy as np
import pytest

from ptycho_engine import load_archive
from ptycho_engine.commands import _parse, main
from ptycho_engine.errors import ConfigError
from ptycho_engine.upstream.settings import is_of_the_original, translate_settings
from tests.conftest import small_scan

# As `configs/comparison_config.yaml`, the settings file that comes with the original, states them.
SHIPPED = {
    'N': 64,
    'gridsize': 1,
    'n_filters_scale': 2,
    'model_type': 'pinn',
    'amp_activation': 'sigmoid',
    'object_big': True,
    'probe_big': False,
    'probe_mask': False,
    'gaussian_smoothing_sigma': 0.0,
    'stitch_crop_size': 20,
    'nepochs': 50,
    'batch_size': 16,
    'n_images': 512,
    'learning_rate': 0.001,
    'nphotons': 1e6,
    'nll_weight': 1.0,
    'mae_weight': 0.0,
    'probe_scale': 1.0,
    'probe_trainable': True,
    'intensity_scale_trainable': True,
}

RENAMED = {
    'nepochs 5': ('training.nepochs', 5),
    'max_epochs 5': ('training.nepochs', 5),
    'n_groups 64': ('training.n_groups', 64),
    'n_images 64': ('training.n_groups', 64),
    'n_subsample 50': ('training.n_subsample', 50),
    'batch_size 8': ('training.batch_size', 8),
    'neighbor_count 6': ('training.neighbor_count', 6),
    'neighbor_pool_size 9': ('training.neighbor_pool_size', 9),
    'mae_weight 0.5': ('training.mae_weight', 0.5),
    'nll_weight 0.5': ('training.nll_weight', 0.5),
    'learning_rate 1e-3': ('training.learning_rate', 1e-3),
    'torch-learning-rate 1e-3': ('training.learning_rate', 1e-3),
    'torch-scheduler CosineAnnealing': ('training.scheduler', 'WarmupCosine'),
    'torch-scheduler MultiStage': ('training.scheduler', 'Default'),
    'torch_loss_mode mae': ('training.mae_weight', 1.0),
    'torch-loss-mode poisson': ('training.nll_weight', 1.0),
    'torch-accumulate-grad-batches 2': ('training.accum_steps', 2),
    'torch-num-workers 2': ('execution.num_workers', 2),
    'torch-accelerator cpu': ('execution.accelerator', 'cpu'),
    'torch-logger tensorboard': ('execution.logger_backend', 'tensorboard'),
    'logger none': ('execution.logger_backend', 'none'),
    'device cpu': ('execution.accelerator', 'cpu'),
    'disable-checkpointing': ('execution.checkpoint_save_top_k', 0),
    'torch-checkpoint-save-top-k 2': ('execution.checkpoint_save_top_k', 2),
    'torch-deterministic': ('execution.deterministic', True),
    'object_big True': ('model.object_big', True),
    'object-big False': ('model.object_big', False),
    'enable_oversampling True': ('training.enable_oversampling', True),
    'sequential-sampling True': ('training.sequential_sampling', True),
    'sequential_sampling False': ('training.sequential_sampling', False),
    'model_type Supervised': ('model.model_type', 'supervised'),
    'architecture fno': ('model.architecture', 'prior'),
    'gridsize=2': None,
}
LEFT_OUT = (
    *('do_stitching', 'debug', 'positions_provided True', 'stitch-crop-size 20', 'fno_modes 12'),
    *('fno-width 32', 'learned_input_channels 1', 'generator_output_mode real_imag', 'resnet_width None'),
    *('probe_trainable True', 'probe_scale 1.0', 'intensity_scale_trainable True', 'amp_activation silu'),
    *('test_data_file t.npz', 'test-data-file t.npz', 'subsample_seed 3', 'console_level INFO'),
    *('checkpoint-monitor val_loss', 'checkpoint-mode min', 'log-patch-stats', 'patch-stats-limit 3'),
    *('disable_mlflow', 'profile ci', 'scale-contract-version legacy_v1', 'pin_memory True'),
    *('torch-recon-log-every-n-epochs 5', 'torch-recon-log-stitch', 'torch_mae_pred_l2_match_target False'),
    *('torch-recon-log-fixed-indices 1 2 3', 'measurement-domain count_intensity'),
)


def parsed(text: str):
    return _parse(['train', 'IN', '--output', 'OUT', *f'--{text}'.split()])


@pytest.mark.parametrize('text', RENAMED)
def test_import_01_a_flag_of_the_original_is_restated_in_one_line(text):
    options = parsed(text)
    if RENAMED[text] is None:
        # The original and we spell it alike.
        assert not hasattr(options, 'told')
        return
    field, value = RENAMED[text]
    assert vars(options)[field] == value
    if '_' in text.split()[0] or field.partition('.')[2].replace('_', '-') != text.split()[0]:
        (line,) = options.told
        assert line.startswith('--')
        assert ' here' in line
    assert [str(path) for path in options.inputs] == ['IN']


@pytest.mark.parametrize('text', LEFT_OUT)
def test_import_01_a_flag_without_a_place_is_left_out_with_a_reason(text):
    options = parsed(text)
    (line,) = options.told
    assert 'is left out: ' in line
    assert [str(path) for path in options.inputs] == ['IN']


def test_import_01_files_by_flags_and_what_only_cnn_has():
    words = ['train', '--train_data_file', 'a.npz', '--output_dir', 'out', '--probe_scale', '1.0']
    options = _parse([*words, '--architecture', 'cnn', '--probe-trainable', 'True'])
    assert [str(path) for path in options.inputs] == ['a.npz']
    assert str(options.output) == 'out'
    assert vars(options)['model.probe_scale'] == 2
    assert vars(options)['training.probe_trainable'] is True
    words = ['reconstruct', '--test_data', 'b.npz', '--model_path', 'm', '--output_dir', 'out']
    options = _parse([*words, '--n_images', '40', '--phase_vmin', '0', '--torch-inference-batch-size', '8'])
    assert [str(path) for path in options.inputs] == ['b.npz']
    assert str(options.model) == 'm'
    assert vars(options)['inference.n_subsample'] == 40
    assert vars(options)['execution.inference_batch_size'] == 8


@pytest.mark.parametrize(
    ('words', 'sentence'),
    [
        (['--positions_provided', 'False'], 'a scan always comes with its positions'),
        (['--torch_loss_mode', 'huber'], "expected 'poisson' or 'mae'"),
        (['--n_images', '8', '--n_groups', '9'], 'contradict each other about n_groups'),
        (['--no_such_flag', '3'], 'there is no option --no_such_flag'),
        (['--n_images'], 'there is no option --n_images'),
    ],
)
def test_import_01_what_cannot_be_is_one_sentence(words, sentence, capsys):
    with pytest.raises(SystemExit) as error:
        _parse(['train', 'IN', '--output', 'OUT', *words])
    assert error.value.code == 2
    told = capsys.readouterr().err
    assert sentence in told
    assert len(told.strip().splitlines()) == 1


def test_import_02_the_settings_file_that_comes_with_the_original():
    assert is_of_the_original(SHIPPED)
    found = translate_settings(SHIPPED)
    verdicts = {row.name: row.verdict for row in found.rows}
    assert set(verdicts) == set(SHIPPED)
    assert found.sections['training'] == {
        'nepochs': 50,
        'batch_size': 16,
        'n_groups': 512,
        'learning_rate': 0.001,
        'nll_weight': 1.0,
        'mae_weight': 0.0,
    }
    assert {name for name, verdict in verdicts.items() if verdict == 'dropped'} == {
        *('N', 'n_filters_scale', 'amp_activation', 'probe_big', 'stitch_crop_size', 'nphotons'),
        *('probe_scale', 'probe_trainable', 'intensity_scale_trainable'),
    }
    assert all(row.why for row in found.rows if row.verdict == 'dropped')
    cnn = translate_settings(SHIPPED, architecture='cnn')
    assert cnn.sections['model']['probe_scale'] == 2
    assert cnn.sections['model']['probe_big'] is False
    assert cnn.sections['training']['probe_trainable'] is True


def test_import_02_sections_of_the_original_are_read_through():
    found = translate_settings(
        {
            'model': {'N': 64, 'gridsize': 2, 'probe_mask_diameter': 20.0},
            'sampling': {'n_groups': 32, 'subsample_seed': 1, 'neighbor_pool_size': 3, 'neighbor_count': 4},
            'data': {'nphotons': 1e9, 'train_data_file': 'a.npz', 'test_data_file': None},
            'execution': {'devices': 'auto', 'deterministic': 'warn', 'logger_backend': None},
            'strategy': 'fsdp',
        }
    )
    assert found.sections['model'] == {'gridsize': 2}
    assert found.sections['training'] == {'n_groups': 32, 'neighbor_count': 4}
    assert found.sections['execution'] == {
        'devices': 1,
        'deterministic': True,
        'logger_backend': 'none',
    }
    assert ('strategy', 'dropped') in [(row.name, row.verdict) for row in found.rows]
    assert {name: str(path) for name, path in found.files.items()} == {'train_data_file': 'a.npz'}


def test_import_02_settings_whose_names_need_their_section():
    newest = {
        'model': {'gridsize': 2, 'object_layout': 'grouped'},
        'sampling': {'n_subsample': 512, 'n_groups': 2048, 'neighbor_pool_size': 7, 'subsample_seed': 42},
        'optimizer': {
            'algorithm': 'sgd',
            'weight_decay': 0.1,
            'sgd': {'momentum': 0.5},
            'adam': {'beta1': 0.8},
        },
        'scheduler': {'kind': 'Exponential', 'lr_min_ratio': 0.2},
        'gradient_clip': {'val': 2.0, 'algorithm': 'agc'},
        'nepochs': 50,
        'study': {'name': 'lines', 'runner_root': None},
    }
    assert is_of_the_original(newest)
    found = translate_settings(newest)
    assert found.unknown == {}
    assert found.sections['training'] == {
        'n_subsample': 512,
        'n_groups': 2048,
        'neighbor_pool_size': 7,
        'subsample_seed': 42,
        'optimizer': 'sgd',
        'weight_decay': 0.1,
        'momentum': 0.5,
        'adam_beta1': 0.8,
        'nepochs': 50,
        'scheduler': 'Exponential',
        'lr_min_ratio': 0.2,
        'gradient_clip_val': 2.0,
        'gradient_clip_algorithm': 'agc',
    }
    assert {row.name for row in found.rows if row.verdict == 'dropped'} == {'object_layout', 'study'}
    # Every name of it is ours, but for the section.
    assert is_of_the_original({'model': {'gridsize': 2}, 'sampling': {'n_groups': 16}})
    assert not is_of_the_original({'model': {'gridsize': 2}, 'optimizer': 'sgd', 'scheduler': 'Default'})


def test_import_02_a_file_of_ours_is_none_of_the_original(tmp_path):
    assert not is_of_the_original({'nepochs': 3, 'probe_big': False})
    assert not is_of_the_original({'training': {'n_groups': 3}, 'model': {'N': 64}})


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """A folder with a scan and the settings of the original, which name it."""
    monkeypatch.chdir(tmp_path)
    raw = small_scan(points=4)
    np.savez(
        'theirs.npz',
        diff3d=raw.diffraction,
        probeGuess=raw.probeGuess[0],
        objectGuess=raw.objectGuess,
        xcoords=raw.xcoords,
        ycoords=raw.ycoords,
        scan_index=np.arange(len(raw)),
    )
    lines = [f'{name}: {value}' for name, value in {**SHIPPED, 'nepochs': 1, 'n_images': 16}.items()]
    lines += ['train_data_file: theirs.npz', 'output_dir: model', 'test_data_file: other.npz']
    (tmp_path / 'theirs.yaml').write_text('\n'.join(lines).replace('True', 'true').replace('False', 'false'))
    return tmp_path


def test_import_02_training_by_a_settings_file_of_the_original(theirs, capsys):
    assert main(['train', '--config', 'theirs.yaml', '--batch_size', '4']) == 0
    archive = load_archive('model')
    assert (archive.config.nepochs, archive.config.n_groups, archive.config.batch_size) == (1, 16, 4)
    assert archive.config.learning_rate == 0.001
    told = capsys.readouterr().err
    assert 'theirs.yaml: n_images 16 is --groups 16 here.' in told
    assert 'theirs.yaml: test_data_file other.npz is left out' in told
    assert told.count('theirs.yaml: ') == 11
    # What is written repeats the run in our words.
    assert not is_of_the_original(tomllib.loads((theirs / 'model' / 'train.toml').read_text()))


def test_import_02_flags_and_inputs_win_over_the_file(theirs, capsys):
    assert main(['train', 'theirs.npz', '--config', 'theirs.yaml', '--output', 'mine', '--quiet']) == 0
    assert (theirs / 'mine' / 'wts.h5.zip').is_file()
    assert not (theirs / 'model').exists()
    assert main(['train', '--config', 'missing.yaml', '--quiet']) == 2
    (theirs / 'wrong.yaml').write_text('n_images: 5\nnepoch: 3\n')
    capsys.readouterr()
    assert main(['train', 'theirs.npz', '--config', 'wrong.yaml', '--output', 'x', '--quiet']) == 2
    assert "'nepoch'; did you mean 'nepochs'?" in capsys.readouterr().err
    (theirs / 'bare.yaml').write_text('n_images: 5\n')
    with pytest.raises(SystemExit):
        main(['train', 'theirs.npz', '--config', 'bare.yaml', '--quiet'])
    assert 'required: --output' in capsys.readouterr().err


def test_import_02_a_value_without_a_meaning_is_refused():
    with pytest.raises(ConfigError, match='n_images and n_groups contradict each other'):
        translate_settings({'n_images': 3, 'n_groups': 4})
